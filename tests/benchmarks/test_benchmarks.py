"""The benchmarks time a faithful PyTorch peer, and every script can be found and run."""

import ast
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests import benchmark_modules
from tests.benchmark_modules import FOLDER
from tests.golden import recipe

GOLDEN = np.load(recipe.HERE / "eal_icnet.npz")
SCRIPTS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text())


@pytest.fixture
def peer():
    model = benchmark_modules.load("torch_eal_icnet").EALICNet()
    model.load_state_dict({k: torch.tensor(v) for k, v in recipe.state_dict("eal_icnet").items()})
    return model.eval()


@pytest.mark.parametrize(
    ("key", "shape"), [("logits_square", (2, 1, 128, 128)), ("logits_wide", (1, 1, 160, 224))]
)
def test_the_peer_has_the_golden_logits(peer, key, shape):
    with torch.inference_mode():
        logits = peer(torch.tensor(recipe.images(shape))).numpy()
    np.testing.assert_allclose(logits, GOLDEN[key], rtol=0, atol=1e-5 * np.ptp(GOLDEN[key]))


def test_the_peer_has_the_golden_loss_and_gradients(peer):
    shape = (2, 1, 128, 128)
    logits = peer(torch.tensor(recipe.images(shape)))
    label = torch.tensor(recipe.targets(shape))
    p = torch.sigmoid(logits)
    dice = (2 * (p * label).sum() + 1e-6) / (p.sum() + label.sum() + 1e-6)
    loss = 0.5 * functional.binary_cross_entropy_with_logits(logits, label) + 0.5 * (1 - dice)
    assert loss.item() == pytest.approx(float(GOLDEN["loss_eval"]), rel=1e-5)
    loss.backward()
    parameters = dict(peer.named_parameters())
    for key, norm in zip(GOLDEN["grad_norm_keys"], GOLDEN["grad_norms_eval"], strict=True):
        computed = parameters[str(key)].grad.norm().item()
        assert computed == pytest.approx(norm, rel=1e-3, abs=1e-8), key


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_states_its_command(script):
    command = f"python benchmarks/{script.name}"
    assert command in ast.get_docstring(ast.parse(script.read_text()))
    assert f"| `{command}" in (FOLDER / "README.md").read_text()


@pytest.mark.soak
def test_runtimes_are_timed_and_agree(tmp_path):
    """EAL-ICNet at 64x64 against PyTorch, in processes of their own."""
    command = [sys.executable, FOLDER / "speed.py", "--tasks=inference", "--sizes=64", "--rounds=2",
               "--runtimes=ours,torch", f"--output={tmp_path}"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    header, ours, peer = (tmp_path / "speed.csv").read_text().splitlines()
    assert header.startswith("task,size,batch,dtype,runtime,milliseconds,ratio,")
    assert ours.startswith("inference,64,1,float32,ours,") and float(ours.split(",")[6]) == 1
    assert peer.startswith("inference,64,1,float32,torch,") and float(peer.split(",")[12]) < 1e-5
    assert (tmp_path / "speed.png").stat().st_size > 1000
