"""What keeps weights from filling a network, as a sentence with the cause and a short list."""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from eal_icnet_jax.models.torch_wrappings import SHOWN_NAMES, shown

MOST_LINES = 10
"""Number of lines of a message at most."""

COUNTER_LIMIT = np.iinfo(np.int32).max
"""Largest value of `num_batches_tracked` that fits our int32 counter."""

KINDS = ("missing", "unexpected", "of another shape", "of another type", "not finite")
"""Kinds of misfits, in the order of messages."""

NAME_THE_NETWORK = "name the network with --model and its options with --options"


class Misfit(NamedTuple):
    """One thing that keeps a state_dict from filling a model."""

    kind: str
    """One of `KINDS`."""

    text: str


def _short(key: str) -> str:
    return key if len(key) <= 100 else f"{key[:97]}..."


def _value_misfit(key: str, value: np.ndarray, expected: np.ndarray) -> Misfit | None:
    """Return what keeps a value from filling a variable, or None."""
    if value.shape != expected.shape:
        text = f"wrong shape of {key}: expected {expected.shape}, found {value.shape}"
        return Misfit("of another shape", text)
    if expected.dtype == np.int64:
        if not np.issubdtype(value.dtype, np.integer) or not 0 <= value <= COUNTER_LIMIT:
            text = f"{key} must be an integer from 0 to {COUNTER_LIMIT}, found {value}"
            return Misfit("of another type", text)
    elif not jnp.issubdtype(value.dtype, jnp.floating):
        text = f"wrong dtype of {key}: expected floating point, found {value.dtype}"
        return Misfit("of another type", text)
    elif count := int(np.sum(~np.isfinite(value.astype(np.float32)))):
        return Misfit("not finite", f"non-finite values in {key}: {count} of {value.size}")
    return None


def misfits(given: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> list[Misfit]:
    """Return everything that keeps a state_dict from filling a model.

    Args:
      given: arrays by PyTorch name.
      expected: the model's arrays by PyTorch name, of the shapes and dtypes that it needs.
    """
    out = [Misfit("missing", f"missing key {key}") for key in expected if key not in given]
    out += [
        Misfit("unexpected", f"unexpected key {_short(key)}")
        for key in given
        if key not in expected
    ]
    values = (_value_misfit(key, given[key], expected[key]) for key in expected if key in given)
    return out + [misfit for misfit in values if misfit]


def foreign_names(given: Collection[str]) -> tuple[str, str]:
    """Return the cause and the advice for a state_dict that shares no name with the network.

    Args:
      given: the names in the state_dict, at least one.
    """
    if len(given) == 1:
        return f"their only key, {shown(next(iter(given)))}, is none of its names", NAME_THE_NETWORK
    starts = Counter(
        key.partition(".")[0] + "." if "." in key else key for key in given
    ).most_common()
    if len(starts) == 1:
        ((start, count),) = starts
        cause = f"all {count} keys begin with {shown(start)}, none is one of its names"
        return cause, NAME_THE_NETWORK
    text = f"none of the {len(given)} keys is one of its names"
    if len(starts) <= SHOWN_NAMES:
        text += ", they begin with " + " and ".join(f"{shown(s)} ({count})" for s, count in starts)
    return text, f"save the network's state_dict() alone, or {NAME_THE_NETWORK}"


def counts(found: list[Misfit], total: int) -> str:
    """Return the number of misfits of each kind: "2 of 9 keys missing, 1 not finite".

    Args:
      found: misfits.
      total: number of arrays of the network.
    """
    numbers = Counter(misfit.kind for misfit in found)
    of_total = {"missing": f" of {total} keys"}
    return ", ".join(
        f"{numbers[kind]}{of_total.get(kind, '')} {kind}" for kind in KINDS if numbers[kind]
    )


def advice_for(found: list[Misfit]) -> str:
    """Return what to do about misfits."""
    kinds = {misfit.kind for misfit in found}
    if kinds & {"missing", "unexpected"}:
        return NAME_THE_NETWORK
    if "of another shape" in kinds:
        return "name its options with --options, or adapt the weights with --encoder-weights"
    return "save weights that are finite floating-point numbers"


def _shares(sizes: list[int], total: int) -> list[int]:
    """Return how many lines each group gets, as even as the sizes of the groups allow."""
    shares = [0] * len(sizes)
    turns = itertools.cycle(range(len(sizes)))
    while sum(shares) < min(total, sum(sizes)):
        group = next(turns)
        shares[group] += shares[group] < sizes[group]
    return shares


def message(first: str, found: list[Misfit]) -> str:
    """Return the text of an error: a sentence, and below it some misfits of each kind.

    Args:
      first: what does not fit, why, and what to do.
      found: the misfits.

    Returns:
      At most `MOST_LINES` lines. If misfits are left out, the last line says how many.
    """
    groups = [[each.text for each in found if each.kind == kind] for kind in KINDS]
    room = MOST_LINES - 1 if len(found) < MOST_LINES else MOST_LINES - 2
    shares = _shares([len(group) for group in groups], room)
    lines = [first]
    lines += [text for group, share in zip(groups, shares, strict=True) for text in group[:share]]
    if len(found) > room:
        lines.append(f"... and {len(found) - room} more")
    return "\n  ".join(lines)
