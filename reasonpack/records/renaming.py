"""A record or message → the same, with fields renamed to names that are read, or removed.

--field cot=reasoning    {"role": "assistant", "cot": "easy"}  →  {…, "reasoning": "easy"}
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import step


def renamed(
    fields: Mapping[str, Any], names: Mapping[str, str], path: str, *, known: AbstractSet[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a record or message with fields renamed by `names`, and a note for each of these.

    Only fields whose new name is in `known` are renamed; the others belong to other objects. The
    name of a nested field is dotted.

    Raises:
        RecordError: reason `conflict`, if the new name already has another value.

    >>> renamed({"a": {"b": 1, "c": 2}, "cot": "x"}, {"cot": "reasoning"}, "", known={"reasoning"})
    ({'a': {'b': 1, 'c': 2}, 'reasoning': 'x'}, ('renamed cot',))
    """
    left: dict[str, Any] = dict(fields)
    notes: list[str] = []
    for name, wanted in names.items():
        value = _value(left, name.split(".")) if wanted in known else None
        if value in (None, "", [], {}):
            continue
        left = _without(left, name.split("."))
        if left.get(wanted, value) not in (None, "", [], {}, value):
            what = f"it cannot be read as {wanted}, which is there too and differs"
            raise RecordError("conflict", step(path, name), what, "one", "keep one of the two")
        left[wanted] = value
        notes.append(f"renamed {name}")
    return left, tuple(notes)


def removed(fields: dict[str, Any], way: list[str]) -> dict[str, Any] | None:
    """Return an object without the field at a path of names; None if it has no such field.

    >>> removed({"a": {"b": 1, "c": 2}}, ["a", "b"]), removed({"a": None}, ["a"])
    ({'a': {'c': 2}}, None)
    """
    return None if _value(fields, way) is None else _without(fields, way)


def _value(fields: object, way: list[str]) -> Any:
    """Return the value at a path of names; None if there is none."""
    for key in way:
        fields = fields.get(key) if isinstance(fields, dict) else None
    return fields


def with_known_role(
    message: dict[str, Any], roles: Mapping[str, str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return a message with its role replaced as `roles` says, and a note if it was replaced.

    >>> with_known_role({"from": "Bot", "value": "4"}, {"Bot": "assistant"})
    ({'from': 'assistant', 'value': '4'}, ('role Bot',))
    """
    said = {key: message[key] for key in ("role", "from") if isinstance(message.get(key), str)}
    names = {key: roles[role] for key, role in said.items() if role in roles}
    notes = dict.fromkeys(f"role {said[key]}" for key in names)
    return ({**message, **names} if names else message), tuple(notes)


def _without(value: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Copy an object without the field at this path of names, which must be present."""
    first, *more = names
    if not more:
        return {key: each for key, each in value.items() if key != first}
    return {**value, first: _without(value[first], more)}
