"""The training loss of the released code."""

import jax
import jax.numpy as jnp
import optax


def bce_dice_loss(
    logits: jax.Array,
    targets: jax.Array,
    *,
    bce_weight: float = 0.5,
    dice_weight: float = 0.5,
    epsilon: float = 1e-6,
) -> jax.Array:
    """Return the weighted sum of binary cross-entropy and Dice loss over the whole batch.

    The cross-entropy is the mean over all pixels. The Dice loss is
    `1 - (2 sum(p y) + epsilon) / (sum(p) + sum(y) + epsilon)` with probabilities p and targets y,
    as in TransAttUnet and the released EAL-ICNet code (whose README omits the 2).

    Args:
      logits: `[B, H, W, classes]`, any float dtype; the loss is computed in float32 or wider.
      targets: the same shape, 0 or 1.
      bce_weight: weight of the cross-entropy.
      dice_weight: weight of the Dice loss.
      epsilon: added to the Dice loss's numerator and denominator.

    Returns:
      Scalar, float32 or float64.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    targets = targets.astype(logits.dtype)
    bce = optax.sigmoid_binary_cross_entropy(logits, targets).mean()
    probabilities = jax.nn.sigmoid(logits)
    overlap = (probabilities * targets).sum()
    total = probabilities.sum() + targets.sum()
    dice = 1 - (2 * overlap + epsilon) / (total + epsilon)
    return bce_weight * bce + dice_weight * dice
