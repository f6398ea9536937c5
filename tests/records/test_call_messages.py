"""The messages of a call: its prompt, and its answer once."""

from __future__ import annotations

from typing import Any

import pytest
from logged import ANSWER, ASK, SAID, one, read, refused
from refused_calls import IDS

from reasonpack.errors import RecordError
from reasonpack.records.calls import read_calls
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record


def test_only_the_answer_is_to_be_trained() -> None:
    (call,) = read({"messages": [ASK, {**ANSWER, "content": "Four."}, ASK], "response": ANSWER})
    assert call.conversation
    assert [m.train for m in call.conversation.messages if m.role == "assistant"] == [False, True]


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ([ASK, ANSWER], "answer-in-prompt"),
        ([ASK, {"role": "assistant", "content": "4"}], "answer-in-prompt"),
        ([ASK, {"role": "assistant", "content": "<think>Easy.</think>4"}], "answer-in-prompt"),
    ],
)
def test_a_prompt_that_holds_its_own_answer_holds_it_once(prompt: Any, note: str) -> None:
    said = one({"messages": prompt, "response": ANSWER})
    assert said == {"id": "x:1", "messages": SAID, "notes": {note: 1}}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_text_beside_messages_that_begin_with_another_comes_first(role: str) -> None:
    request = {"instructions": "Add.", "input": [{"role": role, "content": "Be brief."}, ASK]}
    record = {"request": request, "response": {"output": [{"type": "message", **ANSWER}]}}
    both = [("system", "Add."), ("system", "Be brief."), *SAID]
    assert one(record, Reading(roles={"developer": "system"}))["messages"] == both
    request["input"][1] = {"role": "user", "content": 4}
    assert refused(record).path == "request.input[1].content"


def test_a_flag_of_the_answer_is_that_of_the_call() -> None:
    answer = {**ANSWER, "train": False}
    assert not one({"messages": [ASK], "response": answer})["trained"]
    assert not one({**IDS, "messages": [ASK], "response": answer})["trained"]
    assert not one({**IDS, "prompt": "<|user|>2+2?", "response": answer})["trained"]
    assert one({**IDS, "messages": [ASK], "response": {**ANSWER, "train": 1}}).get("trained", True)
    unread = {**answer, "value": "5"}
    assert not one({**IDS, "messages": [ASK], "response": unread})["trained"]
    assert not one({**IDS, "messages": [ASK, unread]})["trained"]


def test_the_same_answer_for_another_reason_is_another_answer() -> None:
    said = one({"messages": [ASK, {**ANSWER, "reasoning_content": "Hm."}], "response": ANSWER})
    assert said["messages"] == [SAID[0], ("assistant", "4", "Hm."), SAID[1]]


def test_an_answer_may_be_the_last_of_the_messages() -> None:
    said = one({"messages": [ASK, ANSWER], "group": "g"})
    assert said == {"id": "x:1", "messages": SAID, "notes": {"answer-in-messages": 1}}


def test_another_answer_before_the_last_one_is_context() -> None:
    said = one({"messages": [ASK, {"role": "assistant", "content": "5"}], "response": ANSWER})
    assert said["messages"] == [("user", "2+2?"), ("assistant", "5"), ("assistant", "4", "Easy.")]


def test_messages_count_in_what_was_logged() -> None:
    (call,) = read({"system": "Add.", "messages": [ASK, ANSWER], "response": ANSWER})
    assert call.conversation
    assert [m.role for m in call.conversation.messages] == ["system", "user", "assistant"]
    assert call.conversation.sources == (0, 1, 3)


def test_a_flag_of_the_history_does_not_train_it() -> None:
    record = {"messages": [ASK, {**ANSWER, "train": True}, ASK], "response": ANSWER}
    (call,) = read(record)
    assert call.conversation
    assert not call.conversation.messages[1].train
    assert call.notes == {"history-flag": 1}


@pytest.mark.parametrize("name", ["arguments", "args", "input", "parameters"])
def test_nulls_of_a_row_are_kept_under_any_name_of_arguments(name: str) -> None:
    """Whether they were written cannot be known: they are no fields that may be left out."""
    call = {"name": "f", name: {"a": None}}
    item = {"type": "function_call", "name": "f", "arguments": {"a": None}}
    block = {"type": "tool_use", "name": "f", "input": {"a": None}}
    role = {"role": "assistant"}
    for row in (
        {"messages": [ASK], "response": {**role, "content": None, "tool_calls": [call]}},
        {"messages": [ASK], "response": {**role, "tool_calls": [{"function": call}]}},
        {"messages": [ASK], "response": {"choices": [{"message": {**role, "tool_calls": [call]}}]}},
        {"messages": [ASK], "response": {**role, "content": [block]}},
        {"messages": [ASK], "response": {**role, "value": [block]}},
        {"messages": [ASK, item, ASK], "response": {**role, "content": "4"}},
    ):
        with pytest.raises(RecordError, match="--null-arguments"):
            read_calls(Record("x:1", b"", row))
