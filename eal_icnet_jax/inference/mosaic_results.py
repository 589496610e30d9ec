"""The last step of a mosaic's prediction: cleaning, pyramids and the files of the results.

Each result file takes its place once it is complete, so that a run which was killed in this step
does not make it again.
"""

import json
import pathlib

import numpy as np
import zarr

from eal_icnet_jax.imaging import mosaic_files, pyramid
from eal_icnet_jax.imaging.mosaics import Mosaic, blocks
from eal_icnet_jax.inference import cleaning
from eal_icnet_jax.inference.mosaic_job import MosaicJob
from eal_icnet_jax.inference.mosaic_work_folder import WorkFolder
from eal_icnet_jax.system import files


def write_results(job: MosaicJob, folder: WorkFolder):
    """Turn the Zarrs of the work folder into the results, and remove the work folder.

    Raises:
      OSError: they cannot be written.
      RuntimeError, ValueError: the work folder is damaged.
    """
    for stem in job.stems:
        if not job.result_path(stem).exists():
            _write_result(job, folder, stem)
    masks = (mosaic_files.open_mosaic(job.result_path(stem)) for stem in job.mask_stems)
    record = {"made_with": job.settings, "foreground": [_foreground_fraction(m) for m in masks]}
    files.write_atomically(job.record_path, json.dumps(record, indent=1) + "\n")
    folder.remove()


def _write_result(job: MosaicJob, folder: WorkFolder, stem: str):
    path, zarr_path = job.result_path(stem), folder.zarr_path(stem)
    if job.cleans and stem in job.mask_stems:
        zarr_path = _write_cleaned(job, zarr_path)
    group = zarr.open_group(str(zarr_path), mode="r+")
    pyramid.fill_levels(group)
    if job.format == "tiff":
        partial = folder.path / path.name
        pyramid.write_tiff(group, partial, job.mosaic.pixel_size, job.settings)
    else:
        partial = zarr_path
    files.flush(partial)
    partial.replace(path)


def _write_cleaned(job: MosaicJob, path: pathlib.Path) -> pathlib.Path:
    """Write the cleaned mask of a Zarr as another Zarr beside it, and return its path."""
    raw = zarr.open_group(str(path), mode="r")["0"]
    cleaned_path = path.with_name(f"cleaned_{path.name}")
    group = pyramid.create_pyramid(
        cleaned_path, path.stem, raw.shape, raw.dtype, job.mosaic.pixel_size
    )
    for rows, columns in blocks(raw.shape):
        part = cleaning.clean_part(raw, rows, columns, job.remove_specks, job.fill_holes)
        group["0"][rows, columns] = np.where(part, 255, 0).astype(raw.dtype)
    return cleaned_path


def _foreground_fraction(mask: Mosaic) -> float:
    count = sum(np.count_nonzero(mask[block]) for block in blocks(mask.shape))
    return count / (mask.shape[0] * mask.shape[1])
