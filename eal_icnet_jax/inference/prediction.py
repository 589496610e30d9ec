"""Prediction of image files and mosaics, one after another."""

import dataclasses
import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np

from eal_icnet_jax.imaging import (
    image_folders,
    levels,
    mosaic_files,
    overlays,
    pixel_values,
    png,
)
from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.imaging.mosaics import Mosaic
from eal_icnet_jax.inference.cleaning import clean_mask
from eal_icnet_jax.inference.mosaic_job import MosaicJob
from eal_icnet_jax.inference.mosaic_prediction import MosaicPrediction
from eal_icnet_jax.inference.prediction_models import ModelChoice, PredictionModel
from eal_icnet_jax.inference.prediction_options import PredictionOptions
from eal_icnet_jax.inference.scaling import Scale
from eal_icnet_jax.inference.windows import BlendedWindows
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.files import check_replaceable
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from eal_icnet_jax.vector.layout_options import pixel_size_text, square_pixel_size

MAX_WHOLE_PIXELS = 2048 * 2048
"""Largest number of pixels of an image that goes through the network without windows."""

WINDOWS_PER_ACCELERATOR = 8
"""Default number of windows at once on a device other than a CPU."""


def find_inputs(options: PredictionOptions) -> list[pathlib.Path]:
    """Return the images to predict.

    Raises:
      UserError: there is none, or the results would lie among the images.
    """
    path, output = options.input, options.output
    if not path.exists():
        raise UserError(f"{path} does not exist: name an image or a folder of images")
    is_single = path.is_file() or options.tiles is not None or mosaic_files.is_zarr(path)
    images = [path] if is_single else mosaic_files.find_mosaics(path)
    folders = {image.resolve().parent for image in images}
    if options.tiles is not None:
        folders.add(path.resolve())
    if output.resolve() in folders:
        raise UserError(f"{output} is the folder of the images: name another one with --output")
    return images


def _result_names(name: str, suffixes: tuple[str, ...], options: PredictionOptions) -> list[str]:
    """Return the names of an image's results without their endings."""
    masks = [name + suffix for suffix in suffixes]
    kinds = [""]
    kinds += ["_probability"] if options.probabilities else []
    kinds += ["_overlay"] if options.overlay else []
    return [mask + kind for mask in masks for kind in kinds]


def check_result_names(
    images: list[pathlib.Path], suffixes: tuple[str, ...], options: PredictionOptions
):
    """Raise a `UserError` if the results of two images would have one name."""
    owners: dict[str, pathlib.Path] = {}
    for image in images:
        for name in _result_names(image_folders.stem_of(image), suffixes, options):
            other = owners.setdefault(name.casefold(), image)
            if other != image:
                raise UserError(
                    f"{other.name} and {image.name} would both have a result named {name}: rename "
                    "one of them"
                )


@dataclasses.dataclass(frozen=True)
class ImageResult:
    """What became of one image.

    Attributes:
      number: of the image among the inputs, from 1.
      path: of the image.
      error: why it was skipped, or an empty text. The other attributes are then not set.
      size: height and width in pixels.
      foreground: fraction of the pixels that are foreground, averaged over the masks.
      seconds: that the prediction took, or None if the results existed already.
      layout_counts: number of shapes of each kind, or None if no layout was written.
      notes: a sentence for each thing about the file that a user should know.
      pixel_size_text: the pixel size of the layout and what states it; empty if it is unknown.
    """

    number: int
    path: pathlib.Path
    error: str = ""
    size: tuple[int, int] = (0, 0)
    foreground: float = 0.0
    seconds: float | None = None
    layout_counts: dict[str, int] | None = None
    notes: tuple[str, ...] = ()
    pixel_size_text: str = ""


class PredictionRun:
    """The prediction of one or several images.

    Args:
      model: in evaluation mode; None for the packaged network that suits each image.
      options: what is predicted and written.
      processes: that share the work. Mosaics are shared piece by piece, other images one by one.

    Attributes:
      paths: of the images.

    Raises:
      UserError: the options do not fit the model or the images.
    """

    def __init__(
        self,
        model: Network | None,
        options: PredictionOptions,
        processes: ProcessGroup = SINGLE_PROCESS,
    ):
        self._options, self._processes = options, processes
        self._choice = ModelChoice(model)
        smallest = self._choice.smallest
        if options.window_side < smallest:
            raise UserError(
                f"--window is {options.window_side}: the model takes {smallest} pixels or more"
            )
        self.paths = find_inputs(options)
        check_result_names(self.paths, self._choice.suffixes, options)
        if options.layout:
            self._kinds = options.layout.kinds_of(len(self._choice.suffixes))
            if len(self.paths) > 1:
                raise UserError(
                    f"--layout is for one image, and {options.input} has {len(self.paths)}: name "
                    "one image, or convert the masks with `eal-icnet layout`"
                )
        try:
            options.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{options.output} cannot be made: {os_error_cause(error)}") from error

    def results(self) -> Iterator[ImageResult]:
        """Predict the images, and yield the result of each that this process reports.

        An image that cannot be predicted is skipped, and its result has an error. Every process
        opens all images and reports those that it cannot read.

        Raises:
          UserError: an image failed in such a way that the other processes cannot know of it. All
            of them have to end.
        """
        for number, path in enumerate(self.paths, 1):
            try:
                result = self._predict(number, path)
            except UserError as error:
                message = str(error) if str(path) in str(error) else f"{path}: {error}"
                result = ImageResult(number, path, message)
            except OSError as error:
                cause = os_error_cause(error)
                raise UserError(f"{path} cannot be predicted: {cause}") from error
            if result is not None:
                yield result

    def _predict(self, number: int, path: pathlib.Path) -> ImageResult | None:
        """Do this process's part of an image; return the result if this process reports it."""
        start = time.perf_counter()
        mosaic = mosaic_files.open_mosaic(path, self._options.tiles, self._options.page)
        if mosaic.dtype not in (np.uint8, np.uint16):
            raise UserError(f"{path} has 1 bit per pixel: convert it to 8 or 16")
        mosaic = levels.in_full_range(mosaic, self._options.white)
        model, choice_note = self._choice.of(mosaic)
        model.predictor.check_size(str(path), mosaic.shape)
        pixel_size = None
        if self._options.layout:
            check_replaceable(self._options.layout.path, self._options.force)
            pixel_size = square_pixel_size(mosaic.pixel_size, self._options.layout.pixel_size)
        in_windows = self._needs_windows(mosaic)
        if not in_windows and number % self._processes.count != self._processes.index:
            return None
        mosaic = model.prepared(mosaic)
        scale = model.scale_of(mosaic, self._options.scale)
        is_finished = False
        if in_windows:
            prediction = MosaicPrediction(self._mosaic_job(model, mosaic, scale))
            is_finished = prediction.is_finished()
            if not is_finished:
                prediction.run(self._windows(model, mosaic, scale), self._processes)
            if not self._processes.is_first:
                return None
            foreground = prediction.foreground()
            masks = [
                MosaicMask(mosaic_files.open_mosaic(path), is_plain=True)
                for path in prediction.mask_paths()
            ]
        else:
            masks = self._predict_whole(model, mosaic, scale)
            foreground = [np.mean(mask) for mask in masks]
        seconds = None if is_finished else time.perf_counter() - start
        layout = self._options.layout
        return ImageResult(
            number,
            path,
            size=mosaic.shape,
            foreground=float(np.mean(foreground)),
            seconds=seconds,
            layout_counts=self._write_layout(masks, pixel_size),
            notes=(*mosaic.notes, *filter(None, (choice_note, scale.note))),
            pixel_size_text=pixel_size_text(
                pixel_size, mosaic.pixel_size_source, layout.pixel_size is not None
            )
            if layout and pixel_size is not None
            else "",
        )

    def _needs_windows(self, mosaic: Mosaic) -> bool:
        is_large = mosaic.shape[0] * mosaic.shape[1] > MAX_WHOLE_PIXELS
        return is_large or bool(self._options.window or self._options.format)

    def _probabilities(
        self, model: PredictionModel, mosaic: Mosaic, image: np.ndarray, scale: Scale
    ) -> np.ndarray:
        """Return the probabilities `[H, W, classes]` of an image, in windows if it becomes large.

        Args:
          model: that predicts it.
          mosaic: the image as it is read.
          image: the input of the network, `[H, W, C]`.
          scale: magnification.
        """
        height, width = mosaic.shape
        if height * width * scale.factor**2 > MAX_WHOLE_PIXELS:
            windows = self._windows(model, mosaic, scale)
            return next(windows.strips(slice(0, width), [slice(0, height)]))
        return model.predict_at(scale, self._options.tta, share_programs=True)(image[None])[0]

    def _predict_whole(
        self, model: PredictionModel, mosaic: Mosaic, scale: Scale
    ) -> list[np.ndarray]:
        """Predict an image at once, write the results, and return the masks `[H, W]`."""
        options = self._options
        image = pixel_values.to_unit_range(mosaic[slice(None), slice(None)], model.channels)
        probabilities = self._probabilities(model, mosaic, image, scale)
        name = image_folders.stem_of(mosaic.path)
        results = {}
        masks = []
        for k, suffix in enumerate(model.spec.mask_suffixes()):
            mask = probabilities[..., k] >= options.threshold
            mask = clean_mask(mask, options.remove_specks, options.fill_holes)
            stem = name + suffix
            results[f"{stem}.png"] = np.where(mask, 255, 0).astype(np.uint8)
            if options.probabilities:
                scaled = np.rint(probabilities[..., k] * 65535).astype(np.uint16)
                results[f"{stem}_probability.png"] = scaled
            if options.overlay:
                results[f"{stem}_overlay.png"] = overlays.overlay(image, mask)
            masks.append(mask)
        for file_name in results:
            check_replaceable(options.output / file_name, options.force)
        for file_name, pixels in results.items():
            png.write(options.output / file_name, pixels, mosaic.pixel_size)
        return masks

    def _mosaic_job(self, model: PredictionModel, mosaic: Mosaic, scale: Scale) -> MosaicJob:
        """Return the job of a mosaic at a magnification.

        Raises:
          UserError: the options do not fit the mosaic.
        """
        options = self._options
        if options.overlay:
            raise UserError("--overlay is for images of up to 2048x2048 pixels: remove it")
        if options.window and options.window > min(mosaic.shape):
            raise UserError(
                f"{mosaic.path} is {mosaic.shape[0]}x{mosaic.shape[1]}, smaller than a window of "
                f"{options.window}x{options.window}: name a smaller --window"
            )
        return MosaicJob(
            mosaic=mosaic,
            output=options.output,
            name=image_folders.stem_of(mosaic.path),
            suffixes=model.spec.mask_suffixes(),
            model_settings={
                "model": model.spec.name,
                "weights": model.weights_digest,
                "scale": scale.factor,
                "tta": options.tta,
                "window": [*self._window(mosaic, scale)],
                "overlap": self._overlap(scale),
                "batch": self._batch,
                "white": options.white,
                "page": options.page,
            },
            format=options.format or ("zarr" if mosaic_files.is_zarr(mosaic.path) else "tiff"),
            threshold=options.threshold,
            probabilities=options.probabilities,
            remove_specks=options.remove_specks,
            fill_holes=options.fill_holes,
        )

    def _windows(self, model: PredictionModel, mosaic: Mosaic, scale: Scale) -> BlendedWindows:
        # Results must not depend on the images before, so programs are not shared.
        predict = model.predict_at(scale, self._options.tta, share_programs=False)
        return BlendedWindows(
            mosaic,
            predict,
            model.channels,
            model.classes,
            self._window(mosaic, scale),
            self._overlap(scale),
            self._batch,
        )

    def _window(self, mosaic: Mosaic, scale: Scale) -> tuple[int, int]:
        """Return the height and width of a window, which do not exceed the mosaic's.

        By default, a window has its side after it is magnified.
        """
        side = self._options.window or round(self._options.window_side / scale.factor)
        return tuple(min(side, size) for size in mosaic.shape)

    def _overlap(self, scale: Scale) -> int:
        """Return the overlap of windows in pixels of the image."""
        if self._options.window or self._options.overlap is not None:
            return self._options.window_overlap
        return round(self._options.window_overlap / scale.factor)

    @property
    def _batch(self) -> int:
        """The number of windows that are predicted at once."""
        per_device = 1 if jax.default_backend() == "cpu" else WINDOWS_PER_ACCELERATOR
        return self._options.batch or jax.local_device_count() * per_device

    def _write_layout(self, masks: list, pixel_size: float | None) -> dict[str, int] | None:
        """Write the layout of an image's masks, and return the number of shapes of each kind."""
        layout = self._options.layout
        if layout is None:
            return None
        from eal_icnet_jax.vector.layout_files import write_layout  # not needed for masks only

        by_kind = dict(zip(self._kinds, masks, strict=True))
        return write_layout(layout.path, by_kind, pixel_size, layout.shapes)
