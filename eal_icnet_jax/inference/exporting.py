"""Networks as programs of other runtimes: ONNX, OpenVINO, StableHLO.

A program takes an image's levels as they are stored, and returns logits and probabilities. It
brings the levels to the range that the network was trained on, and states what else a user of it
must know. The weights are constants of it.
"""

import json
import logging
import os
import pathlib
import tempfile
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

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

TOLERANCE = 1e-4
"""Largest difference of logits from ours, relative to their range."""

MISSING = "{} is not installed: pip install 'eal-icnet-jax[export]'"


class Program(NamedTuple):
    """What is exported.

    function: of `image` `[batch, height, width, channels]` and, if the network was trained on
      stretched images, of `black` and `white`, the levels `[channels]` float32 that become black
      and white.
    model: the network.
    size: height and width of the images.
    bits: of an image's levels.
    """

    function: Callable[..., tuple[jax.Array, jax.Array]]
    model: Network
    size: tuple[int, int]
    bits: int

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        is_stretched = self.model.spec.preprocessing.stretch is not None
        return ("image", "black", "white") if is_stretched else ("image",)

    def inputs(self, batch) -> list[jax.ShapeDtypeStruct]:
        """Return shapes and types of the inputs for a batch, which may be symbolic."""
        channels = dict(self.model.spec.options)["in_channels"]
        image = jax.ShapeDtypeStruct((batch, *self.size, channels), BITS[self.bits])
        levels = jax.ShapeDtypeStruct((channels,), np.float32)
        return [image, *(levels for _ in self.input_names[1:])]

    def metadata(self) -> dict[str, str]:
        """Return what a user of the program must know."""
        spec = self.model.spec
        weights = named_arrays.weight_arrays(nnx.state(self.model))
        return {
            "software": MADE_BY.decode(),
            "network": spec.name,
            "outputs": ", ".join(spec.output_names),
            "threshold": "0.5",
            "stretch_percentiles": ", ".join(map(str, spec.preprocessing.stretch or ())),
            "wire_width": str(spec.preprocessing.wire_width),
            "weights_sha256": named_arrays.arrays_digest(weights),
        }

    def expected(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Return the logits of the network itself, which takes none of the exported forms."""

        def logits(*inputs):
            return self.model(_in_unit_range(*inputs, maximum=2**self.bits - 1))

        return np.asarray(jax.jit(logits)(*inputs))

    def example(self, seed: int = 0) -> list[np.ndarray]:
        """Return inputs of a batch of one."""
        rng, maximum = np.random.default_rng(seed), 2**self.bits - 1
        image, *levels = self.inputs(1)
        low_high = (0.1 * maximum, 0.9 * maximum)
        values = [
            np.full(level.shape, value, np.float32)
            for level, value in zip(levels, low_high, strict=False)
        ]
        return [rng.integers(0, maximum + 1, image.shape, image.dtype), *values]


def program_of(model: Network, size: tuple[int, int], bits: int = 8) -> Program:
    """Return a network as a program for images of a size.

    Args:
      model: in evaluation mode.
      size: height and width of the images.
      bits: of their levels, 8 or 16.

    Raises:
      UserError: the network cannot take such images.
    """
    if bits not in BITS:
        raise UserError(f"images of {bits} bits: name 8 or 16")
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
    folded = fold_batch_norms(model)

    def function(*inputs):
        with plain_forms():
            logits = folded(_in_unit_range(*inputs, maximum=2**bits - 1))
        return logits, jax.nn.sigmoid(logits)

    return Program(function, model, size, bits)


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
    (batch,) = jax.export.symbolic_shape("batch")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # of optimisations that were skipped
    try:
        model = jax2onnx.to_onnx(
            program.function,
            program.inputs(batch),
            model_name=program.model.spec.name,
            input_names=program.input_names,
            output_names=OUTPUTS,
        )
    finally:
        logging.disable(level)
    onnx.helper.set_model_props(model, program.metadata())
    return model


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
    exported = jax.export.export(jax.jit(program.function), platforms=["cpu"])(*program.inputs(1))
    path.write_bytes(exported.mlir_module_serialized)
    files_of(path)[1].write_text(json.dumps(program.metadata(), indent=1) + "\n")


WRITERS = {".onnx": _write_onnx, ".xml": _write_openvino, ".stablehlo": _write_stablehlo}
"""What writes each kind of file."""

RUNNERS = {".onnx": _run_onnx, ".xml": _run_openvino}
"""What runs a file in its own runtime and returns the logits."""


def check_format(path: pathlib.Path):
    """Raise a `UserError` if a file's ending names no format."""
    if path.suffix not in WRITERS:
        raise UserError(f"{path} is of no known format: let it end in {', '.join(WRITERS)}")


def files_of(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that `write_program` writes."""
    beside = {".xml": path.with_suffix(".bin"), ".stablehlo": path.with_name(f"{path.name}.json")}
    return [path, beside[path.suffix]] if path.suffix in beside else [path]


def write_program(program: Program, path: pathlib.Path) -> float | None:
    """Write a program that gives what the network does; nothing is replaced before that is known.

    Args:
      program: of `program_of`.
      path: ends in `.onnx`, `.xml` (OpenVINO; the weights lie beside it in `.bin`) or
        `.stablehlo` (for a batch of one; what a user must know lies beside it in `.json`).

    Returns:
      The largest difference of the file's logits from ours, relative to their range; None for
      StableHLO, which has no runtime of its own.

    Raises:
      UserError: the ending is another one, a package is missing, the file cannot be written, or
        its logits differ.
    """
    check_format(path)
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
    inputs = program.example()
    ours = program.expected(inputs)
    theirs = RUNNERS[path.suffix](path, dict(zip(program.input_names, inputs, strict=True)))
    difference = float(np.abs(theirs - ours).max() / max(np.ptp(ours), np.finfo(np.float32).tiny))
    if not difference <= TOLERANCE:
        raise UserError(
            f"the logits of {path.name} differ from ours by {difference:.2g} of their range, and "
            "it is not written: report it with the versions of the packages"
        )
    return difference
