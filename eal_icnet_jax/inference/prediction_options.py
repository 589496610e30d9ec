"""Options of the prediction of files, checked when they are made."""

import dataclasses
import pathlib

from eal_icnet_jax.imaging.levels import check_white
from eal_icnet_jax.inference import cleaning
from eal_icnet_jax.inference.mosaic_job import ENDINGS
from eal_icnet_jax.inference.scaling import check_scale
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_options import (
    LAYERS,
    ShapeOptions,
    check_layout_path,
    check_pixel_size,
)


def check_threshold(threshold: float):
    """Raise a `UserError` if a threshold is not a probability."""
    if not 0 <= threshold <= 1:
        raise UserError(f"--threshold is {threshold}: name a probability from 0 to 1")


@dataclasses.dataclass(frozen=True)
class LayoutOutput:
    """The layout file of an image's masks.

    Attributes:
      path: ends in .gds, .oas or .svg.
      kinds: of the masks, "metal" or "via"; None for metal, or metal and via.
      pixel_size: side of a pixel in micrometres; None for what the image's file states.
      shapes: how masks become shapes.

    Raises:
      UserError: an option has a value that makes no sense.
    """

    path: pathlib.Path
    kinds: tuple[str, ...] | None = None
    pixel_size: float | None = None
    shapes: ShapeOptions = dataclasses.field(default_factory=ShapeOptions)

    def __post_init__(self):
        check_layout_path(self.path)
        check_pixel_size(self.pixel_size)

    def kinds_of(self, classes: int) -> tuple[str, ...]:
        """Return the kind of each of a model's masks.

        Raises:
          UserError: they do not fit the model.
        """
        kinds = self.kinds or tuple(LAYERS)[:classes]
        if len(kinds) != classes or len(set(kinds)) < classes or not {*kinds} <= {*LAYERS}:
            raise UserError(
                f"--kinds is {','.join(kinds)}, and the model predicts {classes} masks: name one "
                f"kind for each, out of {', '.join(LAYERS)}"
            )
        return kinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How an image is predicted. Error messages name the options of `eal-icnet predict`.

    Attributes:
      window: side of a window in pixels; if not given, a window has once magnified the side of the
        crops at one width of wires that the network was trained on, or else 512.
      overlap: of windows in pixels, an eighth of a window if not given.
      batch: number of windows at once; if not given, one per CPU or eight per accelerator.
      scale: factor by which images are magnified before prediction, or "auto" for the one that
        suits the network, if it was trained for wires of a certain width.
      tta: whether the prediction is averaged over flips and quarter turns.
      multiscale: whether it is averaged over three magnifications: `scale`, and this one divided
        and multiplied by the square root of two.
      white: level of white in the images; None for what each file states or shows.
      uncertainty: whether the spread over the flips and turns is needed too.

    Raises:
      UserError: an option has a value that makes no sense.
    """

    window: int | None = None
    overlap: int | None = None
    batch: int | None = None
    scale: float | str = "auto"
    tta: bool = False
    multiscale: bool = False
    white: int | None = None
    uncertainty: bool = False

    @property
    def with_spread(self) -> bool:
        """Whether the probabilities are followed by their spread over flips and turns."""
        return self.tta and self.uncertainty

    def __post_init__(self):
        check_white(self.white, "--white")
        check_scale(self.scale)
        if self.window is not None and self.window < 1:
            raise UserError(f"--window is {self.window}: name 1 or more pixels")
        if self.overlap is not None and self.overlap < 0:
            raise UserError(f"--overlap is {self.overlap}: name 0 or more pixels")
        if self.window:
            self.check_overlap(self.window)
        if self.batch is not None and self.batch < 1:
            raise UserError(f"--batch is {self.batch}: name 1 or more windows")

    def check_overlap(self, window: int):
        """Raise a `UserError` if windows of a side overlap by more than half."""
        if self.overlap is not None and self.overlap > window // 2:
            raise UserError(
                f"--overlap is {self.overlap}: a window of {window} pixels overlaps by 0 to "
                f"{window // 2}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictionOptions(ImageOptions):
    """What is predicted and written, besides how each image is predicted.

    Attributes:
      input: an image, a Zarr, or a folder of images.
      output: folder of the results.
      threshold: smallest probability of foreground.
      probabilities: whether they are written too, with 16 bits.
      uncertainty: whether it is written too, with 16 bits, see `views.uncertainty`.
      overlay: whether the mask over the image is written too.
      remove_specks: as for `cleaning.clean_mask`; None for `ImagePrediction.speck_area`.
      fill_holes: as for `cleaning.clean_mask`.
      tiles: pattern of tile names with `{row}` and `{column}`; `input` is then one mosaic.
      tile_overlap: part of a tile's side that neighbours share, in [0, 0.5].
      format: of mosaics, "tiff" or "zarr"; if not given, that of the input.
      layout: layout file to write too.
      page: number of the image in files that hold several, from 1.
      force: whether files that another program wrote are replaced.

    Raises:
      UserError: an option has a value that makes no sense.
    """

    input: pathlib.Path
    output: pathlib.Path
    threshold: float = 0.5
    probabilities: bool = False
    overlay: bool = False
    remove_specks: int | None = None
    fill_holes: int = 0
    tiles: str | None = None
    tile_overlap: float = 0.0
    format: str | None = None
    layout: LayoutOutput | None = None
    page: int | None = None
    force: bool = False

    def __post_init__(self):
        super().__post_init__()
        check_threshold(self.threshold)
        if not 0 <= self.tile_overlap <= 0.5:
            percent = 100 * self.tile_overlap
            raise UserError(f"--tile-overlap is {percent:g}: name 0 to 50 percent")
        if self.tile_overlap and self.tiles is None:
            raise UserError("--tile-overlap is for tiles whose names --tiles describes: name it")
        if self.page is not None and self.page < 1:
            raise UserError(f"--page is {self.page}: name a page from 1 up")
        cleaning.check_areas(self.remove_specks or 0, self.fill_holes)
        if self.format is not None and self.format not in ENDINGS:
            raise UserError(f"--format is {self.format}: name {' or '.join(ENDINGS)}")
