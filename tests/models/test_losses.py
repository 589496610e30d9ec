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


@pytest.fixture(scope="module")
def weighted():
    """Logits, targets and valid pixels of two labels, drawn at random."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (2, 9, 7, 2)).astype(np.float32)
    return (
        logits,
        (rng.random(logits.shape) < 0.2).astype(np.float32),
        rng.random((2, 9, 7, 1)) < 0.6,
    )


def plain_loss(logits, targets, valid, positive=1.0, a=0.5, b=0.5, epsilon=1e-6):
    """Cross-entropy and Tversky loss of the pixels that count, summed up in float64."""
    kept = np.broadcast_to(valid, logits.shape)
    x, y = logits[kept].astype(float), targets[kept].astype(float)
    weights = np.broadcast_to(positive, logits.shape)[kept]
    p = 1 / (1 + np.exp(-x))
    bce = np.mean(-weights * y * np.log(p) - (1 - y) * np.log(1 - p))
    tp, fp, fn = (p * y).sum(), (p * (1 - y)).sum(), ((1 - p) * y).sum()
    tversky = 1 - (2 * tp + epsilon) / (2 * (tp + a * fp + b * fn) + epsilon)
    return 0.5 * bce + 0.5 * tversky


@pytest.mark.parametrize(
    ("options", "plain"),
    [
        ({}, {}),
        ({"positive_weight": 4.0}, {"positive": 4.0}),
        ({"positive_weight": (2.0, 30.0)}, {"positive": np.array([2.0, 30.0])}),
        (
            {"false_positive_weight": 0.2, "false_negative_weight": 0.8},
            {"a": 0.2, "b": 0.8},
        ),
    ],
    ids=["defaults", "positive weight", "of each label", "Tversky"],
)
def test_weights_and_ignored_pixels_follow_the_plain_formula(weighted, options, plain):
    logits, targets, valid = weighted
    everywhere = np.ones_like(valid)
    loss = bce_dice_loss(logits, targets, **options)
    assert float(loss) == pytest.approx(plain_loss(logits, targets, everywhere, **plain), rel=1e-5)
    loss = bce_dice_loss(logits, targets, valid=valid, **options)
    assert float(loss) == pytest.approx(plain_loss(logits, targets, valid, **plain), rel=1e-5)


@pytest.mark.parametrize("per_label", [False, True])
def test_ignored_pixels_have_no_gradient_and_change_nothing(weighted, per_label):
    logits, targets, valid = weighted
    options = {"valid": valid, "per_label": per_label, "cldice_weight": 0.5, "positive_weight": 3.0}
    gradient = jax.jit(jax.value_and_grad(lambda x, y: bce_dice_loss(x, y, **options)))
    loss, slopes = gradient(logits, targets)
    assert (np.asarray(slopes)[~np.broadcast_to(valid, logits.shape)] == 0).all()
    assert (np.asarray(slopes)[np.broadcast_to(valid, logits.shape)] != 0).any()
    other = np.where(valid, logits, 5), np.where(valid, targets, 1 - targets)
    assert float(gradient(*other)[0]) == float(loss)


def test_without_a_pixel_that_counts_the_loss_is_zero(weighted):
    logits, targets, valid = weighted
    loss, slopes = jax.value_and_grad(bce_dice_loss)(logits, targets, valid=np.zeros_like(valid))
    assert float(loss) == 0 and not np.asarray(slopes).any()
