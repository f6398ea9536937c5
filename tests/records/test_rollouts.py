"""Samples as the code of trainers writes them: what their errors say to do leads to right calls.

Each case is a record that is refused, words of the error, and what the error says, done; that may
be refused in turn, for the next case. The last one gives calls: ids of the prompt, then of the
completion where they are trained, and None where they are not.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records.call_formats import CHAT, format_of
from reasonpack.records.calls import read_calls
from reasonpack.records.conversation import parse_line
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record

Json = dict[str, Any]
ASK, ANSWER = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
MORE = [{"role": "tool", "content": "5"}, {"role": "assistant", "content": "9"}]
EACH = "write each sample as a record of its own, with its values from all lists: its ids as prompt"
STEP: Json = {
    "prompt_ids": [5, 6],
    "response_ids": [7, 2],
    "logprobs": [-0.1, -0.2],
    "chat_completions": [ASK, ANSWER],
    "observation": None,
    "thought": "",
    "action": "4",
    "model_response": "4",
    "model_output": None,
    "info": {},
    "reward": 1.0,
    "done": True,
    "mc_return": 1.0,
    "advantage": 0.5,
}
LOGGED: Json = {"observation": "2+2?", "model_response": "4", "chat_completions": [ASK, ANSWER]}
TRAJECTORY: Json = {"uid": "u", "name": "solver", "task": {"question": "2+2?"}, "reward": 1.0}
EPISODE: Json = {"id": "t:0", "termination_reason": "env_done", "is_correct": True, "metrics": {}}
GROUP: Json = {
    "tokens": [[5, 6, 7, 2]],
    "masks": [[-100, -100, 7, 2]],
    "scores": [1.0],
    "overrides": [{"set_advantage_to_zero": True}],
    "messages": None,
    "env_id": 0,
}
DATUM: Json = {
    "model_input": {"chunks": [{"type": "encoded_text", "tokens": [5, 6, 7]}]},
    "loss_fn_inputs": {
        "target_tokens": {"data": [6, 7, 2], "dtype": "int64", "shape": [3]},
        "mask": {"data": [0.0, 1.0, 1.0], "dtype": "float32", "shape": [3]},
    },
}
TRAINED = [([5, 6], [7, 2])]
NOT_TRAINED = "overrides.set_advantage_to_zero: got true, with which it is not trained"
Mend = Callable[[Json], Any]
"""Does to a record what its error says; returns a record, or a list of several."""


def alone(name: str) -> Mend:
    """Write each item of a list as a record of its own, with the other fields of its record."""
    return lambda record: [
        {**{key: value for key, value in record.items() if key != name}, **each}
        for each in record[name]
    ]


def item(number: int) -> Mend:
    """Write one sample of a batch: its value from each list that has one for each sample."""
    return lambda record: {
        name: value[number] if isinstance(value, list) else value for name, value in record.items()
    }


def dropped(name: str) -> Mend:
    """Leave out a field, as --ignore-fields does."""
    return lambda record: {key: value for key, value in record.items() if key != name}


def masked(record: Json) -> Json:
    """Write ids of which -100 stands for those that are not trained as tokens and loss_mask."""
    mask = [int(label != -100) for label in record.pop("masks")]
    return {**record, "response_length": sum(mask), "loss_mask": mask}


def untargeted(record: Json) -> Json:
    """Write ids, targets one place later and flags for these as tokens and loss_mask."""
    targets = record["loss_fn_inputs"]["target_tokens"]["data"]
    ids = [*record["model_input"]["chunks"][0]["tokens"], targets[-1]]
    mask = [0, *record["loss_fn_inputs"]["mask"]["data"]]
    return {"tokens": ids, "response_length": 2, "loss_mask": mask}


def turn(record: Json) -> Json:
    """Write a turn of a trajectory by its prompt and its completion."""
    (each,) = record["transitions"]
    prompt = [id_ for chunk in each["ob"]["chunks"] for id_ in chunk["tokens"]]
    return {"prompt_ids": prompt, "completion_ids": each["ac"]["tokens"], "reward": each["reward"]}


CASES: dict[str, tuple[Json, list[tuple[str, Mend]], Any]] = {
    "an episode": (
        {**EPISODE, "trajectories": [{**TRAJECTORY, "steps": [STEP]}]},
        [("write each of trajectories as a record of its own, with the", alone("trajectories"))],
        TRAINED,
    ),
    "an episode without ids": (
        {**EPISODE, "trajectories": [{**TRAJECTORY, "steps": [
            LOGGED, {**LOGGED, "chat_completions": [ASK, ANSWER, *MORE]}]}]},
        [
            ("write each of trajectories as a record of its own, with", alone("trajectories")),
            (
                "hold for it too, its chat_completions as messages; and pass --input-format calls",
                lambda record: [
                    {**each, "messages": each.pop("chat_completions"), "input-format": "calls"}
                    for each in alone("steps")(record)
                ],
            ),
        ],
        [(1, "4"), (3, "9")],
    ),
    "a batch with an advantage to be 0": (
        GROUP,
        [(EACH, item(0)), (NOT_TRAINED, dropped("overrides")), (EACH, masked)],
        TRAINED,
    ),
    "a batch with messages": (
        {**GROUP, "messages": [[ASK, ANSWER]]},
        [
            ("if 'masks' says which tokens are trained, write that as loss_mask", item(0)),
            (NOT_TRAINED, dropped("overrides")),
            ("if 'masks' says which tokens are trained, write that as loss_mask", masked),
        ],
        TRAINED,
    ),
    "a batch of lists": (
        {"prompt_ids": [[5, 6]], "response_ids": [[7, 2]], "stop_reasons": ["stop"]},
        [("write each sample as a record of its own, with its values from all lists", item(0))],
        TRAINED,
    ),
    "ids and shifted targets": (
        DATUM,
        [("targets are the ids one place later: add the last of them to the ids", untargeted)],
        TRAINED,
    ),
    "turns of ids": (
        {"final_ob": {"chunks": []}, "transitions": [{
            "ob": {"chunks": [{"type": "encoded_text", "tokens": [5, 6]}]},
            "ac": {"tokens": [7, 2], "maybe_logprobs": None}, "reward": 1.0}]},
        [(EACH, turn)],
        TRAINED,
    ),
    "a flag for each token but the first": (
        {"tokens": [5, 6, 7, 2], "response_length": 2, "loss_mask": [0, 1, 1]},
        [(
            "if each flag is for the token after it, put a 0 before them",
            lambda record: {**record, "loss_mask": [0, *record["loss_mask"]]},
        )],
        TRAINED,
    ),
    "log probabilities of none": (
        {"steps": [{**STEP, "logprobs": []}]},
        [(
            "or leave it out",
            lambda record: {"steps": [{**record["steps"][0], "logprobs": None}]},
        )],
        TRAINED,
    ),
    "calls under another name": (
        {"rollout_id": "r", "triplets": [
            {"prompt": {"token_ids": [5, 6]}, "response": {"token_ids": [7, 2]}, "reward": 1.0}]},
        [("write each of triplets as a record of its own", alone("triplets"))],
        TRAINED,
    ),
}  # fmt: skip


def read(record: Json) -> list[Any]:
    """Return of each call the ids of prompt and completion, or how many messages and the answer."""
    line = Record("x", json.dumps(record).encode())
    if format_of(record) == CHAT and "input-format" not in record:
        parse_line(line.line, "x")
        return ["chat"]
    calls = read_calls(line, Reading(ignored=frozenset(["input-format"])))
    assert all(call.trained for call in calls)
    return [
        (len(c.conversation.messages) - 1, c.conversation.messages[-1].content)
        if c.prompt_ids is None and c.conversation
        else (
            c.prompt_ids.tolist(),  # type: ignore[union-attr]
            c.completion_ids[... if c.loss_mask is None else c.loss_mask].tolist(),  # type: ignore[index]
        )
        for c in calls
    ]


@pytest.mark.parametrize("name", CASES)
def test_what_the_error_says_leads_to_right_calls(name: str) -> None:
    record, steps, outcome = CASES[name]
    records = [json.loads(json.dumps(record))]
    for words, mend in steps:
        for each in records:
            with pytest.raises(RecordError) as error:
                read(each)
            assert words in str(error.value)
        mended = [mend(each) for each in records]
        records = [one for each in mended for one in (each if isinstance(each, list) else [each])]
    assert [call for each in records for call in read(each)] == outcome


@pytest.mark.parametrize(
    "of_ids",
    [{"tokens": [], "response_length": 0}, {"prompt_ids": [], "response_ids": [], "logprobs": []}],
)
@pytest.mark.parametrize(
    "of_text",
    [{"prompt": "2+2?", "response": "4"}, {"messages": [ASK, ANSWER], "input-format": "calls"}],
)
def test_lists_of_no_ids_are_none(of_ids: Json, of_text: Json) -> None:
    assert read({**of_ids, **of_text}) == [(1, "4")]
