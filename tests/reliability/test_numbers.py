"""Images of one class only give losses, gradients and metrics that are finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eal_icnet_jax.evaluation import metrics
from eal_icnet_jax.imaging import png
from eal_icnet_jax.models import losses
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import runs
from tests import cli, small_config
from tests.imaging.sample_images import pixels


@pytest.mark.parametrize("level", [-1e4, -100.0, 0.0, 100.0, 1e4])
@pytest.mark.parametrize("foreground", [False, True])
def test_loss_and_metrics_of_one_class_are_finite(level, foreground):
    """All background or all foreground, predicted as either with any confidence."""
    logits = jnp.full((2, 8, 8, 1), level)
    targets = jnp.full((2, 8, 8, 1), foreground)
    value, gradient = jax.value_and_grad(losses.bce_dice_loss)(logits, targets)
    assert np.isfinite(value) and np.all(np.isfinite(gradient))
    label = np.full((8, 8), foreground)
    figures = metrics.evaluate_masks(label, np.full((8, 8), level > 0))
    assert all(0 <= value <= 1 for value in figures.values())
    counts = metrics.electrically_significant_differences(label, ~label)
    assert counts.opens >= 0


def test_training_on_background_only_ends_with_finite_figures(tmp_path):
    tree = tmp_path / "omv"
    assert cli.call("draw", "dataset", "omv", tree, "--images=12", "--size=96").returncode == 0
    for path in (tree / "label").iterdir():
        png.write(path, np.zeros_like(pixels(path)))
    config = small_config.get_config()
    config.epochs = 1
    config.dataset.name, config.dataset.config = "omv", ""
    config.dataset.manual_dir, config.dataset.data_dir = str(tree), str(tmp_path / "data")
    run = tmp_path / "run"
    with pytest.raises(UserError, match="label has no foreground in any image of split train"):
        runs.train(config, run)
    config.dataset.allow_empty_labels = True
    runs.train(config, run)
    text = (run / "test" / "metrics.json").read_text() + (run / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
