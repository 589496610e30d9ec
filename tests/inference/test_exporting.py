"""Exported networks give our logits in other runtimes, and say what a user must know."""

import dataclasses
import hashlib
import io
import json
import re
import subprocess
import sys
import zipfile

import cv2
import jax
import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax.imaging import pixel_values, stretching
from eal_icnet_jax.inference import exporting
from eal_icnet_jax.models import checkpoints, create_model
from eal_icnet_jax.models.registry import MODELS, Preprocessing
from eal_icnet_jax.system.errors import UserError
from tests import cli, small_model
from tests.test_docs import ROOT

SIDE = 64
STRETCH = (0.5, 99.5)


@pytest.fixture(scope="module")
def stretched(tmp_path_factory):
    """A checkpoint of a network for stretched RGB images that finds something in both outputs."""
    model = small_model.create(in_channels=3, classes=2)
    image = stretching.stretch(photograph(), STRETCH)
    pixels, kernel = pixel_values.to_unit_range(image, 3)[None], model.classifier.kernel
    logits = nnx.jit(lambda model, pixels: model(pixels))
    for seed in range(50):
        kernel[...] = np.random.default_rng(seed).standard_normal(kernel.shape).astype(np.float32)
        found = np.asarray(logits(model, pixels) >= 0).mean((0, 1, 2))
        if found.min() > 0.05 and found.max() < 0.95:
            break
    model.spec = dataclasses.replace(
        model.spec, preprocessing=Preprocessing(STRETCH), outputs=("metal", "via")
    )
    path = tmp_path_factory.mktemp("stretched") / "checkpoint"
    checkpoints.save_model(path, model)
    return path


def photograph() -> np.ndarray:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.normal(120, 60, (SIDE, SIDE, 3)), (0, 0), 3)
    return np.clip(128 + 6 * (image - image.mean()), 20, 180).astype(np.uint8)


def test_the_example_of_the_docs_gives_the_masks_of_predict(stretched, tmp_path):
    pytest.importorskip("jax2onnx")
    result = cli.call("export", stretched, tmp_path / "model.onnx")
    assert result.returncode == 0, result.stderr
    assert "whose height and width are multiples of 32 pixels" in result.stdout
    assert re.search(r"differ from ours by at most \d\.\de-0[5-9] of", result.stdout)
    cv2.imwrite(str(tmp_path / "photo.png"), photograph()[..., ::-1])
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL)
    assert "jax" not in code
    command = [sys.executable, "-c", code, "model.onnx", "photo.png"]
    subprocess.run(command, cwd=tmp_path, check=True)
    predicted = cli.call(
        "predict", tmp_path / "photo.png", "-o", tmp_path / "masks", f"--checkpoint={stretched}",
        "--scale=1", "--remove-specks=0",
    )  # fmt: skip
    assert predicted.returncode == 0, predicted.stderr
    for name in ("metal", "via"):
        ours = cv2.imread(str(tmp_path / "masks" / f"photo_{name}.png"), cv2.IMREAD_UNCHANGED)
        theirs = cv2.imread(str(tmp_path / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(theirs, ours)
        assert 0.02 < np.mean(ours > 0) < 0.98


def test_openvino_takes_any_size_and_batch_and_states_the_facts(tmp_path):
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("jax2onnx")
    model = small_model.create(in_channels=1, classes=1)
    program = exporting.program_of(model, None, 16)
    assert exporting.write_program(program, tmp_path / "model.xml") < 1e-4
    read = openvino.Core().read_model(tmp_path / "model.xml")
    assert read.get_rt_info(["eal_icnet", "network"]).astype(str) == "eal_icnet"
    assert read.get_rt_info(["eal_icnet", "size_multiple"]).astype(str) == "32"
    shape = read.inputs[0].get_partial_shape()
    assert [shape[axis].is_dynamic for axis in range(4)] == [True, True, True, False]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def steps_done(levels: np.ndarray, steps: list[dict]) -> np.ndarray:
    """Do the steps of a package as bioimage.io defines them."""
    image = levels.astype(np.float32)
    for step in steps:
        options = step["kwargs"]
        if step["id"] == "scale_linear":
            image = image * options["gain"] + options["offset"]
        elif step["id"] == "scale_range":
            axes = tuple("byxc".index(axis) for axis in options["axes"])
            percents = options["min_percentile"], options["max_percentile"]
            low, high = np.percentile(image, percents, axes, keepdims=True)
            image = (image - low) / (high - low + options["eps"])
        elif step["id"] == "clip":
            image = image.clip(options["min"], options["max"])
        else:
            assert step["id"] == "ensure_dtype"
            image = image.astype(options["dtype"])
    return image


@pytest.mark.parametrize("kind", ["stretched", "plain"])
def test_a_package_of_bioimageio_says_how_to_come_to_its_results(kind, stretched, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    path = tmp_path / "model.zip"
    if kind == "stretched":
        result = cli.call("export", stretched, path)
        assert result.returncode == 0, result.stderr
    else:
        model = small_model.create(in_channels=1, classes=1)
        exporting.write_program(exporting.program_of(model, (SIDE, SIDE), 16), path)
    with zipfile.ZipFile(path) as package:
        files = {name: package.read(name) for name in package.namelist()}
    description = json.loads(files["rdf.yaml"])
    (image,), outputs = description["inputs"], description["outputs"]
    levels, *expected = (
        np.load(io.BytesIO(files[tensor["test_tensor"]["source"]])) for tensor in (image, *outputs)
    )
    assert levels.dtype == image["data"]["type"] == ("uint8" if kind == "stretched" else "uint16")
    rows = image["axes"][1]["size"]
    assert rows == ({"min": 32, "step": 32} if kind == "stretched" else SIDE)
    names = ["metal", "via"] if kind == "stretched" else ["1"]  # as without a name
    assert outputs[1]["id"] == "probabilities"
    assert outputs[1]["axes"][3]["channel_names"] == names
    weights = description["weights"]["onnx"]
    content = files[weights["source"]]
    assert hashlib.sha256(content).hexdigest() == weights["sha256"]
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    scaled = steps_done(levels, image["preprocessing"])
    for found, array in zip(session.run(None, {"image": scaled}), expected, strict=True):
        np.testing.assert_allclose(found, array, rtol=1e-3, atol=1e-4)
    assert np.std(expected[0]) > 0


def as_text(path):
    """Return a file of StableHLO as text, in which nothing but StableHLO is."""
    from jax.extend.mlir import ir
    from jax.extend.mlir.dialects import stablehlo

    context = ir.Context()
    stablehlo.register_dialect(context)
    module = stablehlo.deserialize_portable_artifact(context, path.read_bytes())
    text = module.operation.get_asm(enable_debug_info=True)
    assert "custom_call" not in text and "eal_icnet_jax" not in text
    return text


def test_stablehlo_of_one_shape_is_compiled_without_our_code(stretched, tmp_path):
    from jax.extend import backend
    from jaxlib import xla_client

    path = tmp_path / "model.stablehlo"
    result = cli.call("export", stretched, path, f"--size={SIDE}", "--batch=2")
    assert result.returncode == 0, result.stderr
    assert "64x64 pixels (height x width) and 8 bits, 2 at once in" in result.stdout
    facts = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert facts["outputs"] == "metal, via" and facts["stretch_percentiles"] == "0.5, 99.5"
    program = exporting.program_of(checkpoints.load_model(stretched), (SIDE, SIDE), batch=2)
    inputs = program.example(2, SIDE, SIDE)
    device = jax.devices("cpu")[0]
    client = backend.get_backend("cpu")
    compiled = client.compile_and_load(as_text(path), xla_client.DeviceList((device,)))
    outputs = compiled.execute_sharded([jax.device_put(array, device) for array in inputs])
    (logits,), _ = outputs.disassemble_into_single_device_arrays()
    expected = program.expected(inputs)
    assert np.abs(np.asarray(logits) - expected).max() <= 1e-5 * np.ptp(expected)


def test_stablehlo_of_any_size_and_batch_is_plain_and_gives_our_logits(stretched, tmp_path):
    program = exporting.program_of(checkpoints.load_model(stretched), None)
    path = tmp_path / "model.stablehlo"
    assert exporting.write_program(program, path) < 1e-5
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name, f"{path.name}.json"]
    text = as_text(path)
    assert "(%arg0: tensor<?x?x?x3xui8>" in text


def test_what_cannot_be_exported_is_refused(stretched, tmp_path):
    output = tmp_path / "model.onnx"
    for arguments, message in (
        ((output, "--size=60"), "60x60 (height x width) does not suit eal_icnet"),
        ((output, "--size=8"), "name 32 pixels or more, multiples of 8"),
        ((output, "--size=4096"), "is more than 2048 pixels a side"),
        ((output, "--size=big"), "name a side such as 512, or 512x768"),
        ((output, "--size=512x"), "name a side such as 512, or 512x768"),
        ((output, "--batch=0"), "batches of 0 images: name a number from 1 to 256"),
        ((tmp_path / "model.zip", "--batch=2"), "takes batches of any size: leave out --batch"),
        ((tmp_path / "model.pb",), "let it end in .onnx, .xml, .stablehlo, .zip"),
        ((tmp_path / "no" / "model.onnx",), "no"),
    ):
        assert message in cli.error_of("export", stretched, *arguments)
    output.write_text("mine")
    assert "exists: name another output" in cli.error_of("export", stretched, output)
    assert output.read_text() == "mine"


def test_a_program_that_differs_replaces_nothing(stretched, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("good")

    def write(program, path):
        path.write_text("bad")
        return lambda inputs: np.zeros(1)

    monkeypatch.setattr(exporting, "WRITERS", {".onnx": write})
    program = exporting.program_of(checkpoints.load_model(stretched), (SIDE, SIDE))
    with pytest.raises(UserError, match=r"differ from ours by .*, and it is not written"):
        exporting.write_program(program, path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("model.onnx", "good")
    ]


def random_network(name: str):
    """A network whose logits differ from pixel to pixel, unlike those of some new ones."""
    model = create_model(name, in_channels=1, classes=1, rngs=nnx.Rngs(0))
    model.eval()
    rng = np.random.default_rng(0)
    for path, parameter in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        if path[-1] == "kernel":
            fan_in = np.prod(parameter.shape[:-1])
            kernel = rng.normal(0, fan_in**-0.5, parameter.shape).astype(np.float32)
            parameter[...] = kernel
    return model


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"hrnet_w48"}))  # as hrnet_w18, but larger
def test_every_network_takes_images_whose_size_is_not_known(name):
    model = create_model(name, in_channels=1, classes=1, rngs=nnx.Rngs(0))
    model.eval()
    program = exporting.program_of(model, None)
    side = program.multiple
    batch, down, across = jax.export.symbolic_shape("batch, down, across")
    inputs = program.inputs(batch, side * down, side * across)
    logits, _ = jax.eval_shape(program.function, *inputs)
    assert logits.shape == (batch, side * down, side * across, 1)


@pytest.mark.soak
@pytest.mark.parametrize("ending", ["onnx", "stablehlo"])
@pytest.mark.parametrize("size", [None, (64, 96)])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_gives_our_logits(name, size, ending, tmp_path):
    if ending == "onnx":
        pytest.importorskip("jax2onnx")
    model = random_network(name)
    program = exporting.program_of(model, (64, 96))
    logits = program.expected(program.example(1, 64, 96))
    assert np.std(logits) > 1e-3 * np.abs(logits).max()
    path = tmp_path / f"model.{ending}"
    assert exporting.write_program(exporting.program_of(model, size), path) < 1e-4
