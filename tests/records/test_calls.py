"""Records of a log become calls: what was asked, what was answered, what is known of its tokens."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from refused_calls import IDS, REFUSED

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import TOKEN_NAMES
from reasonpack.records.calls import Call, read_calls
from reasonpack.records.options import ignored_fields, renamed_fields
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.unit import Record

ASK = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4", "reasoning_content": "Easy."}


def read(record: Any, reading: Reading = DEFAULT) -> list[Call]:
    """Read a record as a line, and as a row, which has to give the same."""
    calls = read_calls(Record("x:1", json.dumps(record).encode()), reading)
    rows = read_calls(Record("x:1", b"", record), reading)
    assert list(map(shown, calls)) == list(map(shown, rows))
    return calls


def refused(record: Any, reading: Reading = DEFAULT) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read_calls(Record("x:1", json.dumps(record).encode()), reading)
    error = caught.value
    assert error.where == "x:1"
    assert "expected" in error.what
    assert error.fix
    return error


def shown(call: Call) -> dict[str, Any]:
    """Return what is there of a call, without what is usual."""
    said: dict[str, Any] = {"id": call.id}
    if call.conversation:
        messages = call.conversation.messages
        said["messages"] = [
            (m.role, m.content) + ((m.reasoning,) if m.reasoning else ()) for m in messages
        ]
    for name in ("prompt_ids", "completion_ids", "logprobs", "advantages", "loss_mask"):
        if (value := getattr(call, name)) is not None:
            said[name] = value.tolist()
    usual = {"reward": None, "weight": 1.0, "role": "none", "trained": True, "notes": {}}
    for name, value in usual.items():
        if getattr(call, name) != value:
            said[name] = getattr(call, name)
    return said


def one(record: Any, reading: Reading = DEFAULT) -> dict[str, Any]:
    (call,) = read(record, reading)
    return shown(call)


SAID = [("user", "2+2?"), ("assistant", "4", "Easy.")]
CUT = [
    ("status", "truncated"),
    ("truncated", True),
    ("is_truncated", True),
    ("stop_reason", "length"),
]
WHOLE = [("status", "completed"), ("truncated", False), ("error", None), ("error", False)]


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


@pytest.mark.parametrize("effort", ["on", "off", "High", {"type": "enabled", "budget_tokens": 9}])
def test_what_switches_reasoning_on_is_none(effort: Any) -> None:
    (call,) = read({"input": [ASK], "output": "<think>Easy.</think>4", "reasoning": effort})
    assert shown(call) == {
        "id": "x:1", "messages": SAID, "notes": {"unread record.reasoning": 1},
    }  # fmt: skip


@pytest.mark.parametrize("name", ["system_prompt", "system_message", "developer"])
def test_a_system_text_under_another_name_is_refused_and_can_be_read(name: str) -> None:
    record = {"input": [ASK], "output": "4", name: "Be brief."}
    assert f"--field {name}=system" in refused(record).fix
    (call,) = read(record, Reading(renamed=renamed_fields([f"{name}=system"])))
    assert call.conversation
    assert call.conversation.messages[0].content == "Be brief."


def test_only_the_answer_is_to_be_trained() -> None:
    (call,) = read({"messages": [ASK, {**ANSWER, "content": "Four."}, ASK], "response": ANSWER})
    assert call.conversation
    assert [m.train for m in call.conversation.messages if m.role == "assistant"] == [False, True]


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


@pytest.mark.parametrize(("record", "reason", "what", "fix"), REFUSED.values(), ids=REFUSED)
def test_refused(record: Any, reason: str, what: str, fix: str) -> None:
    error = refused(record)
    assert error.reason == reason
    assert str(error).startswith("x:1: ")
    assert what in str(error)
    assert fix in error.fix
    if not isinstance(record, dict):
        return
    with pytest.raises(RecordError) as caught:
        read_calls(Record("x:1", b"", record))
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    "record",
    [record for record, reason, *_ in REFUSED.values() if reason == "unknown-field"]
    + [{**IDS, "reasoning": ["a", 1]}, {**IDS, "train_detail": [1]}, {**IDS, "content": [1, 2]}],
)
def test_what_the_refusal_of_a_field_says_leads_out(record: Any) -> None:
    fix = refused(record).fix
    (left,) = re.findall(r"--ignore-fields (\S+)", fix)
    ignored = ignored_fields(left.split(","))
    if ", and --ignore-fields" not in fix:
        assert read(record, Reading(ignored=ignored))
    renamed = renamed_fields(re.findall(r"--field (\S+)", fix))
    with_names = Reading(renamed=renamed, ignored=ignored - renamed.keys())
    if renamed and "promt_token_ids" not in renamed:
        assert read(record, with_names)


def test_a_field_that_is_read_can_be_left_out() -> None:
    ignored = ignored_fields(["record.loss_mask", "advantages"])
    said = one({**IDS, "loss_mask": [1], "advantages": [1]}, Reading(ignored=ignored))
    assert set(said["notes"]) == {"left-out loss_mask", "left-out advantages"}


@pytest.mark.parametrize("name", TOKEN_NAMES["prompt_ids"])
@pytest.mark.parametrize("other", TOKEN_NAMES["completion_ids"])
def test_ids_under_any_name(name: str, other: str) -> None:
    assert one({name: [5], other: [7]}) == {
        "id": "x:1",
        "prompt_ids": [5],
        "completion_ids": [7],
    }


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


@pytest.mark.parametrize(
    "record",
    [
        {"prompt_token_ids": [5], "completion_token_ids": []},
        {"prompt_token_ids": [5], "completion_token_ids": [], "status": "aborted"},
        {"messages": [ASK], "response": {"choices": [{"message": {"content": None}}]}},
        {"messages": [ASK], "response": ""},
        {"messages": [ASK], "response": "", "completion": ""},
        {"messages": [ASK], "response": {"role": "assistant", "content": "", "tool_calls": []}},
        {"messages": [ASK], "response": {"role": "assistant"}},
        {"messages": [ASK], "response": {"role": "assistant", "content": []}},
    ],
)
def test_an_empty_generation_is_counted_and_not_trained(record: Any) -> None:
    said = one(record)
    assert not said["trained"]
    assert said["notes"] == {"empty-generation": 1}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASK], "response": {"error": {"message": "overloaded"}}},
        {"messages": [ASK], "response": {"choices": []}},
        {"request": {"messages": [ASK]}, "response": None},
        {"request": {"messages": [ASK]}, "response": {}},
        {"messages": [ASK], "response": {"error": {"message": "m"}}, "status": "error"},
        {"messages": [ASK], "response": None, "error": "overloaded", "status": "failed"},
    ],
)
def test_a_failed_call_is_counted_and_not_trained(record: Any) -> None:
    assert one(record) == {"id": "x:1", "trained": False, "notes": {"failed-call": 1}}


@pytest.mark.parametrize(
    ("prompt", "note"),
    [
        ([ASK, ANSWER], "answer-in-prompt"),
        ([ASK, {"role": "assistant", "content": "4"}], "answer-in-prompt"),
        ([ASK, {"role": "assistant", "content": "<think>Easy.</think>4"}], "answer-in-prompt"),
    ],
)
def test_a_prompt_that_holds_its_own_answer_holds_it_once(prompt: Any, note: str) -> None:
    said = one({"messages": prompt, "response": ANSWER})
    assert said == {"id": "x:1", "messages": SAID, "notes": {note: 1}}


@pytest.mark.parametrize("text", ['{"choices": [{"text": "A"}]}', '[{"role": 1}', "data: 4"])
def test_a_text_that_is_no_response_is_the_answer(text: str) -> None:
    said = one({"messages": [ASK], "response": text})
    assert said == {"id": "x:1", "messages": [SAID[0], ("assistant", text)]}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_system_text_beside_messages_that_begin_with_another_comes_first(role: str) -> None:
    request = {"instructions": "Add.", "input": [{"role": role, "content": "Be brief."}, ASK]}
    record = {"request": request, "response": {"output": [{"type": "message", **ANSWER}]}}
    both = [("system", "Add."), ("system", "Be brief."), *SAID]
    assert one(record, Reading(roles={"developer": "system"}))["messages"] == both
    request["input"][1] = {"role": "user", "content": 4}
    assert refused(record).path == "request.input[1].content"


def test_ids_of_a_request_are_those_of_the_prompt() -> None:
    request = {"token_ids": [5, 6], "sampling_params": {"max_tokens": 2}}
    said = one({"request": request, "response": {"choices": [{"token_ids": [7]}]}})
    assert said == {"id": "x:1", "prompt_ids": [5, 6], "completion_ids": [7]}


def test_a_flag_of_the_answer_is_that_of_the_call() -> None:
    answer = {**ANSWER, "train": False}
    assert not one({"messages": [ASK], "response": answer})["trained"]
    assert not one({**IDS, "messages": [ASK], "response": answer})["trained"]
    assert not one({**IDS, "prompt": "<|user|>2+2?", "response": answer})["trained"]
    assert one({**IDS, "messages": [ASK], "response": {**ANSWER, "train": 1}}).get("trained", True)


def test_the_same_answer_for_another_reason_is_another_answer() -> None:
    said = one({"messages": [ASK, {**ANSWER, "reasoning_content": "Hm."}], "response": ANSWER})
    assert said["messages"] == [SAID[0], ("assistant", "4", "Hm."), SAID[1]]


def test_a_response_that_only_calls_is_not_empty() -> None:
    item = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}
    (call,) = read({"input": "2+2?", "response": {"output": [item]}})
    assert call.trained
    assert call.conversation
    assert [c.name for c in call.conversation.messages[-1].tool_calls] == ["f"]


def test_log_probabilities_without_ids_are_counted() -> None:
    said = one({"messages": [ASK], "response": ANSWER, "logprobs": {"content": []}})
    assert said["notes"] == {"unread logprobs": 1}


def test_an_answer_may_be_the_last_of_the_messages() -> None:
    said = one({"messages": [ASK, ANSWER], "group": "g"})
    assert said == {"id": "x:1", "messages": SAID, "notes": {"answer-in-messages": 1}}


def test_another_answer_before_the_last_one_is_context() -> None:
    said = one({"messages": [ASK, {"role": "assistant", "content": "5"}], "response": ANSWER})
    assert said["messages"] == [("user", "2+2?"), ("assistant", "5"), ("assistant", "4", "Easy.")]


def test_messages_count_in_what_was_logged() -> None:
    (call,) = read({"system": "Add.", "messages": [ASK, ANSWER], "response": ANSWER})
    assert call.conversation
    assert [m.role for m in call.conversation.messages] == ["system", "user", "assistant"]
    assert call.conversation.sources == (0, 1, 3)


def test_a_flag_of_the_history_does_not_train_it() -> None:
    record = {"messages": [ASK, {**ANSWER, "train": True}, ASK], "response": ANSWER}
    (call,) = read(record)
    assert call.conversation
    assert not call.conversation.messages[1].train
    assert call.notes == {"history-flag": 1}


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


def test_a_sequence_is_parted_by_its_length() -> None:
    record = {"tokens": [1, 2, 3, 4], "response_length": 3, "rollout_log_probs": [-1, -2, -3]}
    said = one({**record, "prompt": "", "response": "", "status": "completed", "reward": 0.5})
    assert (said["prompt_ids"], said["completion_ids"]) == ([1], [2, 3, 4])
    assert one({"tokens": [1], "response_length": 0})["completion_ids"] == []


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


@pytest.mark.parametrize(
    ("request_", "variables"),
    [
        ({"chat_template_kwargs": {"enable_thinking": False}}, {"enable_thinking": False}),
        ({"extra_body": {"chat_template_kwargs": {"a": 1}}}, {"a": 1}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"temperature": 1, "max_tokens": 5, "stream": False, "n": 1, "seed": 3}, {}),
    ],
)
def test_what_a_request_says_to_the_template(request_: Any, variables: Any) -> None:
    record = {"request": {"messages": [ASK], **request_}, "response": ANSWER}
    (call,) = read(record)
    assert call.conversation
    assert call.conversation.template_kwargs == variables
    assert not call.notes


@pytest.mark.parametrize(
    ("choice", "request_", "finished"),
    [
        ({"finish_reason": "stop"}, {}, True),
        ({"finish_reason": "length"}, {}, False),
        ({"finish_reason": "stop", "stop_reason": None}, {}, True),
        ({"finish_reason": "stop", "stop_reason": "\nObservation"}, {}, False),
        ({"finish_reason": "stop", "stop_reason": 151643}, {}, True),
        ({"finish_reason": "stop", "matched_stop": 151643}, {}, True),
        ({"finish_reason": "stop", "matched_stop": "\nObservation"}, {}, False),
        ({"finish_reason": "stop"}, {"stop": ["\n"]}, False),
        ({"finish_reason": "stop"}, {"stop_token_ids": [5]}, False),
        ({"finish_reason": "tool_calls"}, {"stop": None}, True),
    ],
)
def test_whether_the_model_wrote_a_stop(choice: Any, request_: Any, finished: bool) -> None:
    response = {"choices": [{"message": ANSWER, **choice}]}
    (call,) = read({"request": {"messages": [ASK], **request_}, "response": response})
    assert call.conversation
    assert call.conversation.messages[-1].finished is finished


def test_responses_of_services() -> None:
    items = [
        {"type": "reasoning", "id": "rs", "summary": [], "content": [
            {"type": "reasoning_text", "text": "Easy."}]},
        {"type": "message", "role": "assistant", "status": "completed", "content": [
            {"type": "output_text", "text": "4", "annotations": []}]},
    ]  # fmt: skip
    request = {"model": "m", "instructions": "Add.", "input": "2+2?", "store": False}
    response = {"id": "resp_1", "status": "completed", "output": items, "usage": {"a": 1}}
    (call,) = read({"request": request, "response": response})
    assert shown(call) == {"id": "resp_1", "messages": [("system", "Add."), *SAID]}
    response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    (call,) = read({"request": request, "response": response})
    assert call.conversation
    assert not call.conversation.messages[-1].finished


def test_messages_of_anthropic() -> None:
    content = [{"type": "thinking", "thinking": "Easy.", "signature": "s"},
               {"type": "text", "text": "4"}]  # fmt: skip
    response = {"id": "msg_1", "type": "message", "role": "assistant", "model": "c",
                "content": content, "stop_reason": "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": 3}}  # fmt: skip
    system = [{"type": "text", "text": "Add.", "cache_control": {"type": "ephemeral"}}]
    tools = [{"name": "f", "description": "F.", "input_schema": {"type": "object"}}]
    request = {"system": system, "messages": [ASK], "tools": tools, "max_tokens": 9}
    request["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    (call,) = read({"request": request, "response": response})
    assert shown(call) == {"id": "msg_1", "messages": [("system", "Add."), *SAID]}
    assert call.conversation
    assert call.conversation.tools
    prefilled = {**request, "messages": [ASK, {"role": "assistant", "content": "It is"}]}
    assert refused({"request": prefilled, "response": response}).path == "request.messages[1]"
    cut = {**response, "stop_reason": "stop_sequence", "stop_sequence": "X"}
    (call,) = read({"request": request, "response": cut})
    assert call.conversation
    assert not call.conversation.messages[-1].finished


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


@pytest.mark.parametrize("name", ["arguments", "args", "input", "parameters"])
def test_nulls_of_a_row_are_kept_under_any_name_of_arguments(name: str) -> None:
    """Whether they were written cannot be known: they are no fields that may be left out."""
    call = {"name": "f", name: {"a": None}}
    item = {"type": "function_call", "name": "f", "arguments": {"a": None}}
    block = {"type": "tool_use", "name": "f", "input": {"a": None}}
    role = {"role": "assistant"}
    for row in (
        {"messages": [ASK], "response": {**role, "content": None, "tool_calls": [call]}},
        {"messages": [ASK], "response": {**role, "tool_calls": [{"function": call}]}},
        {"messages": [ASK], "response": {"choices": [{"message": {**role, "tool_calls": [call]}}]}},
        {"messages": [ASK], "response": {**role, "content": [block]}},
        {"messages": [ASK], "response": {**role, "value": [block]}},
        {"messages": [ASK, item, ASK], "response": {**role, "content": "4"}},
    ):
        with pytest.raises(RecordError, match="--null-arguments"):
            read_calls(Record("x:1", b"", row))


def test_nan_is_no_number_of_a_line() -> None:
    line = b'{"prompt_ids": [5], "completion_ids": [7], "logprobs": [NaN]}'
    with pytest.raises(RecordError, match="NaN is no JSON number"):
        read_calls(Record("x:1", line))
