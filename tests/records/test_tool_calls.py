"""Arguments that come back from a server as others are counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import convert

from reasonpack.errors import RecordError
from reasonpack.records.conversation import parse_line, parse_row
from reasonpack.records.tool_calls import ARGUMENTS, Call, ToolCall, contradictions, read_tool_calls

TYPES = {
    "string": "a",
    "integer": 1,
    "number": 0.5,
    "boolean": True,
    "array": [1],
    "object": {"a": 1},
}


def tool(**properties: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("given", TYPES)
def test_a_value_of_another_type_contradicts_its_schema(kind: str, given: str) -> None:
    found = list(contradictions([ToolCall("f", {"x": TYPES[given]})], [tool(x={"type": kind})]))
    fits = kind == given or (kind, given) == ("number", "integer")
    assert found == ([] if fits else ["f.x"])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer"}, 2.0),
        ({"type": "integer"}, None),
        ({"type": ["integer", "null"]}, "a"),
        ({"anyOf": [{"type": "integer"}]}, "a"),
        ({"type": "date"}, "a"),
        ({}, "a"),
        (True, "a"),
    ],
)
def test_what_a_plain_type_does_not_say_is_no_contradiction(schema: Any, value: Any) -> None:
    assert list(contradictions([ToolCall("f", {"x": value, "y": 1})], [tool(x=schema)])) == []


@pytest.mark.parametrize(
    "tools",
    [
        [{"name": "f", "parameters": {"properties": {"x": {"type": "string"}}}}],
        [{"name": "f", "input_schema": {"properties": {"x": {"type": "string"}}}}],
        [tool(x={"type": "string"}), {"name": "g"}, {"function": 5}, {"parameters": 7}],
    ],
)
def test_tools_in_any_form(tools: list[dict[str, Any]]) -> None:
    assert list(contradictions([ToolCall(n, {"x": 1}) for n in "fg"], tools)) == ["f.x"]


def test_what_is_noticed_of_calls() -> None:
    calls = [
        {"function": {"name": "f", "arguments": {"x": 1, "y": None}}},
        {"function": {"name": "f", "arguments": '{"x": 2}'}},
    ]
    record = {
        "messages": [
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": "", "tool_calls": calls},
        ],
        "tools": [tool(x={"type": "string"}), {"type": "web_search"}],
    }
    read = parse_line(json.dumps(record).encode(), "x")
    assert read.notes == {"null-argument": 1, "argument-type f.x": 2, "built-in-tool web_search": 1}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_read_under_any_name(name: str) -> None:
    for value in ({"x": 1}, '{"x": 1}'):
        inside = {"function": {"name": "f", name: value}}
        for call in (inside, {"name": "f", name: value}, {**inside, "arguments": None}):
            (read,) = read_tool_calls([convert(call, Call)], None, "", null_is_missing=False)
            assert read.arguments == {"x": 1}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_null_in_a_column_of_structs_is_refused_under_any_name(name: str) -> None:
    call = {"function": {"name": "f", name: {"x": None, "y": 1}}}
    messages = [{"role": "user", "content": "Go"}, {"role": "assistant", "tool_calls": [call]}]
    with pytest.raises(RecordError, match=rf"function\.{name}: a null in arguments"):
        parse_row({"messages": messages}, "x")
