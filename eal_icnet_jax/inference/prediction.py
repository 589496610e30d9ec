"""Prediction of image files and mosaics, one after another."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from eal_icnet_jax.imaging import image_folders, mosaic_files, overlays, png
from eal_icnet_jax.imaging.masks import MosaicMask
from eal_icnet_jax.inference.cleaning import clean_mask
from eal_icnet_jax.inference.image_prediction import ImagePrediction
from eal_icnet_jax.inference.mosaic_job import MosaicJob
from eal_icnet_jax.inference.prediction_models import ModelChoice
from eal_icnet_jax.inference.prediction_options import PredictionOptions
from eal_icnet_jax.inference.views import uncertainty
from eal_icnet_jax.system.errors import UserError, os_error_cause
from eal_icnet_jax.system.files import check_replaceable
from eal_icnet_jax.system.process_group import SINGLE_PROCESS, ProcessGroup
from eal_icnet_jax.vector.layout_options import pixel_size_text, square_pixel_size

if TYPE_CHECKING:
    from eal_icnet_jax.inference.stored_programs import StoredForwardPass
    from eal_icnet_jax.models.network import Network


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
    kinds += ["_uncertainty"] if options.uncertainty else []
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
      before: called with each image before it is predicted in windows.

    Attributes:
      paths: of the images.

    Raises:
      UserError: the options do not fit the model or the images.
    """

    def __init__(
        self,
        model: "Network | StoredForwardPass | None",
        options: PredictionOptions,
        processes: ProcessGroup = SINGLE_PROCESS,
        before: Callable[[ImagePrediction], object] = lambda image: None,
    ):
        self._options, self._processes, self._before = options, processes, before
        self._choice = ModelChoice(model)
        smallest = self._choice.smallest
        if options.window and options.window < smallest:
            raise UserError(
                f"--window is {options.window}: the model takes {smallest} pixels or more"
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

    @property
    def outputs(self) -> dict[str, str]:
        """What is added to the name of an image for each output of the network, by its name."""
        return self._choice.outputs

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
        mosaic = mosaic_files.open_mosaic(
            path, self._options.tiles, self._options.page, self._options.tile_overlap
        )
        image = ImagePrediction(mosaic, self._choice, self._options)
        pixel_size = None
        if self._options.layout:
            check_replaceable(self._options.layout.path, self._options.force)
            pixel_size = square_pixel_size(mosaic.pixel_size, self._options.layout.pixel_size)
        in_windows = image.is_large or bool(self._options.window or self._options.format)
        if not in_windows and number % self._processes.count != self._processes.index:
            return None
        is_finished = False
        if in_windows:
            # Imports zarr, for which small images need not wait.
            from eal_icnet_jax.inference.mosaic_prediction import MosaicPrediction

            prediction = MosaicPrediction(self._mosaic_job(image))
            is_finished = prediction.is_finished()
            if not is_finished:
                self._before(image)
                prediction.run(image.windows(), self._processes)
            if not self._processes.is_first:
                return None
            foreground = prediction.foreground()
            masks = [
                MosaicMask(mosaic_files.open_mosaic(path), is_plain=True)
                for path in prediction.mask_paths()
            ]
        else:
            masks = self._predict_in_memory(image)
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
            notes=image.notes,
            pixel_size_text=pixel_size_text(
                pixel_size, mosaic.pixel_size_source, layout.pixel_size is not None
            )
            if layout and pixel_size is not None
            else "",
        )

    def _speck_area(self, image: ImagePrediction) -> int:
        area = self._options.remove_specks
        return image.speck_area if area is None else area

    def _predict_in_memory(self, image: ImagePrediction) -> list[np.ndarray]:
        """Predict an image in memory, write the results, and return the masks `[H, W]`."""
        options, mosaic = self._options, image.mosaic
        probabilities = image.probabilities()
        name = image_folders.stem_of(mosaic.path)
        results = {}
        masks = []
        suffixes = image.model.spec.mask_suffixes()
        for k, suffix in enumerate(suffixes):
            mask = probabilities[..., k] >= options.threshold
            mask = clean_mask(mask, self._speck_area(image), options.fill_holes)
            stem = name + suffix
            results[f"{stem}.png"] = np.where(mask, 255, 0).astype(np.uint8)
            if options.probabilities:
                scaled = np.rint(probabilities[..., k] * 65535).astype(np.uint16)
                results[f"{stem}_probability.png"] = scaled
            if options.uncertainty:
                spread = probabilities[..., k + len(suffixes)] if options.with_spread else None
                unsure = uncertainty(probabilities[..., k], spread)
                results[f"{stem}_uncertainty.png"] = np.rint(unsure * 65535).astype(np.uint16)
            if options.overlay:
                results[f"{stem}_overlay.png"] = overlays.overlay(image.pixels, mask)
            masks.append(mask)
        for file_name in results:
            check_replaceable(options.output / file_name, options.force)
        for file_name, content in results.items():
            png.write(options.output / file_name, content, mosaic.pixel_size)
        return masks

    def _mosaic_job(self, image: ImagePrediction) -> MosaicJob:
        """Return the job of an image that is predicted in windows.

        Raises:
          UserError: the options do not fit the image.
        """
        options, mosaic, model = self._options, image.mosaic, image.model
        magnified = image.at()
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
                "scale": image.scale.factor,
                "tta": options.tta,
                "multiscale": options.multiscale,
                "window": [*magnified.window],
                "overlap": magnified.overlap,
                "batch": magnified.batch,
                "white": options.white,
                "page": options.page,
            },
            format=options.format or ("zarr" if mosaic_files.is_zarr(mosaic.path) else "tiff"),
            threshold=options.threshold,
            probabilities=options.probabilities,
            uncertainty=options.uncertainty,
            remove_specks=self._speck_area(image),
            fill_holes=options.fill_holes,
        )

    def _write_layout(self, masks: list, pixel_size: float | None) -> dict[str, int] | None:
        """Write the layout of an image's masks, and return the number of shapes of each kind."""
        layout = self._options.layout
        if layout is None:
            return None
        from eal_icnet_jax.vector.layout_files import write_layout  # not needed for masks only

        by_kind = dict(zip(self._kinds, masks, strict=True))
        return write_layout(layout.path, by_kind, pixel_size, layout.shapes)
