"""A message: reasoning within its text or beside it, arguments as text, fields of its own."""

from __future__ import annotations

from typing import Any

import pytest
from one_answer import ANSWER, ASK, answer, chat, parse

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Message
from reasonpack.records.tool_calls import ToolCall


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("<think>\n\n</think>\n\n4", ("4", None)),
        ("<think> a \n b</think>\n 4\n", (" 4\n", " a \n b")),
        ("<think>a</think>", ("", "a")),
        ("</think>4", ("4", None)),
        ("see <think>", ("see <think>", None)),
    ],
)
def test_inline_reasoning(content: str, expected: tuple[str, str | None]) -> None:
    message = parse(answer(content=content)).messages[1]
    assert (message.content, message.reasoning) == expected


def test_inline_reasoning_is_left_where_another_role_says_it() -> None:
    user = {"role": "user", "content": "<think>a</think>b"}
    assert parse(chat(user, ANSWER)).messages[0].content == "<think>a</think>b"


def test_closing_tag_in_the_json_of_a_call_is_no_reasoning() -> None:
    text = '{"name": "f", "arguments": {"a": "</think>"}}'
    read = parse({"conversations": [ASK, {"from": "function_call", "value": text}]})
    assert read.messages[1].tool_calls == (ToolCall("f", {"a": "</think>"}),)


def test_answer_may_be_reasoning_alone() -> None:
    nothing: list[dict[str, Any]] = [{}, {"content": None}, {"content": []}]
    for absent in nothing:
        read = parse(answer(reasoning="easy", **absent))
        noticed = ("reasoning-alone",)
        alone = Message("assistant", None, "easy", finished=False, noticed=noticed)
        assert read.messages[1] == alone


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"a": 1}', {"a": 1}),
        (' {"a\\\\": 12345678901234567890123}', {"a\\": 12345678901234567890123}),
    ],
)
def test_arguments_as_text(written: str, arguments: object) -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": written}}
    assert parse(answer(tool_calls=[call])).messages[1].tool_calls == (
        ToolCall("f", arguments, written, "c1"),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("written", "reason", "words"),
    [
        ("[1]", "tools", r"is no JSON object.*write an object, \{\} if there are none"),
        ("", "tools", "is no JSON object"),
        ('{"a": 1', "json", "not JSON at column 8.*write one whole JSON value"),
        ('{"a": NaN}', "json", "NaN is no JSON number.*write null"),
        ('{"a": "\\ud800"}', "encoding", "lone surrogate.*write the character itself"),
    ],
)
def test_arguments_that_are_no_object_are_refused(written: str, reason: str, words: str) -> None:
    call = {"id": "c1", "function": {"name": "f", "arguments": written}}
    with pytest.raises(RecordError, match=words) as refusal:
        parse(answer(tool_calls=[call]))
    assert refusal.value.reason == reason
    assert refusal.value.path == "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize("field", ["thought", "reasoning_content"])
@pytest.mark.parametrize("content", ["<think>a</think>b", " <think>c</think>"])
def test_reasoning_given_twice_is_refused(field: str, content: str) -> None:
    with pytest.raises(RecordError, match="again in the content") as refusal:
        parse(answer(content=content, **{field: "a"}))
    assert refusal.value.reason == "conflict"


def test_unknown_fields_reach_the_template_in_order() -> None:
    fields = {"tool_call_id": "c1", "name": "f", "z": {"a": None}, "a": [None, 1.5]}
    read = parse(chat(ASK, {"role": "tool", "content": "4", **fields, "null": None}, ANSWER))
    assert list(read.messages[1].extra.items()) == list(fields.items())
