"""Masks of images, and of mosaics of any size.

    python -m eal_icnet_jax.predict --checkpoint=DIR --input=IMAGE_OR_FOLDER --output=FOLDER

Reads 8- and 16-bit grey or colour PNG, JPEG, TIFF, BMP and Zarr from 32x32 up, and writes a mask of
0 and 255 as PNG for each, under the image's name. An image of more than 2048x2048 pixels is a
mosaic: it is read, predicted in overlapping windows and written piece by piece, as tiled OME-TIFF
or OME-Zarr with a pyramid; the same command again goes on after a kill. --layout=out.gds also
writes the masks of one image as GDSII, OASIS or SVG.
"""

import argparse
import collections
import functools
import pathlib
import sys
import time

import jax
import numpy as np
from flax import nnx

from eal_icnet_jax import (
    checkpoints,
    distributed,
    images,
    layout,
    mosaic_job,
    mosaics,
    postprocess,
    runtime,
    windows,
)
from eal_icnet_jax.errors import UserError, command_parser, run_command
from eal_icnet_jax.mosaics import Mosaic
from eal_icnet_jax.predictor import Predictor

LARGEST_WHOLE = 2048 * 2048
"""Pixels up to which an image goes through the network whole."""


def parser() -> argparse.ArgumentParser:
    out = command_parser("predict", __doc__)
    add = out.add_argument
    add("--checkpoint", required=True, help="checkpoint or work directory")
    add("--input", type=pathlib.Path, required=True, help="an image, or a folder of images")
    add("--output", type=pathlib.Path, required=True, help="folder for the masks")
    add("--threshold", type=float, default=0.5, help="foreground from this probability (0.5)")
    add("--probabilities", action="store_true", help="also write NAME_probability, 16 bits")
    add("--overlay", action="store_true", help="also write NAME_overlay.png; not of mosaics")
    add("--remove-specks", type=int, default=0, metavar="AREA",
        help="remove foreground regions of fewer pixels (0: none)")  # fmt: skip
    add("--fill-holes", type=int, default=0, metavar="AREA",
        help="then fill holes of fewer pixels (0: none)")  # fmt: skip
    mosaic = out.add_argument_group("mosaics")
    add = mosaic.add_argument
    add("--tiles", metavar="PATTERN",
        help="--input is a folder of tiles that are named tile_{row}_{column}.png")  # fmt: skip
    add("--window", type=int, help=f"side of a window in pixels ({windows.WINDOW})")
    add("--overlap", type=int, help="of windows, in pixels (an eighth of a window)")
    add("--batch", type=int, help="windows at once (1 a CPU, 8 another device)")
    add("--format", choices=mosaic_job.ENDINGS, help="of the results (zarr for Zarr, else tiff)")
    shared = out.add_argument_group("several processes or hosts, one command each")
    add = shared.add_argument
    add("--distributed", action="store_true", help="as the cluster's environment says")
    add("--coordinator", metavar="HOST:PORT", help="where the first process is reached")
    add("--processes", type=int, help="how many there are")
    add("--process", type=int, help="which this is, from 0")
    of_layout = out.add_argument_group("layout")
    add = of_layout.add_argument
    add("--layout", type=pathlib.Path, help=f"also write this {', '.join(layout.SUFFIXES)}")
    add(
        "--kinds", type=lambda text: text.split(","),
        help="what the model's masks are in the layout (metal; of two masks metal,via)",
    )  # fmt: skip
    layout.add_options(of_layout)
    return out


def layout_kinds(arguments: argparse.Namespace, classes: int, count: int) -> list[str]:
    """What each of a model's masks is in the layout.

    Raises:
      UserError: the options of the layout do not go together with the model or the images.
    """
    layout.check(arguments.layout)
    if count > 1:
        raise UserError(
            f"--layout is of one image, and --input has {count}: name one image, or turn the masks "
            "to layout with `python -m eal_icnet_jax.layout`"
        )
    kinds = arguments.kinds or list(layout.LAYERS)[:classes]
    if len(kinds) != classes or len(set(kinds)) < classes or not {*kinds} <= {*layout.LAYERS}:
        raise UserError(
            f"--kinds is {','.join(kinds)}, and the model predicts {classes} masks: name each, "
            f"of {', '.join(layout.LAYERS)}"
        )
    return kinds


def _inputs(path: pathlib.Path, output: pathlib.Path, tiles: str | None) -> list[pathlib.Path]:
    if not path.exists():
        raise UserError(f"{path} does not exist: name an image or a folder of images")
    single = path.is_file() or tiles is not None or mosaics.is_zarr(path)
    found = [path] if single else mosaics.find(path)
    if any(image.resolve().parent == output.resolve() for image in found) or (
        tiles is not None and path.resolve() == output.resolve()
    ):
        raise UserError(f"--output {output} is where the images are: name another folder")
    by_name = collections.Counter(map(mosaics.name_of, found))
    if same := [path.name for path in found if by_name[mosaics.name_of(path)] > 1]:
        raise UserError(f"the masks of {', '.join(same)} would have one name: rename one of them")
    return found


def _check_windows(arguments: argparse.Namespace, smallest: int):
    """Raises a `UserError` where the options of windows make no sense."""
    window, overlap, batch = arguments.window, arguments.overlap, arguments.batch
    if window is not None and window < smallest:
        raise UserError(f"--window is {window}: the model takes {smallest} pixels or more")
    if overlap is not None and not 0 <= overlap <= (window or windows.WINDOW) // 2:
        raise UserError(f"--overlap is {overlap}: name 0 to half a window")
    if batch is not None and batch < 1:
        raise UserError(f"--batch is {batch}: name 1 or more windows")


def predict_image(
    predictor: Predictor, image: np.ndarray, channels: int
) -> tuple[np.ndarray, np.ndarray]:
    """An image as the network saw it `[H, W, C]`, and its probabilities `[H, W, classes]`.

    Args:
      image: `[H, W]` or `[H, W, 3]`, uint8 or uint16.
      channels: that the model takes.

    Raises:
      UserError: the image is too small.
    """
    _check_size(image.shape, predictor.smallest)
    unit = images.to_unit_range(image, channels)
    return unit, predictor.probabilities(unit[None])[0]


def _check_size(shape: tuple[int, ...], smallest: int):
    if min(shape[:2]) < smallest:
        raise UserError(f"it is {shape[0]}x{shape[1]}, smaller than {smallest}x{smallest}")


class Prediction:
    """What a command predicts, image by image.

    Args:
      model: in evaluation mode.
      arguments: of `parser`.
      processes: that share the mosaics, and of other images each takes some.

    Raises:
      UserError: the arguments do not go together, or with the model.
    """

    def __init__(
        self,
        model: nnx.Module,
        arguments: argparse.Namespace,
        processes: distributed.Processes = distributed.ALONE,
    ):
        self._arguments, self._processes = arguments, processes
        options = dict(model.spec.options)
        self._channels, self._classes = options["in_channels"], options["classes"]
        if self._channels not in (1, 3):
            raise UserError(
                f"{arguments.checkpoint} takes images of {self._channels} channels: name a "
                "checkpoint for grey or RGB images"
            )
        postprocess.check(arguments.remove_specks, arguments.fill_holes)
        _check_windows(arguments, model.smallest)
        self.found = _inputs(arguments.input, arguments.output, arguments.tiles)
        self._model = model
        self._predictor = Predictor(model)
        try:
            arguments.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            told = error.strerror or error
            raise UserError(f"{arguments.output} cannot be made: {told}") from error
        if arguments.layout:
            self._shapes = layout.shapes_of(arguments)
            self._kinds = layout_kinds(arguments, self._classes, len(self.found))

    def all(self) -> list[str]:
        """Predicts every input; returns a sentence for each that could not be."""
        skipped = []
        for count, path in enumerate(self.found, 1):
            head = f"[{count}/{len(self.found)}] {path.name}"
            try:
                mosaic = mosaics.open_mosaic(path, self._arguments.tiles)
                if mosaic.dtype not in (np.uint8, np.uint16):
                    raise UserError(f"{path} has 1 bit a pixel: convert it to 8 or 16")
                if self._is_large(mosaic):
                    self._predict_mosaic(head, mosaic)
                elif count % self._processes.count == self._processes.index:
                    self._predict_image(head, mosaic)
            except UserError as error:
                told = str(error) if str(path) in str(error) else f"{path}: {error}"
                skipped.append(told)
                if len(self.found) > 1:
                    print(f"{head}  skipped: {told}", file=sys.stderr)
        if len(self.found) > 1 or not skipped:
            print(f"{len(self.found) - len(skipped)} of {len(self.found)} images in "
                  f"{self._arguments.output}")  # fmt: skip
        return skipped

    def _is_large(self, mosaic: Mosaic) -> bool:
        asked = self._arguments.window, self._arguments.format
        return mosaic.shape[0] * mosaic.shape[1] > LARGEST_WHOLE or any(asked)

    def _predict_image(self, head: str, mosaic: Mosaic):
        arguments, start = self._arguments, time.perf_counter()
        image = mosaic[slice(None), slice(None)]
        unit, probabilities = predict_image(self._predictor, image, self._channels)
        masks = {}
        name = mosaics.name_of(mosaic.path)
        for k in range(self._classes):
            stem = name if self._classes == 1 else f"{name}_{k + 1}"
            mask = probabilities[..., k] >= arguments.threshold
            mask = postprocess.cleaned(mask, arguments.remove_specks, arguments.fill_holes)
            masks[stem] = mask
            self._write(stem, unit, mask, probabilities[..., k])
        foreground = 100 * np.mean(list(masks.values()))
        print(
            f"{head}  {unit.shape[1]}x{unit.shape[0]}  {foreground:.1f}% foreground  "
            f"{time.perf_counter() - start:.2f} s",
            flush=True,
        )
        self._write_layout(list(masks.values()), mosaic.pixel_size)

    def _write(self, stem: str, unit: np.ndarray, mask: np.ndarray, probabilities: np.ndarray):
        output = self._arguments.output
        images.write(output / f"{stem}.png", np.where(mask, 255, 0).astype(np.uint8))
        if self._arguments.probabilities:
            levels = np.rint(probabilities * 65535).astype(np.uint16)
            images.write(output / f"{stem}_probability.png", levels)
        if self._arguments.overlay:
            from eal_icnet_jax import pictures  # which loads Matplotlib

            images.write(output / f"{stem}_overlay.png", pictures.overlay(unit, mask))

    def _predict_mosaic(self, head: str, mosaic: Mosaic):
        arguments, start = self._arguments, time.perf_counter()
        if arguments.overlay:
            raise UserError("--overlay is of images of up to 2048x2048 pixels: leave it out")
        _check_size(mosaic.shape, self._predictor.smallest)
        if arguments.window and arguments.window > min(mosaic.shape):
            raise UserError(
                f"it is {mosaic.shape[0]}x{mosaic.shape[1]}, smaller than a window of "
                f"{arguments.window}x{arguments.window}: name a smaller --window"
            )
        side = arguments.window or windows.WINDOW
        window = tuple(min(side, size) for size in mosaic.shape)
        overlap = side // windows.SHARE if arguments.overlap is None else arguments.overlap
        of_cpu = jax.default_backend() == "cpu"
        batch = arguments.batch or jax.local_device_count() * (1 if of_cpu else 8)
        settings = {
            "model": self._model.spec.name, "weights": self._digest,
            "window": [*window], "overlap": overlap, "batch": batch,
        }  # fmt: skip
        format = arguments.format or ("zarr" if mosaics.is_zarr(mosaic.path) else "tiff")
        job = mosaic_job.Job(
            mosaic, arguments.output, mosaics.name_of(mosaic.path), self._classes, settings,
            format=format, threshold=arguments.threshold, probabilities=arguments.probabilities,
            specks=arguments.remove_specks, holes=arguments.fill_holes,
        )  # fmt: skip
        there = job.finished()
        if not there:
            predict = functools.partial(self._predictor.probabilities, shared=False)
            blended = windows.Blended(
                mosaic, predict, self._channels, self._classes, window, overlap, batch
            )
            job.run(blended, self._processes)
        if not self._processes.is_first:
            return
        foreground = 100 * np.mean(job.foreground())
        print(
            f"{head}  {mosaic.shape[1]}x{mosaic.shape[0]}  {foreground:.1f}% foreground  "
            + ("was there already" if there else f"{time.perf_counter() - start:.1f} s"),
            flush=True,
        )
        masks = [mosaics.Mask(mosaics.open_mosaic(path)) for path in job.results()]
        self._write_layout(masks, mosaic.pixel_size)

    def _write_layout(self, masks: list, pixel_size: tuple[float, float] | None):
        arguments = self._arguments
        if not arguments.layout:
            return
        by_kind = dict(zip(self._kinds, masks, strict=True))
        size = layout.pixel_size_of(arguments, pixel_size)
        counts = layout.write(arguments.layout, by_kind, size, self._shapes)
        print(layout.told(arguments.layout, counts))

    @functools.cached_property
    def _digest(self) -> str:
        """Of the weights."""
        return checkpoints.digest(checkpoints.weight_arrays(nnx.state(self._model)))


def run(arguments: argparse.Namespace):
    given = arguments.coordinator, arguments.processes, arguments.process
    with distributed.joined(*given, arguments.distributed) as processes:
        runtime.configure()
        model = checkpoints.load_model(arguments.checkpoint)
        prediction = Prediction(model, arguments, processes)
        if skipped := prediction.all():
            if len(prediction.found) == 1:
                raise UserError(skipped[0])
            raise UserError(
                f"{len(skipped)} of the images could not be read and were skipped: "
                f"{'; '.join(skipped[:5])}{'; ...' if len(skipped) > 5 else ''}"
            )


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
