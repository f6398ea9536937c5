"""Tools under any name, and in any service's form, reach the chat template in one form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from records_of import ASK, read, refused

from reasonpack.records.conversation import parse_line
from reasonpack.records.reading import Reading

ANSWER = {"role": "assistant", "content": "Answer one."}
PARAMETERS = {"type": "object", "properties": {"key": {"type": "string"}}}
FUNCTION = {"name": "look_up", "description": "Looks up.", "parameters": PARAMETERS}
TOOL = {"type": "function", "function": FUNCTION}
ANTHROPIC = {"name": "look_up", "description": "Looks up.", "input_schema": PARAMETERS}
FLAT = {"type": "function", **FUNCTION, "strict": None}


@pytest.mark.parametrize(
    ("name", "tool"),
    [
        *((name, TOOL) for name in ("tools", "functions", "tool_defs", "available_tools")),
        *((name, FUNCTION) for name in ("functions", "tool_defs", "available_tools")),
        *((name, FLAT) for name in ("tools", "tool_defs")),
        *((name, ANTHROPIC) for name in ("tools", "available_tools")),
        ("tools", {**ANTHROPIC, "type": "custom", "cache_control": {"type": "ephemeral"}}),
    ],
)
def test_tools_of_any_service(name: str, tool: dict[str, Any]) -> None:
    for written in ([tool], json.dumps([tool]), [json.dumps(tool)]):
        assert read(ASK, ANSWER, **{name: written}).tools == (TOOL,)
        assert read(ASK, ANSWER, **{"tools": [TOOL], name: written}).tools == (TOOL,)


def test_what_has_always_reached_the_template_as_it_is_still_does() -> None:
    others = [FUNCTION, {"type": "web_search"}, {"name": "f", "inputs": {}}, {**TOOL, "x": None}]
    assert read(ASK, ANSWER, tools=others).tools == tuple(others)


def test_functions_alone_are_noted_and_can_be_read_as_functions() -> None:
    record = {"messages": [ASK, ANSWER], "tools": [FUNCTION, TOOL, {"type": "web_search"}]}
    assert parse_line(json.dumps(record).encode(), "x").notes == {
        "bare-tool": 1,
        "built-in-tool web_search": 1,
    }
    record["tools"] = [FUNCTION]
    made = parse_line(json.dumps(record).encode(), "x", reading=Reading(renamed=AS_FUNCTIONS))
    assert (made.tools, made.notes) == ((TOOL,), {"renamed tools": 1})


AS_FUNCTIONS = {"tools": "functions"}


@pytest.mark.parametrize("name", ["tools", "functions", "tool_defs", "available_tools"])
@pytest.mark.parametrize("nothing", [None, "", [], {}, "[]", "null"])
def test_no_tools(name: str, nothing: object) -> None:
    assert read(ASK, ANSWER, **{name: nothing}).tools is None


@pytest.mark.parametrize(
    ("fields", "reason", "path"),
    [
        ({"tool_defs": ["look_up"]}, "type", "tool_defs[0]"),
        ({"available_tools": [TOOL, "look_up"]}, "type", "available_tools[1]"),
        ({"available_tools": {"look_up": TOOL}}, "type", "available_tools"),
        ({"available_tools": [{"look_up": FUNCTION}]}, "tools", "available_tools[0]"),
        ({"tools": [TOOL], "tool_defs": [{"name": "f"}]}, "conflict", "tool_defs"),
    ],
)
def test_refused_tools(fields: dict[str, Any], reason: str, path: str) -> None:
    error = refused(ASK, ANSWER, **fields)
    assert (error.reason, error.path) == (reason, path)
