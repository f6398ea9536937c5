"""The flags of a message → whether it is trained, and its weight in the loss.

{"weight": 0}, {"train": false}, {"step_loss_mask": 0}  →  False, 1
{"weight": 0.5}                                         →  True, 0.5
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.draft import FLAGS, present
from reasonpack.records.reasoning import same
from reasonpack.records.value_types import wrong_type
from reasonpack.records.weight_search import WEIGHTS, is_weight

LEAST, MOST = 1e-6, 1e6
"""Bounds of a weight; between them 32 bits still tell weights apart after they are divided."""


def read_flag(
    fields: Mapping[str, Any], path: str, *, weighs: bool = False
) -> tuple[bool | None, float]:
    """Return whether a message is trained (None without a flag), and its weight (else 1).

    `fields` are those of the message; `weighs` says whether the run has a column for weights.

    Raises:
        RecordError: flags that differ, or that are not true, false, 0 or 1; a weight that the
            run has no column for, or that is out of bounds.
    """
    given = {name: fields[name] for name in present(fields, FLAGS)}
    if not given:
        return None, 1.0
    for name, value in given.items():
        if isinstance(value, list):
            expected = "0 or 1 for the whole message"
            fix = "write 0 or 1: a mask of tokens needs their ids, which a message does not have"
            raise RecordError("weight", f"{path}.{name}", "got a list", expected, fix)
        if not isinstance(value, bool | int | float):
            raise wrong_type(f"{path}.{name}", type(value).__name__, "true, false, 0 or 1")
        if is_weight(value):
            _check(value, f"{path}.{name}", weighs=weighs, known=name in WEIGHTS)
    weights = [value for value in given.values() if is_weight(value)]
    if weights:
        same(path, {name: given.get(name) for name in WEIGHTS})
        given = {name: 1 if is_weight(value) else value for name, value in given.items()}
    flag = same(path, given)
    return (None if flag is None else flag == 1), float(weights[0]) if weights else 1.0


def weights_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that are weights of a whole record, by their fields."""
    found = ((name, record[name]) for name in present(record, WEIGHTS))
    return {name: value for name, value in found if type(value) in {int, float}}


def read_record_weight(record: Mapping[str, Any], *, weighs: bool) -> float:
    """Return the weight of a whole record, 1 if it has none that is a number.

    Raises:
        RecordError: two weights that differ, 0, or one that `read_flag` would refuse.
    """
    weights = weights_of(record)
    weight = same("", weights)
    if weight in (None, 1):
        return 1.0
    name = next(iter(weights))
    if weight == 0:
        fix = "leave the record out (--on-error skip), or write 1"
        raise RecordError("weight", name, "got 0", "more for a whole record", fix)
    _check(weight, name, weighs=weighs, known=True)
    return float(weight)


def _check(value: float, path: str, *, weighs: bool, known: bool) -> None:
    if not known:
        fix = "write 1 to train the message, 0 not to"
        raise RecordError("weight", path, "got a number other than 0 and 1", "one of the two", fix)
    if not weighs:
        what, expected = f"got the weight {value}", "0 or 1, as this run weighs no messages"
        fix = "of a call, write the weight next to the answer, and none in the prompt; of a chat, "
        fix += "pass --loss-weights data, or write 1 to train it, 0 not to"
        raise RecordError("weight", path, what, expected, fix)
    if not LEAST <= value <= MOST:
        fix = "write a weight between them"
        raise RecordError("weight", path, f"got {value}", f"0, or {LEAST:f} to {MOST:,.0f}", fix)
