"""Networks as programs of other runtimes: ONNX, OpenVINO, StableHLO, packages of bioimage.io.

A program takes an image's levels as they are stored, and returns logits and probabilities. It
brings the levels to the range that the network was trained on, and states what else a user of it
must know. The weights are constants of it.
"""

import dataclasses
import functools
import json
import logging
import math
import os
import pathlib
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
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

CHECKED = (2, 3, 2), (1, 1, 4)
"""Number, height and width of the images at which a program for any size is compared with ours, the
sides in its multiples."""

TOLERANCE = 1e-4
"""Largest difference of logits from ours, relative to their range."""

LARGEST_BATCH = 256
"""Images of a batch at most."""

MISSING = "{} is not installed: pip install 'eal-icnet-jax[export]'"


class Program(NamedTuple):
    """What is exported.

    function: of `image` `[batch, height, width, channels]` and, if the network was trained on
      stretched images, of `black` and `white`, the levels `[channels]` float32 that become black
      and white.
    model: the network.
    size: height and width of the images, or None for any multiples of `multiple`.
    batch: number of images, or None for any.
    bits: of an image's levels.
    is_scaled: whether images are float32 of 0 to 1 instead of levels.
    """

    function: Callable[..., tuple[jax.Array, jax.Array]]
    model: Network
    size: tuple[int, int] | None
    batch: int | None
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
    def checked_shapes(self) -> list[tuple[int, int, int]]:
        """Number, height and width of images at which a written program is compared with ours."""
        if self.size is not None:
            return [(self.batch or 1, *self.size)]
        step = self.multiple
        return [
            (self.batch or count, step * down, step * across) for count, down, across in CHECKED
        ]

    def symbolic_shape(self, *size: str) -> Sequence:
        """Return batch, and height and width as JAX's symbolic shapes, or what they are fixed to.

        Args:
          *size: what stands for height and width where they are not fixed, such as `32*down`.
        """
        lengths = self.batch or "batch", *(self.size or size)
        return jax.export.symbolic_shape(", ".join(map(str, lengths)))

    def inputs(self, *image_shape) -> list[jax.ShapeDtypeStruct]:
        """Return shapes and types of the inputs.

        Args:
          *image_shape: of the images, without channels; lengths may be symbolic.
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

    def levels(self, *shape: int) -> np.ndarray:
        """Return random levels `[*shape, channels]` of a number of images of a height and width."""
        rng = np.random.default_rng(0)
        return rng.integers(0, 2**self.bits, (*shape, self.channels), BITS[self.bits])

    def example(self, *shape: int) -> list[np.ndarray]:
        """Return inputs for a number of images of a height and width."""
        image = self.levels(*shape)
        if self.is_scaled:
            return [bioimage_package.unit_range(image, self.model.spec)]
        maximum = 2**self.bits - 1
        black_white = [np.full(self.channels, part * maximum, np.float32) for part in (0.1, 0.9)]
        return [image, *black_white[: len(self.input_names) - 1]]


def program_of(
    model: Network, size: tuple[int, int] | None, bits: int = 8, batch: int | None = None
) -> Program:
    """Return a network as a program for images of a size.

    Args:
      model: in evaluation mode.
      size: height and width of the images, or None for any multiples of `Program.multiple`.
      bits: of their levels, 8 or 16.
      batch: number of images, or None for any.

    Raises:
      UserError: the network cannot take such images.
    """
    if bits not in BITS:
        raise UserError(f"images of {bits} bits: name 8 or 16")
    if batch is not None and not 1 <= batch <= LARGEST_BATCH:
        raise UserError(f"batches of {batch} images: name a number from 1 to {LARGEST_BATCH}")
    if size is not None:
        _check_size(model, size)
    return _program(model, size, batch, bits)


def _program(
    model: Network,
    size: tuple[int, int] | None,
    batch: int | None,
    bits: int,
    is_scaled: bool = False,
) -> Program:
    folded, scaled = fold_batch_norms(model), _scaling(bits, is_scaled)

    def function(*inputs):
        with plain_forms():
            logits = folded(scaled(*inputs))
        return logits, jax.nn.sigmoid(logits)

    return Program(function, model, size, batch, bits, is_scaled)


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
    """Return the ONNX model of a program."""
    try:
        import jax2onnx
        import onnx
    except ImportError as error:
        raise UserError(MISSING.format("jax2onnx")) from error
    function, image_name = program.function, program.input_names[0]
    if program.size is None:
        # jax2onnx knows an unknown length by the axis of an input that has it.
        batch, down, across = program.symbolic_shape("down", "across")
        inputs = program.inputs(batch, down, program.multiple, across, program.multiple)
        function, image_name = _of_tiles(function), "tiles"
    else:
        inputs = program.inputs(*program.symbolic_shape())
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
    shape = [program.batch or "batch", "height", "width", program.channels]
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


Run = Callable[[dict[str, np.ndarray]], np.ndarray]
"""What runs a written program in its runtime: of its inputs by name, the logits."""


def _write_onnx(program: Program, path: pathlib.Path) -> Run:
    path.write_bytes(_onnx_model(program).SerializeToString())
    return functools.partial(_run_onnx, path)


def _run_onnx(path: pathlib.Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], inputs)[0]


def _write_openvino(program: Program, path: pathlib.Path) -> Run:
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

    def run(inputs):
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        return openvino.Core().compile_model(path, "CPU", options)(inputs)["logits"]

    return run


def _write_stablehlo(program: Program, path: pathlib.Path) -> Run:
    multiple, function = program.multiple, jax.jit(program.function)
    shape = program.symbolic_shape(f"{multiple}*down", f"{multiple}*across")
    exported = jax.export.export(function, platforms=["cpu"])(*program.inputs(*shape))
    module = _without_jax(exported.mlir_module_serialized)
    path.write_bytes(module)
    files_of(path)[1].write_text(json.dumps(program.metadata(), indent=1) + "\n")

    def run(inputs):
        exactly = dataclasses.replace(exported, mlir_module_serialized=module)
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            logits, _ = jax.jit(exactly.call)(*(inputs[name] for name in program.input_names))
        return np.asarray(logits)

    return run


def _without_jax(module: bytes) -> bytes:
    """Return a StableHLO module of JAX without what other compilers do not know or need.

    These are JAX's own calls that check lengths, and the places in our code.
    """
    from jax.extend.mlir import ir, passmanager
    from jax.extend.mlir.dialects import stablehlo

    context = ir.Context()
    stablehlo.register_dialect(context)
    with context:
        read = stablehlo.deserialize_portable_artifact(context, module)
        checks = []

        def visit(operation):
            if operation.name == "stablehlo.custom_call":
                target = operation.attributes["call_target_name"]
                if ir.StringAttr(target).value == "shape_assertion":
                    checks.append(operation)
            return ir.WalkResult.ADVANCE

        read.operation.walk(visit)
        for check in checks:
            check.erase()
        passmanager.PassManager.parse("builtin.module(strip-debuginfo)").run(read.operation)
        age = stablehlo.StablehloCompatibilityRequirement.WEEK_12
        version = stablehlo.get_version_from_compatibility_requirement(age)
        return stablehlo.serialize_portable_artifact(read, version)


def _write_package(program: Program, path: pathlib.Path) -> Run:
    shape = 1, *program.checked_shapes[0][1:]
    logits = program.expected(program.example(*shape))
    results = logits, np.asarray(jax.nn.sigmoid(logits))
    arrays = {"image": program.levels(*shape), **dict(zip(OUTPUTS, results, strict=True))}
    bioimage_package.write(
        path, program.model.spec, _onnx_model(program), program.metadata(), program.size,
        program.multiple, arrays,
    )  # fmt: skip

    def run(inputs):
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as package:
            weights = package.extract(bioimage_package.WEIGHTS, folder)
            return _run_onnx(pathlib.Path(weights), inputs)

    return run


WRITERS = {
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".stablehlo": _write_stablehlo,
    ".zip": _write_package,
}
"""What writes each kind of file, and returns what runs it."""


def check_format(path: pathlib.Path):
    """Raise a `UserError` if a file's ending names no format."""
    if path.suffix not in WRITERS:
        raise UserError(f"{path} is of no known format: let it end in {', '.join(WRITERS)}")


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that `write_program` writes."""
    beside = {".xml": path.with_suffix(".bin"), ".stablehlo": path.with_name(f"{path.name}.json")}
    return [path, beside[path.suffix]] if path.suffix in beside else [path]


def write_program(program: Program, path: pathlib.Path) -> float:
    """Write a program that gives what the network does; nothing is replaced before that is known.

    Args:
      program: of `program_of`.
      path: ends in `.onnx`, `.xml` (OpenVINO; the weights lie beside it in `.bin`),
        `.stablehlo` (what a user must know lies beside it in `.json`) or `.zip` (a package of
        bioimage.io, whose description says how levels are scaled, for batches of any size).

    Returns:
      The largest difference of the file's logits from ours, relative to their range. ONNX Runtime
      or OpenVINO runs it; JAX compiles StableHLO, without our code.

    Raises:
      UserError: the ending is another one; the format does not take the batch; a package is
        missing; the file cannot be written; or its logits differ.
    """
    check_format(path)
    if path.suffix == ".zip":
        if program.batch is not None:
            raise UserError(f"{path.name} takes batches of any size: leave out --batch")
        program = _program(program.model, program.size, None, program.bits, is_scaled=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            partial = pathlib.Path(folder) / path.name
            run = WRITERS[path.suffix](program, partial)
            difference = _difference(program, run)
            if not difference <= TOLERANCE:
                raise UserError(
                    f"the logits of {path.name} differ from ours by {difference:.2g} of their "
                    "range, and it is not written: report it with the versions of the packages"
                )
            for file in reversed(files_of(partial)):
                flush(file)
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise cannot_be_written(path, error) from error
    return difference


def _difference(program: Program, run: Run) -> float:
    """Return the largest difference of a program's logits from ours, relative to their range."""
    differences = []
    for shape in program.checked_shapes:
        inputs = program.example(*shape)
        ours = program.expected(inputs)
        theirs = run(dict(zip(program.input_names, inputs, strict=True)))
        span = max(np.ptp(ours), np.finfo(np.float32).tiny)
        differences.append(np.abs(theirs - ours).max() / span)
    return float(np.max(differences))
