"""Items of OpenAI's Responses become messages; what cannot be shown in order is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from records_of import ASK, read, refused, shown

from reasonpack.records.unread_fields import MESSAGE_FIELDS


def said(text: str, **fields: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "content": [part], **fields}


def thought(text: str, **fields: Any) -> dict[str, Any]:
    part = {"type": "reasoning_text", "text": text}
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": [part], **fields}


def called(call_id: str, **fields: Any) -> dict[str, Any]:
    arguments = json.dumps({"key": call_id})
    call = {"type": "function_call", "name": "look_up", "arguments": arguments, "call_id": call_id}
    return {**call, "id": f"fc_{call_id}", "status": "completed", **fields}


def output(call_id: str, value: Any = "Result one.") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": value}


QUESTION = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Ask one."}],
}


def test_items_of_one_answer_are_one_message() -> None:
    items = [QUESTION, thought("Think one."), said("Let me look."), called("a"), called("b")]
    results = [output("a"), output("b", [{"type": "input_text", "text": "Result two."}])]
    conversation = read(*items, *results, thought("Think two."), said("Answer one."))
    calls = [("look_up", {"key": name}, name) for name in "ab"]
    assert shown(conversation) == [
        ("user", "Ask one.", None, []),
        ("assistant", "Let me look.", "Think one.", calls),
        ("tool", "Result one.", None, []),
        ("tool", "Result two.", None, []),
        ("assistant", "Answer one.", "Think two.", []),
    ]
    assert conversation.sources == (0, 1, 5, 6, 7)
    assert [m.extra.get("tool_call_id") for m in conversation.messages[2:4]] == ["a", "b"]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([said("Answer.")], [("Answer.", None, 0)]),
        ([thought("Think.")], [(None, "Think.", 0)]),
        ([called("a")], [(None, None, 1)]),
        ([thought("Think."), called("a")], [(None, "Think.", 1)]),
        (
            [thought("Think."), {"role": "assistant", "content": "Answer."}],
            [("Answer.", "Think.", 0)],
        ),
        ([{"role": "assistant", "content": "Answer."}, called("a")], [("Answer.", None, 1)]),
        ([said("Answer.", tool_calls=None), called("a")], [("Answer.", None, 1)]),
        ([said("Answer.", reasoning="Think."), called("a")], [("Answer.", "Think.", 1)]),
        ([thought("Think.", encrypted_content="x")], [(None, "Think.", 0)]),
        ([said("One."), said("Two.")], [("One.", None, 0), ("Two.", None, 0)]),
    ],
)
def test_answers(items: list[Any], expected: list[Any]) -> None:
    answers = read(ASK, *items).messages[1:]
    assert [(m.content, m.reasoning, len(m.tool_calls)) for m in answers] == expected


@pytest.mark.parametrize(
    "items",
    [
        [said("Answer", status="incomplete")],
        [thought("Think."), said("Answer", status="incomplete")],
        [thought("Think.", status="in_progress"), said("Answer", status="completed")],
        [thought("Think."), called("a", status="incomplete")],
    ],
)
def test_an_item_that_was_cut_off_is_trained_without_a_stop(items: list[Any]) -> None:
    assert [m.finished for m in read(ASK, *items).messages] == [True, False]


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_a_field_of_an_item_that_counts_as_absent(nothing: Any) -> None:
    for name in sorted(MESSAGE_FIELDS - {"role", "from", "content", "value"}):
        items = [kind("a", **{name: nothing}) for kind in (thought, said, called, called)]
        _, answer = read(ASK, *items).messages
        assert (answer.content, answer.reasoning, len(answer.tool_calls)) == ("a", "a", 2), name


REFUSED: dict[str, tuple[list[Any], str, str]] = {
    "encrypted": (
        [thought("", encrypted_content="gAAA"), said("Answer.")],
        *("hidden-reasoning", "messages[1]"),
    ),
    "a summary": (
        [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}],
        *("hidden-reasoning", "messages[1]"),
    ),
    "no reasoning in it": (
        [{"type": "reasoning", "summary": []}],
        "hidden-reasoning",
        "messages[1]",
    ),
    "reasoning behind text": ([said("a"), thought("b"), called("c")], "content", "messages[2]"),
    "text behind a call": ([called("c"), said("a")], "content", "messages[2]"),
    "two messages": ([thought("b"), said("a"), said("c")], "content", "messages[3]"),
    "two reasonings": ([thought("b"), thought("a"), said("c")], "content", "messages[2]"),
    "reasoning twice": ([thought("b"), said("a", reasoning="b")], "content", "messages[2]"),
    "calls that are no list": (
        [called("c", tool_calls="f")],
        *("type", "messages[1].tool_calls"),
    ),
    "another item": ([{"type": "web_search_call", "id": "a"}], "role", "messages[1].type"),
    "no arguments": ([called("c", arguments=None)], "missing", "messages[1]"),
    "arguments that are no object": (
        [thought("b"), called("c", arguments="[]")],
        *("tools", "messages[2].arguments"),
    ),
    "flags that differ": ([thought("b", loss=0), said("a")], "conflict", "messages[2]"),
    "an output that is a number": ([output("c", 3)], "type", "messages[1].output"),
    "an image": (
        [output("c", [{"type": "input_image", "image_url": "a"}])],
        *("media", "messages[1].output[0]"),
    ),
    "a part that is no reasoning": (
        [{"type": "reasoning", "content": [{"type": "summary_text", "text": "a"}]}],
        *("content", "messages[1].content[0]"),
    ),
}


@pytest.mark.parametrize(("items", "reason", "path"), REFUSED.values(), ids=REFUSED)
def test_refused_items(items: list[Any], reason: str, path: str) -> None:
    error = refused(ASK, *items, ASK, {"role": "assistant", "content": "x"})
    assert (error.reason, error.path) == (reason, path)
    assert error.fix or reason == "type"


def test_flag_of_an_item_is_that_of_its_message() -> None:
    items = [item | {"train": False} for item in (thought("a"), said("b"), called("c"))]
    assert [m.train for m in read(ASK, *items).messages] == [True, False]


def test_hidden_reasoning_may_be_context() -> None:
    """What the fix says ends the error."""
    assert not read(ASK, said("Answer.", train=False)).messages[1].train
    assert read(ASK, thought("All of it."), said("Answer.")).messages[1].reasoning == "All of it."
