"""Description of one mosaic's prediction: its settings, its pieces and the files it makes."""

import dataclasses
import functools
import pathlib

from eal_icnet_jax.imaging.mosaics import CHUNK, Mosaic, slices_of

PANEL_WIDTH = 32 * CHUNK
"""Number of columns that are predicted together, so that memory does not grow with the width."""

ENDINGS = {"tiff": ".ome.tif", "zarr": ".zarr"}
"""Ending of the result files of each format."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of a mosaic that is predicted and marked as done at once.

    Attributes:
      mark: name of the file that marks the piece as done.
      rows: of the mosaic. No other piece writes to the same chunks.
      columns: of the mosaic.
    """

    mark: str
    rows: slice
    columns: slice


def split_into_pieces(shape: tuple[int, int]) -> list[Piece]:
    """Return the pieces of a mosaic, panel by panel, each from top to bottom."""
    return [
        Piece(f"{columns.start}_{rows.start}", rows, columns)
        for columns in slices_of(shape[1], PANEL_WIDTH)
        for rows in slices_of(shape[0], CHUNK)
    ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MosaicJob:
    """What is predicted and written for one mosaic.

    Attributes:
      mosaic: to predict.
      output: folder of the results.
      name: of the results, without their endings.
      suffixes: what is added to the name for each mask.
      model_settings: JSON object of the model and windows, on which the result depends.
      format: "tiff" or "zarr".
      threshold: smallest probability of foreground.
      probabilities: whether they are written too, as uint16 with 65535 for 1.
      uncertainty: whether it is written too, likewise.
      remove_specks: as for `cleaning.clean_mask`.
      fill_holes: as for `cleaning.clean_mask`.
    """

    mosaic: Mosaic
    output: pathlib.Path
    name: str
    suffixes: tuple[str, ...]
    model_settings: dict
    format: str
    threshold: float
    probabilities: bool = False
    uncertainty: bool = False
    remove_specks: int = 0
    fill_holes: int = 0

    @functools.cached_property
    def settings(self) -> dict:
        """All that the result depends on, as a JSON object. Work goes on only if it is equal."""
        return {
            **self.mosaic.stamp(),
            **self.model_settings,
            "format": self.format,
            "threshold": self.threshold,
            "probabilities": self.probabilities,
            "uncertainty": self.uncertainty,
            "remove_specks": self.remove_specks,
            "fill_holes": self.fill_holes,
        }

    @functools.cached_property
    def pieces(self) -> list[Piece]:
        """The pieces of the mosaic."""
        return split_into_pieces(self.mosaic.shape)

    @property
    def mask_stems(self) -> list[str]:
        """Names of the masks without endings."""
        return [self.name + suffix for suffix in self.suffixes]

    @property
    def stems(self) -> list[str]:
        """Names of all results without endings: masks, then probabilities, then uncertainties."""
        masks = self.mask_stems
        kinds = ["_probability"] if self.probabilities else []
        kinds += ["_uncertainty"] if self.uncertainty else []
        return masks + [stem + kind for kind in kinds for stem in masks]

    def result_path(self, stem: str) -> pathlib.Path:
        """Return the path of a result."""
        return self.output / f"{stem}{ENDINGS[self.format]}"

    @property
    def record_path(self) -> pathlib.Path:
        """The file of the settings and of the foreground, written last."""
        return self.output / f"{self.name}.json"

    @property
    def cleans(self) -> bool:
        """Whether the masks are cleaned after prediction."""
        return bool(self.remove_specks or self.fill_holes)

    def required_bytes(self) -> int:
        """Return an upper bound of the disk space that the results and the work on them take."""
        masks = len(self.suffixes)
        maps = masks * (self.probabilities + self.uncertainty)
        bytes_per_pixel = masks * (2 if self.cleans else 1) + 2 * maps
        if self.format == "tiff":  # written beside the Zarrs
            bytes_per_pixel += masks + 2 * maps
        pixels = self.mosaic.shape[0] * self.mosaic.shape[1] * 4 / 3  # with the pyramid
        return int(pixels * bytes_per_pixel)
