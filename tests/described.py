"""Whether a schema says what a class says: the same fields, in order, and their types."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal

import msgspec

ROOT = Path(__file__).parents[1]
SCHEMAS, FIXTURES = ROOT / "schemas", ROOT / "fixtures"
FORMAT = (SCHEMAS / "FORMAT.md").read_text(encoding="utf-8")


Json = dict[str, Any]


def schema(name: str) -> Json:
    read: Json = json.loads((SCHEMAS / f"{name}.schema.json").read_bytes())
    return read


ADDED_LATER = {
    *("templates", "columns", "split", "max_cost", "loss_weights"),
    *("divided", "extra_samples", "extra_tokens", "pairs", "left_out"),
    *("input_format", "group_by", "max_group_bytes", "call_columns"),
    *("sources", "blend", "unit_bytes", "dedup", "sample", "shuffle", "seed", "role"),
    *("copies", "duplicates", "not_taken", "examples"),
}
"""Fields that datasets of an earlier version lack."""
SIMPLE = {str: "string", int: "integer", bool: "boolean", float: "number"}


def check_type(found: Json, expected: Any) -> None:
    """Raise AssertionError unless a schema says what the type of a field says."""
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in {types.UnionType, typing.Union}:  # a Literal makes the latter
        one, other = arguments
        if other is types.NoneType:
            check_type(without_null(found), one)
        else:
            for each, type_ in zip(found["anyOf"], arguments, strict=True):
                check_type(each, type_)
    elif dataclasses.is_dataclass(expected) or isinstance(expected, type(msgspec.Struct)):
        check_fields(found, expected)
    elif origin in {list, tuple}:
        assert found["type"] == "array", found
        check_type(found["items"], arguments[0])
    elif origin is dict:
        assert found["type"] == "object", found
        if arguments[0] is not str:
            assert set(found["properties"]) == set(typing.get_args(arguments[0])), found
        for value in (found["additionalProperties"], *found.get("properties", {}).values()):
            if value is not False:
                check_type(value, arguments[1])
    elif origin is Literal:
        assert found["enum"] == list(arguments), found
    elif expected is str and "enum" in found:
        assert all(isinstance(value, str) for value in found["enum"]), found
    else:
        assert found.get("type") == SIMPLE[expected], f"{found}, expected {SIMPLE[expected]!r}"


def without_null(found: Json) -> Json:
    """Take "or null" from a schema that has to have it."""
    if "anyOf" in found:
        one, null = found["anyOf"]
        assert null == {"type": "null"}, found
        return dict(one)
    assert found["type"][1:] == ["null"], found
    return {**found, "type": found["type"][0]}


def check_fields(found: Json, expected: Any) -> None:
    """The same for a class: its fields in order, and no other; required, unless added later."""
    hints = typing.get_type_hints(expected)
    names = [*hints]
    assert found["type"] == "object"
    assert found["additionalProperties"] is False
    assert list(found["properties"]) == names
    assert found["required"] == [name for name in names if name not in ADDED_LATER]
    for name in names:
        check_type(found["properties"][name], hints[name])
