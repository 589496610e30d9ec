"""Names and containers in which people keep the weights of a network."""

import numpy as np
import torch


def prefixed(*parts):
    """Return a function that puts dotted components before every name."""
    return lambda state: {".".join((*parts, key)): value for key, value in state.items()}


def inside(part, wrapper):
    """Return a function that puts a wrapper's component behind a leading component."""

    def wrap(state):
        return {
            key.replace(f"{part}.", f"{part}.{wrapper}.", 1) if key.startswith(part) else key: value
            for key, value in state.items()
        }

    return wrap


def counted_by_thop(state):
    """Add what thop leaves at every level of a network whose operations it has counted."""
    levels = {""}
    for key in state:
        parts = key.split(".")[:-1]
        levels |= {".".join(parts[: n + 1]) + "." for n in range(len(parts))}
    added = ("total_ops", "total_params")
    return {**state, **{level + name: np.zeros(1) for level in levels for name in added}}


def without_counters(state):
    """Remove what torch before 0.4.1 did not save."""
    return {key: v for key, v in state.items() if not key.endswith("num_batches_tracked")}


NAMES = {
    "DataParallel": prefixed("module"),
    "compiled": prefixed("_orig_mod"),
    "Lightning": prefixed("model"),
    "net": prefixed("net"),
    "network": prefixed("network"),
    "backbone": prefixed("backbone"),
    "own component": prefixed("segmenter_2"),
    "DataParallel, compiled": prefixed("module", "_orig_mod"),
    "compiled, DataParallel": prefixed("_orig_mod", "module"),
    "Lightning, compiled, own": prefixed("model", "_orig_mod", "net", "inner"),
    "own, DataParallel": prefixed("student", "module"),
    "one part compiled": inside("PAM", "_orig_mod"),
    "one part parallel": inside("DAB_Block_1", "module"),
    "FSDP": prefixed("_fsdp_wrapped_module"),
    "checkpointed part": inside("PAM", "_checkpoint_wrapped_module"),
    "Lightning, one part compiled": lambda s: prefixed("model")(inside("PAM", "_orig_mod")(s)),
    "thop": counted_by_thop,
    "thop, DataParallel": lambda state: counted_by_thop(prefixed("module")(state)),
    "AveragedModel": lambda s: {"n_averaged": np.asarray(3), **prefixed("module")(s)},
    "numbers beside": lambda s: {
        **prefixed("model")(s),
        "epoch": 3,
        "best": 0.5,
        "loss": np.float64(0.1),
        "name": "run",
        "optimizer": {"lr": 1.0},
        0: None,
    },
}
"""Functions from a state_dict to the same weights as other code names them."""


def optimizer_state() -> dict:
    """Return the state of an Adam that has made a step."""
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def lightning(state):
    """Return what Lightning's ModelCheckpoint writes."""
    return {
        "epoch": 9,
        "global_step": 1000,
        "pytorch-lightning_version": "2.4.0",
        "state_dict": {f"model.{key}": value for key, value in state.items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'loss'}": {
                "best_model_score": torch.tensor(0.1),
                "best_k_models": {"/runs/epoch=9.ckpt": torch.tensor(0.1)},
            }
        },
        "optimizer_states": [optimizer_state()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "class_weights": torch.ones(2)},
    }


CONTAINERS = {
    "bare": (lambda state: state, ()),
    "state_dict": (lambda s: {"epoch": 3, "state_dict": s, "best": 0.1}, ("epoch", "best")),
    "model": (
        lambda s: {"model": s, "optimizer": optimizer_state(), "start_epoch": 1},
        ("optimizer", "start_epoch"),
    ),
    "tutorial": (
        lambda s: {
            "epoch": 1,
            "model_state_dict": s,
            "optimizer_state_dict": optimizer_state(),
            "loss": torch.tensor(0.5),
        },
        ("epoch", "optimizer_state_dict", "loss"),
    ),
    "net": (lambda s: {"net": s, "acc": 91.0}, ("acc",)),
    "params": (lambda s: {"params": s}, ()),
    "weights": (lambda s: {"weights": s}, ()),
    "network": (lambda s: {"network": s}, ()),
    "own name": (lambda s: {"segmenter": s, "meta": {"classes": ["metal"]}}, ("meta",)),
    "nested": (lambda s: {"state_dict": {"model": s}}, ()),
    "nested twice": (lambda s: {"checkpoint": {"state": {"net": s}, "step": 1}}, ("step",)),
    "EMA alone": (lambda s: {"state_dict_ema": s, "epoch": 1}, ("epoch",)),
    "numbers beside": (
        lambda s: {**s, "epoch": 3, "best_loss": 0.5, "name": "run", "lr": [0.1]},
        ("epoch", "best_loss", "name", "lr"),
    ),
    "optimizer beside": (lambda s: {**s, "optimizer": optimizer_state()}, ("optimizer",)),
    "NumPy beside": (
        lambda s: {"model": s, "best": np.float64(0.5), "curve": np.arange(3), "ok": np.bool_(1)},
        ("best", "curve", "ok"),
    ),
}
"""Functions from a state_dict to what is saved, and the names of what is no weights in it."""
