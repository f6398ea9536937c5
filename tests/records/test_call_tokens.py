"""What a log says of the tokens of a call: ids, masks and values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from logged import ANSWER, ASK, SAID, one, read, shown
from refused_calls import IDS

from reasonpack.errors import RecordError
from reasonpack.records.calls import read_calls
from reasonpack.records.unit import Record

CUT = [
    ("status", "truncated"),
    ("truncated", True),
    ("is_truncated", True),
    ("stop_reason", "length"),
]
WHOLE = [("status", "completed"), ("truncated", False), ("error", False), ("error", 0.5)]


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


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"loss_mask": [1, 0, 1]}, {"loss_mask": [True, False, True]}),
        ({"loss_mask": [0, 0, 1, 0, 1]}, {"loss_mask": [True, False, True]}),
        ({"response_mask": [True, False, True]}, {"loss_mask": [True, False, True]}),
        ({"loss_mask": 1}, {"loss_mask": [True] * 3}),
        ({"loss_mask": [0, 0, 0]}, {"loss_mask": [False] * 3, "trained": False}),
        ({"advantages": [0.5, -1, 0]}, {"advantages": [0.5, -1.0, 0.0]}),
        ({"log_probs": [-1, -2, 0.001]}, {"logprobs": pytest.approx([-1, -2, 0.001])}),
        (
            {"logprobs": [-1, None, -2], "loss_mask": [1, 0, 1]},
            {"logprobs": [-1, 0, -2], "loss_mask": [True, False, True]},
        ),
        ({"train": False}, {"trained": False}),
        ({"weight": 0}, {"weight": 0.0, "trained": False}),
        ({"loss_weight": 0.5}, {"weight": 0.5}),
        ({"loss_multiplier": 0.5}, {"weight": 0.5}),
        ({"loss_multiplier": 0.0}, {"weight": 0.0, "trained": False}),
        *(({name: value}, {"notes": {"cut-off": 1}}) for name, value in CUT),
        *(({name: value}, {}) for name, value in WHOLE),
        ({"is_copied_context": True}, {"trained": False, "notes": {"copied-context": 1}}),
        ({"score": 3}, {"notes": {"unread score": 1}}),
        ({"logprobs": None, "advantages": None, "loss_mask": None, "tools": []}, {}),
    ],
)
def test_what_is_said_of_tokens(fields: Any, expected: Any) -> None:
    usual = {"id": "x:1", "prompt_ids": [5, 6], "completion_ids": [7, 8, 2]}
    assert one({**IDS, **fields}) == {**usual, **expected}


def test_an_advantage_without_ids_holds_for_the_whole_completion() -> None:
    record = {"messages": [ASK], "response": ANSWER, "advantage": -2}
    assert one(record) == {"id": "x:1", "messages": SAID, "advantages": [-2.0]}


def test_log_probabilities_without_ids_are_counted() -> None:
    said = one({"messages": [ASK], "response": ANSWER, "logprobs": {"content": []}})
    assert said["notes"] == {"unread logprobs": 1}


def test_ids_and_messages_are_both_kept() -> None:
    said = one({**IDS, "messages": [ASK], "response": ANSWER})
    assert said["messages"] == SAID
    assert said["completion_ids"] == [7, 8, 2]


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"prompt": "<|user|>2+2?", "response": "4"}, "text-not-compared"),
        ({"messages": [ASK]}, "no-answer-text"),
        (
            {"messages": [ASK], "response": {"role": "assistant", "content": 4}},
            "text-not-read type",
        ),
    ],
)
def test_ids_stand_where_messages_do_not(fields: Any, note: str) -> None:
    said = one({**IDS, **fields})
    assert "messages" not in said
    assert said["completion_ids"] == [7, 8, 2]
    assert said["notes"] == {note: 1}


def test_null_keys_of_a_row_are_no_fields() -> None:
    row = {**IDS, "messages": None, "response": None, "logprobs": None, "reward": None}
    (call,) = read_calls(Record("x:1", b"", row))
    assert shown(call) == {"id": "x:1", "prompt_ids": [5, 6], "completion_ids": [7, 8, 2]}
    with pytest.raises(RecordError, match="got nan, expected a finite number"):
        read_calls(Record("x:1", b"", {**IDS, "logprobs": [-1.0, float("nan"), -1.0]}))
    nulls = {"name": "f", "arguments": {"a": None}}
    answer = {"role": "assistant", "content": None, "tool_calls": [nulls]}
    with pytest.raises(RecordError, match="--null-arguments"):
        read_calls(Record("x:1", b"", {"messages": [ASK], "response": answer}))


def test_nan_is_no_number_of_a_line() -> None:
    line = b'{"prompt_ids": [5], "completion_ids": [7], "logprobs": [NaN]}'
    with pytest.raises(RecordError, match="NaN is no JSON number"):
        read_calls(Record("x:1", line))
