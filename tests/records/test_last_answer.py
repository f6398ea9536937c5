"""Fields of a record that describe its last answer are read as fields of that answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from endings import ANSWER, ASK, HOLDERS, TOLD
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, read_calls
from reasonpack.records.conversation import parse_line
from reasonpack.records.last_answer import OF_THE_END, with_answer
from reasonpack.records.options import ignored_fields
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record

CALL = {"type": "function_call", "name": "f", "arguments": "{}"}
THREE_OR_FOUR = {"generations": ["3", "4"], "finish_reasons": ["stop", "length"]}
CUT = {**ANSWER, "partial": True}
STOPPED = {**ANSWER, "finish_reason": "stop"}


@pytest.mark.parametrize(
    ("container", "record", "answer"),
    [
        ("completion", {"completion": "4", "finish_reasons": ["length", "length"]}, CUT),
        ("completion", {"completion": "4", **THREE_OR_FOUR}, CUT),
        ("messages", {"messages": [ASK, ANSWER], **THREE_OR_FOUR}, CUT),
        ("messages", {"messages": [ASK, ANSWER], "finish_reason": "length"}, CUT),
        ("messages", {"messages": [ASK, ANSWER], "status": "Truncated"}, CUT),
        ("messages", {"messages": [ASK, ANSWER], "is_truncated": True}, CUT),
        ("messages", {"messages": [ASK, CUT], "finish_reason": "stop"}, CUT),
        ("messages", {"messages": [ASK, STOPPED], "finish_reason": "length"}, CUT),
        ("messages", {"messages": [ASK, CALL], "truncated": True}, {**CALL, "partial": True}),
        ("messages", {"messages": [ASK], "thought": "Easy.", "answer": "4"}, {"thought": "Easy."}),
        (
            "conversations",
            {"conversations": [{"from": "gpt", "value": "4"}], **THREE_OR_FOUR},
            {"from": "gpt", "value": "4", "partial": True},
        ),
    ],
)
def test_it_is_in_the_answer(container: str, record: Any, answer: dict[str, Any]) -> None:
    read, used = with_answer(record, container)
    assert read[container][-1].items() >= answer.items()
    assert used == {"answer", "thought"} & record.keys()
    if container == "messages":
        assert read[container][0] == ASK


@pytest.mark.parametrize(
    ("container", "record"),
    [
        ("completion", {"completion": "5", **THREE_OR_FOUR}),
        ("completion", {"completion": "4", **THREE_OR_FOUR, "generations": ["4"]}),
        ("completion", {"completion": "4", "finish_reasons": []}),
        ("completion", {"completion": "4", "finish_reasons": [3]}),
        ("completion", {"completion": "4", "finish_reasons": "length"}),
        ("completion", {"completion": "4", "finish_reasons": {"first": "length"}}),
        ("completion", {"completion": 4, "reasoning": "Easy."}),
        ("completion", {"completion": "4", "reasoning": ""}),
        ("completion", {"completion": "4", "reasoning": "off"}),
        ("messages", {"messages": [ASK], "thinking": "High", "answer": "4"}),
        ("completion", {"completion": "4", "reasoning": ["Easy."]}),
        ("completion", {"completion": [], "reasoning": "Easy.", "answer": "4"}),
        ("completion", {"completion": ["4"], "reasoning": "Easy.", "answer": "4"}),
        ("messages", {"messages": "[]", "reasoning": "Easy.", "answer": "4"}),
        ("messages", {"messages": [ASK], "finish_reason": "stop", "answer": "4"}),
        ("messages", {"messages": [ASK], "reasoning": "Easy.", "answer": 4}),
        ("messages", {"messages": [ANSWER, ASK], "reasoning": "Easy.", "answer": "4"}),
    ],
)
def test_it_stays_where_it_says_nothing_of_one_answer(container: str, record: Any) -> None:
    assert with_answer(record, container) == (record, frozenset())


def call_of(record: Any, *ignored: str) -> Call | str:
    """Return the call in a record, without its notes, or the reason for which it is refused."""
    try:
        reading = Reading(ignored=ignored_fields(ignored))
        (call,) = read_calls(Record("x", json.dumps(record).encode()), reading)
    except RecordError as error:
        return error.reason
    assert call.conversation
    return replace(call, notes={}, conversation=replace(call.conversation, notes={}))


def is_cut(call: Call) -> bool:
    return call.conversation is not None and not call.conversation.messages[-1].finished


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", TOLD)
def test_a_field_that_is_ignored_is_as_if_it_were_not_there(holder: str, name: str) -> None:
    record, bare = HOLDERS[holder]({name: TOLD[name]}), call_of(HOLDERS[holder]({}))
    told = call_of(record)
    assert told == "weight" if isinstance(told, str) else is_cut(told)
    assert call_of(record, holder + name) == bare
    if name == "metadata":
        inside = call_of(record, f"{holder}metadata.finish_reason")
        assert not isinstance(inside, str)
        assert not is_cut(inside)


@pytest.mark.parametrize("name", ["finish_reasons", "generations"])
def test_how_each_generation_ended_can_be_ignored(name: str) -> None:
    record = {"messages": [ASK, ANSWER], "generations": ["4", "5"]}
    line = json.dumps(record | {"finish_reasons": ["length", "stop"]}).encode()
    told, left = (
        parse_line(line, "x", reading=Reading(ignored=ignored_fields(each)))
        for each in ([], [name])
    )
    assert [each.messages[-1].finished for each in (told, left)] == [False, True]


def test_each_field_is_told() -> None:
    assert {*TOLD} == OF_THE_END | {"metadata"}


@pytest.mark.parametrize("held", ["calls", "steps"])
def test_how_a_list_of_calls_ended_is_how_its_last_call_did(held: str) -> None:
    each = {"messages": [ASK], "response": "4"}
    line = json.dumps({held: [each, each], "termination_reason": "max_response_length_exceeded"})
    calls = read_calls(Record("x", line.encode()))
    assert [is_cut(call) for call in calls] == [False, True]
