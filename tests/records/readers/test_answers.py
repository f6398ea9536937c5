"""Answers as services return them: choices, items, blocks or text, empty ones and none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from logged import ANSWER, ASK, SAID, one, read, refused, shown


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


@pytest.mark.parametrize("text", ['{"choices": [{"text": "A"}]}', '[{"role": 1}', "data: 4"])
def test_a_text_that_is_no_response_is_the_answer(text: str) -> None:
    said = one({"messages": [ASK], "response": text})
    assert said == {"id": "x:1", "messages": [SAID[0], ("assistant", text)]}


@pytest.mark.parametrize(
    "response",
    [
        {"id": "r", "choices": [{"index": 0, "message": ANSWER}]},
        {"output": [{"type": "message", **ANSWER}]},
        {"model": "m", "message": ANSWER, "done": True},
    ],
)
def test_a_response_as_json_text_is_read_though_it_names_no_object(response: Any) -> None:
    """The text itself was trained as the answer."""
    (call,) = read({"messages": [ASK], "response": json.dumps(response)})
    assert call.conversation
    assert call.conversation.messages[-1].content == ANSWER["content"]
    piece = {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "4"}}]}
    assert "streamed" in refused({"messages": [ASK], "response": json.dumps(piece)}).what


def test_a_response_that_only_calls_is_not_empty() -> None:
    item = {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"}
    (call,) = read({"input": "2+2?", "response": {"output": [item]}})
    assert call.trained
    assert call.conversation
    assert [c.name for c in call.conversation.messages[-1].tool_calls] == ["f"]


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
