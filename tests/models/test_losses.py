"""The topology term of the loss, against a plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from eal_icnet_jax.models.losses import bce_dice_loss, soft_cldice_loss, soft_skeleton


def plain_skeleton(image: np.ndarray, iterations: int) -> np.ndarray:
    """The soft skeleton of one image, with SciPy's filters."""
    cross = ndimage.generate_binary_structure(2, 1)

    def eroded(x):
        return ndimage.minimum_filter(x, footprint=cross, mode="nearest")

    def opened(x):
        return ndimage.maximum_filter(eroded(x), size=3, mode="nearest")

    skeleton = np.maximum(image - opened(image), 0)
    for _ in range(iterations):
        image = eroded(image)
        found = np.maximum(image - opened(image), 0)
        skeleton = skeleton + np.maximum(found - skeleton * found, 0)
    return skeleton


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    wires = np.zeros((2, 48, 64), np.float32)
    wires[:, 8:15, 4:60] = wires[:, 20:24, 10:50] = wires[:, 24:44, 30:35] = 1
    return wires, np.clip(wires + rng.normal(0, 0.3, wires.shape), 0, 1).astype(np.float32)


def test_the_soft_skeleton_is_that_of_the_plain_formula(images):
    for batch in images:
        ours = soft_skeleton(jnp.asarray(batch)[..., None], 10)[..., 0]
        plain = np.stack([plain_skeleton(image, 10) for image in batch])
        np.testing.assert_allclose(ours, plain, atol=1e-6)


def test_the_loss_follows_its_formula(images):
    target, prediction = images
    of_prediction, of_target = (
        np.stack([plain_skeleton(image, 10) for image in batch]) for batch in (prediction, target)
    )
    precision = (of_prediction * target).sum() / of_prediction.sum()
    sensitivity = (of_target * prediction).sum() / of_target.sum()
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    loss = soft_cldice_loss(prediction[..., None], target[..., None])
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    logits = jnp.log(prediction + 1e-6)[..., None]
    parts = {"bce_weight": 0.0, "dice_weight": 0.0}
    weighted = bce_dice_loss(logits, target[..., None], cldice_weight=2.0, **parts)
    alone = soft_cldice_loss(jax.nn.sigmoid(logits), target[..., None])
    assert float(weighted) == pytest.approx(2 * float(alone), rel=1e-5)


def test_a_broken_wire_costs_more_than_a_thin_one():
    """Of the same number of wrong pixels, those that break the wire weigh more."""
    target = np.zeros((1, 32, 64, 1), np.float32)
    target[:, 12:20, 4:60] = 1
    broken, thin = target.copy(), target.copy()
    broken[:, 12:20, 28:35] = 0
    thin[:, 12:13, 4:60] = 0
    assert (target - broken).sum() == (target - thin).sum() == 56
    losses = [float(soft_cldice_loss(image, target)) for image in (target, thin, broken)]
    assert losses[0] == pytest.approx(0, abs=1e-5)
    assert losses[2] > 2 * losses[1]
