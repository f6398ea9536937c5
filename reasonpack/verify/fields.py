"""Fields of a record and of its messages: renames them, and finds those that are not known.

--field cot=reasoning      {"cot": "A"}                         →  {"reasoning": "A"}
                           {"mood": ["merry"]}, of an answer    →  NotChecked
--ignore-fields extra.x    {"extra": {"x": 1}}                  →  passed to the template
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Container, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from reasonpack.verify import record_names as names
from reasonpack.verify.chat import Json, NotChecked, Reading, Refused

EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Values that count as absent."""
MEANT: tuple[tuple[str, Any], ...] = (
    *(("content", ""), ("value", ""), ("arguments", {})),
    *(("prompt", ""), ("prompt", []), ("completion", ""), ("completion", [])),
)
"""Fields with an empty value that counts all the same."""


def present(raw: Json) -> Json:
    """Return a copy without the keys whose value counts as absent."""
    return {key: one for key, one in raw.items() if one not in EMPTY or (key, one) in MEANT}


def all_but(raw: Json, names: Container[str]) -> Json:
    """Return a copy without the keys `names`."""
    return {key: one for key, one in raw.items() if key not in names}


def without_nulls(value: Any, kept: Sequence[str] = ()) -> Any:
    """Return a copy without the nulls that Parquet adds, at all depths but within fields `kept`."""
    if isinstance(value, dict):
        return {
            key: below if key in kept else without_nulls(below, kept)
            for key, below in value.items()
            if below is not None
        }
    return [without_nulls(each, kept) for each in value] if isinstance(value, list) else value


def without_path(value: Any, path: Sequence[str]) -> Any:
    """Copy a value without the field at a path of keys, in each element where a list is met.

    Of a status after which the model wrote no stop, this stays.
    """
    if isinstance(value, list):
        return [without_path(each, path) for each in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    first, *more = path
    if more:
        return {**value, first: without_path(value[first], more)}
    cut = first == "status" and str(value[first]).lower() in names.CUT
    return {**all_but(value, path), **({"status": "incomplete"} if cut else {})}


def is_finite(value: Any) -> bool:
    """Return whether all numbers in a value are finite, as they are in JSON.

    >>> is_finite({"a": [1, None]}), is_finite({"a": [float("nan")]})
    (True, False)
    """
    if isinstance(value, dict | list):
        return all(map(is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def renamed(raw: Json, wanted: Mapping[str, str], known: AbstractSet[str]) -> Json:
    """Return a copy with fields moved to known names.

    `wanted` has the known name for each field; a dotted field is nested. Only names in `known`
    count.

    Raises:
        Refused: the known name has another value already.

    >>> renamed({"a": {"b": 1}, "c": 2}, {"a.b": "id", "c": "train"}, {"id"})
    {'a': {}, 'c': 2, 'id': 1}
    """
    mine = {name: to for name, to in wanted.items() if to in known}
    raw = copy.deepcopy(raw) if mine else raw
    for name, to in mine.items():
        *outer, last = name.split(".")
        holder: Any = raw
        for key in outer:
            holder = holder.get(key) if isinstance(holder, dict) else None
        if not isinstance(holder, dict) or holder.get(last) in EMPTY:
            continue
        value = holder.pop(last)
        if raw.get(to) not in (*EMPTY, value):
            raise Refused(f"{name} to be read as {to}, which is there and differs")
        raw[to] = value
    return raw


def with_known_names(raw: Json, reading: Reading, known: AbstractSet[str]) -> Json:
    """Rename the fields and the role of a message as the run was told."""
    raw = renamed(raw, reading.renamed, known)
    for key in {"role", "from"} & raw.keys() if reading.roles else ():
        raw = {**raw, key: reading.roles.get(str(raw[key]), raw[key])}
    return raw


def check_fields(fields: Json, reading: Reading, inside: str = "") -> None:
    """Check that fields of an answer are ignored, read by the template, or hold nothing to learn.

    `inside` is the dotted path of their object with a dot at its end; empty for the answer itself.

    Raises:
        NotChecked: a field may hold something to learn.
    """
    for key, value in fields.items():
        if value in EMPTY:
            continue
        name = inside + key
        outer = [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 2)]
        ignored = not reading.ignored.isdisjoint([*outer, f"message.{name}"])
        if ignored or re.search(rf"[.'\"]{re.escape(key)}\b", reading.template):
            continue
        if key in names.WRAPPERS and isinstance(value, dict):
            check_fields(value, reading, f"{name}.")
        elif key not in names.HARMLESS:
            raise NotChecked(f"the field {name!r} of an assistant message")
        elif isinstance(value, dict):
            signal = value.keys() & {
                *names.REASONING,
                *names.BLOCKS,
                *names.FLAGS,
                "tool_calls",
            }
            found = {one: value[one] for one in signal if not isinstance(value[one], int | float)}
            found |= {one: 0 for one in signal & {*names.FLAGS} if value[one] in (0, False)}
            for one in sorted(present(found)):
                if f"{name}.{one}" not in reading.ignored:
                    raise NotChecked(f"the field {f'{name}.{one}'!r} of an assistant message")


def read_flag(raw: Json, reading: Reading) -> tuple[bool | None, float]:
    """Return the training flag of a message, None without one, and its loss weight.

    Raises:
        Refused: flags or weights contradict each other, or have a value that they cannot have.
    """
    given = {name: raw[name] for name in names.FLAGS if name in raw}
    if any(not isinstance(one, int | float) for one in given.values()):
        raise Refused("a flag that is no number")
    weight = _weight({name: given[name] for name in names.WEIGHTS if name in given}, reading)
    said = {bool(one) for one in given.values()}
    odd = [name for name, one in given.items() if one not in (0, 1)]
    if len(said) > 1 or not {*odd} <= {*names.WEIGHTS}:
        raise Refused("flags that differ, or are neither true nor false")
    return (said.pop() if said else None), weight or 1.0


def weight_of_record(record: Json, reading: Reading) -> float:
    """Return the loss weight of a whole record, 1 without one; a boolean is not read as a weight.

    Raises:
        Refused: the weight is 0, or the dataset has no column for it; or as `check_whole`.
    """
    check_whole(all_but(record, reading.ignored))
    given = {name: record.get(name) for name in names.WEIGHTS}
    numbers = {name: one for name, one in given.items() if type(one) in (int, float)}
    if not (weight := _weight(numbers, reading)):
        raise Refused("a record of weight 0")
    return weight


def _weight(given: Json, reading: Reading) -> float:
    weights = {*given.values()}
    if len(weights) > 1:
        raise Refused("weights that differ")
    weight = float(weights.pop()) if weights else 1.0
    if weight not in (0, 1) and not (reading.weighs and 1e-6 <= weight <= 1e6):
        raise Refused(f"the weight {weight}")
    return weight


def ends(raw: Json) -> Json:
    """Return the fields of a message, or a record, that say how its answer ended."""
    said: Json = {}
    for place in (raw.get("metadata") or {}, raw):
        if not isinstance(place, dict):
            continue
        details = place.get("finish_details") or {}
        kind = details.get("type") if isinstance(details, dict) else details
        said |= {"finish_details": kind} if kind else {}
        texts = {name: place[name] for name in names.ENDS if isinstance(place.get(name), str)}
        said |= {name: text for name, text in texts.items() if text}
    return said | limit(raw)


def limit(raw: Json) -> Json:
    """Return the finish reason that a sample's status, or a flag of it, stands for; {} if none."""
    limited = str(raw.get("status")).lower() in names.CUT
    limited |= any(raw.get(name) is True for name in names.LIMITED)
    return {"finish_reason": "length"} if limited else {}


def check_whole(sample: Json) -> None:
    """Check that a sample which has an answer does not say that it failed, or is to be left out.

    Raises:
        Refused: it does.
    """
    inner = sample.get("overrides")
    found = [sample, inner] if isinstance(inner, dict) else [sample]
    out = any(
        name in one and one[name] == no for one in found for name, no in names.REMOVED.items()
    )
    error = sample.get("error")
    if (
        out
        or str(sample.get("status")).lower() in names.FAILED
        or (error and type(error) not in (int, float))
    ):
        raise Refused("a sample that failed, or is to be left out")


def ended(record: Json, answer: Json) -> Json:
    """Return an answer with the fields of its record that say how it ended, and it does not."""
    said = {**_end_of_generations(record, answer), **ends(record)}
    return {**answer, **all_but(said, [name for name in said if answer.get(name) not in EMPTY])}


def _end_of_generations(record: Json, answer: Json) -> Json:
    """Return the finish reason of an answer, from a record that lists those of its generations.

    Empty if the answer is not among them and their reasons differ.
    """
    reasons, texts = record.get("finish_reasons"), record.get("generations")
    if not isinstance(reasons, list):
        return {}
    text = answer.get("content") or answer.get("value")
    if isinstance(texts, list) and len(texts) == len(reasons) and text in texts:
        reasons = [reasons[texts.index(text)]]
    same = all(isinstance(each, str) and each == reasons[0] for each in reasons)
    return {"finish_reason": reasons[0]} if reasons and same else {}


def was_cut(raw: Json) -> bool:
    """Return whether a message says that it was cut off or goes on, so has no stop token."""
    cut = any(end.lower() in names.CUT for end in ends(raw).values() if isinstance(end, str))
    return cut or any(raw.get(name) in (True, "true") for name in ("prefix", "partial"))
