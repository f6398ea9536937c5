"""Fields at any level of a record: read, left out or renamed by their dotted names."""

from __future__ import annotations

import pytest
from logged import ASK, one, read, refused
from refused_calls import IDS

from reasonpack.records.options import ignored_fields, renamed_fields
from reasonpack.records.reading import Reading


@pytest.mark.parametrize("name", ["system_prompt", "system_message", "developer"])
def test_a_system_text_under_another_name_is_refused_and_can_be_read(name: str) -> None:
    record = {"input": [ASK], "output": "4", name: "Be brief."}
    assert f"--field {name}=system" in refused(record).fix
    (call,) = read(record, Reading(renamed=renamed_fields([f"{name}=system"])))
    assert call.conversation
    assert call.conversation.messages[0].content == "Be brief."


def test_a_field_that_is_read_can_be_left_out() -> None:
    ignored = ignored_fields(["record.loss_mask", "advantages"])
    said = one({**IDS, "loss_mask": [1], "advantages": [1]}, Reading(ignored=ignored))
    assert set(said["notes"]) == {"left-out loss_mask", "left-out advantages"}


def test_a_sequence_is_parted_by_its_length() -> None:
    record = {"tokens": [1, 2, 3, 4], "response_length": 3, "rollout_log_probs": [-1, -2, -3]}
    said = one({**record, "prompt": "", "response": "", "status": "completed", "reward": 0.5})
    assert (said["prompt_ids"], said["completion_ids"]) == ([1], [2, 3, 4])
    assert one({"tokens": [1], "response_length": 0})["completion_ids"] == []


def test_options_that_name_fields_lead_out() -> None:
    record = {"calls": [{**IDS, "adv": [1, 2, 3], "reward": {"a": 2}, "extra": {"w": 3}}]}
    assert refused(record).reason == "unknown-field"
    names = {"calls.adv": "advantages", "calls.reward.a": "reward", "calls.extra.w": "weight"}
    said = one(record, Reading(renamed=names))
    assert said["advantages"] == [1, 2, 3]
    assert (said["reward"], said["weight"]) == (2.0, 3.0)
    assert set(said["notes"]) == {f"renamed {name}" for name in names}
    left = one(
        {**IDS, "masks": [1], "logprobs": [1]}, Reading(ignored=frozenset(["masks", "logprobs"]))
    )
    assert left["notes"] == {"left-out masks": 1, "left-out logprobs": 1}
    assert "logprobs" not in left
