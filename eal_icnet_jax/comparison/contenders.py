"""The networks of a comparison and the configs of their trials."""

import dataclasses
import json
import pathlib

from flax import nnx
from ml_collections import ConfigDict

from eal_icnet_jax import models
from eal_icnet_jax.configs import ablation
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import config_check
from eal_icnet_jax.training.run_files import (
    FREE_OF_DATASET,
    FREE_TO_CHANGE,
    check_same_config,
    flat_config,
)

GROUPS = {"all": tuple(models.MODELS), "ablations": ("eal_icnet", *ablation.ABLATIONS)}
"""Names of `--models` that stand for several networks."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """A network, or a variant of one, with the configs of its trials.

    name: of the network or of the ablation.
    configs: one for each trial.
    folder: of its trials.
    """

    name: str
    configs: tuple[ConfigDict, ...]
    folder: pathlib.Path

    @property
    def title(self) -> str:
        """Name in tables and plots."""
        if self.name in models.MODELS:
            return models.MODELS[self.name].title
        return self.name.replace("_", " ").replace("tssa", "TSSA").replace("dab", "DAB")

    def trial_folder(self, k: int) -> pathlib.Path:
        """Return the work directory of trial `k`, counted from 0."""
        return self.folder / f"trial_{k + 1}"

    def trial_result(self, k: int) -> dict | None:
        """Return the record of a trial that is finished with its config, otherwise None."""
        path = self.trial_folder(k) / "trial.json"
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        return result if result["config"] == deciding_knobs(self.configs[k]) else None

    def finished_trials(self) -> list[int]:
        """Return the indices of the trials that are finished."""
        return [k for k in range(len(self.configs)) if self.trial_result(k) is not None]

    def blank_model(self) -> nnx.Module:
        """Return the network without weights, in evaluation mode."""
        config = self.configs[0]
        model = models.blank_model(
            config.model.name,
            in_channels=config.model.in_channels,
            classes=len(config.dataset.labels),
            dtype=config.model.dtype,
            **config.model.options,
        )
        model.eval()
        return model


def deciding_knobs(config: ConfigDict) -> dict:
    """Return the knobs of a config that decide the result of a trial, by their dotted names."""
    free = {*FREE_TO_CHANGE, *FREE_OF_DATASET} - {"epochs", "evaluation"}
    flat = flat_config(ConfigDict(json.loads(config.to_json())))
    return {key: value for key, value in flat.items() if not {key, key.split(".")[0]} & free}


def _trial_config(config: ConfigDict, name: str, k: int) -> ConfigDict:
    """Return a network's config of trial `k`. Options of another network are dropped."""
    architecture = name if name in models.MODELS else "eal_icnet"
    trial = config.copy_and_resolve_references()
    with trial.unlocked():
        trial.seed = config.seed + k
        if architecture != config.model.name:
            trial.model.options = ConfigDict()
        trial.model.name = architecture
        trial.model.options.update(ablation.ABLATIONS.get(name, {}))
    return trial


def choose_contenders(
    config: ConfigDict, names: list[str], trials: int, workdir: pathlib.Path
) -> list[Contender]:
    """Return the networks to compare, each once, in the order of their names.

    Args:
      config: of all trials, apart from seed and network.
      names: of networks, of ablations, or of `GROUPS`.
      trials: number of trials of each network.
      workdir: folder of the comparison.

    Raises:
      UserError: a name is unknown, the config names a checkpoint, or the workdir holds trials with
        another config.
    """
    config_check.check_config(config)
    if trials < 1:
        raise UserError(f"--trials is {trials}: it must be at least 1")
    if config.model.checkpoint:
        raise UserError(
            "config.model.checkpoint belongs to a single network: leave it empty in a comparison"
        )
    contenders = []
    for name in dict.fromkeys(name for item in names for name in GROUPS.get(item, (item,))):
        if name not in models.MODELS and name not in ablation.ABLATIONS:
            known = (*GROUPS, *models.MODELS, *ablation.ABLATIONS)
            raise UserError(f"unknown model {name!r} in --models: choose from {', '.join(known)}")
        configs = tuple(_trial_config(config, name, k) for k in range(trials))
        contender = Contender(name, configs, workdir / name)
        for k, trial_config in enumerate(configs):
            check_same_config(contender.trial_folder(k), trial_config)
        contenders.append(contender)
    if not contenders:
        raise UserError("--models names no network: see --help")
    return contenders
