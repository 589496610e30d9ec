import numpy as np
import pytest
import tifffile

from eal_icnet_jax.imaging import levels, mosaic_files
from eal_icnet_jax.system.errors import UserError
from tests.imaging.sample_images import check_parts, gradient

GREY, COLOUR = gradient(), gradient(channels=(3,))
WIDE = GREY.astype(np.uint16) * 257
PALETTE = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint8)
TILES = {"tile": (64, 64)}

KINDS = {
    "big tiled": (COLOUR, COLOUR, {"bigtiff": True, "photometric": "rgb", **TILES}),
    "strips, lzw": (COLOUR, COLOUR, {"compression": "lzw", "rowsperstrip": 17}),
    "big-endian 16 bits": (WIDE, WIDE, {"byteorder": ">"}),
    "big-endian tiles": (
        WIDE,
        WIDE,
        {"byteorder": ">", "compression": "deflate", "predictor": True, **TILES},
    ),
    "planes": (
        np.moveaxis(COLOUR, -1, 0),
        COLOUR,
        {"photometric": "rgb", "planarconfig": "separate"},
    ),
    "transparent": (
        np.concatenate([COLOUR, np.where(GREY < 99, 255, 0)[..., None].astype(np.uint8)], -1),
        np.where(GREY[..., None] < 99, COLOUR, 0),
        {"photometric": "rgb", "extrasamples": ["unassalpha"], **TILES},
    ),
    "palette": (
        GREY,
        PALETTE.T[GREY],
        {"photometric": "palette", "colormap": PALETTE.astype(np.uint16) * 257},
    ),
    "white is 0": (255 - GREY, GREY, {"photometric": "miniswhite"}),
}
"""What is stored, what is read, and the options with which it is stored."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_tiff_is_read_by_parts(kind, tmp_path):
    stored, expected, options = KINDS[kind]
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, stored, **options)
    mosaic = mosaic_files.open_mosaic(path)
    check_parts(mosaic, expected)
    assert mosaic.pixel_size is None


def test_the_finest_level_of_an_ome_tiff_is_read_with_its_pixel_size(tmp_path):
    size = {"PhysicalSizeX": 20.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.02}
    options = {"photometric": "minisblack", "compression": "zstd", **TILES}
    with tifffile.TiffWriter(tmp_path / "x.tif", ome=True) as file:
        file.write(GREY, subifds=1, metadata={"axes": "YX", **size}, **options)
        file.write(np.ascontiguousarray(GREY[::2, ::2]), subfiletype=1, **options)
    mosaic = mosaic_files.open_mosaic(tmp_path / "x.tif")
    check_parts(mosaic, GREY)
    assert mosaic.pixel_size == (0.02, 0.02)


def test_the_resolution_is_the_pixel_size_unless_it_is_a_printers(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, GREY, resolution=(1e6, 5e5), resolutionunit="CENTIMETER")
    assert mosaic_files.open_mosaic(path).pixel_size == pytest.approx((0.02, 0.01))
    tifffile.imwrite(path, GREY, resolution=(600, 600), resolutionunit="INCH")
    assert mosaic_files.open_mosaic(path).pixel_size is None


@pytest.mark.parametrize(
    "text",
    [
        "<OME",
        "<OME><Pixels PhysicalSizeX='wide'/></OME>",
        "<!DOCTYPE x [<!ENTITY a 'b'>]><OME>&a;</OME>",
    ],
)
def test_an_image_with_damaged_metadata_is_read_without_a_pixel_size(tmp_path, text):
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, GREY, description=text, metadata=None)
    mosaic = mosaic_files.open_mosaic(path)
    assert mosaic.pixel_size is None
    np.testing.assert_array_equal(mosaic[0:300, 0:420], GREY)


@pytest.mark.parametrize("length", [4, 5, 100, 900, 5000, -1])
def test_a_tiff_that_is_cut_off_is_refused_before_it_is_read(tmp_path, length):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, GREY, compression="deflate", **TILES)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="is cut off or damaged: copy it again") as caught:
        mosaic_files.open_mosaic(path)
    assert str(path) in str(caught.value)


def test_a_damaged_tile_is_reported_where_it_is_read(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, GREY, compression="deflate", **TILES)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[7]
    data = bytearray(path.read_bytes())
    data[start : start + 20] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.tif is damaged at rows 0-300, columns 0-420"):
        mosaic_files.open_mosaic(path)[0:300, 0:420]


@pytest.mark.parametrize("bits", [2, 4, 12])
def test_other_depths_are_spread_over_the_range(tmp_path, bits):
    path = tmp_path / "x.tif"
    levels_of_bits = GREY >> (8 - bits) if bits < 8 else WIDE >> (16 - bits)
    places = np.arange(bits)[::-1]  # the highest bit comes first
    packed = np.packbits((levels_of_bits[..., None] >> places) & 1).tobytes()
    tifffile.imwrite(path, GREY)
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        page.tags["BitsPerSample"].overwrite(bits)
        start = page.dataoffsets[0]
        page.tags["StripByteCounts"].overwrite(len(packed))
    data = path.read_bytes()
    path.write_bytes(data[:start] + packed)
    mosaic = levels.in_full_range(mosaic_files.open_mosaic(path))
    maximum = np.iinfo(mosaic.dtype).max
    expected = np.rint(levels_of_bits * (maximum / (2**bits - 1)))
    np.testing.assert_array_equal(mosaic[0:300, 0:420], expected)


@pytest.mark.parametrize(
    ("image", "axes", "message"),
    [
        (GREY.astype(np.float32), "YX", "has float32 pixels: convert it to 8 or 16 bits per"),
        (np.stack([GREY] * 2), "CYX", "are 2 planes: name one with --page, from 1 to 2"),
        (np.stack([GREY] * 5), "ZYX", "has 5x300x420 values along ZYX, which are 5 planes"),
    ],
)
def test_other_depths_and_axes_are_refused(tmp_path, image, axes, message):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, image, metadata={"axes": axes}, imagej=True)
    with pytest.raises(UserError) as caught:
        mosaic_files.open_mosaic(path)
    assert message in str(caught.value) and str(path) in str(caught.value)
