"""A record → the same without the fields that the user ignores, and with others renamed.

--ignore-fields score       {"score": 3, "messages": […]}         {"messages": […]}
--field cot=reasoning       {"role": "assistant", "cot": "easy"}  {…, "reasoning": "easy"}
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.reading import Reading
from reasonpack.records.strict_json import step

__all__ = ["chosen"]


def chosen(
    fields: Mapping[str, Any], reading: Reading, path: str, *, known: AbstractSet[str]
) -> dict[str, Any]:
    """Return a record, or a message, without what is ignored and with what is renamed.

    Args:
        fields: of the record or the message; left as it is.
        reading: says what.
        path: of the object in the record.
        known: the names that it may be renamed to; others are of other objects.

    Raises:
        RecordError: reason `conflict`, where the known name is taken.

    >>> reading = Reading(ignored=frozenset({"a.b"}), renamed={"cot": "reasoning"})
    >>> chosen({"a": {"b": 1, "c": 2}, "cot": "x"}, reading, "", known={"reasoning"})
    {'a': {'c': 2}, 'reasoning': 'x'}
    """
    left: dict[str, Any] = dict(fields)
    for name in reading.ignored:
        left = _without(left, name.split("."))
    for name, wanted in reading.renamed.items():
        value = _found(left, name.split(".")) if wanted in known else None
        if value in (None, "", [], {}):
            continue
        left = _without(left, name.split("."))
        if left.get(wanted, value) not in (None, "", [], {}, value):
            what = f"it cannot be read as {wanted}, which is there too and differs"
            fix = f"Keep one of the two: --ignore-fields {wanted} leaves the other out."
            raise RecordError("conflict", step(path, name), what, fix=fix)
        left[wanted] = value
    return left


def _found(value: Any, names: list[str]) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _without(value: Any, names: list[str]) -> Any:
    """Copy a value without the field of this dotted name, also in each item of a list."""
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    if not isinstance(value, dict) or names[0] not in value:
        return value
    first, *more = names
    if not more:
        return {key: each for key, each in value.items() if key != first}
    return {**value, first: _without(value[first], more)}
