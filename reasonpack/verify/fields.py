"""Fields of a record and of its messages: renames them, and finds those that are not known.

--field cot=reasoning      {"cot": "A"}                         →  {"reasoning": "A"}
                           {"mood": ["merry"]}, of an answer    →  NotChecked
--ignore-fields extra.x    {"extra": {"x": 1}}                  →  passed to the template
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Container, Iterable, Mapping, Sequence
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
    """Copy a value without the field at a path of keys, in each element where a list is met."""
    if isinstance(value, list):
        return [without_path(each, path) for each in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    first, *more = path
    if more:
        return {**value, first: without_path(value[first], more)}
    return all_but(value, path)


def without_ignored(raw: Json, reading: Reading, prefix: str) -> Json:
    """Copy an object without fields that say how an answer ended, but that the run ignored.

    `prefix` may precede their names in the option.
    """
    for name in reading.ignored:
        first, *more = name.removeprefix(prefix).split(".")
        if first in names.TELLING:
            raw = without_path(raw, [first, *more])
    return raw


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
    """Rename the fields and the role of a message, and leave out fields, as the run was told."""
    raw = without_ignored(renamed(raw, reading.renamed, known), reading, "message.")
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


def ends(raw: Json) -> set[str]:
    """Return why the answer of a message or record ended, as that or its metadata says."""
    said: list[Any] = []
    for place in (raw.get("metadata"), raw):
        if isinstance(place, dict):
            details = place.get("finish_details")
            said += [details.get("type") if isinstance(details, dict) else details]
            said += [place.get(name) for name in names.ENDS]
    return {*map(_word, said)} - {""}


def _word(value: Any) -> str:
    """Return a value in small letters, without the name of its type; empty if it is no text."""
    return value.lower().split(".")[-1] if isinstance(value, str) else ""


def was_cut(raw: Json, flags: Iterable[str] = names.LIMITED) -> bool:
    """Return whether an object says, perhaps by one of the `flags`, that its answer was cut off."""
    said = ends(raw) | {_word(raw.get(name)) for name in names.STATES}
    flagged = any(raw.get(name) in (True, "true") for name in flags)
    return flagged or bool(said & names.CUT) or has_failed(raw)


def has_failed(raw: Json) -> bool:
    """Return whether an object says that generation failed."""
    error = raw.get("error")
    states = {_word(raw.get(name)) for name in names.STATES}
    return bool(states & names.FAILED) or (bool(error) and type(error) not in (int, float))


def check_end(raw: Json) -> None:
    """Check that an object which has an answer to train does not say that generation failed.

    Raises:
        Refused: it does.
    """
    if has_failed(raw):
        raise Refused("generation that failed")


def check_whole(sample: Json, *, trained: bool = True) -> None:
    """Check that a sample does not say that it is to be left out, or, if `trained`, that it failed.

    Raises:
        Refused: it does.
    """
    if trained:
        check_end(sample)
    inner = sample.get("overrides")
    found = [sample, inner] if isinstance(inner, dict) else [sample]
    if any(name in one and one[name] == no for one in found for name, no in names.REMOVED.items()):
        raise Refused("a sample that is to be left out")
    if any(sample.get(name) is False for name in names.UNDESIRED):
        raise Refused("an answer that is a bad one")


def without_stop(answer: Any, around: Iterable[Json]) -> Any:
    """Mark an answer, or its last item, as cut off if one of the objects around it says so."""
    if not any(map(has_no_stop, around)):
        return answer
    if isinstance(answer, list):
        return [*answer[:-1], *({**each, "partial": True} for each in answer[-1:])]
    return {**answer, "partial": True} if isinstance(answer, dict) else answer


def has_no_stop(around: Json) -> bool:
    """Return whether an object around an answer says that it was cut off, perhaps at a text.

    That is vLLM's stop_reason next to a finish_reason, or SGLang's matched_stop.
    """
    texts = [isinstance(around.get(name), str) for name in ("finish_reason", "stop_reason")]
    return all(texts) or isinstance(around.get("matched_stop"), str) or was_cut(around)


def ended(record: Json, messages: list[Json]) -> list[Json]:
    """Return the messages of a record, the last marked as cut off if the record says so."""
    *before, answer = messages or [{}]
    role = str(answer.get("role") or answer.get("from"))
    if names.ROLES.get(role) != "assistant" and answer.get("type") not in names.OF_A_MODEL:
        return messages
    reasons, texts = record.get("finish_reasons"), record.get("generations")
    listed = [*map(_word, reasons)] if isinstance(reasons, list) else []
    text = answer.get("content") or answer.get("value")
    if isinstance(texts, list) and len(texts) == len(listed) and text in texts:
        listed = [listed[texts.index(text)]]
    cut = was_cut(record) or (listed and {*listed} <= names.CUT)
    return [*before, {**answer, "partial": True}] if cut else messages
