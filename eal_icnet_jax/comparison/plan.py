"""The plan of a comparison: the trials that are missing, and their cost."""

import dataclasses
import functools
import statistics
import time

import numpy as np
from ml_collections import ConfigDict
from tabulate import tabulate

from eal_icnet_jax.comparison.contenders import Contender
from eal_icnet_jax.comparison.table import duration
from eal_icnet_jax.data import prepared_datasets, transforms
from eal_icnet_jax.models import cost
from eal_icnet_jax.system.child_process import ChildProcess

SHOWN = 6
"""Number of test images that the page shows."""

STEP_COST = 3
"""Operations of a training step in forward passes."""

FRACTION_OF_PEAK = 0.4
"""Rough fraction of the matrix product's rate that networks reach, used before any trial."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a network: parameters, operations of an image, operations of a trial."""

    parameters: int
    image: int
    trial: int


class Plan:
    """The work of a comparison.

    Args:
      config: of all trials, apart from seed and network.
      contenders: the networks.

    Attributes:
      images: number of images by split.
      shown: decoded test examples that the page shows, with `name`, `image` and `label`.
      shape: `[B, H, W, C]` of the batch that is timed.

    Raises:
      UserError: the dataset cannot be opened, or a split of it is empty.
    """

    def __init__(self, config: ConfigDict, contenders: list[Contender]):
        self.config, self.contenders = config, contenders
        splits = ("train", "validation", "test")
        sources = {split: prepared_datasets.open_split(config.dataset, split) for split in splits}
        self.images = {split: len(source) for split, source in sources.items()}
        decode = transforms.Decode(config.model.in_channels, tuple(config.dataset.labels))
        indices = np.unique(np.linspace(0, self.images["test"] - 1, SHOWN).astype(int))
        self.shown = [decode(sources["test"][int(k)]) for k in indices]
        self.shape = (config.evaluation.batch_size, *self.shown[0]["image"].shape)

    @functools.cached_property
    def costs(self) -> dict[str, Cost]:
        """The cost of each network by its name."""
        config, (_, height, width, channels) = self.config, self.shape
        crop = config.dataset.crop_size
        batches = config.epochs * (self.images["train"] // config.batch_size)
        evaluated = self.images["validation"] * config.epochs + self.images["test"]
        costs = {}
        for contender in self.contenders:
            model = contender.blank_model()
            image = cost.operations(model, (1, height, width, channels))
            cropped = cost.operations(model, (1, crop, crop, channels)) if crop else image
            trial = STEP_COST * batches * config.batch_size * cropped + evaluated * image
            costs[contender.name] = Cost(cost.parameters(model), image, trial)
        return costs

    def missing_trials(self) -> list[tuple[Contender, int]]:
        """Return the unfinished trials, all of one seed before those of the next."""
        trials = range(len(self.contenders[0].configs))
        return [(c, k) for k in trials for c in self.contenders if c.trial_result(k) is None]

    def remaining_seconds(self) -> tuple[float, str]:
        """Return an estimate of the time that is left, and the basis of the estimate."""
        known = {}
        for contender in self.contenders:
            if finished := contender.finished_trials():
                seconds = [contender.trial_result(k)["seconds"] for k in finished]
                known[contender.name] = statistics.median(seconds)
        if known:
            # The best rate, because the time of small networks is mostly not their operations.
            rate = max(self.costs[name].trial / seconds for name, seconds in known.items())
            basis = "judging by the finished trials"
        else:
            with ChildProcess() as child:  # which gives its devices back
                peak = child.call(matrix_product_rate)
            rate = FRACTION_OF_PEAK * peak
            basis = (
                f"at {FRACTION_OF_PEAK:.0%} of this machine's {peak / 1e9:,.0f} GFLOP/s in a "
                "matrix product, without compilation"
            )
        names = [contender.name for contender, _ in self.missing_trials()]
        return sum(known.get(name, self.costs[name].trial / rate) for name in names), basis

    def text(self) -> str:
        """Return the plan as text: images, a table of networks, and the work that is left."""
        counts = ", ".join(f"{count} {split}" for split, count in self.images.items())
        height, width = self.shape[1:3]
        rows = []
        for contender in self.contenders:
            own = self.costs[contender.name]
            rows.append(
                (
                    contender.name,
                    f"{len(contender.finished_trials())} of {len(contender.configs)}",
                    f"{own.parameters:,}",
                    f"{own.image / 1e9:.1f}",
                    f"{own.trial / 1e12:.1f}",
                )
            )
        headings = ("model", "done", "parameters", "GFLOP", "TFLOP")
        align = ("left", *["right"] * 4)
        lines = [
            f"{counts} images; GFLOP for a {height}x{width} image, TFLOP for a trial",
            tabulate(rows, headings, disable_numparse=True, colalign=align),
        ]
        if missing := self.missing_trials():
            seconds, basis = self.remaining_seconds()
            total = sum(self.costs[contender.name].trial for contender, _ in missing) / 1e12
            lines.append(
                f"to do: {len(missing)} trials, up to {total:,.0f} TFLOP, about "
                f"{duration(seconds)} {basis}"
            )
        return "\n".join(lines)


def matrix_product_rate() -> float:
    """Return the best of five rates of a 2048x2048 float32 product, in operations per second."""
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a: a @ a)
    a = jnp.ones((2048, 2048))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        jax.block_until_ready(product(a))
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds[1:])
