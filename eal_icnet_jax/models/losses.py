"""The training loss: that of the released code, and a topology term."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax


def bce_dice_loss(
    logits: jax.Array,
    targets: jax.Array,
    *,
    valid: jax.Array | None = None,
    bce_weight: float = 0.5,
    dice_weight: float = 0.5,
    cldice_weight: float = 0.0,
    positive_weight: float | Sequence[float] = 1.0,
    false_positive_weight: float = 0.5,
    false_negative_weight: float = 0.5,
    per_label: bool = False,
    epsilon: float = 1e-6,
) -> jax.Array:
    """Return the weighted sum of binary cross-entropy, Dice and clDice loss over the whole batch.

    The cross-entropy is the mean over all pixels. The Dice loss is
    `1 - (2 sum(p y) + epsilon) / (sum(p) + sum(y) + epsilon)` with probabilities p and targets y,
    as in TransAttUnet and the released EAL-ICNet code (whose README omits the 2). With other
    weights of false positives and false negatives, it is the Tversky loss
    `1 - (2 TP + epsilon) / (2 TP + 2 a FP + 2 b FN + epsilon)` with `TP = sum(p y)`,
    `FP = sum(p (1 - y))` and `FN = sum((1 - p) y)` (Salehi et al., arXiv 1706.05721).

    Args:
      logits: `[B, H, W, classes]`, any float dtype; the loss is computed in float32 or wider.
      targets: the same shape, 0 or 1.
      valid: `[B, H, W, 1]`, 0 where pixels are ignored: they are in no sum and no mean, and have no
        gradient. None if all pixels count.
      bce_weight: weight of the cross-entropy.
      dice_weight: weight of the Dice loss.
      cldice_weight: weight of `soft_cldice_loss`.
      positive_weight: weight of the foreground's pixels in the cross-entropy, one number or one for
        each class; the weight of the background is 1.
      false_positive_weight: a of the Tversky loss. With both at 0.5, that is the Dice loss.
      false_negative_weight: b of the Tversky loss.
      per_label: whether the Dice loss is that of each label by itself, averaged, so that a label of
        little area, such as vias, counts as much as a large one.
      epsilon: added to the Dice loss's numerator and denominator.

    Returns:
      Scalar, float32 or float64.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    targets = targets.astype(logits.dtype)
    pixels = optax.sigmoid_binary_cross_entropy(logits, targets)
    pixels *= 1 + (jnp.asarray(positive_weight, logits.dtype) - 1) * targets
    probabilities = jax.nn.sigmoid(logits)
    if valid is None:
        bce = pixels.mean()
    else:
        counts = valid.astype(logits.dtype)
        bce = (pixels * counts).sum() / jnp.maximum(counts.sum() * logits.shape[-1], 1)
        probabilities, targets = probabilities * counts, targets * counts
    axes = tuple(range(logits.ndim - 1)) if per_label else None
    overlap = (probabilities * targets).sum(axes)
    false_positives = probabilities.sum(axes) - overlap
    false_negatives = targets.sum(axes) - overlap
    total = 2 * (
        overlap + false_positive_weight * false_positives + false_negative_weight * false_negatives
    )
    dice = 1 - (2 * overlap + epsilon) / (total + epsilon)
    loss = bce_weight * bce + dice_weight * dice.mean()
    if cldice_weight:
        loss += cldice_weight * soft_cldice_loss(probabilities, targets, epsilon=epsilon)
    return loss


def soft_cldice_loss(
    probabilities: jax.Array, targets: jax.Array, *, iterations: int = 10, epsilon: float = 1e-6
) -> jax.Array:
    """Return the soft clDice loss over the whole batch, which compares centre lines.

    It is `1 - 2 P S / (P + S)`, where P is the part of the prediction's soft skeleton that lies in
    the target, and S the part of the target's that lies in the prediction (Shit et al., clDice,
    arXiv 2003.07311).

    Args:
      probabilities: `[B, H, W, classes]`.
      targets: the same shape, 0 or 1.
      iterations: of the skeleton; wires of up to twice as many pixels are reduced to lines.
      epsilon: added to numerators and denominators.
    """
    skeletons = (soft_skeleton(image, iterations) for image in (probabilities, targets))
    others = (targets, probabilities)
    precision, sensitivity = (
        ((skeleton * other).sum() + epsilon) / (skeleton.sum() + epsilon)
        for skeleton, other in zip(skeletons, others, strict=True)
    )
    return 1 - 2 * precision * sensitivity / (precision + sensitivity)


def _over_three(image: jax.Array, axis: int, reduce: Callable) -> jax.Array:
    """Reduce each pixel and its two neighbours along an axis; the border is repeated."""
    padding = [(1, 1) if k == axis else (0, 0) for k in range(image.ndim)]
    padded, size = jnp.pad(image, padding, "edge"), image.shape[axis]
    first, second, third = (jax.lax.slice_in_dim(padded, k, k + size, axis=axis) for k in range(3))
    return reduce(reduce(first, second), third)


def _eroded(image: jax.Array) -> jax.Array:
    return jnp.minimum(*(_over_three(image, axis, jnp.minimum) for axis in (1, 2)))


def _opened(image: jax.Array) -> jax.Array:
    return _over_three(_over_three(_eroded(image), 1, jnp.maximum), 2, jnp.maximum)


def soft_skeleton(image: jax.Array, iterations: int) -> jax.Array:
    """Return the soft skeleton of images: what openings remove while they are eroded.

    Args:
      image: `[B, H, W, C]` in [0, 1].
      iterations: number of erosions.

    Returns:
      The same shape, in [0, 1].
    """

    def erode(state, _):
        image, skeleton = state
        image = _eroded(image)
        return (image, skeleton + (1 - skeleton) * jax.nn.relu(image - _opened(image))), None

    # A loop: unrolled, its gradient takes five times as long to compile and to run.
    state = image, jax.nn.relu(image - _opened(image))
    (_, skeleton), _ = jax.lax.scan(erode, state, length=iterations)
    return skeleton
