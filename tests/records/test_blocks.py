"""Blocks of Anthropic, Mistral and OpenAI in the content of messages."""

from __future__ import annotations

from typing import Any

import pytest
from records_of import ASK, read, refused, shown

from reasonpack.records.dialects import normalised

THINKING = {"type": "thinking", "thinking": "Think one.", "signature": "c2ln"}
TEXT = {"type": "text", "text": "Let me look."}
USE = {"type": "tool_use", "id": "toolu_01", "name": "look_up", "input": {"key": "a"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_01", "content": "Result one."}
ANSWER = {"role": "assistant", "content": [{"type": "text", "text": "Answer one."}]}


def assistant(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(parts), **fields}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_anthropic() -> None:
    conversation = read(ASK, assistant(THINKING, TEXT, USE), user(RESULT), ANSWER)
    assert shown(conversation) == [
        ("user", "Ask one.", None, []),
        ("assistant", "Let me look.", "Think one.", [("look_up", {"key": "a"}, "toolu_01")]),
        ("tool", "Result one.", None, []),
        ("assistant", "Answer one.", None, []),
    ]
    assert conversation.messages[2].extra["tool_call_id"] == "toolu_01"
    assert conversation.sources == ()


def test_results_become_messages_before_the_text() -> None:
    second = {"type": "tool_result", "tool_use_id": "b", "is_error": True}
    both = {**RESULT, "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    text = {"type": "text", "text": "Go on.", "cache_control": {"type": "ephemeral"}}
    conversation = read(ASK, assistant(USE, {**USE, "id": "b"}), user(both, second, text), ANSWER)
    assert shown(conversation)[2:] == [
        ("tool", "ab", None, []),
        ("tool", "", None, []),
        ("user", "Go on.", None, []),
        ("assistant", "Answer one.", None, []),
    ]
    assert conversation.sources == (0, 1, 2, 2, 2, 3)
    assert conversation.messages[3].extra["is_error"] is True
    assert [c.id for c in conversation.messages[1].tool_calls] == ["toolu_01", "b"]


@pytest.mark.parametrize("name", ["text", "input_text", "output_text"])
@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_text_of_any_service(name: str, role: str) -> None:
    parts = [{"type": name, "text": "a", "annotations": []}, {"type": name, "text": "b"}]
    made = read(ASK, {"role": role, "content": parts}, ANSWER).messages[1]
    assert (made.role, made.content) == (role, "ab")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Think one."}], "closed": True},
        {"type": "thinking", "thinking": [{"type": "text", "text": t} for t in ("Think ", "one.")]},
        {"type": "thinking", "thinking": "Think one.", "signature": ""},
        {"type": "thinking", "thinking": "Think one.", "text": "", "reasoning": None},
        {"type": "reasoning_text", "text": "Think one."},
    ],
)
def test_thinking_of_any_service(part: dict[str, Any]) -> None:
    made = read(ASK, assistant(part, {"type": "text", "text": "Answer one."})).messages[1]
    assert (made.content, made.reasoning) == ("Answer one.", "Think one.")


def test_thinking_that_is_not_closed_was_cut_off() -> None:
    part = {"type": "thinking", "thinking": [{"type": "text", "text": "Thi"}], "closed": False}

    made = normalised([ASK, assistant(part)], "messages").messages[1]
    assert made["finish_reason"] == "length"


REFUSED: dict[str, tuple[list[Any], str, str]] = {
    "redacted": (
        [ASK, assistant({"type": "redacted_thinking", "data": "x"}, TEXT)],
        *("hidden-reasoning", "messages[1].content[0]"),
    ),
    "a signature alone": (
        [ASK, assistant({**THINKING, "thinking": ""}, TEXT)],
        *("hidden-reasoning", "messages[1].content[0]"),
    ),
    "text behind a call": (
        [ASK, assistant(USE, TEXT)],
        *("content", "messages[1].content[1]"),
    ),
    "thinking behind a call": (
        [ASK, assistant(USE, THINKING)],
        *("content", "messages[1].content[1]"),
    ),
    "a result behind text": (
        [ASK, assistant(USE), user(TEXT, RESULT)],
        *("content", "messages[2].content[1]"),
    ),
    "a result of the assistant": (
        [ASK, assistant(USE, RESULT)],
        *("role", "messages[1].content[1]"),
    ),
    "calls twice": (
        [ASK, assistant(USE, tool_calls=[{"name": "f", "arguments": {}}])],
        *("conflict", "messages[1]"),
    ),
    "a result beside a text under the other name": (
        [ASK, assistant(USE), {**user(RESULT), "value": "More."}, ANSWER],
        *("conflict", "messages[2].content[0]"),
    ),
    "a call of the user": ([ASK, user(USE), ANSWER], "role", "messages[1]"),
    "a call without name": (
        [ASK, assistant(TEXT, {**USE, "name": None})],
        *("missing", "messages[1].content[1]"),
    ),
    "a call whose input is a number": (
        [ASK, assistant(TEXT, {**USE, "input": 3})],
        *("type", "messages[1].content[1].input"),
    ),
    "a call of a server": (
        [ASK, assistant({**USE, "type": "server_tool_use"})],
        *("content", "messages[1].content[0]"),
    ),
    "an image in a result": (
        [ASK, assistant(USE), user({**RESULT, "content": [{"type": "image", "source": {}}]})],
        *("media", "messages[2].content[0].content[0]"),
    ),
    "a part without text behind a result": (
        [ASK, assistant(USE), user(RESULT, {"type": "text"})],
        *("missing", "messages[2].content[1]"),
    ),
    "a chunk that is no text": (
        [ASK, assistant({"type": "thinking", "thinking": [{"type": "reference"}]})],
        *("content", "messages[1].content[0].thinking[0]"),
    ),
}


@pytest.mark.parametrize(("messages", "reason", "path"), REFUSED.values(), ids=REFUSED)
def test_refused_blocks(messages: list[Any], reason: str, path: str) -> None:
    error = refused(*messages)
    assert (error.reason, error.path) == (reason, path)
    assert error.fix or reason == "type"


@pytest.mark.parametrize(
    "kind",
    [
        *("image_url", "image", "input_image", "input_audio", "audio", "video", "video_url"),
        *("file", "input_file", "document"),
    ],
)
@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_media_have_a_reason_of_their_own(kind: str, role: str) -> None:
    part = {"type": kind, kind: {"url": "data:"}}
    error = refused(ASK, {"role": role, "content": [{"type": "text", "text": "See:"}, part]})
    assert (error.reason, error.path) == ("media", "messages[1].content[1]")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"reasoning": "a"}, "role"), ({"train": 1}, "role"), ({"images": ["a"]}, "media")],
)
def test_fields_beside_results_are_not_lost(fields: dict[str, Any], reason: str) -> None:
    for parts in [RESULT], [RESULT, TEXT]:
        assert refused(ASK, assistant(USE), user(*parts) | fields).reason == reason
    name = read(ASK, assistant(USE), user(RESULT) | {"name": "a"}).messages[2].extra["name"]
    assert name == "a"


def test_fix_of_text_behind_a_call_loses_nothing() -> None:
    before = read(ASK, assistant(TEXT, USE), user(RESULT), ANSWER)
    apart = read(ASK, assistant(USE), user(RESULT), assistant(TEXT))
    for conversation in before, apart:
        said = [message.content for message in conversation.messages]
        assert "Let me look." in said
        assert any(message.tool_calls for message in conversation.messages)
