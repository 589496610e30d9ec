"""Mosaics read from every kind of file, and written as OME-Zarr and OME-TIFF."""

import itertools
import json

import cv2
import numpy as np
import pytest
import tifffile
import zarr

from eal_icnet_jax import images, mosaics
from eal_icnet_jax.errors import UserError

SIZE = {"PhysicalSizeX": 20.0, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.02}


def picture(height=300, width=420, channels=()):
    y, x = np.mgrid[:height, :width]
    grey = ((x * 7 + y * 3) % 256).astype(np.uint8)
    return np.stack([grey, grey[::-1], 255 - grey], -1) if channels else grey


def ome_zarr(path, image, zarr_format):
    """As others write it: five axes, 0.4 in Zarr 2 and 0.5 in Zarr 3."""
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    planes = np.moveaxis(image, -1, 0)[None, :, None]
    chunks = (1, 1, 1, 64, 64)
    array = group.create_array("s0", shape=planes.shape, dtype=planes.dtype, chunks=chunks)
    array[:] = planes
    axes = [{"name": name} for name in "tczyx"]
    axes[3]["unit"] = axes[4]["unit"] = "nanometer"
    scale = [{"type": "scale", "scale": [1, 1, 1, 20, 20]}]
    multiscales = [{"axes": axes, "datasets": [{"path": "s0", "coordinateTransformations": scale}]}]
    if zarr_format == 2:
        group.attrs["multiscales"] = multiscales
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}


def written(kind, folder):
    """A file of each kind, and what it should be read as."""
    grey, colour = picture(), picture(channels=3)
    path = folder / ("x.zarr" if "zarr" in kind else "x.tif")
    tiled = {"tile": (64, 64)}
    if kind == "big tiled":
        tifffile.imwrite(path, colour, bigtiff=True, **tiled, photometric="rgb")
    elif kind == "strips, lzw":
        tifffile.imwrite(path, colour, compression="lzw", rowsperstrip=17, photometric="rgb")
    elif kind == "big-endian 16 bits":
        grey = grey.astype(np.uint16) * 257
        tifffile.imwrite(path, grey, byteorder=">")
    elif kind == "big-endian tiles":
        grey = grey.astype(np.uint16) * 257
        tifffile.imwrite(path, grey, byteorder=">", **tiled, compression="deflate", predictor=True)
    elif kind == "planes":
        tifffile.imwrite(
            path, np.moveaxis(colour, -1, 0), photometric="rgb", planarconfig="separate"
        )
    elif kind == "transparent":
        alpha = np.full((*grey.shape, 1), 9, np.uint8)
        tifffile.imwrite(
            path, np.concatenate([colour, alpha], -1), photometric="rgb", **tiled,
            extrasamples=["unassalpha"],
        )  # fmt: skip
    elif kind == "ome pyramid":
        with tifffile.TiffWriter(path, ome=True) as file:
            options = {"photometric": "minisblack", **tiled, "compression": "zstd"}
            file.write(grey, subifds=1, metadata={"axes": "YX", **SIZE}, **options)
            file.write(np.ascontiguousarray(grey[::2, ::2]), subfiletype=1, **options)
    elif kind == "palette":
        colours = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
        tifffile.imwrite(path, grey, photometric="palette", colormap=colours)
        return path, (colours.T // 257).astype(np.uint8)[grey]
    elif kind == "white is 0":
        tifffile.imwrite(path, 255 - grey, photometric="miniswhite")
    elif kind == "zarr 2":
        zarr.create_array(str(path), data=grey, chunks=(50, 70), zarr_format=2)
    elif kind == "zarr 3":
        zarr.create_array(str(path), data=colour, chunks=(50, 70, 3), zarr_format=3)
    else:
        ome_zarr(path, colour, 2 if kind == "ome-zarr 0.4" else 3)
    coloured = kind in ("big tiled", "strips, lzw", "planes", "transparent", "zarr 3")
    return path, colour if coloured or kind.startswith("ome-zarr") else grey


@pytest.mark.parametrize(
    "kind",
    ["big tiled", "strips, lzw", "big-endian 16 bits", "big-endian tiles", "planes", "transparent",
     "ome pyramid", "palette", "white is 0", "zarr 2", "zarr 3", "ome-zarr 0.4", "ome-zarr 0.5"],
)  # fmt: skip
def test_every_kind_of_file_is_read_by_its_parts(kind, tmp_path):
    path, want = written(kind, tmp_path)
    mosaic = mosaics.open_mosaic(path)
    assert mosaic.shape == (300, 420) and mosaic.dtype == want.dtype
    for rows, columns in ((slice(0, 300), slice(0, 420)), (slice(61, 203), slice(100, 419))):
        part = mosaic[rows, columns]
        assert part.dtype == want.dtype
        np.testing.assert_array_equal(part, want[rows, columns])
    assert mosaic.pixel_size == ((0.02, 0.02) if kind.startswith("ome") else None)


def test_a_tiffs_resolution_is_the_pixels_size_unless_it_is_a_printers(tmp_path):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, picture(), resolution=(1e6, 5e5), resolutionunit="CENTIMETER")
    assert mosaics.open_mosaic(path).pixel_size == pytest.approx((0.02, 0.01))
    tifffile.imwrite(path, picture(), resolution=(600, 600), resolutionunit="INCH")
    assert mosaics.open_mosaic(path).pixel_size is None


@pytest.mark.parametrize("text", ["<OME", "<OME><Pixels PhysicalSizeX='wide'/></OME>",
                                  "<!DOCTYPE x [<!ENTITY a 'b'>]><OME>&a;</OME>"])  # fmt: skip
def test_metadata_that_cannot_be_read_tell_nothing(tmp_path, text):
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, picture(), description=text, metadata=None)
    mosaic = mosaics.open_mosaic(path)
    assert mosaic.pixel_size is None
    np.testing.assert_array_equal(mosaic[0:300, 0:420], picture())


def test_a_folders_images_and_zarrs_are_found(tmp_path):
    zarr.create_array(str(tmp_path / "b.zarr"), data=picture(), zarr_format=2)
    assert mosaics.find(tmp_path) == [tmp_path / "b.zarr"]
    images.write(tmp_path / "c.png", picture())
    (tmp_path / "no.zarr").mkdir()
    assert mosaics.find(tmp_path) == [tmp_path / "b.zarr", tmp_path / "c.png"]
    images.write(tmp_path / "c.tif", picture())
    with pytest.raises(UserError, match=r"differ in their endings alone"):
        mosaics.find(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no file that ends in"):
        mosaics.find(tmp_path / "empty")


@pytest.fixture
def tiles(tmp_path):
    """A grid of 3x4 tiles from row 2, column 0; the last of each is smaller."""
    image = picture(channels=3)
    folder = tmp_path / "tiles"
    folder.mkdir()
    for row in range(3):
        for column in range(4):
            tile = image[row * 110 : (row + 1) * 110, column * 128 : (column + 1) * 128]
            images.write(folder / f"die1_y{row + 2:03}-x{column}.png", tile)
    (folder / "notes.txt").write_text("no tile")
    return folder, image


def test_tiles_of_a_folder_are_one_mosaic(tiles):
    folder, image = tiles
    mosaic = mosaics.open_mosaic(folder, "die1_y{row}-x{column}.png")
    assert mosaic.shape == (300, 420)
    for rows, columns in ((slice(0, 300), slice(0, 420)), (slice(100, 260), slice(127, 257))):
        np.testing.assert_array_equal(mosaic[rows, columns], image[rows, columns])


def test_a_change_of_one_tile_is_noticed(tiles):
    folder, image = tiles
    mosaic = mosaics.open_mosaic(folder, "die1_y{row}-x{column}.png")
    before = mosaic.stamp()
    assert mosaic.stamp() == before and before["input"] == "tiles"
    images.write(folder / "die1_y003-x1.png", 255 - image[110:220, 128:256])
    assert mosaic.stamp() != before


def test_a_mask_is_read_by_its_parts_and_of_one_bit_too(tmp_path):
    image = np.random.default_rng(0).random((70, 90)) < 0.4
    tifffile.imwrite(tmp_path / "x.tif", image, photometric="minisblack")
    mosaic = mosaics.open_mosaic(tmp_path / "x.tif")
    assert mosaic.dtype == bool
    np.testing.assert_array_equal(mosaics.Mask(mosaic)[10:60, 5:80], image[10:60, 5:80])


def cut(folder, at):
    path = folder / "x.tif"
    tifffile.imwrite(path, picture(), tile=(64, 64), compression="deflate")
    path.write_bytes(path.read_bytes()[:at])
    return path


def bad_file(kind, folder):
    path = folder / "x.tif"
    if kind == "float":
        tifffile.imwrite(path, picture().astype(np.float32))
    elif kind == "12 bits":
        tifffile.imwrite(path, picture().astype(np.uint16))
        with tifffile.TiffFile(path, mode="r+") as file:
            file.pages[0].tags["BitsPerSample"].overwrite(12)
    elif kind == "two channels":
        tifffile.imwrite(path, np.stack([picture()] * 2), metadata={"axes": "CYX"}, imagej=True)
    elif kind == "a stack":
        tifffile.imwrite(path, np.stack([picture()] * 5), metadata={"axes": "ZYX"}, imagej=True)
    elif kind == "nothing":
        path.write_bytes(b"II*\0")
    elif kind == "a tile":
        tifffile.imwrite(path, picture(), tile=(64, 64), compression="deflate")
        data = bytearray(path.read_bytes())
        with tifffile.TiffFile(path) as file:
            start = file.pages[0].dataoffsets[7]
        data[start : start + 20] = bytes(20)
        path.write_bytes(data)
    elif kind in ("pickled", "packed"):
        path = folder / "x.zarr"
        zarr.create_array(str(path), data=picture(), chunks=(50, 70), zarr_format=2)
        metadata = json.loads((path / ".zarray").read_text())
        metadata["filters"] = [{"id": "pickle" if kind == "pickled" else "packbits"}]
        (path / ".zarray").write_text(json.dumps(metadata))
    elif kind == "no image":
        path = folder / "x.zarr"
        zarr.open_group(str(path), mode="w")
    elif kind == "chunk":
        path = folder / "x.zarr"
        zarr.create_array(str(path), data=picture(), chunks=(50, 70), zarr_format=2)
        (path / "0.0").write_bytes(b"no chunk")
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("float", "has float32 pixels: convert it to 8 or 16 bits per channel"),
        ("12 bits", "has 12 bits per channel: convert it to 8 or 16"),
        ("two channels", "has 2 channels: convert it to grey or RGB"),
        ("a stack", "has 5x300x420 values along ZYX: choose one layer along Z"),
        ("nothing", "is cut off or damaged: copy it again"),
        ("a tile", "is damaged at rows 0-300, columns 0-420"),
        ("packed", "is encoded with packbits, which is not read"),
        ("pickled", "x.zarr is "),  # unread: Zarr of 3.1 and newer knows it for objects alone
        ("no image", "is no Zarr of one image"),
        ("chunk", "is damaged at rows 0-300, columns 0-420"),
    ],
)
def test_bad_files_are_told(kind, told, tmp_path):
    path = bad_file(kind, tmp_path)
    with pytest.raises(UserError) as caught:
        mosaics.open_mosaic(path)[0:300, 0:420]
    assert told in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("at", [5, 100, 900, 5000, -1])
def test_a_tiff_that_is_cut_off_is_told_before_it_is_read(tmp_path, at):
    with pytest.raises(UserError, match="is cut off or damaged: copy it again"):
        mosaics.open_mosaic(cut(tmp_path, at))


def test_pieces_that_are_too_large_are_told(tmp_path, monkeypatch):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, picture(), compression="deflate", rowsperstrip=300)
    monkeypatch.setattr(mosaics, "LARGEST_PIECE", 100_000)
    with pytest.raises(UserError, match=r"is stored in pieces of 0 MB, .*: write it in tiles"):
        mosaics.open_mosaic(path)


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("die1_{row}.png", "name tiles as in tile_{row}_{column}.png"),
        ("die2_y{row}-x{column}.png", "holds no file named as die2"),
        ("die1_y{row}-x{column}.png", "lacks 1 tiles of its grid (row 3 column 2)"),
    ],
)
def test_bad_folders_of_tiles_are_told(tiles, pattern, told):
    folder, _ = tiles
    (folder / "die1_y003-x2.png").unlink()
    with pytest.raises(UserError) as caught:
        mosaics.open_mosaic(folder, pattern)
    assert told in str(caught.value)


def test_a_tile_of_another_size_is_told(tiles):
    folder, image = tiles
    images.write(folder / "die1_y003-x1.png", image[:100, :128])
    mosaic = mosaics.open_mosaic(folder, "die1_y{row}-x{column}.png")
    with pytest.raises(UserError, match=r"die1_y003-x1.png is 100x128x3 uint8 and not 110x128x3"):
        mosaic[0:300, 0:420]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_pyramid_is_written_and_read_back(tmp_path, channels):
    image = picture(1300, 701, channels)
    group = mosaics.create(tmp_path / "x.zarr", "x", image.shape, image.dtype, (0.02, 0.03))
    group["0"][:] = image
    mosaics.fill_levels(group)
    mosaics.write_tiff(group, tmp_path / "x.ome.tif", (0.02, 0.03), {"made": "here"})
    mosaic = mosaics.open_mosaic(tmp_path / "x.ome.tif")
    assert mosaic.pixel_size == pytest.approx((0.02, 0.03))
    np.testing.assert_array_equal(mosaic[0:1300, 0:701], image)
    with tifffile.TiffFile(tmp_path / "x.ome.tif") as file:
        levels = [level.asarray() for level in file.series[0].levels]
        assert file.is_bigtiff and file.is_ome and "made" in file.ome_metadata
        assert file.pages[0].tile == (512, 512)
        assert file.pages[0].resolution == pytest.approx((1e4 / 0.03, 1e4 / 0.02), rel=1e-4)
    assert [level.shape[:2] for level in levels] == [(1300, 701), (650, 351), (325, 176)]
    for finer, coarser in itertools.pairwise(levels):
        even = finer[:, : finer.shape[1] // 2 * 2].astype(float)
        means = even.reshape(len(finer) // 2, 2, even.shape[1] // 2, 2, *channels).mean((1, 3))
        assert np.abs(coarser[:, : means.shape[1]] - means).max() <= 0.51
    if not channels:
        mosaic = mosaics.open_mosaic(tmp_path / "x.zarr")
        assert mosaic.pixel_size == (0.02, 0.03)
        np.testing.assert_array_equal(mosaic[0:1300, 0:701], image)
        read = cv2.imread(str(tmp_path / "x.ome.tif"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(read, image)
