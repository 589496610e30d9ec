"""Exported networks give our logits in other runtimes, and say what a user must know."""

import dataclasses
import json
import re
import subprocess
import sys

import cv2
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
    result = cli.call("export", stretched, tmp_path / "model.onnx", f"--size={SIDE}")
    assert result.returncode == 0, result.stderr
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


def test_openvino_takes_any_batch_and_states_the_facts(tmp_path):
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("jax2onnx")
    model = small_model.create(in_channels=1, classes=1)
    program = exporting.program_of(model, (SIDE, SIDE), 16)
    assert exporting.write_program(program, tmp_path / "model.xml") < 1e-4
    read = openvino.Core().read_model(tmp_path / "model.xml")
    assert read.get_rt_info(["eal_icnet", "network"]).astype(str) == "eal_icnet"
    assert read.inputs[0].get_partial_shape()[0].is_dynamic
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def test_stablehlo_is_compiled_without_our_code(stretched, tmp_path):
    import jax
    from jax.extend import backend
    from jax.extend.mlir import ir
    from jax.extend.mlir.dialects import stablehlo

    path = tmp_path / "model.stablehlo"
    result = cli.call("export", stretched, path, f"--size={SIDE}")
    assert result.returncode == 0, result.stderr
    facts = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert facts["outputs"] == "metal, via" and facts["stretch_percentiles"] == "0.5, 99.5"
    context = ir.Context()
    stablehlo.register_dialect(context)
    module = str(stablehlo.deserialize_portable_artifact(context, path.read_bytes()))
    assert "custom_call" not in module
    from jaxlib import xla_client

    device = jax.devices("cpu")[0]
    client = backend.get_backend("cpu")
    compiled = client.compile_and_load(module, xla_client.DeviceList((device,)))
    program = exporting.program_of(checkpoints.load_model(stretched), (SIDE, SIDE))
    inputs = program.example()
    outputs = compiled.execute_sharded([jax.device_put(array, device) for array in inputs])
    (logits,), _ = outputs.disassemble_into_single_device_arrays()
    expected = program.expected(inputs)
    assert np.abs(np.asarray(logits) - expected).max() <= 1e-5 * np.ptp(expected)


def test_what_cannot_be_exported_is_refused(stretched, tmp_path):
    output = tmp_path / "model.onnx"
    for arguments, message in (
        ((output, "--size=60"), "60x60 (height x width) does not suit eal_icnet"),
        ((output, "--size=8"), "name 32 pixels or more, multiples of 8"),
        ((output, "--size=4096"), "is more than 2048 pixels a side"),
        ((output, "--size=big"), "name a side such as 512, or 512x768"),
        ((tmp_path / "model.pb",), "let it end in .onnx, .xml, .stablehlo"),
        ((tmp_path / "no" / "model.onnx",), "no"),
    ):
        assert message in cli.error_of("export", stretched, *arguments)
    output.write_text("mine")
    assert "exists: name another output" in cli.error_of("export", stretched, output)
    assert output.read_text() == "mine"


def test_a_program_that_differs_replaces_nothing(stretched, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.write_text("good")
    wrong = {**exporting.RUNNERS, ".onnx": lambda path, inputs: np.zeros(1)}
    monkeypatch.setattr(exporting, "RUNNERS", wrong)
    monkeypatch.setattr(
        exporting, "WRITERS", {".onnx": lambda program, path: path.write_text("bad")}
    )
    program = exporting.program_of(checkpoints.load_model(stretched), (SIDE, SIDE))
    with pytest.raises(UserError, match=r"differ from ours by .*, and it is not written"):
        exporting.write_program(program, path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [
        ("model.onnx", "good")
    ]


@pytest.mark.soak
@pytest.mark.parametrize("size", [(64, 96), (128, 128)])
@pytest.mark.parametrize("name", MODELS)
def test_every_network_gives_our_logits(name, size, tmp_path):
    model = create_model(name, in_channels=1, classes=1, rngs=nnx.Rngs(0))
    model.eval()
    path = tmp_path / "model.onnx"
    assert exporting.write_program(exporting.program_of(model, size), path) < 1e-4
