"""What training code puts around the weights of a network, and how they are taken out of it.

Trainers save a state_dict within a checkpoint, and wrappers such as `DataParallel`, `torch.compile`
and Lightning's modules put components before the names of its arrays.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from eal_icnet_jax.system.errors import UserError

WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""Components of names that DataParallel, `torch.compile`, FSDP and activation checkpointing add,
before a whole name or before that of a part of the network."""

BESIDE = {"total_ops", "total_params", "n_averaged"}
"""Last components of the names of counts that thop and `AveragedModel` keep among the weights."""

COUNTER = ".num_batches_tracked"
"""End of the names of counters of batches, which torch did not have before 0.4.1."""

DEEPEST_NAME = 8
"""Number of components that are dropped at most from the beginning of all names."""

DEEPEST_CONTAINER = 3
"""Number of mappings around a state_dict at most."""

SHOWN_NAMES = 3
"""Number of names that a sentence lists at most."""


def shown(name) -> str:
    """Return a name from a stranger's file in quotes, shortened, without steering characters."""
    return repr(name)[:80] if isinstance(name, str) else f"a key of type {type(name).__name__}"


def listed(names: Iterable[str]) -> str:
    """Return the first of some names and the number of the others: "a, b, c and 5 more"."""
    names = list(names)
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def _left_out(names: Iterable[str]) -> str:
    return f"beside the weights, these are left out: {listed(names)}"


def _mappings(content: Mapping) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """Yield the mappings within a mapping, each once, with the keys that lead to it.

    Those of optimizers, which hold tensors too, are passed over.
    """
    seen, level = {id(content)}, [((), content)]
    for _ in range(DEEPEST_CONTAINER + 1):
        inner: list = []
        for keys, mapping in level:
            if "param_groups" in mapping:
                continue
            yield keys, mapping
            for key, value in mapping.items():
                if isinstance(value, Mapping) and isinstance(key, str) and id(value) not in seen:
                    seen.add(id(value))
                    inner.append(((*keys, key), value))
        level = inner


def _state_dicts(content: Mapping, is_tensor: Callable[[Any], bool]) -> list:
    """Return the state_dicts within a mapping, with the keys that lead to them.

    A state_dict has a tensor of one axis at least under a name with a dot, such as "conv.weight".
    If there is none, every mapping with a tensor counts.
    """
    named, others = [], []
    for keys, mapping in _mappings(content):
        tensors = [(k, v) for k, v in mapping.items() if isinstance(k, str) and is_tensor(v)]
        if any("." in key and value.ndim for key, value in tensors):
            named.append((keys, mapping))
        elif tensors:
            others.append((keys, mapping))
    return named or others


def _is_average(keys: tuple[str, ...]) -> bool:
    """Return whether keys lead to weights averaged over steps, such as `model_ema`."""
    return not {"ema", "swa"}.isdisjoint(re.split("[^a-z]+", " ".join(keys).lower()))


def _place(keys: tuple[str, ...]) -> str:
    return f"under {shown('/'.join(keys))}" if keys else "at the top"


def _choose(found: list, place: str) -> tuple[tuple[tuple[str, ...], Mapping], list[str]]:
    """Return the one state_dict that is no average, with a note if averages are passed over."""
    plain = [each for each in found if not _is_average(each[0])] if len(found) > 1 else found
    if len(plain) != 1:
        raise UserError(
            f"{place} holds several state_dicts ({listed(_place(keys) for keys, _ in found)}): "
            "save the one that you mean alone with torch.save"
        )
    others = [_place(keys) for keys, _ in found if keys != plain[0][0]]
    note = f"the weights {_place(plain[0][0])} are taken, not those {listed(others)}"
    return plain[0], [note] if others else []


def find_state_dict(
    content: Mapping, is_tensor: Callable[[Any], bool], place: str
) -> tuple[dict, list[str]]:
    """Return the one state_dict within what a file holds.

    If there are several, it is the only one that is no average over steps.

    Args:
      content: any mapping; it may hold itself.
      is_tensor: whether a value is a tensor.
      place: the file, for error messages.

    Returns:
      Tensors by name, and sentences about what is left out.

    Raises:
      UserError: there are none or several.
    """
    found = _state_dicts(content, is_tensor)
    if not found:
        only = f", only {listed(map(shown, content))}" if content else ""
        raise UserError(
            f"{place} holds no weights{only}: save the model's state_dict() with torch.save"
        )
    (keys, chosen), notes = _choose(found, place)
    mentioned = {id(mapping) for _, mapping in found}
    others, level = [], content
    for key in keys:
        others += [k for k, v in level.items() if k != key and id(v) not in mentioned]
        level = level[key]
    weights = {k: v for k, v in chosen.items() if isinstance(k, str) and is_tensor(v)}
    others += [k for k, v in chosen.items() if k not in weights and id(v) not in mentioned]
    return weights, [*notes, _left_out(map(shown, others))] if others else notes


def _is_array(name, value) -> bool:
    """Return whether an entry of a state_dict is an array, or a number under an array's name."""
    if not isinstance(name, str):
        return False
    if isinstance(value, (np.generic, int, float)):
        return "." in name
    return hasattr(value, "shape")


def _shared_starts(names: Iterable[str]) -> Iterator[str]:
    """Yield the leading components that all names share, such as "", "model." and "model.net."."""
    rows = [name.split(".", DEEPEST_NAME)[:-1] for name in names]
    start = ""
    yield start
    for components in zip(*rows):  # noqa: B905, as the shortest name ends it
        if len(set(components)) > 1:
            return
        start += f"{components[0]}."
        yield start


def network_names(
    given: Collection[str], names: Collection[str], encoder: str = ""
) -> dict[str, str]:
    """Return the network's name of each array of a state_dict.

    Components of `WRAPPERS` are dropped, and then as many leading components that all names share
    as make most names those of the network, the fewest of them if several numbers do.

    Args:
      given: names in a state_dict.
      names: names in the network. Their components are never dropped as wrappers.
      encoder: what may have to be added before all names.
    """
    names = set(names)
    wrappers = WRAPPERS.difference(*(name.split(".") for name in names))
    bare = {key: ".".join(c for c in key.split(".") if c not in wrappers) or key for key in given}
    if len(set(bare.values())) < len(bare):
        bare = {key: key for key in given}
    best, most = bare, -1
    for start in _shared_starts(bare.values()):
        for added in ("", encoder) if encoder else ("",):
            renamed = {key: added + name.removeprefix(start) for key, name in bare.items()}
            count = len(names.intersection(renamed.values()))
            if count > most:
                best, most = renamed, count
    return best


def unwrapped(
    state_dict: Mapping[str, Any], names: Collection[str], encoder: str = ""
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of a state_dict under the network's names, as far as it has them.

    What `network_names` describes is dropped from the names. Entries that are no weights are left
    out: counts of `BESIDE`, texts, numbers and mappings. Counters of batches that are absent beside
    running statistics become 0.

    Args:
      state_dict: arrays of any shapes by PyTorch name, and other entries.
      names: the PyTorch names of the network.
      encoder: what may have to be added before all names.

    Returns:
      Arrays by name, and sentences about what was left out or added.
    """
    counts = BESIDE.difference(name.rpartition(".")[2] for name in names)
    arrays = [key for key, value in state_dict.items() if _is_array(key, value)]
    weights = [key for key in arrays if key.rpartition(".")[2] not in counts]
    given = {
        new: np.asarray(state_dict[old])
        for old, new in network_names(weights, names, encoder).items()
    }
    others = [shown(key) for key, value in state_dict.items() if not _is_array(key, value)]
    others += sorted({key.rpartition(".")[2] for key in arrays} & counts)
    notes = [_left_out(others)] if others else []
    absent = [
        name
        for name in names
        if name.endswith(COUNTER)
        and name not in given
        and f"{name.removesuffix(COUNTER)}.running_mean" in given
    ]
    if absent:
        notes.append(
            f"{len(absent)} counters {COUNTER[1:]} are absent, as in old files, and become 0"
        )
    return given | {name: np.zeros((), np.int64) for name in absent}, notes
