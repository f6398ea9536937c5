"""The reader of `verify`: what `record.schema.json` says of each shape, and what is not known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from packed_twice import FIXTURES, Json

from reasonpack.verify.chat import Chat, Message, NotChecked, Reading, Refused
from reasonpack.verify.reader import read_chat

SCHEMA = json.loads((FIXTURES.parent / "schemas" / "record.schema.json").read_text())
ASK = {"role": "user", "content": "And?"}
FUNCTION = {"name": "f", "arguments": {"a": 1}}
CALL = {"type": "function", "function": FUNCTION}


def answer(message: Json, **reading: Any) -> Message:
    """Read one answer."""
    return read_chat({"messages": [ASK, message]}, Reading(**reading)).messages[1]


def said(content: Any, **fields: Any) -> Json:
    return {"role": "assistant", "content": content, **fields}


def blocks(*parts: Json) -> Json:
    return said([*parts, {"type": "text", "text": "B"}])


# --- shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        said("B", reasoning_content="A"),
        said("B", reasoning="A", thinking="A"),
        said("B", reasoning_text="A"),
        said("B", reasoning_details=[{"type": "reasoning.text", "text": "A", "signature": "x"}]),
        said("B", thinking_blocks=[{"type": "thinking", "thinking": "A"}]),
        said("B", provider_specific_fields={"reasoning_content": "A"}),
        said("B", reasoning_items=[{"content": [{"type": "text", "text": "A"}]}]),
        said("B", reasoningContentBlocks=[{"reasoningText": {"text": "A"}}]),
        said("<think>A</think>B"),
        said("<think>\nA\n</think>\n\nB"),
        said("A\n</think>\n\nB"),
        blocks({"type": "thinking", "thinking": "A"}),
        blocks({"type": "thinking", "thinking": [{"type": "text", "text": "A"}]}),
        blocks({"type": "reasoning", "text": "A"}),
        {"from": "gpt", "value": "<think>A</think>B"},
    ],
)
def test_reasoning_in_every_place(message: Json) -> None:
    read = answer(message)
    assert (read.reasoning, read.content, read.cut, read.trained) == ("A", "B", False, True)
    inline = "</think>" in str(message)
    assert read.verbatim == (message.get("content", message.get("value")) if inline else None)


def test_a_thought_that_repeats_the_answer_is_none() -> None:
    assert answer(said("A and B.", thought="A and B.")).reasoning == ""
    assert answer(said("A and B.", thought="A and\n")).reasoning == ""
    assert answer(said("B.", thought="A")).reasoning == "A"
    assert answer(said("A is B.", thinking="A is")).reasoning == "A is", "by chance"
    assert answer(said(f"{'A' * 41} is B.", thinking="A" * 41)).reasoning == ""
    assert answer(said("Abc", thought="Ab")).reasoning == "Ab"


def test_a_thought_within_the_answer_is_refused() -> None:
    with pytest.raises(Refused):
        answer(said(f"So: {'A' * 41}", thought="A" * 41))
    assert answer(said("So: A", thought="A")).reasoning == "A"


@pytest.mark.parametrize("content", [[], [{"type": "thinking", "thinking": ""}]])
def test_an_answer_with_nothing_in_it_is_refused(content: Any) -> None:
    with pytest.raises(Refused):
        answer(said(content))


@pytest.mark.parametrize("part", [{"text": None}, {"text": []}, {"text": {}}])
def test_a_part_of_text_without_text_is_refused(part: Json) -> None:
    with pytest.raises(Refused):
        answer(said([{"type": "text", **part}, {"type": "text", "text": "x"}]))
    assert answer(said([{"type": "text", **part, "text": "4"}])).content == "4"


def test_a_closing_tag_in_an_answer() -> None:
    text = "It writes </think> and then answers."
    with pytest.raises(Refused):
        answer(said(text))
    assert answer(said(text), closers=()).content == text
    for empty in ("<think> </think>B", "</think> is the tag."):
        assert answer(said(empty), closers=()).content == empty
        assert answer(said(empty)).content == empty.partition("</think>")[2]
    assert answer(said(text), stray_tag="text").content == text
    split = answer(said(text), stray_tag="reasoning")
    assert (split.reasoning, split.content) == ("It writes ", " and then answers.")
    assert answer(said("A</think>B"), prompt_opens=True).reasoning == "A"


def test_several_closing_tags_end_reasoning_at_the_last() -> None:
    for text in ("<think>A</think>B</think>C", "A</think>B</think>C"):
        split = answer(said(text), stray_tag="reasoning")
        assert (split.reasoning, split.content) == ("A</think>B", "C")
        with pytest.raises(Refused):
            answer(said(text))
    assert answer(said("<think>A</think>B</think>C"), stray_tag="text").content == "B</think>C"
    for message in (said("B</think>C", reasoning="A"), said("A<think>B</think>C")):
        with pytest.raises(Refused):
            answer(message, stray_tag="reasoning")


def test_a_closing_tag_in_a_field_of_reasoning() -> None:
    message = said("C", reasoning="A</think>B")
    for stray in ("refuse", "reasoning"):
        with pytest.raises(Refused):
            answer(message, stray_tag=stray)
    assert answer(message, stray_tag="text").reasoning == "A</think>B"
    assert answer(message, closers=("</thought>",)).reasoning == "A</think>B"


def test_reasoning_that_was_cut_off_before_its_tag() -> None:
    read = answer(said("<think>\nA", finish_reason="length"))
    assert (read.reasoning, read.content, read.verbatim) == ("A", "", "<think>\nA")


@pytest.mark.parametrize(
    "message",
    [
        said("Four and", finish_reason="length"),
        said("Four and", stop_reason="max_tokens"),
        said("Four and", prefix=True),
        said("", reasoning_content="Two and"),
        said(" \n", reasoning_content="Two and"),
        said("<think>Two and", finish_reason="length"),
        blocks({"type": "thinking", "thinking": "A", "closed": False}),
    ],
)
def test_answers_that_were_cut_off(message: Json) -> None:
    assert answer(message).cut


@pytest.mark.parametrize(
    "message",
    [
        said("", tool_calls=[CALL]),
        said("", tool_calls=[{**FUNCTION, "arguments": '{"a": 1}'}]),
        said("", function_call=FUNCTION),
        said([{"type": "tool_use", "name": "f", "input": {"a": 1}}]),
        {"role": "function_call", "content": json.dumps(FUNCTION)},
        {"role": "tool_call", "content": json.dumps([FUNCTION])},
    ],
)
def test_calls_in_every_form(message: Json) -> None:
    assert answer(message).calls == (CALL,)


def joined(*messages: Json) -> list[Message]:
    return list(read_chat({"messages": [ASK, *messages]}, Reading()).messages[1:])


def test_what_is_one_generation_is_joined() -> None:
    thinking, calling = (
        said("<think>A</think>"),
        {"role": "tool_call", "content": json.dumps(FUNCTION)},
    )
    (one,) = joined(thinking, calling, calling)
    assert (one.reasoning, one.calls, one.cut, one.source) == ("A", (CALL, CALL), False, 1)
    (two,) = joined(said("Text."), calling)
    assert (two.content, two.calls) == ("Text.", (CALL,))
    assert len(joined(said("Text."), said("", tool_calls=[CALL]))) == 2
    (three,) = joined(thinking, said("B"))
    assert (three.reasoning, three.content, three.cut) == ("A", "B", False)
    assert len(joined({**thinking, "finish_reason": "stop"}, said("B"))) == 2
    assert len(joined(thinking, said("<think>A</think>B"))) == 2
    assert len(joined(thinking, said(" "))) == 2
    with pytest.raises(Refused):
        joined({**thinking, "train": False}, calling)


def test_results_come_before_the_rest_of_their_message() -> None:
    result = {
        "type": "tool_result",
        "tool_use_id": "c1",
        "content": [{"type": "text", "text": "R"}],
    }
    content = [result, {"type": "text", "text": "More."}]
    chat = read_chat({"messages": [said("B"), {"role": "user", "content": content}]}, Reading())
    assert [(each.role, each.content, each.source) for each in chat.messages] == [
        ("assistant", "B", 0),
        ("tool", "R", 1),
        ("user", "More.", 1),
    ]
    assert chat.messages[1].more == {"tool_call_id": "c1"}


def test_a_whole_record() -> None:
    record = {
        "system": "Be brief.",
        "prompt": [ASK, said("Old."), ASK],
        "completion": "B",
        "reasoning": "A",
        "functions": json.dumps([{"name": "f"}]),
        "chat_template_kwargs": '{"x": 1}',
        "enable_thinking": False,
    }
    chat = read_chat(record, Reading())
    assert chat.tools == [{"type": "function", "function": {"name": "f"}}]
    assert chat.variables == {"x": 1, "enable_thinking": False}
    assert [each.source for each in chat.messages] == [0, 1, 2, 3, 4]
    assert [each.trained for each in chat.messages] == [False, False, False, False, True]
    assert chat.messages[4].reasoning == "A"


@pytest.mark.parametrize("effort", ["off", "High"])
def test_a_word_that_switches_reasoning_off_is_none(effort: str) -> None:
    chat = read_chat({"prompt": "A", "completion": "B", "reasoning": effort}, Reading())
    assert chat.messages[1].reasoning == ""


def test_a_system_message_that_is_there_already() -> None:
    system = {"role": "system", "content": "A"}
    chat = read_chat({"system": "A", "messages": [system, ASK, said("B")]}, Reading())
    assert [(each.role, each.source) for each in chat.messages] == [
        *(("system", 0), ("user", 1), ("assistant", 2)),
    ]


def test_the_last_turn_alone() -> None:
    chat: Chat = read_chat(
        {"messages": [ASK, said("1"), ASK, said("2"), said("3")]},
        Reading(trained_answers="last-turn"),
    )
    assert [each.trained for each in chat.messages] == [False, False, False, True, True]


def test_a_completion_may_be_all_of_a_conversation() -> None:
    read = read_chat({"prompt": [], "completion": [ASK, said("B")]}, Reading())
    assert [one.role for one in read.messages] == ["user", "assistant"]


# --- what is not known, and what must be refused -------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [ASK, said("B", mood=["merry"])]},
        {"messages": [ASK, said("B", provider_specific_fields={"mood": "merry"})]},
        {"messages": [ASK, said("B", additional_kwargs={"cot": "A"})]},
        {"messages": [ASK, said("B", metadata={"reasoning": "A"})]},
        {"messages": [ASK, said("B", extra={"info": {"loss_mask": 0}})]},
        {"messages": [ASK, said([{"type": "text", "text": "B", "mood": "merry"}])]},
        {"messages": [ASK, said("", tool_calls=[{**CALL, "thoughts": "A"}])]},
        {"messages": [ASK, said("", tool_calls=[{"function": {**FUNCTION, "thoughts": "A"}}])]},
    ],
)
def test_what_is_not_known_is_not_checked(record: Json) -> None:
    with pytest.raises(NotChecked):
        read_chat(record, Reading())


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"messages": 3},
        {"messages": [ASK], "conversations": [ASK]},
        {"messages": [{"role": "nobody", "content": "x"}]},
        {"messages": [ASK, said("B", train=True, weight=0)]},
        {"messages": [ASK, said("B", loss_mask=[0, 1])]},
        {"messages": [ASK, said("B", reasoning="A", thinking="C")]},
        {"messages": [ASK, said("B", channel="analysis")]},
        {"messages": [ASK, said("B", images=["x"])]},
        {"messages": [ASK, said("<think>A")]},
        {"messages": [ASK, said("<think>A</think>B", reasoning="A")]},
        {"messages": [ASK, said("B", reasoning="<think>A")]},
        {"messages": [ASK, {"role": "user", "from": "gpt", "content": "B"}]},
        {"messages": [ASK, {"role": "assistant", "content": "B", "value": "C"}]},
        {"system": "A", "messages": [{"role": "system", "content": "B"}, ASK, said("B")]},
        {"messages": [ASK, said([{"type": "image_url"}])]},
        {"messages": [ASK, said("B", reasoning_details=[{"type": "reasoning.encrypted"}])]},
        {"messages": [ASK, said("B", thinking_blocks=[{"type": "thinking", "signature": "x"}])]},
        {"messages": [ASK, said("", tool_calls=[{"function": {"name": "f", "arguments": "x"}}])]},
        {"messages": [ASK, said("B", provider_specific_fields=5)]},
        {"messages": [ASK, said("B")], "tools": "{"},
        {"messages": [ASK, said("B")], "chat_template_kwargs": "[]"},
    ],
)
def test_what_must_be_refused(record: Json) -> None:
    with pytest.raises(Refused):
        read_chat(record, Reading())
