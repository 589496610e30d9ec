import json

import numpy as np
import pytest
import zarr

from eal_icnet_jax.imaging import mosaic_files
from eal_icnet_jax.system.errors import UserError
from tests.imaging.sample_images import check_parts, gradient

GREY, COLOUR = gradient(), gradient(channels=(3,))


def write_ome_zarr(path, image, zarr_format):
    """Write an image as other programs do: five axes, OME-Zarr 0.4 in Zarr 2 and 0.5 in Zarr 3."""
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


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("image", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("within", ["", "group"])
def test_an_array_is_read_by_parts(tmp_path, zarr_format, image, within):
    path = tmp_path / "x.zarr"
    if within:
        zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    chunks = (50, 70, *image.shape[2:])
    store = str(path / "image" if within else path)
    zarr.create_array(store, data=image, chunks=chunks, zarr_format=zarr_format)
    mosaic = mosaic_files.open_mosaic(path)
    check_parts(mosaic, image)
    assert mosaic.pixel_size is None


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_ome_zarr_is_read_with_its_pixel_size(tmp_path, zarr_format):
    write_ome_zarr(tmp_path / "x.zarr", COLOUR, zarr_format)
    mosaic = mosaic_files.open_mosaic(tmp_path / "x.zarr")
    check_parts(mosaic, COLOUR)
    assert mosaic.pixel_size == (0.02, 0.02)


def test_shards_are_read(tmp_path):
    path = tmp_path / "x.zarr"
    zarr.create_array(str(path), data=GREY, chunks=(50, 70), shards=(100, 140))
    check_parts(mosaic_files.open_mosaic(path), GREY)


@pytest.mark.parametrize(
    ("codec", "message"),
    [
        ("packbits", "is encoded with packbits, which is not read: write it with zstd"),
        ("pickle", "x.zarr is "),  # Zarr from 3.1 on refuses it itself, as it is for objects only
    ],
)
def test_codecs_that_are_not_known_to_be_safe_are_refused(tmp_path, codec, message):
    path = tmp_path / "x.zarr"
    zarr.create_array(str(path), data=GREY, chunks=(50, 70), zarr_format=2)
    metadata = json.loads((path / ".zarray").read_text())
    metadata["filters"] = [{"id": codec}]
    (path / ".zarray").write_text(json.dumps(metadata))
    with pytest.raises(UserError) as caught:
        mosaic_files.open_mosaic(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_a_group_without_an_image_is_refused(tmp_path):
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w")
    with pytest.raises(UserError, match=r"x\.zarr is no Zarr of one image"):
        mosaic_files.open_mosaic(tmp_path / "x.zarr")


def test_a_damaged_chunk_is_reported_where_it_is_read(tmp_path):
    path = tmp_path / "x.zarr"
    zarr.create_array(str(path), data=GREY, chunks=(50, 70), zarr_format=2)
    (path / "0.0").write_bytes(b"no chunk")
    with pytest.raises(UserError, match=r"x\.zarr is damaged at rows 0-300, columns 0-420"):
        mosaic_files.open_mosaic(path)[0:300, 0:420]
