"""Networks as programs of other runtimes: ONNX, OpenVINO, StableHLO, packages of bioimage.io.

A program takes an image's levels as they are stored, and returns logits and probabilities. It
brings the levels to the range that the network was trained on, and states what else a user of it
must know. The weights are constants of it.
"""

import functools
import json
import logging
import math
import os
import pathlib
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eal_icnet_jax.inference import bioimage_package
from eal_icnet_jax.layers import fold_batch_norms
from eal_icnet_jax.layers.plain_forms import plain_forms
from eal_icnet_jax.models import named_arrays
from eal_icnet_jax.models.network import Network
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import MADE_BY, cannot_be_written, flush

OUTPUTS = "logits", "probabilities"
"""Names of a program's outputs, each `[batch, height, width, masks]` float32."""

BITS = {8: np.uint8, 16: np.uint16}
"""Types of an image's levels."""

LARGEST_SIDE = 2048
"""Largest side of an image in pixels. The memory of position attention grows with the square of the
number of pixels."""

CHECKED = (3, 2), (1, 4)
"""Heights and widths at which a program for any size is compared with ours, in its multiples."""

TOLERANCE = 1e-4
"""Largest difference of logits from ours, relative to their range."""

MISSING = "{} is not installed: pip install 'eal-icnet-jax[export]'"


class Program(NamedTuple):
    """What is exported.

    function: of `image` `[batch, height, width, channels]` and, if the network was trained on
      stretched images, of `black` and `white`, the levels `[channels]` float32 that become black
      and white.
    model: the network.
    size: height and width of the images, or None for any multiples of `multiple`.
    bits: of an image's levels.
    is_scaled: whether images are float32 of 0 to 1 instead of levels.
    """

    function: Callable[..., tuple[jax.Array, jax.Array]]
    model: Network
    size: tuple[int, int] | None
    bits: int
    is_scaled: bool = False

    @property
    def multiple(self) -> int:
        """What divides height and width of the images of a program for any size."""
        return math.lcm(self.model.smallest, self.model.alignment, self.model.multiple)

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return dict(self.model.spec.options)["in_channels"]

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        takes_levels = self.model.spec.preprocessing.stretch is not None and not self.is_scaled
        return ("image", "black", "white") if takes_levels else ("image",)

    @property
    def checked_sizes(self) -> list[tuple[int, int]]:
        """Heights and widths at which a written program is compared with the network."""
        if self.size is not None:
            return [self.size]
        return [(self.multiple * down, self.multiple * across) for down, across in CHECKED]

    def inputs(self, *image_shape) -> list[jax.ShapeDtypeStruct]:
        """Return shapes and types of the inputs.

        Args:
          image_shape: of the images, without channels; lengths may be symbolic.
        """
        dtype = np.float32 if self.is_scaled else BITS[self.bits]
        image = jax.ShapeDtypeStruct((*image_shape, self.channels), dtype)
        levels = jax.ShapeDtypeStruct((self.channels,), np.float32)
        return [image, *(levels for _ in self.input_names[1:])]

    def metadata(self) -> dict[str, str]:
        """Return what a user of the program must know."""
        spec = self.model.spec
        return {
            "software": MADE_BY.decode(),
            "network": spec.name,
            "outputs": ", ".join(spec.output_names),
            "threshold": "0.5",
            "stretch_percentiles": ", ".join(map(str, spec.preprocessing.stretch or ())),
            "wire_width": str(spec.preprocessing.wire_width),
            "trained_size": str(spec.preprocessing.crop_size or ""),
            "size_multiple": "" if self.size else str(self.multiple),
            "weights_sha256": named_arrays.weights_digest(self.model),
        }

    def expected(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Return the logits of the network itself, which takes none of the exported forms."""
        scaled = _scaling(self.bits, self.is_scaled)
        return np.asarray(jax.jit(lambda *inputs: self.model(scaled(*inputs)))(*inputs))

    def levels(self, size: tuple[int, int]) -> np.ndarray:
        """Return random levels of one image of a height and width, `[1, *size, channels]`."""
        rng = np.random.default_rng(0)
        return rng.integers(0, 2**self.bits, (1, *size, self.channels), BITS[self.bits])

    def example(self, size: tuple[int, int]) -> list[np.ndarray]:
        """Return inputs for one image of a height and width."""
        image = self.levels(size)
        if self.is_scaled:
            return [bioimage_package.unit_range(image, self.model.spec)]
        maximum = 2**self.bits - 1
        black_white = [np.full(self.channels, part * maximum, np.float32) for part in (0.1, 0.9)]
        return [image, *black_white[: len(self.input_names) - 1]]


def program_of(model: Network, size: tuple[int, int] | None, bits: int = 8) -> Program:
    """Return a network as a program for images of a size.

    Args:
      model: in evaluation mode.
      size: height and width of the images, or None for any multiples of `Program.multiple`.
      bits: of their levels, 8 or 16.

    Raises:
      UserError: the network cannot take such images.
    """
    if bits not in BITS:
        raise UserError(f"images of {bits} bits: name 8 or 16")
    if size is not None:
        _check_size(model, size)
    return _program(model, size, bits, is_scaled=False)


def _program(model: Network, size: tuple[int, int] | None, bits: int, is_scaled: bool) -> Program:
    folded, scaled = fold_batch_norms(model), _scaling(bits, is_scaled)

    def function(*inputs):
        with plain_forms():
            logits = folded(scaled(*inputs))
        return logits, jax.nn.sigmoid(logits)

    return Program(function, model, size, bits, is_scaled)


def _scaling(bits: int, is_scaled: bool) -> Callable:
    """Return what brings the inputs of a program to 0 to 1."""
    if is_scaled:
        return lambda image: image
    return functools.partial(_in_unit_range, maximum=2**bits - 1)


def _check_size(model: Network, size: tuple[int, int]):
    if min(size) < model.smallest or any(side % model.alignment for side in size):
        raise UserError(
            f"{size[0]}x{size[1]} (height x width) does not suit {model.spec.name}: name "
            f"{model.smallest} pixels or more, multiples of {model.alignment}"
        )
    if max(size) > LARGEST_SIDE:
        raise UserError(
            f"{size[0]}x{size[1]} (height x width) is more than {LARGEST_SIDE} pixels a side: "
            "export a smaller size, and cut photographs into overlapping windows"
        )


def _in_unit_range(image, black=None, white=None, *, maximum: int) -> jax.Array:
    """Return levels as numbers from 0 to 1, black and white first brought to 0 and the maximum."""
    levels = image.astype(jnp.float32)
    if black is not None:
        scale = maximum / jnp.where(white > black, white - black, 1)
        spread = jnp.clip(jnp.round((levels - black) * scale), 0, maximum)
        levels = jnp.where(white > black, spread, levels)
    return levels / maximum


def _onnx_model(program: Program):
    """Return the ONNX model of a program, for batches of any size."""
    try:
        import jax2onnx
        import onnx
    except ImportError as error:
        raise UserError(MISSING.format("jax2onnx")) from error
    function, image_name = program.function, program.input_names[0]
    if program.size is None:
        # jax2onnx knows an unknown length by the axis of an input that has it.
        batch, down, across = jax.export.symbolic_shape("batch, down, across")
        inputs = program.inputs(batch, down, program.multiple, across, program.multiple)
        function, image_name = _of_tiles(function), "tiles"
    else:
        (batch,) = jax.export.symbolic_shape("batch")
        inputs = program.inputs(batch, *program.size)
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of optimisations that were skipped
    try:
        with warnings.catch_warnings():  # of constants that it asks for in float64
            warnings.filterwarnings("ignore", "Explicitly requested dtype", UserWarning)
            model = jax2onnx.to_onnx(
                function,
                inputs,
                model_name=program.model.spec.name,
                input_names=(image_name, *program.input_names[1:]),
                output_names=OUTPUTS,
            )
    finally:
        logging.disable(level)
    if program.size is None:
        _let_images_in(model, program)
    onnx.helper.set_model_props(model, program.metadata())
    return model


def _of_tiles(function: Callable) -> Callable:
    """Return a function of `[batch, down, multiple, across, multiple, channels]` and levels."""

    def of_tiles(tiles, *levels):
        batch, down, rows, across, columns, channels = tiles.shape
        return function(tiles.reshape(batch, down * rows, across * columns, channels), *levels)

    return of_tiles


def _let_images_in(model, program: Program):
    """Let an ONNX model of `tiles` take `image`, which is cut into them before anything else."""
    from onnx import helper, numpy_helper

    graph, multiple = model.graph, program.multiple
    place = [value.name for value in graph.input].index("tiles")
    kind = graph.input[place].type.tensor_type.elem_type
    shape = ["batch", "height", "width", program.channels]
    graph.input[place].CopyFrom(helper.make_tensor_value_info("image", kind, shape))
    constants = {
        "lengths_of_tile": [1, multiple, multiple, 1],
        "side_of_tile": [multiple],
        "order_of_lengths": [0, 1, 4, 2, 4, 3],
    }
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.array(values), name))
    nodes = [
        helper.make_node("Shape", ["image"], ["image_shape"]),
        helper.make_node("Div", ["image_shape", "lengths_of_tile"], ["image_tiles"]),
        helper.make_node("Concat", ["image_tiles", "side_of_tile"], ["lengths"], axis=0),
        helper.make_node("Gather", ["lengths", "order_of_lengths"], ["tiles_shape"]),
        helper.make_node("Reshape", ["image", "tiles_shape"], ["tiles"]),
        *graph.node,
    ]
    del graph.node[:]
    graph.node.extend(nodes)


def _write_onnx(program: Program, path: pathlib.Path):
    path.write_bytes(_onnx_model(program).SerializeToString())


def _run_onnx(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], inputs)[0]


def _write_openvino(program: Program, path: pathlib.Path):
    try:
        import openvino
    except ImportError as error:
        raise UserError(MISSING.format("openvino")) from error
    source = path.with_suffix(".onnx")
    source.write_bytes(_onnx_model(program).SerializeToString())
    model = openvino.Core().read_model(source)
    for name, value in program.metadata().items():
        model.set_rt_info(value, ["eal_icnet", name])
    openvino.save_model(model, path, compress_to_fp16=False)


def _run_openvino(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(path, "CPU", options)(inputs)["logits"]


def _write_stablehlo(program: Program, path: pathlib.Path):
    exported = jax.export.export(jax.jit(program.function), platforms=["cpu"])(
        *program.inputs(1, *program.size)
    )
    path.write_bytes(exported.mlir_module_serialized)
    files_of(path)[1].write_text(json.dumps(program.metadata(), indent=1) + "\n")


def _write_package(program: Program, path: pathlib.Path):
    size = program.checked_sizes[0]
    logits = program.expected(program.example(size))
    results = logits, np.asarray(jax.nn.sigmoid(logits))
    arrays = {"image": program.levels(size), **dict(zip(OUTPUTS, results, strict=True))}
    bioimage_package.write(
        path, program.model.spec, _onnx_model(program), program.metadata(), program.size,
        program.multiple, arrays,
    )  # fmt: skip


def _run_package(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as package:
        return _run_onnx(pathlib.Path(package.extract(bioimage_package.WEIGHTS, folder)), inputs)


WRITERS = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".stablehlo": _write_stablehlo,
    ".zip": _write_package,
}
"""What writes each kind of file."""

RUNNERS = {".onnx": _run_onnx, ".xml": _run_openvino, ".zip": _run_package}
"""What runs a file in its own runtime and returns the logits."""


def check_format(path: pathlib.Path):
    """Raise a `UserError` if a file's ending names no format."""
    if path.suffix not in WRITERS:
        raise UserError(f"{path} is of no known format: let it end in {', '.join(WRITERS)}")


def takes_any_size(path: pathlib.Path) -> bool:
    """Return whether programs of a file's format can take images of any size."""
    return path.suffix != ".stablehlo"


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that `write_program` writes."""
    beside = {".xml": path.with_suffix(".bin"), ".stablehlo": path.with_name(f"{path.name}.json")}
    return [path, beside[path.suffix]] if path.suffix in beside else [path]


def write_program(program: Program, path: pathlib.Path) -> float | None:
    """Write a program that gives what the network does; nothing is replaced before that is known.

    Args:
      program: of `program_of`; for a size if the format needs one (`takes_any_size`).
      path: ends in `.onnx`, `.xml` (OpenVINO; the weights lie beside it in `.bin`) or
        `.stablehlo` (for a batch of one; what a user must know lies beside it in `.json`) or
        `.zip` (a package of bioimage.io, whose description says how levels are scaled).

    Returns:
      The largest difference of the file's logits from ours, relative to their range; None for
      StableHLO, which has no runtime of its own.

    Raises:
      UserError: the ending is another one, or needs a size; a package is missing; the file cannot
        be written; or its logits differ.
    """
    check_format(path)
    if program.size is None and not takes_any_size(path):
        raise UserError(f"{path.name} needs a size of images: name one")
    if path.suffix == ".zip":
        program = _program(program.model, program.size, program.bits, is_scaled=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            partial = pathlib.Path(folder) / path.name
            WRITERS[path.suffix](program, partial)
            difference = _difference(program, partial)
            for file in reversed(files_of(partial)):
                flush(file)
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise cannot_be_written(path, error) from error
    return difference


def _difference(program: Program, path: pathlib.Path) -> float | None:
    """Return the largest difference of a file's logits from ours, relative to their range.

    Raises:
      UserError: it is too large.
    """
    if path.suffix not in RUNNERS:
        return None
    sizes = program.checked_sizes
    difference = float(np.max([_difference_at(size, program, path) for size in sizes]))
    if not difference <= TOLERANCE:
        raise UserError(
            f"the logits of {path.name} differ from ours by {difference:.2g} of their range, and "
            "it is not written: report it with the versions of the packages"
        )
    return difference


def _difference_at(size: tuple[int, int], program: Program, path: pathlib.Path) -> float:
    inputs = program.example(size)
    ours = program.expected(inputs)
    theirs = RUNNERS[path.suffix](path, dict(zip(program.input_names, inputs, strict=True)))
    return float(np.abs(theirs - ours).max() / max(np.ptp(ours), np.finfo(np.float32).tiny))
