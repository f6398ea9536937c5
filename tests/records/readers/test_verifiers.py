"""Traces of verifiers → calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from logged import shown
from test_call_formats import TURNS, calls, read, records

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call
from reasonpack.records.reading import Reading


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


def ends(found: list[Call]) -> list[bool]:
    return [call.conversation.messages[-1].finished for call in found if call.conversation]


def test_rollouts_of_verifiers() -> None:
    found = calls("verifiers_rollouts")
    first, second, third, last = map(shown, found)
    assert [each["messages"] for each in (first, second, third)] == [*TURNS, TURNS[0]]
    prompt = [10, 11, 12, 13, 14, 15]
    assert (first["prompt_ids"], first["completion_ids"]) == (prompt, [20, 21, 22])
    assert first["logprobs"] == [-0.5, -0.25, -0.125]
    assert second["prompt_ids"] == [*prompt, 20, 21, 22, 16, 17, 18, 15]
    assert (second["completion_ids"], second["advantages"]) == ([30, 31], [0.5, 0.5])
    assert [each.reward for each in found] == [1.25, 2.0, 1.25, 1.25]
    assert "prompt_ids" not in last
    assert ends(found) == [True, True, True, False]
    (tool,) = found[0].conversation.tools or () if found[0].conversation else ()
    assert tool["function"]["name"] == "count_boats"


@pytest.mark.parametrize(
    ("step", "rollout", "words"),
    [
        ({"multi_modal_data": {"mm_hashes": ["a"]}}, {}, "trajectory[0].tokens.multi_modal_data"),
        ({"completion_ids": [20]}, {}, "trajectory[0].tokens.completion_mask: a list of 3"),
        ({"weights": [1, 2, 3]}, {}, "trajectory[0].tokens.weights: a field that is not read"),
        ({}, {"error": {"error": "ToolError"}}, "error: got \"{'error': 'ToolError'}\", so its"),
    ],
)
def test_a_rollout_that_cannot_be_read(step: Any, rollout: Any, words: str) -> None:
    record = records("verifiers_rollouts")[0] | rollout
    record["trajectory"][0]["tokens"] |= step
    with pytest.raises(RecordError) as error:
        read(record)
    assert words in str(error.value)


def test_a_rollout_may_say_that_it_is_not_trained() -> None:
    record = records("verifiers_rollouts")[0] | {"train": False}
    assert [call.trained for call in read(record)] == [False, False]


def test_how_a_step_ended_is_read_where_its_response_or_its_tokens_say_it() -> None:
    record = records("verifiers_rollouts")[1]
    for step in record["trajectory"]:
        del step["is_truncated"]
    record["trajectory"][0]["tokens"] = {"is_truncated": True}
    assert [
        call.conversation and call.conversation.messages[-1].finished for call in read(record)
    ] == [False, False]
    record["trajectory"][1]["response"] = {"choices": [{"finish_reason": "stop"}]}
    assert [
        call.conversation and call.conversation.messages[-1].finished for call in read(record)
    ] == [False, True]


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


def test_what_nobody_reads_of_a_trace_is_noted_once() -> None:
    trace = records("verifiers")[0]["traces"][0] | {"mood": "fine"}
    assert [call.notes.get("unread mood", 0) for call in read(trace)] == [1, 0, 0]


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
        change(4, step_logprobs=[-1.0, -1.0]),
        r"--ignore-fields nodes\.step_logprobs",
    ),
}


@pytest.mark.parametrize(("plant", "message"), PLANTED.values(), ids=PLANTED)
def test_a_damaged_trace_is_refused(plant: Callable[[Any], None], message: str) -> None:
    trace = records("verifiers")[0]["traces"][0]
    plant(trace)
    with pytest.raises(RecordError, match=message):
        read(trace)


@pytest.mark.parametrize(
    ("said", "failed"), [({"ok": False}, 1), ({"agent": {"trainable": False}}, 0)]
)
def test_a_trace_that_failed_is_context(said: Any, failed: int) -> None:
    trace = records("verifiers")[0]["traces"][0]
    assert [call.trained for call in read({**trace, "ok": True})] == [True] * 3
    found = read({**trace, **said})
    assert [(call.trained, call.notes.get("failed-call", 0)) for call in found] == [
        (False, failed)
    ] * 3


def test_weights_that_are_left_out() -> None:
    trace = records("verifiers")[0]["traces"][0]
    trace["nodes"][4]["loss_weights"] = {"echo": [0.0, 1.0, 0.5]}
    found = read(trace, Reading(ignored=frozenset(["nodes.loss_weights"])))
    assert found[0].notes == {"left-out nodes.loss_weights": 1}
    trace["nodes"][4]["loss_weights"] = {"ce": [0.0, 1.0, 1.0]}
    assert not read(trace)[1].notes


def test_each_prompt_showed_the_tools_of_its_root() -> None:
    trace = records("verifiers")[0]["traces"][0]
    tool = {"type": "function", "name": "look", "namespace": None, "description": "Look."}
    trace["nodes"][0]["tools"] = [tool]
    trace["nodes"][2] |= {"entropies": [0.5], "reference_logprobs": [-1.0], "semantic_parents": []}
    calls = read(trace | {"root_reply": "Twelve.", "is_timeout": False})
    names = [[each["function"]["name"] for each in c.conversation.tools or ()]
             for c in calls if c.conversation]  # fmt: skip
    assert names == [["look"]] * 3
    assert not calls[0].notes
    trace["nodes"][0].pop("tools")
    trace["nodes"][1]["tools"] = [tool]  # of another root, as far as this one can tell
    assert [call.conversation.tools for call in read(trace) if call.conversation] == [None] * 3
