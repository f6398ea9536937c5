"""Logs of services, gateways and trainers become the same calls, whatever their shape.

Each file in call_logs has the fields of one format, with text and ids of our own.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from logged import shown

from reasonpack.errors import RecordError
from reasonpack.records.call_formats import format_of
from reasonpack.records.calls import Call, read_calls, read_session
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.unit import Record

LOGS = Path(__file__).parent / "call_logs"
SYSTEM = ("system", "You watch a harbour.")
ASKED = ("user", "How many boats lie in the east harbour?")
CALLED = ("assistant", None, "I have to count them.")
SAID = ("assistant", "Twelve boats.", "The tool says 12.")
TURNS = [
    [SYSTEM, ASKED, CALLED],
    [SYSTEM, ASKED, CALLED, ("tool", "12"), SAID],
]
"""What the model saw and wrote in the two calls that most of the logs hold."""


def records(name: str) -> list[Any]:
    return [json.loads(line) for line in (LOGS / f"{name}.jsonl").read_text("utf-8").splitlines()]


def read(record: Any, reading: Reading = DEFAULT) -> list[Call]:
    return read_calls(Record("x:1", json.dumps(record).encode()), reading)


def calls(name: str) -> list[Call]:
    return [call for record in records(name) for call in read(record)]


FORMATS = {
    "anthropic": "calls",
    "litellm": "litellm",
    "nemo_gym_entries": "nemo-gym",
    "nemo_gym_rollouts": "nemo-gym",
    "openai": "calls",
    "openrouter": "calls",
    "responses": "calls",
    "verifiers": "verifiers",
    "verifiers_rollouts": "verifiers",
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_known_by_its_shape(name: str) -> None:
    assert {format_of(record) for record in records(name)} == {FORMATS[name]}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [{"role": "user"}, {"role": "assistant"}]}, "chat"),
        ({"conversations": [{"from": "human"}, {"from": "gpt"}], "response": "4"}, "chat"),
        ({"messages": [{"role": "user"}, {"role": "assistant"}], "response": "4"}, "chat"),
        ({"prompt": "2+2?", "completion": "4"}, "chat"),
        ({"instruction": "2+2?", "input": "", "output": "4"}, "chat"),
        ({"text": "4"}, "chat"),
        ({"messages": [{"role": "user"}], "response": "4"}, "calls"),
        ({"messages": [{"role": "assistant"}], "tokens": [5], "response_length": 1}, "calls"),
        (
            {
                "messages": [{"role": "user"}, {"role": "assistant"}],
                "response": {"choices": [{"message": {"role": "assistant", "content": "4"}}]},
            },
            "calls",
        ),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "calls"),
        ({"prompt": "2+2?", "completion": "4", "prompt_ids": [1], "completion_ids": []}, "calls"),
        ({"calls": [{"messages": [{"role": "user"}], "response": "4"}]}, "calls"),
    ],
)
def test_chats_and_calls_are_told_apart(record: Any, expected: str) -> None:
    assert format_of(record) == expected


def test_a_record_of_two_shapes_is_refused() -> None:
    with pytest.raises(RecordError, match="the shape of litellm and of verifiers, expected that"):
        read({**records("litellm")[0], **records("verifiers")[0]["traces"][0]})


@pytest.mark.parametrize("name", ["anthropic", "litellm", "openai", "openrouter", "responses"])
def test_the_same_calls_from_each_service(name: str) -> None:
    first, second = calls(name)[:2]
    for call, turn in zip((first, second), TURNS, strict=True):
        assert shown(call)["messages"] == turn
        assert call.trained
        assert not call.notes
        assert call.conversation
        (tool,) = call.conversation.tools or ()
        assert tool["function"]["name"] == "count_boats"
        called = [c for m in call.conversation.messages for c in m.tool_calls]
        assert [(c.name, c.arguments) for c in called] == [("count_boats", {"harbour": "east"})]
    assert len({first.id, second.id}) == 2


ASKED: Any = {"role": "user", "content": "2+2?"}
EMPTY: dict[str, tuple[Any, str]] = {
    "a choice": ({"messages": [ASKED], "choices": [{"message": {"content": None}}]}, "empty-gen"),
    "cut off at once": ({"messages": [ASKED], "choices": [
        {"message": {"content": ""}, "finish_reason": "length"}]}, "nothing-written"),
    "Anthropic": ({"messages": [ASKED], "response": {"type": "message", "content": []}}, "empty-g"),
    "an item": ({"input": "2+2?", "response": {"output": [
        {"type": "message", "role": "assistant", "content": []}]}}, "empty-generation"),
    "no item": ({"input": "2+2?", "response": {"output": []}}, "failed-call"),
    "a rollout": ({"responses_create_params": {"input": "2+2?"}, "response": {"output": []}},
                  "no-call"),
    "a node": ({"nodes": [{"message": ASKED}, {"parent": 0, "sampled": True, "message": {
        "role": "assistant", "content": ""}}]}, "empty-generation"),
    "no node": ({"nodes": [{"message": ASKED}]}, "no-call"),
    "a step": ({"schema_version": "ATIF-v1.8", "agent": {"tool_definitions": [{"name": "f"}]},
                "steps": [{"source": "system", "message": "a"}, {"source": "agent"}]},
               "empty-generation"),
    "ids": ({"prompt_ids": [5], "completion_ids": []}, "empty-generation"),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_answer_is_counted_once_and_not_trained(name: str) -> None:
    record, note = EMPTY[name]
    (call,) = read(record)
    assert not call.trained
    noted = [each for each in call.notes if each != "bare-tool"]
    assert [each.startswith(note) for each in noted] == [True], call.notes


def test_ids_are_what_was_written_where_a_parser_left_no_text() -> None:
    said = {"role": "assistant", "content": "", "finish_reason": "length"}
    (call,) = read({"messages": [ASKED], "response": said, "prompt_ids": [5], "output_ids": [7]})
    assert (call.trained, [*call.notes]) == (True, ["no-answer-text"])
    (call,) = read({"messages": [ASKED], "response": {**said, "train": False}, "prompt_ids": [5],
                    "output_ids": [7]})  # fmt: skip
    assert not call.trained


def test_a_pair_and_a_sequence_are_calls_by_themselves() -> None:
    pair = [[ASKED, {"role": "assistant", "content": text}] for text in "45"]
    assert format_of({"chosen": pair[0], "rejected": pair[1]}) == "calls"
    assert format_of({"tokens": [5, 7], "response_length": 1}) == "calls"
    assert format_of({"tokens": 7, "messages": pair[0]}) == "chat"


def fields_of(value: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each field in a value, as the object that has it and its name."""
    for name in [*value] if isinstance(value, dict) else ():
        yield value, name
    for each in value.values() if isinstance(value, dict) else value:
        yield from fields_of(each) if isinstance(each, dict | list) else ()


@pytest.mark.long
@pytest.mark.parametrize("other", [[1, {"a": 1}], 5])
@pytest.mark.parametrize("name", sorted(path.stem for path in LOGS.glob("*.jsonl")))
def test_a_field_of_another_type_is_read_or_refused(name: str, other: Any) -> None:
    """No field of a log ends in another error, whatever stands in it."""
    lines = records(name)
    session = name in {"claude_code", "codex", "pi"}
    for found in [lines] if session else [[line] for line in lines]:
        for held, field in [*fields_of(found)]:
            value, held[field] = held[field], other
            written = [Record(f"x:{i}", json.dumps(each).encode()) for i, each in enumerate(found)]
            with contextlib.suppress(RecordError):
                read_session(written) if session else read_calls(written[0])
            held[field] = value
