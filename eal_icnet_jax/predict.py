"""Masks of images.

    python -m eal_icnet_jax.predict --checkpoint=DIR --input=IMAGE_OR_FOLDER --output=FOLDER

Reads 8- and 16-bit grey or colour PNG, JPEG, TIFF and BMP of any size from 32x32 up, and writes a
mask of 0 and 255 as PNG for each, under the image's name. --layout=out.gds also writes the masks of
one image as GDSII, OASIS or SVG.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
from flax import nnx

from eal_icnet_jax import checkpoints, images, layout, runtime
from eal_icnet_jax.errors import UserError, run_command
from eal_icnet_jax.predictor import Predictor


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        prog="python -m eal_icnet_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = out.add_argument
    add("--checkpoint", required=True, help="checkpoint or work directory")
    add("--input", type=pathlib.Path, required=True, help="an image, or a folder of images")
    add("--output", type=pathlib.Path, required=True, help="folder for the masks")
    add("--threshold", type=float, default=0.5, help="foreground from this probability (0.5)")
    add("--probabilities", action="store_true", help="also write NAME_probability.png, 16 bits")
    add("--overlay", action="store_true", help="also write NAME_overlay.png")
    add("--layout", type=pathlib.Path, help=f"also write this {', '.join(layout.SUFFIXES)}")
    add(
        "--kinds", type=lambda text: text.split(","),
        help="what the model's masks are in the layout (metal; of two masks metal,via)",
    )  # fmt: skip
    layout.add_options(out)
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


def _inputs(path: pathlib.Path, output: pathlib.Path) -> list[pathlib.Path]:
    found = [path] if path.is_file() else images.find(path) if path.is_dir() else None
    if found is None:
        raise UserError(f"{path} does not exist: name an image or a folder of images")
    if any(image.resolve().parent == output.resolve() for image in found):
        raise UserError(f"--output {output} is where the images are: name another folder")
    return found


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
    height, width = image.shape[:2]
    if min(height, width) < (smallest := predictor.smallest):
        raise UserError(f"it is {height}x{width}, smaller than {smallest}x{smallest}")
    unit = images.to_unit_range(image, channels)
    return unit, predictor.probabilities(unit[None])[0]


def write_masks(
    output: pathlib.Path,
    name: str,
    unit: np.ndarray,
    probabilities: np.ndarray,
    arguments: argparse.Namespace,
):
    """Writes the masks of one image; a model of several numbers them NAME_1, NAME_2, ..."""
    classes = probabilities.shape[-1]
    for k in range(classes):
        stem = name if classes == 1 else f"{name}_{k + 1}"
        mask = probabilities[..., k] >= arguments.threshold
        images.write(output / f"{stem}.png", np.where(mask, 255, 0).astype(np.uint8))
        if arguments.probabilities:
            levels = np.rint(probabilities[..., k] * 65535).astype(np.uint16)
            images.write(output / f"{stem}_probability.png", levels)
        if arguments.overlay:
            from eal_icnet_jax import pictures  # which loads Matplotlib

            images.write(output / f"{stem}_overlay.png", pictures.overlay(unit, mask))


def predict_files(model: nnx.Module, arguments: argparse.Namespace) -> list[str]:
    """Predicts every input; returns a sentence for each that could not be read."""
    found = _inputs(arguments.input, arguments.output)
    channels, classes = (dict(model.spec.options)[key] for key in ("in_channels", "classes"))
    if arguments.layout:
        shapes = layout.shapes_of(arguments)
        kinds = layout_kinds(arguments, classes, len(found))
    try:
        arguments.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{arguments.output} cannot be made: {error.strerror or error}") from error
    predictor = Predictor(model)
    skipped = []
    for count, path in enumerate(found, 1):
        start = time.perf_counter()
        try:
            unit, probabilities = predict_image(predictor, images.read(path), channels)
        except UserError as error:
            told = str(error) if str(path) in str(error) else f"{path}: {error}"
            skipped.append(told)
            print(f"[{count}/{len(found)}] {path.name}  skipped: {told}", file=sys.stderr)
            continue
        write_masks(arguments.output, path.stem, unit, probabilities, arguments)
        foreground = 100 * np.mean(probabilities >= arguments.threshold)
        print(
            f"[{count}/{len(found)}] {path.name}  {unit.shape[1]}x{unit.shape[0]}  "
            f"{foreground:.1f}% foreground  {time.perf_counter() - start:.2f} s",
            flush=True,
        )
        if arguments.layout:
            masks = np.moveaxis(probabilities >= arguments.threshold, -1, 0)
            by_kind = dict(zip(kinds, masks, strict=True))
            counts = layout.write(arguments.layout, by_kind, arguments.pixel_size, shapes)
            print(layout.told(arguments.layout, counts))
    print(f"{len(found) - len(skipped)} of {len(found)} images in {arguments.output}")
    return skipped


def run(arguments: argparse.Namespace):
    runtime.configure()
    model = checkpoints.load_model(arguments.checkpoint)
    if skipped := predict_files(model, arguments):
        raise UserError(
            f"{len(skipped)} of the images could not be read and were skipped: "
            f"{'; '.join(skipped[:5])}{'; ...' if len(skipped) > 5 else ''}"
        )


def main(argv: list[str] | None = None):
    run_command(parser(), run, argv)


if __name__ == "__main__":
    main()
