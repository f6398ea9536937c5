"""Items of OpenAI's Responses: what is one answer, and what must be refused."""

from __future__ import annotations

from typing import Any

import pytest
from packed_twice import Json

from reasonpack.verify.chat import Message, Reading, Refused
from reasonpack.verify.reader import read_chat

ASK = {"role": "user", "content": [{"type": "input_text", "text": "And?"}]}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": text} for text in ("A", ".")],
}
SAID = {
    "type": "message",
    "id": "msg_1",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "B", "annotations": []}],
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "status": "completed",
    "name": "f",
    "arguments": '{"a": 1}',
}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "R"}
MADE = {"type": "function", "id": "c1", "function": {"name": "f", "arguments": {"a": 1}}}


def read(*messages: Json, **reading: Any) -> list[Message]:
    return list(read_chat({"messages": list(messages)}, Reading(**reading)).messages)


def test_items_of_one_answer_are_one_message() -> None:
    _, answer, result, last = read(ASK, THOUGHT, SAID, CALL, CALL, RESULT, SAID)
    assert (answer.reasoning, answer.content, answer.calls) == ("A.", "B", (MADE, MADE))
    assert (result.role, result.content, result.more) == ("tool", "R", {"tool_call_id": "c1"})
    assert (last.content, last.calls, last.trained) == ("B", (), True)
    assert [each.source for each in (answer, result, last)] == [1, 5, 6]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([CALL], ("", "", 1, False)),
        ([THOUGHT], ("A.", "", 0, True)),
        ([THOUGHT, CALL], ("A.", "", 1, False)),
        ([SAID, CALL], ("", "B", 1, False)),
        ([THOUGHT, {"role": "assistant", "content": "B"}], ("A.", "B", 0, False)),
        ([{**CALL, "arguments": {}}], ("", "", 1, False)),
        ([{**SAID, "status": "incomplete"}], ("", "B", 0, True)),
        ([THOUGHT, {**SAID, "status": "incomplete"}], ("A.", "B", 0, True)),
    ],
)
def test_answers_of_items(items: list[Json], expected: tuple[Any, ...]) -> None:
    (answer,) = read(ASK, *items)[1:]
    assert (answer.reasoning, answer.content, len(answer.calls), answer.cut) == expected


def test_a_call_may_lack_its_own_name() -> None:
    (call,) = read(ASK, {**CALL, "call_id": None})[1].calls
    assert call["id"] == "fc_1"


def test_flags_and_further_fields_are_of_the_message() -> None:
    answer = read(ASK, {**THOUGHT, "train": False}, {**SAID, "train": False})[1]
    assert not answer.trained
    plan = read(ASK, {**THOUGHT, "plan": "P"}, SAID, template="{{ m.plan }}")[1]
    assert plan.more["plan"] == "P"


@pytest.mark.parametrize(
    "items",
    [
        [SAID, THOUGHT],
        [THOUGHT, THOUGHT],
        [CALL, SAID],
        [SAID, SAID, CALL],
        [THOUGHT, {**SAID, "reasoning": "A."}],
        [THOUGHT, {**SAID, "train": False}],
        [{**THOUGHT, "content": []}, SAID],
        [{"type": "reasoning", "encrypted_content": "x"}, SAID],
        [{"type": "reasoning", "content": [{"type": "summary_text", "text": "A"}]}, SAID],
        [{"type": "web_search_call"}, SAID],
        [{**CALL, "arguments": "x"}],
    ],
)
def test_items_that_no_message_can_show(items: list[Json]) -> None:
    with pytest.raises(Refused):
        read(ASK, *items)


def test_items_in_a_prompt_are_context() -> None:
    record = {"prompt": [ASK, THOUGHT, SAID, ASK], "completion": [{**SAID, "train": True}]}
    chat = read_chat(record, Reading())
    assert [each.trained for each in chat.messages] == [False, False, False, True]
    assert [each.source for each in chat.messages] == [0, 1, 3, 4]
