"""Captured calls and rollouts of NeMo Gym → calls."""

from __future__ import annotations

import pytest
from logged import shown
from test_call_formats import TURNS, calls, read, records

from reasonpack.errors import RecordError


def test_captured_calls_of_nemo_gym() -> None:
    first, second, empty = calls("nemo_gym_entries")
    assert shown(first) == {
        "id": "mc-1",
        "prompt_ids": [10, 11, 12],
        "completion_ids": [20, 21],
        "logprobs": [-0.5, -0.5],
        "notes": {"text-not-compared": 1},
    }
    assert (second.trained, empty.trained) == (True, False)


def test_rollouts_of_nemo_gym() -> None:
    found = calls("nemo_gym_rollouts")
    assert [shown(call)["messages"] for call in found] == TURNS
    assert [shown(call)["prompt_ids"] for call in found] == [
        [10, 11, 12],
        [10, 11, 12, 20, 21, 17],
    ]
    assert [call.reward for call in found] == [1.0, 1.0]
    assert [call.id for call in found] == ["resp_1#0", "resp_1#1"]


def test_items_of_one_answer_are_one_call_and_two_with_ids_are_two() -> None:
    record = records("nemo_gym_rollouts")[0]
    (record["response"]["output"]).pop(2)
    assert len(read(record)) == 2
    del record["response"]["output"][1]["generation_token_ids"]
    with pytest.raises(RecordError, match="in one answer"):
        read({**record, "response": {"output": [
            {k: v for k, v in item.items() if "token_ids" not in k and "log_probs" not in k}
            for item in record["response"]["output"]]}})  # fmt: skip


def test_a_newer_version_of_a_captured_call_is_refused() -> None:
    with pytest.raises(RecordError, match="schema_version: got 2, expected a record of version 1"):
        read({**records("nemo_gym_entries")[0], "schema_version": 2})


def test_reasoning_of_gym_stands_in_a_summary_under_an_id_of_its_own() -> None:
    record = records("nemo_gym_rollouts")[0]
    items = [
        {k: v for k, v in item.items() if "token_ids" not in k and "log_probs" not in k}
        for item in record["response"]["output"]
    ]
    for item in items:
        if item["type"] == "reasoning":
            (part,) = item["content"]
            item |= {"id": f"rs_{'a' * 32}", "content": None}
            item["summary"] = [{"type": "summary_text", "text": part["text"]}]
    record["response"]["output"] = items
    assert [shown(call)["messages"] for call in read(record)] == TURNS
    told = next(item for item in items if item["type"] == "reasoning")
    for change in ({"id": "rs_1"}, {"summary": told["summary"] * 2}, {"encrypted_content": "g"}):
        items[items.index(told)] = told | change
        with pytest.raises(RecordError, match="the text of the reasoning is not there"):
            read(record)
        items[items.index(told | change)] = told


def test_a_rollout_has_any_id_and_may_have_no_response() -> None:
    record = records("nemo_gym_rollouts")[0]
    assert [call.id for call in read({**record, "id": 7})] == ["7#0", "7#1"]
    assert [call.notes for call in read({**record, "response": None})] == [{"no-call": 1}]
