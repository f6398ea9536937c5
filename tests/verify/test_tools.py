"""Tools are read alike by packing and by its check, which have no code for it in common."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records import tools as packed
from reasonpack.records.conversation import parse_line
from reasonpack.verify import tools as checked
from reasonpack.verify.chat import NotChecked, Reading, Refused

SCHEMA = {"type": "object"}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "f"}},
    {"name": "f", "input_schema": SCHEMA, "description": "d"},
    {"type": "custom", "name": "f", "input_schema": SCHEMA, "cache_control": {}},
    {"type": "function", "name": "f", "strict": None},
    {"name": "f"},
    {"x": 1},
    {"type": "web_search"},
    "f",
    {"input_schema": SCHEMA},
]


def outcome(read: Callable[[dict[str, Any]], Any], record: dict[str, Any]) -> str:
    try:
        return json.dumps(list(read(record) or []))
    except (RecordError, NotChecked, Refused):
        return "refused"


@pytest.mark.parametrize("names", [*itertools.product(packed.TOOL_FIELDS, repeat=2)], ids=",".join)
def test_both_read_the_same(names: tuple[str, str]) -> None:
    for one, other in itertools.product(TOOLS, repeat=2):
        first, second = names
        texts = [json.dumps(each) for each in (one, other)]
        for record in (
            {first: [one], second: [other]},
            {first: json.dumps([one, other])},
            {first: texts},
        ):
            made = outcome(packed.read_tools, record)
            assert made == outcome(checked.read_tools, record), record


@pytest.mark.parametrize("nothing", [None, "", " ", [], {}, "[]", "null"])
@pytest.mark.parametrize("name", packed.TOOL_FIELDS)
def test_none(name: str, nothing: Any) -> None:
    assert not packed.read_tools({name: nothing})
    assert checked.read_tools({name: nothing}) == []


NAMED = {"name": "f", "arguments": {"a": 1}}
CALLS: list[Any] = [
    NAMED,
    {"id": "c", "function": {"name": "f", "arguments": '{"a": 1}', "status": "done"}, "index": 0},
    {"id": "", "name": "f", "args": {}, "arguments": None},
    {"name": "f", "parameters": {"type": "round"}},
    {"name": "f", "arguments": {"type": "object", "properties": {}}},
    {"name": "f", "parameters": {"type": "object", "properties": {}}},
    {"name": "f", "arguments": {"a": 1}, "args": {"a": 2}},
    {"name": "f", "arguments": [1]},
    {"name": "f", "arguments": "[1]"},
    {"name": "f"},
    {"arguments": {}},
    {"function": {"name": "f", "arguments": {}}, "thoughts": "A"},
]
TEXTS = [
    json.dumps(NAMED),
    json.dumps([NAMED, NAMED]),
    json.dumps({**NAMED, "arguments": {"a": "</think>"}}),
    f"<think>A</think>{json.dumps(NAMED)}",
    f"A</think>{json.dumps(NAMED)}",
    f"B<think>A</think>{json.dumps(NAMED)}",
    "Text.",
]


def packed_calls(**message: Any) -> list[Any]:
    ask = {"role": "user", "content": "Go."}
    read = parse_line(json.dumps({"messages": [ask, message]}).encode(), "x:1").messages[1]
    return [
        read.reasoning or "",
        *([each.id, each.name, each.arguments] for each in read.tool_calls),
    ]


def checked_calls(reasoning: str, calls: Any) -> list[Any]:
    functions = [(each.get("id"), each["function"]) for each in calls]
    return [reasoning, *([id_, each["name"], each["arguments"]] for id_, each in functions)]


def unless_refused(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (RecordError, NotChecked, Refused):
        return "refused"


@pytest.mark.parametrize("call", CALLS, ids=json.dumps)
def test_calls_are_read_the_same(call: Any) -> None:
    made = unless_refused(partial(packed_calls, role="assistant", content="", tool_calls=[call]))
    found = unless_refused(lambda: checked_calls("", [checked.read_call(call, Reading())]))
    assert found == made


@pytest.mark.parametrize("reasoning", ["", "B"])
@pytest.mark.parametrize("text", TEXTS)
def test_calls_in_a_text_are_read_the_same(text: str, reasoning: str) -> None:
    beside = {"reasoning": reasoning} if reasoning else {}
    made = unless_refused(partial(packed_calls, role="tool_call", content=text, **beside))
    found = unless_refused(lambda: checked_calls(*checked.calls_in_text(text, reasoning)))
    assert found == made


def test_a_null_in_a_struct_of_arguments() -> None:
    call = {"name": "f", "arguments": {"a": None}}
    kept = {"type": "function", "function": call}
    assert checked.read_call(call, Reading()) == kept
    assert checked.read_call(call, Reading(row=True, null_arguments="keep")) == kept
    assert checked.read_call({**call, "arguments": '{"a": null}'}, Reading(row=True)) == kept
    full = {"name": "f", "arguments": {"a": 1}}
    assert checked.read_call(full, Reading(row=True)) == {"type": "function", "function": full}
    with pytest.raises(Refused, match="a null"):
        checked.read_call(call, Reading(row=True))
