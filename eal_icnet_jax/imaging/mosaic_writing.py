"""A mosaic written as one file, part by part."""

import pathlib
import shutil

from eal_icnet_jax.imaging import pyramid
from eal_icnet_jax.imaging.mosaics import Mosaic, blocks
from eal_icnet_jax.system.files import MADE_BY, atomic_file, cannot_be_written
from eal_icnet_jax.system.terminal import progress_bar


def write_ome_tiff(path: pathlib.Path, mosaic: Mosaic):
    """Write an image as tiled OME-TIFF with a pyramid, completely or not at all.

    Equal pixels give equal bytes. The memory needed does not grow with the size.

    Args:
      path: of the file.
      mosaic: of uint8 or uint16, grey or RGB.

    Raises:
      UserError: it cannot be written or read.
    """
    channels = mosaic[0:1, 0:1].shape[2:]
    folder = path.with_name(f".{path.name}.pyramid")  # beside the file, where there is room for it
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        group = pyramid.create_pyramid(
            folder / "image.zarr", path.name, (*mosaic.shape, *channels), mosaic.dtype,
            mosaic.pixel_size,
        )  # fmt: skip
        parts = list(blocks(mosaic.shape, 2048))
        with progress_bar("writing", len(parts), "part", disable=None) as bar:
            for part in parts:
                group["0"][part] = mosaic[part]
                bar.update()
        pyramid.fill_levels(group)
        with atomic_file(path) as partial:
            description = {"software": MADE_BY.decode()}
            pyramid.write_tiff(group, partial, mosaic.pixel_size, description)
    except OSError as error:
        raise cannot_be_written(path, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
