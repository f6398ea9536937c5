"""Fields at any level of a record: read, left out or renamed by their dotted names."""

from __future__ import annotations

from typing import Any

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
    assert set(said["notes"]) == {"left-out record.loss_mask", "left-out advantages"}


def test_what_is_left_out_is_noted_as_the_option_names_it() -> None:
    """By the note a run finds out whether the option made a difference."""
    said = one({**IDS, "reward": 1}, Reading(ignored=ignored_fields(["record.reward"])))
    assert said["notes"] == {"left-out record.reward": 1}


CALL = {"messages": [ASK], "response": "4"}


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({"tokens": {"prompt_ids": [5], "completion_ids": [7]}}, ["prompt_ids", "completion_ids"]),
        ({"info": {"token_ids": [7]}}, ["token_ids"]),
        ({"reply": {"output_tokens": [7]}}, []),
        ({"meta_info": {"output_token_logprobs": [[-0.5, 7, None]]}}, []),
        ({"trajectory": [{"tokens": {"completion_logprobs": [-0.5]}}]}, []),
    ],
)
def test_values_of_tokens_in_an_object_that_nothing_reads_are_refused(
    record: dict[str, Any], names: list[str]
) -> None:
    """Text would be encoded again although its ids were logged."""
    error = refused({**CALL, **record})
    (key,) = record
    assert error.reason == "unknown-field"
    read = [f"{key}.{name}={name}" for name in names]
    assert all(f"--field {each}" in error.fix for each in read)
    assert names or "write it next to the ids of the call" in error.fix
    assert one({**CALL, **record}, Reading(ignored=frozenset([key])))


@pytest.mark.parametrize(
    ("name", "known", "value"),
    [("rewards", "reward", 3), ("advantge", "advantage", 0.5), ("wieght", "weight", 2)],
)
def test_a_number_under_a_misspelt_name_of_credit_is_refused(
    name: str, known: str, value: float
) -> None:
    record = {**CALL, name: value}
    assert f"--field {name}={known}" in refused(record).fix
    said = one(record, Reading(renamed=renamed_fields([f"{name}={known}"])))
    assert said["notes"] == {f"renamed {name}": 1}


@pytest.mark.parametrize(
    "record",
    [
        {"height": 3, "response_cost": 0.5, "trained": True, "reward_model_score": 1},
        {"usage": {"completion_tokens": 3}},
        {"sampling_params": {"logprobs": 0, "stop_token_ids": [7]}},
        {"info": {"scores": [0.5, 1], "steps": [{"reward": 1, "box": [1, 2]}]}},
    ],
)
def test_other_numbers_in_an_object_are_only_noted(record: dict[str, Any]) -> None:
    (call,) = read({**CALL, **record})
    assert call.trained


def test_a_sequence_is_parted_by_its_length() -> None:
    record = {"tokens": [1, 2, 3, 4], "response_length": 3, "rollout_log_probs": [-1, -2, -3]}
    said = one({**record, "prompt": "", "response": "", "status": "completed", "reward": 0.5})
    assert (said["prompt_ids"], said["completion_ids"]) == ([1], [2, 3, 4])
    assert one({"tokens": [1], "response_length": 0})["completion_ids"] == []


def test_outputs_of_vllm_are_read_as_choices() -> None:
    """As `LLM.generate` returns them: the prompt's ids, and several outputs with ids."""
    outputs = [
        {"index": i, "text": "4", "token_ids": [7, i], "finish_reason": "stop"} for i in range(2)
    ]
    record = {"request_id": "0", "prompt_token_ids": [5, 6], "outputs": outputs, "finished": True}
    calls = read(record, Reading(renamed=renamed_fields(["outputs=choices"])))
    assert [(each.prompt_ids.tolist(), each.completion_ids.tolist()) for each in calls] == [
        ([5, 6], [7, 0]),
        ([5, 6], [7, 1]),
    ]


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
