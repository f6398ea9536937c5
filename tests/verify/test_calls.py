"""Records of calls: the check reads them as packing does, or says that it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from reasonpack.errors import RecordError
from reasonpack.records import calls as packing
from reasonpack.records.reading import Reading as PackReading
from reasonpack.records.unit import Record
from reasonpack.verify.calls import Call, read_calls
from reasonpack.verify.chat import NotChecked, Reading, Refused
from tests.records.endings import HOLDERS, TOLD
from tests.records.test_call_schema import RECORDS

LOGS = Path(__file__).parents[1] / "records" / "call_logs"
SESSIONS = ("claude_code", "codex", "pi")
CALL_LOGS = [path for path in sorted(LOGS.iterdir()) if path.stem not in SESSIONS]
ASK = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4", "reasoning_content": "Easy."}
OUT: tuple[dict[str, Any], ...] = (
    *(
        {"status": "aborted"},
        {"error": {"message": "m"}},
        {"overrides": {"set_advantage_to_zero": 1}},
    ),
    *(
        {"remove_sample": True},
        {"mask_sample": True},
        {"sample_mask": 0},
        {"sample_loss_mask": 0.0},
        {"label": False},
    ),
)
"""Fields of samples that trainers leave out."""
THOUGHT = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Easy."}]}
ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "4"}]}


def texts(call: Call) -> list[Any]:
    return (
        [] if call.chat is None else [(m.role, m.content, m.reasoning) for m in call.chat.messages]
    )


def outcome(call: Call) -> list[Any]:
    advantages = call.advantages
    if advantages is not None and not isinstance(advantages, list):
        advantages = [advantages] * (1 if call.completion is None else len(call.completion))
    mask = call.mask if call.completion is not None else None  # else it says only `trained`
    return [
        *(call.id, texts(call), call.prompt, call.completion, mask, call.logprobs),
        *(advantages, call.reward, call.weight, call.role, call.trained),
        call.trained and call.chat is not None and call.chat.messages[-1].cut,
    ]


def packed(call: packing.Call) -> list[Any]:
    messages = call.conversation.messages if call.conversation else ()
    values = (
        *(call.prompt_ids, call.completion_ids, call.loss_mask, call.logprobs, call.advantages),
    )
    prompt, completion, mask, logprobs, advantages = (
        None if value is None else value.tolist() for value in values
    )
    return [
        call.id,
        [(m.role, m.content or "", m.reasoning or "") for m in messages],
        *(prompt, completion, None if completion is None else mask, logprobs, advantages),
        *(call.reward, call.weight, call.role, call.trained),
        call.trained and bool(messages) and not messages[-1].finished,
    ]


@pytest.mark.long
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS)
def test_what_is_packed_is_read_the_same(record: Any) -> None:
    line = json.dumps(record).encode()
    try:
        read = packing.read_calls(Record("x:1", line))
    except RecordError:
        return
    try:
        checked = read_calls(json.loads(line), Reading(), "x:1")
    except NotChecked:
        return
    found, expected = [*map(outcome, checked)], [*map(packed, read)]
    for one, other in zip(found, expected, strict=True):
        if one[3] is not None and not (one[1] and other[1]):
            one[1] = other[1]  # messages beside ids are read as far as each can
    assert found == expected


NOTHING: list[Any] = [None, "", [], {}]
READ: dict[str, Any] = {
    "a list of a message": {"messages": [ASK], "completion": [ANSWER | {"id": "not of the call"}]},
    "a list of an item": {"messages": [ASK], "response": [ITEM]},
    "a list of items": {"id": "a", "messages": [ASK], "completion": [THOUGHT, ITEM]},
    "messages": {"messages": [ASK], "response": ANSWER},
    "a text": {"prompt": "2+2?", "response": "4", "reasoning": "Easy."},
    "a text, and whether to reason": {"prompt": "2+2?", "response": "4", "reasoning": "off"},
    "a text, and how to reason": {"input": [ASK], "output": "4", "thinking": {"type": "enabled"}},
    "a text, and its reasoning": {"input": [ASK], "output": "4", "thinking": "Easy."},
    "ids": {"prompt_ids": [5], "output_ids": [7, 2], "loss_mask": [0, 1, 1], "advantage": 0.5},
    "a sequence": {"tokens": [5, 7, 2], "response_length": 2, "rollout_log_probs": [-1, -2]},
    "both": {"messages": [ASK], "response": ANSWER, "prompt_ids": [5], "token_ids": [7]},
    "choices": {
        "request": {"messages": [ASK]},
        "response": {"id": "r", "prompt_token_ids": [5], "choices": [
            {"message": ANSWER, "token_ids": [7], "logprobs": {"content": [{"logprob": -1}]}},
            {"message": {"content": "5"}, "token_ids": [8], "finish_reason": "length"}]},
    },
    "a pair": {"id": 7, "messages": [ASK], "chosen": ANSWER, "rejected": "5"},
    "a pair of lists": {"prompt": [ASK], "chosen": [ANSWER], "rejected": [ASK, ANSWER]},
    "a pair without a prompt": {"chosen": [ASK, ANSWER], "rejected": [ASK, {
        "role": "assistant", "content": "5"}]},
    "ids beside the text of a completion": {"request": {"prompt": "2+2?"}, "response": {
        "prompt_token_ids": [5], "choices": [{"text": "4", "token_ids": [7]}]}},
    **{f"ids beside {name} in the request": {
        "request": {"messages": [ASK], name: value}, "response": ANSWER,
        "prompt_ids": [5], "completion_ids": [7]}
       for name, value in {"stop": ["x"], "extra_body": {"top_k": 3}, "documents": [{"a": 1}],
                           "chat_template": "x", "previous_response_id": "r"}.items()},
    "a mask of what the environment wrote": {"prompt_ids": [5], "completion_ids": [7, 8],
        "env_mask": [1, 0]},
    "ids beside messages that cannot be read and end with an answer not to be trained": {
        "messages": [ASK, ANSWER | {"value": "5", "train": False}],
        "prompt_ids": [5], "completion_ids": [7]},
    "ids in objects": {"prompt": {"token_ids": [5]}, "response": {"token_ids": [7]}, "reward": 1},
    "no choices beside the messages": {"id": "c", "messages": [ASK], "choices": []},
    "candidates": {"id": "c", "messages": [ASK], "candidates": ["1", ANSWER, {
        "message": ANSWER, "reward": 1, "finish_reason": "length"}, {"id": "d", "text": "4"}]},
    "a batch": {"custom_id": "x", "request": {"body": {"messages": [ASK]}}, "response": {
        "status_code": 200, "body": {"id": "r", "choices": [{"message": ANSWER}]}}},
    "a group": {"tools": [{"name": "f"}], "reward": 1, "calls": [
        {"messages": [ASK], "response": ANSWER},
        {"id": "b", "messages": [ASK, ANSWER], "response": ANSWER, "weight": 0.5}]},
    "an empty answer": {"messages": [ASK], "response": {"role": "assistant", "content": ""}},
    **{f"an end of {one!r} in a choice that was cut off": {"messages": [ASK], "choices": [
        {"message": {**ANSWER, "finish_reason": one}, "finish_reason": "length"}]}
       for one in NOTHING},
    **{f"a status of {one!r} in a response that was cut off": {"messages": [ASK], "response": {
        "status": "incomplete", "output": [{**ITEM, "status": one}]}} for one in NOTHING},
    "a message, and beside it how it ended": {
        "messages": [ASK], "response": ANSWER, "finish_reason": "length"},
    "an answer in its messages, and beside them how it ended": {
        "messages": [ASK, ANSWER], "done_reason": "length"},
    "items, and beside them how they ended": {
        "messages": [ASK], "response": {"output": [THOUGHT, ITEM]}, "stop_reason": "max_tokens"},
    "a text, and beside it at what the service stopped": {
        "messages": [ASK], "response": "4", "finish_reason": "stop", "stop_reason": "."},
    "candidates of the record 0": {"id": 0, "messages": [ASK], "candidates": ["4", "5"]},
    "no content": {"messages": [ASK], "choices": [{"message": {"content": None}}]},
    "an answer without content in the prompt": {"messages": [ASK, {"role": "assistant"}]},
    "no parts": {"messages": [ASK], "response": {"role": "assistant", "content": []}},
    "an answer of Anthropic's": {
        "request": {"system": [{"type": "text", "text": "Hi."}], "messages": [ASK]},
        "response": {"type": "message", "id": "m", "model": "x", "content": [
            {"type": "thinking", "thinking": "Easy.", "signature": "s"},
            {"type": "text", "text": "4"}], "stop_reason": "max_tokens", "usage": {}},
    },
    "a response": {
        "request": {"input": "2+2?", "reasoning": {"effort": "high"}},
        "response": {"id": "r", "status": "completed", "instructions": "Hi.", "output": [
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Easy."}]},
            {"type": "message", "role": "assistant",
             "content": [{"type": "output_text", "text": "4"}]}]},
    },
    "ids beside an empty text": {
        "messages": [ASK], "response": {"role": "assistant", "content": ""},
        "prompt_ids": [5], "completion_ids": [7]},
    "ids of an answer that was cut off, beside an empty text": {
        "messages": [ASK], "prompt_ids": [5], "completion_ids": [7],
        "response": {"role": "assistant", "content": "", "finish_reason": "length"}},
    "ids of an answer that was cut off, beside white space": {
        "messages": [ASK], "prompt_ids": [5], "completion_ids": [7],
        "response": {"role": "assistant", "content": "\u3000", "finish_reason": "length"}},
    "reasoning beside an empty text": {
        "messages": [ASK], "response": "", "reasoning": "Easy."},
    "a text called output beside the answer": {
        "messages": [ASK], "response": "4", "output": "Four.",
    },
    "a response without items": {"messages": [ASK], "response": {"output": []}},
    "a response with an empty message": {"messages": [ASK], "response": {"output": [
        {"type": "message", "role": "assistant", "content": []}]}},
    "a response that was cut off": {"messages": [ASK], "response": {
        "status": "incomplete", "output": [
            {"type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "4"}]}]}},
    "a rollout that was cut off": {"responses_create_params": {"input": "2+2?"}, "response": {
        "status": "incomplete", "output": [
            {"role": "assistant", "content": "4"}, ASK, {"role": "assistant", "content": "5"}]}},
    "a trajectory without any text": {"schema_version": "ATIF-v1.7", "session_id": "s", "steps": [
        {"step_id": 1, "source": "user", "message": "2+2?"},
        {"step_id": 2, "source": "agent", "message": None}]},
    "traces": {"id": "e", "traces": [
        {"id": "t", "rewards": {"a": 1, "b": {"score": 2, "weight": 0.5}}, "nodes": [
            {"parent": None, "message": ASK, "token_ids": [5, 6], "mask": [False, False]},
            {"parent": 0, "message": ANSWER, "sampled": True, "token_ids": [9, 7, 8, 2],
             "mask": [False, True, False, True], "logprobs": [-1, -2], "advantages": [1, 1]},
            {"parent": 0, "message": ANSWER, "sampled": True, "token_ids": [9, 7],
             "mask": [False, True]},
            {"parent": 1, "message": ASK, "token_ids": [3], "mask": [False]},
            {"parent": 3, "message": ANSWER, "sampled": True, "token_ids": [4], "mask": [True]}]}]},
    "a trace that is not to be trained": {"nodes": [
        {"parent": None, "message": ASK, "token_ids": [5], "mask": [False]},
        {"parent": 0, "message": ANSWER, "sampled": True, "token_ids": [7], "mask": [True]}],
        "agent": {"trainable": False}},
    "a trace that ended in an error": {"nodes": [
        {"parent": None, "message": ASK, "token_ids": [5], "mask": [False]},
        {"parent": 0, "message": ANSWER, "sampled": True, "token_ids": [7], "mask": [True]}],
        "ok": False, "stop_condition": "error"},
    "a sample that was cut off": {"messages": [ASK], "response": "4", "status": "truncated"},
    "a choice that was cut off": {"messages": [ASK], "choices": [
        {"message": ANSWER, "is_truncated": True, "stop_reason": "stop"}]},
    "messages that were cut off": {"messages": [ASK, ANSWER], "truncated": True},
    "failed samples that are not trained": {"status": "aborted", "calls": [
        {"prompt_ids": [1], "completion_ids": [2], "loss_mask": [0], "error": "m"},
        {"messages": [ASK], "response": ANSWER, "train": False, "termination_reason": "error"},
        {"messages": [ASK], "response": {**ANSWER, "error": "m", "train": 0}}]},
    "steps of which the last was cut off": {"truncated": True, "steps": [
        {"messages": [ASK], "response": "4"}, {"messages": [ASK], "response": "5"}]},
    "a trace whose last node was cut off": {"is_truncated": True, "nodes": [
        {"parent": None, "message": ASK}, {"parent": 0, "message": ANSWER, "sampled": True},
        {"parent": 1, "message": ASK}, {"parent": 2, "message": ANSWER, "sampled": True}]},
    "a node whose call was cut off": {"calls": [{"node": 1, "finish_reason": "length"}], "nodes": [
        {"parent": None, "message": ASK}, {"parent": 0, "message": ANSWER, "sampled": True},
        {"parent": 1, "message": ASK}, {"parent": 2, "message": ANSWER, "sampled": True}]},
    "a rollout whose last call was cut off": {
        "responses_create_params": {"input": [ASK]}, "truncated": True, "response": {"output": [
            ITEM, ASK, ITEM], "status": "incomplete"}},
    "steps of an agent that were cut off": {"schema_version": "ATIF-v1.8", "truncated": True,
        "agent": {}, "steps": [{"step_id": 1, "source": "user", "message": "2+2?"},
            {"step_id": 2, "source": "agent", "message": "4"}]},
    "ids of no tokens": {"messages": [ASK], "response": "4", "prompt_ids": [], "output_ids": [],
                         "logprobs": [], "loss_mask": [], "advantages": []},
    "a sequence of no tokens": {"messages": [ASK, ANSWER], "tokens": [], "response_length": 0},
    "no tokens and an observation": {"input": {"messages": [ASK]}, "output": "4",
                                     "prompt_ids": [], "output_ids": []},
    "a multiplied loss": {"prompt_ids": [1], "completion_ids": [2], "loss_multiplier": 0.5},
    "a failed call with its status": {"messages": [ASK], "response": None, "status": "failed"},
    "a response of null beside ids": {"prompt_ids": [1], "completion_ids": [2], "response": None},
    "a part of an answer that was cut off": {"messages": [ASK], "response": {"output": [
        {"type": "message", "role": "assistant", "content": "4", "status": "Incomplete"}]}},
    "a number as an error": {"tokens": [1, 2], "response_length": 1, "error": 0.5},
    "an empty text of how it ended": {"messages": [ASK], "response": "4", "finish_reason": "",
                                      "metadata": {"finish_reason": "length"}},
    "an empty sample with an error": {"prompt_ids": [1], "completion_ids": [], "error": "m"},
    "an empty sample that was aborted": {"prompt_ids": [1], "completion_ids": [],
                                         "status": "aborted"},
    "a rollout": {"responses_create_params": {"input": [ASK]}, "reward": 1, "response": {"id": "r",
        "output": [
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Easy."}]},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c",
             "prompt_token_ids": [5], "generation_token_ids": [7], "generation_log_probs": [-1]},
            {"type": "function_call_output", "call_id": "c", "output": "4"},
            {"type": "message", "role": "assistant", "content": "4", "prompt_token_ids": [5, 7, 8],
             "generation_token_ids": [9, 2]}]}},
    "a system text alone": {"system": "Hi.", "messages": [ANSWER]},
    "flags of candidates": {"messages": [ASK], "candidates": [
        {"message": ANSWER, "weight": 0}, {"text": "4", "train": False}, {"text": "4", "loss": 1},
        {"message": {**ANSWER, "weight": 0}}, {"response": ANSWER, "weight": 2, "id": "x"}]},
    "items in another order, beside ids": {"messages": [ASK], "response": {"output": [
        ITEM, THOUGHT]}, "prompt_ids": [5], "completion_ids": [7]},
    "items of which one has a flag, beside ids": {"messages": [ASK], "response": {"output": [
        THOUGHT, {**ITEM, "weight": 0}]}, "prompt_ids": [5], "completion_ids": [7]},
    "a response as JSON text": {"request": json.dumps({"messages": [ASK]}), "response": json.dumps(
        {"object": "chat.completion", "id": "r", "choices": [{"message": ANSWER}]})},
    "messages as JSON text": {"messages": json.dumps([ASK]), "response": json.dumps(ANSWER)},
    "bodies as JSON text": {"request": {"body": json.dumps({"messages": [ASK]})}, "response": {
        "body": json.dumps({"choices": [{"message": ANSWER}]})}},
    "choices as JSON text that names no object": {"messages": [ASK], "response": json.dumps(
        {"id": "r", "choices": [{"message": ANSWER, "finish_reason": "length"}]})},
    "items as JSON text": {"messages": [ASK], "response": json.dumps({"output": [ITEM]})},
    "an answer of Ollama's as JSON text": {"messages": [ASK], "response": json.dumps(
        {"message": ANSWER, "done": True})},
    "a payload of LiteLLM as JSON texts": {"call_type": "acompletion", "model_parameters": {},
        "messages": json.dumps([ASK]), "response": json.dumps({"choices": [{"message": ANSWER}]})},
    "JSON that is an answer": {"messages": [ASK], "response": json.dumps(
        {"choices": ["a", {"role": "user"}], "output": {"role": "assistant"}, "message": "x"})},
    "a text that is JSON": {"messages": [ASK], "response": '{"choices": [{"text": "4"}]}'},
    "choices as the output": {"input": [ASK], "output": [{"message": ANSWER, "index": 0}]},
    "an observation": {"input": [ASK], "output": ANSWER},
    "an observation of texts": {"input": {"messages": [ASK]}, "output": "4"},
    "a system text before another": {"request": {"instructions": "Hi.", "input": [
        {"role": "developer", "content": "Ho."}, ASK]}, "response": {"output": [ITEM]}},
    "a system text that is the first message": {"system": [{"type": "text", "text": "Hi."}],
        "messages": [{"role": "system", "content": "Hi."}, ASK], "response": "4"},
    "an embedding": {"call_type": "aembedding", "model_parameters": {}, "messages": "a",
        "response": {"data": []}},
    "reasoning that Gym puts into a summary": {"responses_create_params": {"input": [ASK]}, "id": 7,
        "response": {"output": [{"type": "reasoning", "id": "rs_" + "0" * 32, "summary": [
            {"type": "summary_text", "text": "Easy."}]}, ITEM]}},
    "a rollout without a response": {"responses_create_params": {"input": [ASK]}, "response": None},
    "tools of a root": {"tools": [{"name": "f"}], "nodes": [
        {"parent": None, "message": ASK, "tools": [{"type": "function", "name": "g"}]},
        {"parent": 0, "message": ANSWER, "sampled": True}]},
    "answers that an agent took apart": {"schema_version": "ATIF-v1.8", "session_id": "s",
        "agent": {"name": "terminus-2"}, "steps": [
            {"step_id": 1, "source": "user", "message": "2+2?"},
            {"step_id": 2, "source": "agent", "message": "a", "tool_calls": [
                {"tool_call_id": "c", "function_name": "f", "arguments": {}}]}]},
    "an answer that SGLang stopped at a text": {"messages": [ASK], "choices": [
        {"message": ANSWER, "finish_reason": "stop", "matched_stop": "."}]},
    "ids in a request": {"request": {"token_ids": [5], "messages": [ASK]}, "response": {
        "choices": [{"token_ids": [7, 2], "message": ANSWER}]}},
    "an answer of Ollama's": {"request": {"messages": [ASK]}, "response": {
        "message": ANSWER, "done": True, "done_reason": "length"}},
    "a call without an answer": {"request": {"messages": [ASK]}, "response": None},
    "a call with an error": {"request": {"messages": [ASK]}, "error": {"message": "timeout"}},
    "a call that failed": {"messages": [ASK], "response": {"error": {"code": 500}}},
    "an answer in its prompt": {"messages": [ASK, {**ANSWER, "reasoning_content": None}],
                                "response": ANSWER},
    "several answers, and beside them how one ended": {
        "messages": [ASK], "candidates": ["4", "5"], "finish_reason": "length"},
    "a prompt that is JSON and no messages": {"prompt": "[1, 2]", "response": "3"},
    "a system text of a rollout before another": {"responses_create_params": {
        "instructions": "Hi.", "input": [{"role": "system", "content": "Ho."}, ASK]},
        "response": {"output": [ITEM]}},
    "a payload of LiteLLM without a response": {"call_type": "acompletion", "status": "failure",
        "model_parameters": {}, "messages": [ASK]},
    "no choices": {"messages": [ASK], "response": {"choices": []}},
    "a choice with a message and a text": {"messages": [ASK], "choices": [
        {"message": ANSWER, "text": ""}]},
    "reasoning of Gym's and its summary": {"responses_create_params": {"input": [ASK]},
        "response": {"output": [{"type": "reasoning", "id": "rs_" + "0" * 32,
            "content": [{"type": "reasoning_text", "text": "Easy."}],
            "summary": [{"type": "summary_text", "text": "No."}]}, ITEM]}},
    "a trace with a reward of null": {"rewards": {"a": None}, "nodes": [
        {"parent": None, "message": ASK}, {"parent": 0, "message": ANSWER, "sampled": True}]},
}  # fmt: skip


@pytest.mark.parametrize("record", READ.values(), ids=READ)
def test_the_usual_shapes_are_checked(record: Any) -> None:
    read = packing.read_calls(Record("x:1", json.dumps(record).encode()))
    read = [] if read[0].notes == {"no-call": 1} else read
    found = read_calls(record, Reading(), "x:1")
    assert [*map(outcome, found)] == [*map(packed, read)]


@pytest.mark.parametrize("form", ["alone", "calls"])
def test_fields_are_left_out_and_renamed_as_told(form: str) -> None:
    call: Any = {"messages": [ASK], "response": ANSWER, "reward": 2, "score": 3}
    name = "reward" if form == "alone" else "calls.reward"
    told = {"ignored": frozenset([name]), "renamed": {"score": "weight"}}
    if form == "calls":
        call, told["renamed"] = {"calls": [{**call, "score": None}]}, {}
    read = packing.read_calls(Record("x:1", json.dumps(call).encode()), PackReading(**told))
    found = read_calls(call, Reading(**told), "x:1")
    assert [*map(outcome, found)] == [*map(packed, read)]
    assert (found[0].reward, found[0].weight) == (None, 3 if form == "alone" else 1)


FAILED: dict[str, Any] = {
    "status": {"messages": [ASK], "response": ANSWER, "status": "aborted"},
    "response.status": {"messages": [ASK], "response": {"status": "failed", "output": [ITEM]}},
    "choices.error": {"messages": [ASK], "choices": [
        {"message": ANSWER, "error": {"code": 502}, "finish_reason": "error"}]},
    "calls.status": {"calls": [{"messages": [ASK], "response": "4", "status": "Cancelled"}]},
    "message.error": {"messages": [ASK], "response": {**ANSWER, "error": "m"}},
    "termination_reason": {
        "steps": [{"messages": [ASK], "response": "4"}], "termination_reason": "error"},
    "traces.status": {"traces": [{"status": "error", "nodes": [
        {"parent": None, "message": ASK}, {"parent": 0, "message": ANSWER, "sampled": True}]}]},
}  # fmt: skip


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_call_is_refused_unless_the_field_is_ignored(name: str) -> None:
    line, told = json.dumps(FAILED[name]).encode(), {"ignored": frozenset([name])}
    with pytest.raises(RecordError, match=f"--ignore-fields {name} to train it"):
        packing.read_calls(Record("x:1", line))
    with pytest.raises(Refused):
        read_calls(FAILED[name], Reading(), "x:1")
    (read,) = packing.read_calls(Record("x:1", line), PackReading(**told))
    assert read.conversation
    also_cut = name == "choices.error"
    assert read.conversation.messages[-1].finished is not also_cut
    assert f"left-out {name}" in read.notes
    assert [*map(outcome, read_calls(FAILED[name], Reading(**told), "x:1"))] == [packed(read)]


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("name", TOLD)
def test_how_an_answer_ended_is_read_and_ignored_as_packing_does(holder: str, name: str) -> None:
    record = HOLDERS[holder]({name: TOLD[name]})
    line = Record("x:1", json.dumps(record).encode())
    for ignored in (frozenset[str](), frozenset([holder + name])):
        try:
            read = packing.read_calls(line, PackReading(ignored=ignored))
        except RecordError:
            with pytest.raises(Refused):
                read_calls(record, Reading(ignored=ignored), "x:1")
        else:
            found = read_calls(record, Reading(ignored=ignored), "x:1")
            assert [*map(outcome, found)] == [*map(packed, read)]


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ({"messages": [ASK], "response": {"status": "queued", "output": [{}]}}, NotChecked),
        ({"messages": [ASK], "response": {"status": "failed", "output": [{}]}}, Refused),
        ({"traces": [{"nodes": [3]}]}, NotChecked),
        ({"schema_version": "ATIF-v1.8", "steps": [3]}, NotChecked),
        ({"schema_version": "ATIF-v2.0", "steps": []}, Refused),
        ({"nodes": [{"sampled": True, "parent": 0, "message": ANSWER}]}, Refused),
        ({"messages": [ASK], "response": {"output": [{"type": "web_search_call"}]}}, Refused),
        ({"messages": [ASK], "response": {"output": [ITEM, THOUGHT]}}, Refused),
        ({"messages": [ASK], "response": {"output": [ITEM, ITEM]}}, Refused),
        (
            {"messages": [ASK], "candidates": [{"message": ANSWER, "weight": 2}], "weight": 3},
            Refused,
        ),
        (
            {"messages": [ASK, ANSWER], "response": {"type": "message", "content": "4"}},
            NotChecked,
        ),
        ({"request": "{}", "response": "4"}, Refused),
        (
            {
                "messages": [ASK, ANSWER],
                "choices": [{"message": {"content": "5"}, "native_finish_reason": "stop"}],
            },
            NotChecked,
        ),
        ({"messages": [ASK], "response": 'data: {"choices": []}'}, Refused),
        ({"messages": [ASK], "response": [{"object": "chat.completion.chunk"}]}, Refused),
        ({"messages": [ASK]}, Refused),
        ({"messages": [ASK], "response": "4", "completion": "5"}, Refused),
        ({"prompt_ids": [1], "prompt_token_ids": [2], "completion_ids": []}, Refused),
        ({"prompt_ids": [1], "completion_ids": [2], "loss_mask": [1, 1]}, Refused),
        ({"prompt_ids": [1], "completion_ids": [2], "loss_mask": [1, 1, 1]}, Refused),
        ({"prompt_ids": [1], "completion_ids": ["2"]}, Refused),
        ({"prompt_ids": [1, None], "completion_ids": [2]}, Refused),
        ({"prompt_ids": [1], "completion_ids": [2], "reward": "1"}, Refused),
        ({"prompt_ids": [1], "completion_ids": [2], "advantages": [[1]]}, Refused),
        ({"prompt_ids": [1], "completion_ids": [2], "advantages": [1, 1]}, Refused),
        ({"prompt_ids": [1], "completion_ids": [2, 3], "logprobs": [-1]}, Refused),
        ({"messages": [ASK], "response": "4", "advantages": [1, 1]}, Refused),
        ({"prompt_ids": 5, "completion_ids": [2]}, NotChecked),
        ({"prompt_ids": [1], "messages": [ASK], "response": "4"}, Refused),
        *(({"prompt_ids": [1], "completion_ids": [2], **out}, Refused) for out in OUT),
    ],
)
def test_other_shapes_are_not_checked_or_refused(record: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        read_calls(record, Reading(), "x:1")
