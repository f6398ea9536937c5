"""Messages of other shapes become those of OpenAI, each with the message it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from records_of import ASK, ROOT, read, refused, shown

from reasonpack.errors import RecordError
from reasonpack.records.conversation import parse_line, parse_row
from reasonpack.records.dialects import normalised
from reasonpack.records.reading import Reading
from reasonpack.records.tool_calls import ToolCall
from reasonpack.records.unknown import UnknownFieldError

DATA = sorted((ROOT / ".." / "shared" / "data").glob("*.jsonl"))

ANSWER = {"role": "assistant", "content": "Answer one."}
RESULT = {"role": "tool", "content": "Result one."}
CALL = {"name": "look_up", "arguments": {"key": "a"}}
CALL_TEXT = '{"name": "look_up", "arguments": {"key": "a"}}'
THINK = "<think>\nThink one.\n</think>"

LOOKED_UP = ToolCall("look_up", {"key": "a"})


def test_ordinary_messages_are_left_as_they_are() -> None:
    messages = [ASK, {**ANSWER, "reasoning": "a", "tool_calls": [{"function": CALL}]}, RESULT]
    made = normalised(messages, "messages")
    assert made.messages is messages
    assert (made.sources, made.places) == ((), {})


@pytest.mark.skipif(not DATA, reason="the shared data are not here")
@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_real_data_are_ordinary(path: Path) -> None:
    for line in path.read_bytes().splitlines():
        messages = json.loads(line)["messages"]
        assert normalised(messages, "messages").messages is messages


@pytest.mark.parametrize("messages", [None, "hi", {}, [], ["hi"], [ASK, 3, {"type": "reasoning"}]])
def test_what_is_no_list_of_objects_is_left_alone(messages: object) -> None:
    assert normalised(messages, "messages").messages is messages


# ----------------------------------------------------------- roles of calls


CALLS_ALONE: dict[str, list[dict[str, Any]]] = {
    "tool_call": [{"role": "tool_call", "content": CALL_TEXT}],
    "function_call": [{"from": "function_call", "value": CALL_TEXT}],
    "in a list": [{"role": "tool_call", "content": f"[{CALL_TEXT}]"}],
}


@pytest.mark.parametrize("calls", CALLS_ALONE.values(), ids=CALLS_ALONE)
@pytest.mark.parametrize("result", ["tool", "tool_response", "observation"])
def test_role_of_calls_and_of_results(calls: list[dict[str, Any]], result: str) -> None:
    conversation = read(ASK, *calls, {"role": result, "content": "Result one."}, ANSWER)
    assert shown(conversation) == [
        ("user", "Ask one.", None, []),
        ("assistant", None, None, [("look_up", {"key": "a"}, None)]),
        ("tool", "Result one.", None, []),
        ("assistant", "Answer one.", None, []),
    ]
    assert conversation.sources == ()


def test_calls_that_follow_one_another_are_one_message() -> None:
    call = {"role": "tool_call", "content": CALL_TEXT}
    other = {"role": "tool_call", "content": '{"name": "count", "arguments": "{}"}'}
    conversation = read(ASK, call, other, RESULT, RESULT, ANSWER)
    assert [c.name for c in conversation.messages[1].tool_calls] == ["look_up", "count"]
    assert conversation.sources == (0, 1, 3, 4, 5)


def test_calls_with_reasoning_of_their_own_are_a_message_of_their_own() -> None:
    call = {"role": "tool_call", "content": CALL_TEXT}
    other = {"role": "tool_call", "content": f"{THINK}{CALL_TEXT}"}
    conversation = read(ASK, call, other, RESULT)
    assert [m.reasoning for m in conversation.messages] == [None, None, "Think one.", None]


def test_text_before_a_tool_call_is_of_the_same_answer() -> None:
    text = {"role": "assistant", "content": f"{THINK}Let me look."}
    conversation = read(ASK, text, {"role": "tool_call", "content": CALL_TEXT}, RESULT)
    assert conversation.messages[1].content == "Let me look."
    assert conversation.messages[1].reasoning == "Think one."
    assert conversation.messages[1].tool_calls == (LOOKED_UP,)
    # The role function_call has always been a message of its own behind text.
    other = read(ASK, text, {"role": "function_call", "content": CALL_TEXT}, RESULT)
    assert len(other.messages) == 4


def test_json_of_a_call_that_is_none_is_named_where_it_stands() -> None:
    think = {"role": "assistant", "content": THINK}
    bad = {"role": "tool_call", "content": '[{"name": "f", "arguments": {}}, {"name": ""}]'}
    assert refused(ASK, think, bad).path == "messages[2].content[1]"
    assert refused(ASK, think, {"role": "tool_call", "content": "f()"}).path == (
        "messages[2].content"
    )
    twice = {"role": "tool_call", "content": CALL_TEXT, "tool_calls": [CALL]}
    assert refused(ASK, twice).reason == "conflict"


def test_a_call_after_two_reasonings_is_refused() -> None:
    call = {"role": "tool_call", "content": f"{THINK}{CALL_TEXT}", "reasoning": "Think two."}
    assert "reasoning in a field and again in the content" in str(refused(ASK, call))


# ------------------------------------------------------- one answer in two messages

WITH_CALL: dict[str, dict[str, Any]] = {
    "function_call": {"role": "function_call", "content": CALL_TEXT},
    "tool_call": {"role": "tool_call", "content": CALL_TEXT},
    "tool_calls": {"role": "assistant", "content": "", "tool_calls": [{"function": CALL}]},
    "older form": {"role": "assistant", "function_call": CALL},
}
ALONE: dict[str, dict[str, Any]] = {
    "inline": {"role": "assistant", "content": THINK},
    "inline, without opener": {"from": "gpt", "value": "Think one.\n</think>\n"},
    "a field": {"role": "assistant", "reasoning_content": "Think one.", "content": ""},
    "a part": {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "Think one."}, {"type": "text", "text": ""}],
    },
    "blocks": {
        "role": "assistant",
        "content": "\n",
        "thinking_blocks": [{"type": "thinking", "thinking": "Think one."}],
    },
}


@pytest.mark.parametrize("call", WITH_CALL.values(), ids=WITH_CALL)
@pytest.mark.parametrize("alone", ALONE.values(), ids=ALONE)
def test_reasoning_alone_before_a_call_is_of_the_same_answer(
    alone: dict[str, Any], call: dict[str, Any]
) -> None:
    conversation = read(ASK, alone, call, RESULT, {**ANSWER, "reasoning": "Think two."})
    made = conversation.messages[1]
    assert (made.reasoning, (made.content or "").strip()) == ("Think one.", "")
    assert [(each.name, each.arguments) for each in made.tool_calls] == [("look_up", {"key": "a"})]
    assert conversation.sources == (0, 1, 3, 4)
    assert [m.role for m in conversation.messages] == ["user", "assistant", "tool", "assistant"]


def test_text_beside_the_call_stays_behind_the_reasoning() -> None:
    call = {"role": "assistant", "content": "Let me look.", "tool_calls": [CALL]}
    for alone in ALONE.values():
        made = read(ASK, alone, call, RESULT).messages[1]
        assert ((made.content or "").strip(), made.reasoning) == ("Let me look.", "Think one.")


@pytest.mark.parametrize(
    "text", [{"content": "Answer one."}, {"from": "gpt", "value": "Answer one."}]
)
@pytest.mark.parametrize("alone", ALONE.values(), ids=ALONE)
def test_reasoning_alone_before_a_text_is_of_the_same_answer(
    alone: dict[str, Any], text: dict[str, Any]
) -> None:
    conversation = read(ASK, alone, {"role": "assistant", **text}, ASK, ANSWER)
    made = conversation.messages[1]
    assert ((made.content or "").strip(), made.reasoning) == ("Answer one.", "Think one.")
    assert (made.finished, made.tool_calls, conversation.sources) == (True, (), (0, 1, 3, 4))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"content": THINK, "finish_reason": "length"}, {"content": "Answer one."}),
        ({"content": THINK}, {"content": " "}),
        ({"content": THINK}, {"content": f"{THINK}Answer one."}),
        ({"content": f"{THINK}a"}, {"tool_calls": [CALL]}),
        ({"content": THINK}, {"reasoning": "b", "tool_calls": [CALL]}),
        ({"content": THINK}, {"content": "<think>b</think>", "tool_calls": [CALL]}),
        ({"content": "a"}, {"tool_calls": [CALL]}),
        ({"content": THINK, "tool_calls": [CALL]}, {"tool_calls": [CALL]}),
    ],
)
def test_two_answers_stay_two(first: dict[str, Any], second: dict[str, Any]) -> None:
    pair = [{"role": "assistant", **first}, {"role": "assistant", **second}]
    assert len(read(ASK, *pair).messages) == 3


def test_a_message_between_keeps_reasoning_and_call_apart() -> None:
    alone = {"role": "assistant", "content": THINK}
    assert len(read(ASK, alone, ASK, WITH_CALL["tool_calls"]).messages) == 4


# ------------------------------------------------------------------ sources, places


def test_sources_count_a_system_text_and_the_messages_of_a_prompt() -> None:
    alone, call = {"role": "assistant", "content": THINK}, WITH_CALL["tool_call"]
    assert read(ASK, alone, call, RESULT, system="Be brief.").sources == (0, 1, 2, 4)
    record = {"prompt": [ASK, alone, call, RESULT], "completion": [ANSWER, ASK, alone, call]}
    conversation = parse_line(json.dumps(record).encode(), "x:1")
    assert conversation.sources == (0, 1, 3, 4, 5, 6)


def test_error_names_the_field_of_the_record() -> None:
    alone = {"role": "assistant", "content": THINK}
    call = {"role": "assistant", "tool_calls": [CALL, {"function": {"name": "g", "arguments": 3}}]}
    later = {"role": "user", "content": 3}
    assert refused(ASK, alone, call).path == "messages[2].tool_calls[1].function.arguments"
    fine = WITH_CALL["tool_calls"]
    assert refused(ASK, alone, fine, RESULT, later).path == "messages[4].content"
    legacy = {"role": "assistant", "function_call": {"name": "f"}}
    assert refused(ASK, alone, legacy).path == "messages[2].function_call"


# ------------------------------------------------------- what the second stage sees


def test_a_null_in_the_json_of_a_call_was_written() -> None:
    call = {"role": "tool_call", "content": '{"name": "f", "arguments": {"a": null}}'}
    row = parse_row({"messages": [ASK, call]}, "x:1")
    assert row.messages[1].tool_calls == (ToolCall("f", {"a": None}),)
    block = {"type": "tool_use", "name": "f", "input": {"a": None}}
    answer = {"role": "assistant", "content": [block]}
    with pytest.raises(RecordError) as caught:
        parse_row({"messages": [ASK, answer]}, "x:1")
    assert (caught.value.reason, caught.value.path) == (
        "null-arguments",
        "messages[1].content[0].input",
    )


def test_a_field_that_nobody_reads_is_named_as_an_option_takes_it() -> None:
    block = {"type": "tool_use", "name": "f", "input": {}, "purpose": "why"}
    record = {"messages": [ASK, {"role": "assistant", "content": [block]}]}
    line = json.dumps(record).encode()
    with pytest.raises(UnknownFieldError) as caught:
        parse_line(line, "x:1")
    (unread,) = caught.value.fields
    assert (unread.name, unread.path) == ("content.purpose", "messages[1].content[0].purpose")
    ignoring = Reading(ignored=frozenset({unread.name}))
    assert parse_line(line, "x:1", reading=ignoring).messages[1].tool_calls


def test_calls_may_stand_in_parts_of_text() -> None:
    code = '{"name": "f", "arguments": {}}'
    for role in ("tool_call", "function_call"):
        story = [{"role": "user", "content": "Q"}, {"role": role, "content": code}]
        parts = [{"type": "text", "text": code[:9]}, {"type": "text", "text": code[9:]}]
        apart = [story[0], {"role": role, "content": parts}]
        wanted = parse_row({"messages": story}, "x:1").messages
        assert parse_row({"messages": apart}, "x:1").messages == wanted
        assert wanted[1].tool_calls
