"""Prompts read one after the other are read as each is by itself."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_record_schema import ANSWER, ASK, CALL, ITEM, MESSAGE

from reasonpack.errors import RecordError
from reasonpack.records.message import read_messages
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.reading import DEFAULT

THOUGHT = {"role": "assistant", "content": None, "reasoning_content": "Hm."}
CALLED = {"role": "assistant", "content": None, "tool_calls": [{"type": "function", **CALL}]}
ONE = st.sampled_from(
    [
        *(ASK, ANSWER, THOUGHT, CALLED, {"role": "tool", "content": "4"}),
        {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'},
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "4"},
        {"role": "user", "content": [{"type": "tool_result", "content": "a"}]},
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": 1, "b": True}}]},
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"b": 1, "a": 1}}]},
        {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": 1, "b": 1}}]},
    ]
)
PROMPTS = st.lists(st.lists(ONE | ONE | MESSAGE | ITEM, max_size=5), min_size=2, max_size=4)


def outcome(read: Any, messages: Any) -> Any:
    try:
        found = read(messages, "prompt", train=False, reading=DEFAULT)
    except RecordError as error:
        return str(error)
    return repr(found.messages), found.sources, {*found.notes}


@pytest.mark.long
@given(PROMPTS, st.data())
def test_a_prompt_is_read_as_by_itself(prompts: list[list[Any]], data: st.DataObject) -> None:
    memo = PromptMemo()
    before: list[Any] = []
    for prompt in prompts:
        kept = data.draw(st.integers(0, len(before)))
        before = [*before[:kept], *copy.deepcopy(prompt)]
        assert outcome(memo.read, before) == outcome(read_messages, before)


SIGNED = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": 0.0}}]}
ORDERED = [ASK, {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": 1, "b": 2}}]}]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([ASK, THOUGHT], [ASK, THOUGHT, CALLED]),
        ([ASK, THOUGHT, CALLED], [ASK, THOUGHT, ASK]),
        ([ASK, ANSWER], [ASK, ANSWER, {"role": "tool_call", "content": '{"name": "f"}'}]),
        ([ASK, SIGNED, ASK], json.loads(json.dumps([ASK, SIGNED, ASK]).replace("0.0", "-0.0"))),
        (
            [*ORDERED, ASK],
            [
                ASK,
                {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"b": 2, "a": 1}}]},
                ASK,
            ],
        ),
        (
            [*ORDERED, ASK],
            [
                ASK,
                {
                    "role": "assistant",
                    "tool_calls": [{"name": "f", "arguments": {"a": True, "b": 2}}],
                },
                ASK,
            ],
        ),
    ],
)
def test_prompts_that_are_nearly_the_same(one: list[Any], other: list[Any]) -> None:
    memo = PromptMemo()
    outcome(memo.read, one)
    assert outcome(memo.read, other) == outcome(read_messages, other)


def test_what_two_prompts_begin_with_is_read_once() -> None:
    memo = PromptMemo()
    how: Any = {"reading": DEFAULT}
    first = memo.read([ASK, ANSWER, ASK], "prompt", **how)
    second = memo.read(copy.deepcopy([ASK, ANSWER, ASK, ANSWER, ASK]), "prompt", **how)
    assert [a is b for a, b in zip(first.messages, second.messages, strict=False)] == [True] * 3
