"""Records of a log become calls: what was asked, what was answered, what is known of its tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, group_of, read_calls
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.unit import Record

ASK = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4", "reasoning_content": "Easy."}
IDS = {"prompt_token_ids": [5, 6], "completion_token_ids": [7, 8, 2]}


def read(record: Any, reading: Reading = DEFAULT) -> list[Call]:
    """Read a record as a line, and as a row, which has to give the same."""
    calls = read_calls(Record("x:1", json.dumps(record).encode()), reading)
    rows = read_calls(Record("x:1", b"", record), reading)
    assert list(map(shown, calls)) == list(map(shown, rows))
    return calls


def refused(record: Any, reading: Reading = DEFAULT) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read_calls(Record("x:1", json.dumps(record).encode()), reading)
    error = caught.value
    assert error.where == "x:1"
    assert "expected" in error.what
    assert error.fix
    return error


def shown(call: Call) -> dict[str, Any]:
    """Return what is there of a call, without what is usual."""
    said: dict[str, Any] = {"id": call.id}
    if call.conversation:
        messages = call.conversation.messages
        said["messages"] = [
            (m.role, m.content) + ((m.reasoning,) if m.reasoning else ()) for m in messages
        ]
    for name in ("prompt_ids", "completion_ids", "logprobs", "advantages", "loss_mask"):
        if (value := getattr(call, name)) is not None:
            said[name] = value.tolist()
    usual = {"reward": None, "weight": 1.0, "role": "none", "trained": True, "notes": {}}
    for name, value in usual.items():
        if getattr(call, name) != value:
            said[name] = getattr(call, name)
    return said


def one(record: Any, reading: Reading = DEFAULT) -> dict[str, Any]:
    (call,) = read(record, reading)
    return shown(call)


SAID = [("user", "2+2?"), ("assistant", "4", "Easy.")]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASK], "response": ANSWER},
        {"messages": [ASK], "completion": ANSWER},
        {"prompt": [ASK], "completion": [ANSWER]},
        {"prompt": "2+2?", "response": ANSWER},
        {"messages": [ASK], "response": "<think>Easy.</think>4"},
        {"messages": [ASK], "response": "4", "reasoning_content": "Easy."},
        {"messages": [ASK], "choices": [{"message": ANSWER}]},
        {"messages": [ASK], "response": {"choices": [{"index": 0, "message": ANSWER}]}},
        {"request": {"messages": [ASK]}, "response": {"choices": [{"message": ANSWER}]}},
        {"request": {"body": {"messages": [ASK]}}, "response": {"body": {"choices": [
            {"message": ANSWER}]}}},
        {"request": json.dumps({"messages": [ASK]}), "response": ANSWER},
        {"messages": [ASK], "candidates": [{"message": ANSWER}]},
        {"messages": [ASK], "group": "g", "response": ANSWER, "metadata": {"a": 1}},
    ],
)  # fmt: skip
def test_one_answer_in_any_place(record: Any) -> None:
    assert one(record) == {"id": "x:1", "messages": SAID}


def test_only_the_answer_is_to_be_trained() -> None:
    (call,) = read({"messages": [ASK, {**ANSWER, "content": "Four."}, ASK], "response": ANSWER})
    assert call.conversation
    assert [m.train for m in call.conversation.messages if m.role == "assistant"] == [False, True]


def test_tokens_as_logged() -> None:
    record = {**IDS, "logprobs": [-0.5, -1, 0], "advantage": 0.5, "reward": 1, "weight": 2}
    (call,) = read(record)
    assert shown(call) == {
        "id": "x:1",
        "prompt_ids": [5, 6],
        "completion_ids": [7, 8, 2],
        "logprobs": [-0.5, -1.0, 0.0],
        "advantages": [0.5, 0.5, 0.5],
        "reward": 1.0,
        "weight": 2.0,
    }
    assert call.prompt_ids is not None
    assert call.prompt_ids.dtype == np.int32


def test_groups() -> None:
    assert group_of({"a": {"b.c": 7}}, "a.b.c") == "7"
    assert group_of({"a": {"b": ""}}, "a.b") is None
    assert group_of({"a": 3}, "a.b") is None
    with pytest.raises(RecordError, match=r"a\.b: got true or false, expected a string or an int"):
        group_of({"a": {"b": True}}, "a.b")


def test_nothing_is_refused_without_a_way_out() -> None:
    assert refused({"messages": [ASK]}).reason == "missing"
