"""Logs of services, gateways and trainers become the same calls, whatever their shape.

Each file in call_logs has the fields of one format, with text and ids of our own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_calls import shown

from reasonpack.errors import RecordError
from reasonpack.records.call_formats import format_of
from reasonpack.records.calls import Call, read_calls
from reasonpack.records.formats import foreign
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.unit import Record

LOGS = Path(__file__).parent / "call_logs"
SYSTEM = ("system", "You watch a harbour.")
ASKED = ("user", "How many boats lie in the east harbour?")
CALLED = ("assistant", None, "I have to count them.")
SAID = ("assistant", "Twelve boats.", "The tool says 12.")
TURNS = [
    [SYSTEM, ASKED, CALLED],
    [SYSTEM, ASKED, CALLED, ("tool", "12"), SAID],
]
"""What the model saw and wrote in the two calls that most of the logs hold."""


def records(name: str) -> list[Any]:
    return [json.loads(line) for line in (LOGS / f"{name}.jsonl").read_text("utf-8").splitlines()]


def read(record: Any, reading: Reading = DEFAULT) -> list[Call]:
    return read_calls(Record("x:1", json.dumps(record).encode()), reading)


def calls(name: str) -> list[Call]:
    return [call for record in records(name) for call in read(record)]


FORMATS = {
    "anthropic": "calls",
    "litellm": "litellm",
    "nemo_gym_entries": "nemo-gym",
    "nemo_gym_rollouts": "nemo-gym",
    "openai": "calls",
    "openrouter": "calls",
    "responses": "calls",
    "verifiers": "verifiers",
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_known_by_its_shape(name: str) -> None:
    assert {format_of(record) for record in records(name)} == {FORMATS[name]}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [{"role": "user"}, {"role": "assistant"}]}, "chat"),
        ({"conversations": [{"from": "human"}, {"from": "gpt"}], "response": "4"}, "chat"),
        ({"messages": [{"role": "user"}, {"role": "assistant"}], "response": "4"}, "chat"),
        ({"prompt": "2+2?", "completion": "4"}, "chat"),
        ({"instruction": "2+2?", "input": "", "output": "4"}, "chat"),
        ({"text": "4"}, "chat"),
        ({"messages": [{"role": "user"}], "response": "4"}, "calls"),
        (
            {
                "messages": [{"role": "user"}, {"role": "assistant"}],
                "response": {"choices": [{"message": {"role": "assistant", "content": "4"}}]},
            },
            "calls",
        ),
        ({"prompt": "2+2?", "chosen": "4", "rejected": "5"}, "calls"),
        ({"prompt": "2+2?", "completion": "4", "prompt_ids": [1], "completion_ids": []}, "calls"),
        ({"calls": [{"messages": [{"role": "user"}], "response": "4"}]}, "calls"),
    ],
)
def test_chats_and_calls_are_told_apart(record: Any, expected: str) -> None:
    assert format_of(record) == expected


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_one_record_is_no_list_of_records(name: str) -> None:
    line = json.dumps(records(name)[0]).encode()
    assert foreign(line, f"{name}.jsonl", whole=True) is None
    call = {"messages": [{"role": "user", "content": "2+2?"}], "response": "4", "tools": []}
    assert foreign(json.dumps({"calls": [call]}).encode(), "a.jsonl", whole=True) is None
    assert foreign(json.dumps({"data": [call]}).encode(), "a.jsonl", whole=True)


def test_a_record_of_two_shapes_is_refused() -> None:
    with pytest.raises(RecordError, match="the shape of litellm and of verifiers, expected that"):
        read({**records("litellm")[0], **records("verifiers")[0]["traces"][0]})


@pytest.mark.parametrize("name", ["anthropic", "litellm", "openai", "openrouter", "responses"])
def test_the_same_calls_from_each_service(name: str) -> None:
    first, second = calls(name)[:2]
    for call, turn in zip((first, second), TURNS, strict=True):
        assert shown(call)["messages"] == turn
        assert call.trained
        assert not call.notes
        assert call.conversation
        (tool,) = call.conversation.tools or ()
        assert tool["function"]["name"] == "count_boats"
        called = [c for m in call.conversation.messages for c in m.tool_calls]
        assert [(c.name, c.arguments) for c in called] == [("count_boats", {"harbour": "east"})]
    assert len({first.id, second.id}) == 2


ASKED: Any = {"role": "user", "content": "2+2?"}
EMPTY: dict[str, tuple[Any, str]] = {
    "a choice": ({"messages": [ASKED], "choices": [{"message": {"content": None}}]}, "empty-gen"),
    "cut off at once": ({"messages": [ASKED], "choices": [
        {"message": {"content": ""}, "finish_reason": "length"}]}, "nothing-written"),
    "Anthropic": ({"messages": [ASKED], "response": {"type": "message", "content": []}}, "empty-g"),
    "an item": ({"input": "2+2?", "response": {"output": [
        {"type": "message", "role": "assistant", "content": []}]}}, "empty-generation"),
    "no item": ({"input": "2+2?", "response": {"output": []}}, "failed-call"),
    "a rollout": ({"responses_create_params": {"input": "2+2?"}, "response": {"output": []}},
                  "no-call"),
    "a node": ({"nodes": [{"message": ASKED}, {"parent": 0, "sampled": True, "message": {
        "role": "assistant", "content": ""}}]}, "empty-generation"),
    "no node": ({"nodes": [{"message": ASKED}]}, "no-call"),
    "a step": ({"schema_version": "ATIF-v1.8", "agent": {"tool_definitions": [{"name": "f"}]},
                "steps": [{"source": "system", "message": "a"}, {"source": "agent"}]},
               "empty-generation"),
    "ids": ({"prompt_ids": [5], "completion_ids": []}, "empty-generation"),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_answer_is_counted_once_and_not_trained(name: str) -> None:
    record, note = EMPTY[name]
    (call,) = read(record)
    assert not call.trained
    assert [each.startswith(note) for each in call.notes] == [True], call.notes


def test_ids_are_what_was_written_where_a_parser_left_no_text() -> None:
    said = {"role": "assistant", "content": "", "finish_reason": "length"}
    (call,) = read({"messages": [ASKED], "response": said, "prompt_ids": [5], "output_ids": [7]})
    assert (call.trained, [*call.notes]) == (True, ["no-answer-text"])
    (call,) = read({"messages": [ASKED], "response": {**said, "train": False}, "prompt_ids": [5],
                    "output_ids": [7]})  # fmt: skip
    assert not call.trained


def test_a_pair_and_a_sequence_are_calls_by_themselves() -> None:
    pair = [[ASKED, {"role": "assistant", "content": text}] for text in "45"]
    assert format_of({"chosen": pair[0], "rejected": pair[1]}) == "calls"
    assert format_of({"tokens": [5, 7], "response_length": 1}) == "calls"
    assert format_of({"tokens": 7, "messages": pair[0]}) == "chat"


def test_a_failed_call_of_a_gateway_is_counted() -> None:
    assert shown(calls("litellm")[2]) == {
        "id": "chatcmpl-3",
        "trained": False,
        "notes": {"failed-call": 1},
    }


def test_messages_that_a_gateway_left_out_are_refused() -> None:
    record = records("litellm")[0]
    record["messages"] = [{"role": "user", "content": "redacted-by-litellm"}]
    with pytest.raises(RecordError, match="messages that the proxy was told to leave out"):
        read(record)


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


def test_traces_of_verifiers() -> None:
    first, second, third, judge = calls("verifiers")
    assert [shown(call)["messages"] for call in (first, second)] == TURNS
    assert shown(third)["messages"] == [*TURNS[1][:-1], ("assistant", "I see 12.")]
    prompt = [10, 11, 12, 13, 14, 15]
    assert shown(first)["prompt_ids"] == prompt
    assert shown(first)["completion_ids"] == [20, 21, 22]
    assert shown(second)["prompt_ids"] == [*prompt, 20, 21, 22, 16, 17, 18, 15]
    assert shown(second)["logprobs"] == [-1.0, -2.0]
    assert shown(second)["advantages"] == [0.5, 0.5]
    assert (first.reward, first.id) == (1.25, "trace-1:2")
    assert third.conversation
    assert not third.conversation.messages[-1].finished
    assert (judge.id, judge.trained) == ("trace-2:1", False)


def test_a_token_inside_a_completion_that_was_not_sampled_is_masked() -> None:
    trace = records("verifiers")[0]["traces"][0]
    trace["nodes"][2] |= {"mask": [False, True, False, True, False], "logprobs": [-0.5, -0.25]}
    del trace["nodes"][2]["advantages"]
    first = read(trace)[0]
    assert shown(first)["completion_ids"] == [20, 21, 22]
    assert shown(first)["loss_mask"] == [True, False, True]
    assert shown(first)["logprobs"] == [-0.5, 0.0, -0.25]


def test_a_node_without_sampled_tokens_is_an_empty_generation() -> None:
    trace = records("verifiers")[0]["traces"][0]
    trace["nodes"][5] |= {"mask": [False, False], "logprobs": []}
    third = read(trace)[2]
    assert not third.trained
    assert third.completion_ids is not None
    assert third.prompt_ids is not None
    assert (third.completion_ids.size, third.prompt_ids.tolist()[-2:]) == (0, [15, 25])


def change(node: int, **fields: Any) -> Callable[[Any], None]:
    def planted(trace: Any) -> None:
        trace["nodes"][node] |= fields

    return planted


PLANTED: dict[str, tuple[Callable[[Any], None], str]] = {
    "a parent behind its child": (change(1, parent=4), r"nodes\[1\]\.parent: got 4, expected the"),
    "a parent that is itself": (change(1, parent=1), r"nodes\[1\]\.parent: got 1, expected"),
    "a flag as a parent": (change(1, parent=False), r"nodes\[1\]\.parent: got False, expected"),
    "a mask of another length": (
        change(4, mask=[False, True]),
        r"nodes\[4\]\.mask: a list of 2, expected a flag for each of the 3 token_ids",
    ),
    "log probabilities of all tokens": (
        change(4, logprobs=[0, -1, -2]),
        r"nodes\[4\]\.logprobs: a list of 3, expected one for each of the 2 tokens that mask says",
    ),
    "a negative id": (
        change(3, token_ids=[-1, 2]),
        r"nodes\[3\]\.token_ids\[0\]: got -1, expected a token id",
    ),
    "weights of tokens": (
        change(4, loss_weights={"echo": [0.0, 1.0, 0.5]}),
        r"nodes\[4\]\.loss_weights: weights 'echo' of single tokens, .* --ignore-fields nodes\.",
    ),
    "a list of numbers that nobody reads": (
        change(4, reference_logprobs=[-1.0, -1.0]),
        r"--ignore-fields nodes\.reference_logprobs",
    ),
}


@pytest.mark.parametrize(("plant", "message"), PLANTED.values(), ids=PLANTED)
def test_a_damaged_trace_is_refused(plant: Callable[[Any], None], message: str) -> None:
    trace = records("verifiers")[0]["traces"][0]
    plant(trace)
    with pytest.raises(RecordError, match=message):
        read(trace)


def test_weights_that_are_left_out() -> None:
    trace = records("verifiers")[0]["traces"][0]
    trace["nodes"][4]["loss_weights"] = {"echo": [0.0, 1.0, 0.5]}
    found = read(trace, Reading(ignored=frozenset(["nodes.loss_weights"])))
    assert found[0].notes == {"left-out nodes.loss_weights": 1}
    trace["nodes"][4]["loss_weights"] = {"ce": [0.0, 1.0, 1.0]}
    assert not read(trace)[1].notes


def test_a_newer_version_of_a_captured_call_is_refused() -> None:
    with pytest.raises(RecordError, match="schema_version: got 2, expected a record of version 1"):
        read({**records("nemo_gym_entries")[0], "schema_version": 2})
