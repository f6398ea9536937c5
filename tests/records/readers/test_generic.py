"""What looks like a request and its response, in any place; and several answers of one record."""

from __future__ import annotations

import json
from typing import Any

import pytest
from logged import ANSWER, ASK, SAID, one, read, refused, shown
from refused_calls import IDS


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASK], "response": ANSWER},
        {"messages": [ASK], "completion": ANSWER},
        {"prompt": [ASK], "completion": [ANSWER]},
        {"prompt": "2+2?", "response": ANSWER},
        {"messages": [ASK], "response": "<think>Easy.</think>4"},
        {"messages": [ASK], "response": "4", "reasoning_content": "Easy."},
        {"input": [ASK], "output": "4", "reasoning_content": "Easy.", "thinking": None},
        {"messages": [ASK], "choices": [{"message": ANSWER}]},
        {"messages": [ASK], "response": {"choices": [{"index": 0, "message": ANSWER}]}},
        {"request": {"messages": [ASK]}, "response": {"choices": [{"message": ANSWER}]}},
        {"request": {"body": {"messages": [ASK]}}, "response": {"body": {"choices": [
            {"message": ANSWER}]}}},
        {"request": json.dumps({"messages": [ASK]}), "response": ANSWER},
        {"request": json.dumps({"messages": [ASK]}), "response": json.dumps(
            {"object": "chat.completion", "choices": [{"message": ANSWER}]})},
        {"messages": json.dumps([ASK]), "response": json.dumps(ANSWER)},
        {"request": {"body": json.dumps({"messages": [ASK]})}, "response": {"body": json.dumps(
            {"choices": [{"message": ANSWER}]})}},
        {"request": {"messages": [ASK]}, "response": {"message": ANSWER}},
        {"input": [ASK], "output": ANSWER},
        {"input": [ASK], "output": [{"index": 0, "message": ANSWER, "finish_reason": "stop"}]},
        {"input": {"messages": [ASK]}, "output": {"choices": [{"message": ANSWER}]}},
        {"messages": [ASK], "candidates": [{"message": ANSWER}]},
        {"messages": [ASK], "group": "g", "response": ANSWER, "metadata": {"a": 1}},
    ],
)  # fmt: skip
def test_one_answer_in_any_place(record: Any) -> None:
    assert one(record) == {"id": "x:1", "messages": SAID}


def test_several_answers_are_several_calls() -> None:
    choices = [
        {"message": ANSWER, "token_ids": [7], "logprobs": {"content": [{"logprob": -1}]}},
        {"message": {**ANSWER, "content": "5"}, "token_ids": [8, 9], "logprobs": None},
    ]
    response = {"id": "chatcmpl-1", "prompt_token_ids": [5], "choices": choices}
    first, second = read({"request": {"messages": [ASK]}, "response": response})
    assert (first.id, second.id) == ("chatcmpl-1#0", "chatcmpl-1#1")
    assert shown(first) == {
        "id": "chatcmpl-1#0",
        "messages": SAID,
        "prompt_ids": [5],
        "completion_ids": [7],
        "logprobs": [-1.0],
    }
    assert shown(second)["completion_ids"] == [8, 9]


def test_a_pair() -> None:
    chosen, rejected = read({"messages": [ASK], "chosen": [ASK, ANSWER], "rejected": "5", "id": 1})
    assert (chosen.role, rejected.role) == ("chosen", "rejected")
    other = {"role": "assistant", "content": "5"}
    assert list(map(shown, read({"chosen": [ASK, ANSWER], "rejected": [ASK, other], "id": 1}))) == [
        shown(chosen),
        shown(rejected),
    ]
    assert (chosen.id, rejected.id) == ("1#0", "1#1")
    assert shown(chosen)["messages"] == SAID


def test_candidates_each_with_what_is_known_of_it() -> None:
    found = read({"messages": [ASK], "candidates": [
        {"message": ANSWER, "reward": 1, "weight": 0.5}, "5",
        {"response": {"choices": [{"message": ANSWER}]}, "advantage": -1, "id": "c"},
    ]})  # fmt: skip
    assert [(c.reward, c.weight) for c in found] == [(1.0, 0.5), (None, 1.0), (None, 1.0)]
    assert [c.id for c in found] == ["x:1#0", "x:1#1", "c#2"]


def test_the_calls_of_a_group_have_what_is_said_of_it() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    own = [{"type": "function", "function": {"name": "g"}}]
    first, second = read({"id": "g", "tools": tools, "reward": 1, "system": "Add.", "calls": [
        {"messages": [ASK], "response": ANSWER},
        {"id": "b", "request": {"messages": [ASK], "tools": own}, "reward": 0, "response": ANSWER},
    ]})  # fmt: skip
    assert (first.id, second.id) == ("x:1#0", "b")
    assert (first.reward, second.reward) == (1.0, 0.0)
    assert first.conversation
    assert second.conversation
    assert first.conversation.tools == tuple(tools)
    assert second.conversation.tools == tuple(own)
    assert second.conversation.messages[0].content == "Add."


def test_an_error_in_a_group_says_where() -> None:
    error = refused({"calls": [{**IDS}, {**IDS, "logprobs": [1]}]})
    assert error.path == "calls[1].logprobs"
    error = refused({"calls": [{**IDS, "step_weights": [1]}, {**IDS}]})
    assert "--ignore-fields calls.step_weights" in error.fix
