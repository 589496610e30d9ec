"""The peer that the benchmarks time is the reference: it meets the same golden figures."""

import importlib.util
import pathlib

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.golden import recipe

PATH = pathlib.Path(__file__).parents[1] / "benchmarks" / "torch_eal_icnet.py"
GOLDEN = np.load(recipe.HERE / "eal_icnet.npz")


@pytest.fixture
def peer():
    spec = importlib.util.spec_from_file_location("torch_eal_icnet", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.EALICNet()
    model.load_state_dict({k: torch.tensor(v) for k, v in recipe.state_dict("eal_icnet").items()})
    return model.eval()


@pytest.mark.parametrize(
    ("key", "shape"), [("logits_square", (2, 1, 128, 128)), ("logits_wide", (1, 1, 160, 224))]
)
def test_its_logits_are_golden(peer, key, shape):
    with torch.inference_mode():
        logits = peer(torch.tensor(recipe.images(shape))).numpy()
    np.testing.assert_allclose(logits, GOLDEN[key], rtol=0, atol=1e-5 * np.ptp(GOLDEN[key]))


def test_its_loss_and_gradients_are_golden(peer):
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
        found = parameters[str(key)].grad.norm().item()
        assert found == pytest.approx(norm, rel=1e-3, abs=1e-8), key
