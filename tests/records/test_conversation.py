"""A record in any dialect gives the same Conversation; what cannot be read says why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from one_answer import ANSWER, ASK, answer, chat, parse

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message, parse_line, parse_row
from reasonpack.records.reading import Reading
from reasonpack.records.tool_calls import ToolCall
from tests.changed import replace

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "schemas" / "record.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
DATA = sorted((ROOT / ".." / "shared" / "data").glob("*.jsonl"))


def test_assistant_message_may_follow_the_system_message_alone() -> None:
    assert len(parse(chat({"role": "system", "content": "hi"}, ANSWER)).messages) == 2
    assert len(parse(chat(ANSWER, system="hi")).messages) == 2


def test_messages_after_the_last_answer_are_kept() -> None:
    assert parse(chat(ASK, ANSWER, ASK)).messages[2] == Message("user", "2+2?")


@pytest.mark.parametrize("name", ["messages", "conversations", "conversation"])
def test_a_list_may_be_its_json_text(name: str) -> None:
    """A table often has such; its nulls are not those that Parquet fills in."""
    call = {"function": {"name": "f", "arguments": {"a": None}}}
    messages = [ASK, {"role": "assistant", "content": "4", "tool_calls": [call]}, ASK, ANSWER]
    row = {name: json.dumps(messages), "id": "a"}
    assert parse(row) == parse_row(row, "chats.jsonl:7") == parse({**row, name: messages})
    refused = {name: json.dumps(messages)[:-1]}
    with pytest.raises(RecordError, match=f"^chats.jsonl:7: {name}: "):
        parse(refused)


def test_a_text_that_begins_like_a_list_may_be_an_answer() -> None:
    assert parse({"prompt": "[1]", "completion": "[2]"}).messages[1].content == "[2]"


# ------------------------------------------------------------------- dialects

PLAIN = (Message("user", "2+2?"), Message("assistant", "4", "easy"))
SYSTEM = (Message("system", "Be brief."), *PLAIN)
CALLING = (
    Message("user", "2+2?"),
    Message("assistant", None, "add", (ToolCall("add", {"a": 2, "b": [2]}),)),
    Message("tool", "4"),
    Message("assistant", "4"),
)
ADD = {"name": "add", "arguments": {"a": 2, "b": [2]}}
ADD_TEXT = json.dumps(ADD["arguments"])
TOOL, DONE = {"role": "tool", "content": "4"}, {"role": "assistant", "content": "4"}

DIALECTS: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "messages": (answer(content="4", reasoning_content="easy"), PLAIN),
    "conversations": ({"conversations": answer(content="4", reasoning="easy")["messages"]}, PLAIN),
    "conversation": ({"conversation": answer(content="4", thinking="easy")["messages"]}, PLAIN),
    "thought": (answer(content="4", thought="easy"), PLAIN),
    "the same reasoning twice": (answer(content="4", reasoning="easy", thought="easy"), PLAIN),
    "ShareGPT": (
        {
            "conversations": [
                {"from": "human", "value": "2+2?"},
                {"from": "gpt", "value": "<think>\neasy\n</think>\n\n4"},
            ]
        },
        PLAIN,
    ),
    "both names": (
        chat({**ASK, "value": "2+2?", "from": "user"}, {**ANSWER, "reasoning": "easy"}),
        PLAIN,
    ),
    "other roles": (
        chat({"role": "human", "content": "2+2?"}, {"from": "model", "value": "easy\n</think>4"}),
        PLAIN,
    ),
    "prompt and completion": ({"prompt": "2+2?", "completion": "<think>easy</think>4"}, PLAIN),
    "prompt and completion of messages": (
        {
            "prompt": [{"role": "system", "content": "Be brief."}, ASK],
            "completion": [{**ANSWER, "reasoning": "easy"}],
        },
        SYSTEM,
    ),
    "a prompt without completion beside messages": (
        answer(content="4", reasoning="easy") | {"prompt": {"not": "read"}},
        PLAIN,
    ),
    "inline, opener missing": (answer(content="\neasy\n</think>\n4"), PLAIN),
    "inline, space before": (answer(content=" \n<think>easy</think>4"), PLAIN),
    "inline, reasoning empty": (answer(content="4", reasoning="", thought="easy"), PLAIN),
    "parts": (
        answer(
            content=[
                {"type": "thinking", "thinking": "ea"},
                {"type": "reasoning", "text": "sy", "signature": "…"},
                {"type": "text", "text": "4", "image_url": None},
            ]
        ),
        PLAIN,
    ),
    "parts, inline": (
        answer(content=[{"type": "text", "text": "easy\n</th"}, {"type": "text", "text": "ink>4"}]),
        PLAIN,
    ),
    "null fields": (
        {"id": None, "conversations": None, "prompt": None, "completion": None, "system": None}
        | {"tools": None, "functions": None, "chat_template_kwargs": None, "enable_thinking": None}
        | chat({**ASK, "tool_calls": None, "name": None}, {**ANSWER, "reasoning": "easy"}),
        PLAIN,
    ),
    "system": (answer(content="4", reasoning="easy") | {"system": "Be brief."}, SYSTEM),
    "system twice": (
        {
            "system": "Be brief.",
            "messages": [
                {"role": "system", "content": "Be brief."},
                *answer(content="4", reasoning="easy")["messages"],
            ],
        },
        SYSTEM,
    ),
    "system, empty": (answer(content="4", reasoning="easy") | {"system": ""}, PLAIN),
    "calls": (
        chat(
            ASK,
            {
                "role": "assistant",
                "content": None,
                "reasoning": "add",
                "tool_calls": [{"type": "function", "function": ADD}],
            },
            TOOL,
            DONE,
        ),
        CALLING,
    ),
    "calls, flat": (
        chat(ASK, {"role": "assistant", "reasoning": "add", "tool_calls": [ADD]}, TOOL, DONE),
        CALLING,
    ),
    "calls, legacy": (
        chat(
            ASK,
            {"role": "assistant", "reasoning": "add", "function_call": ADD},
            {"role": "function", "content": "4"},
            DONE,
        ),
        CALLING,
    ),
    "calls, ShareGPT": (
        {
            "conversations": [
                {"from": "human", "value": "2+2?"},
                {"from": "function_call", "value": f"<think>add</think>\n{json.dumps(ADD)}"},
                {"from": "observation", "value": "4"},
                {"from": "gpt", "value": "4"},
            ]
        },
        CALLING,
    ),
    "calls, a list in text": (
        chat(
            ASK,
            {"role": "function_call", "content": json.dumps([{"function": ADD}]), "thought": "add"},
            {"role": "ipython", "content": "4"},
            DONE,
        ),
        CALLING,
    ),
}


@pytest.mark.parametrize(("record", "expected"), DIALECTS.values(), ids=DIALECTS)
def test_dialects_give_the_same_conversation(
    record: dict[str, Any], expected: tuple[Message, ...]
) -> None:
    read = parse(record)
    plain = tuple(replace(message, verbatim=None) for message in read.messages)
    assert replace(read, messages=plain, notes={}) == Conversation("chats.jsonl:7", expected)
    assert parse_row(record, "chats.jsonl:7") == read


def test_id_is_the_records_own_or_its_place() -> None:
    assert [parse(chat(ASK, ANSWER, id=i)).id for i in ("a", 7, None, "")] == [
        *("a", "7"),
        *["chats.jsonl:7"] * 2,
    ]


def test_tools() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"default": None}}}
    for tools in ([tool], json.dumps([tool])):
        assert parse(chat(ASK, ANSWER, tools=tools)).tools == (tool,)
    bare = tool["function"]
    assert parse(chat(ASK, ANSWER, functions=[bare])).tools == (tool,)
    assert parse(chat(ASK, ANSWER, functions=[tool], tools=[tool])).tools == (tool,)
    nothing: list[Any] = [[], "", " ", "null", "[]", None]
    for tools in nothing:
        assert parse(chat(ASK, ANSWER, tools=tools)).tools is None


def test_template_variables() -> None:
    def variables(**fields: Any) -> Mapping[str, Any]:
        return parse(chat(ASK, ANSWER, **fields)).template_kwargs

    assert variables() == {}
    assert variables(chat_template_kwargs={"a": None}) == {"a": None}
    assert variables(chat_template_kwargs='{"a": 1}', enable_thinking=False) == {
        "a": 1,
        "enable_thinking": False,
    }
    same = {"enable_thinking": True}
    assert variables(chat_template_kwargs=same, enable_thinking=True) == same


# ------------------------------------------------------------- decoded rows


def test_null_keys_of_parquet_are_left_out_but_not_in_arguments() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
    rows = [
        answer(content="4", tool_calls=[call])
        | {
            "system": None,
            "tools": [{"function": {"parameters": {"properties": {"arguments": {"x": 1}}}}}],
        },
        chat(ASK, {**ANSWER, "name": "b", "metadata": {"arguments": {"a": 1}}}, system="s")
        | {"tools": [{"function": {"parameters": {"properties": {"b": {"y": 1}}}}}]},
    ]
    rows[0]["messages"][1]["tool_calls"].append(
        {"function": {"name": "g", "arguments": {"b": None, "c": []}}}
    )
    read = [
        parse_row(row, "chats.jsonl:7", reading=Reading(null_arguments="keep"))
        for row in pa.Table.from_pylist(rows).to_pylist()
    ]
    assert [r.tools for r in read] == [parse(row).tools for row in rows]
    calls = [call.arguments for call in read[0].messages[1].tool_calls]
    assert calls == [{"a": 1, "b": None, "c": None}, {"a": None, "b": None, "c": []}]
    assert read[1] == parse(rows[1])
    row = pa.Table.from_pylist(rows).to_pylist()[0]
    dropped = parse_row(row, "x", reading=Reading(null_arguments="drop"))
    calls = [call.arguments for call in dropped.messages[1].tool_calls]
    assert calls == [{"a": 1}, {"c": []}]


def test_null_keys_of_tools_are_left_out_also_where_they_look_like_a_call() -> None:
    row = chat(ASK, ANSWER, tools=[{"function_call": {"arguments": {"a": None}}}])
    read = parse_row(row, "x")
    assert read.tools == ({"function_call": {"arguments": {}}},)


def test_columns_that_are_not_read_may_hold_anything() -> None:
    assert parse_row(chat(ASK, ANSWER, score=float("nan"), blob=b"\xff"), "x").id == "x"


# ------------------------------------------------------------- round trips

WORDS = st.text(
    st.characters(codec="utf-8") | st.sampled_from(["\n", " ", '"', "\\", ":", "<", "{"]),
    max_size=12,
) | st.sampled_from(["<think>", "</think>", "<think>a</think>\n\nb", "\n\n4", "easy\n"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
OBJECTS = st.dictionaries(WORDS, VALUES, max_size=3)
REASONING = WORDS.filter(lambda text: not text.lstrip().startswith("<think>")) | st.none()
REASONING = REASONING.map(lambda text: text or None)
CALLS = st.builds(ToolCall, WORDS.filter(bool), OBJECTS)


def has_tags(message: Message) -> bool:
    """Whether the message cannot be written with inline tags, or would be read as if it was."""
    content, reasoning = message.content or "", message.reasoning
    if reasoning is None:
        return "think>" in content
    return "</think>" in reasoning or reasoning.strip("\n") != reasoning or content[:1] == "\n"


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    messages = [Message("system", draw(WORDS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(WORDS)))
        for _ in range(draw(st.integers(0, 2))):
            calls = tuple(draw(st.lists(CALLS, min_size=1, max_size=2)))
            reasoning, train = draw(REASONING), draw(st.booleans())
            messages.append(Message("assistant", None, reasoning, calls, train))
            messages += [Message("tool", draw(WORDS)) for _ in calls]
        last = Message("assistant", draw(WORDS), draw(REASONING), train=draw(st.booleans()))
        # Reasoning has to be told apart from content that has tags of its own.
        if (last.content or "").lstrip().startswith("<think>"):
            last = replace(last, content=f"x{last.content}")
        messages.append(replace(last, reasoning="a") if has_tags(last) else last)
    return tuple(messages)


def openai(message: Message) -> dict[str, Any]:
    fields: dict[str, Any] = {"role": message.role}
    if message.content is not None:
        fields["content"] = message.content
    if message.reasoning is not None:
        fields["reasoning_content"] = message.reasoning
    if message.tool_calls:
        fields["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    return fields if message.train else {**fields, "train": False}


def sharegpt(message: Message) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
    fields: dict[str, Any] = {"from": names[message.role], "value": message.content}
    if message.tool_calls:
        calls = [{"name": c.name, "arguments": c.arguments} for c in message.tool_calls]
        value = json.dumps(calls if len(calls) > 1 else calls[0])
        fields = {"from": "function_call", "value": value}
    if message.reasoning is not None:
        if has_tags(message):
            fields["thinking"] = message.reasoning
        else:
            fields["value"] = f"<think>\n{message.reasoning}\n</think>\n\n{fields['value']}"
    return fields if message.train else {**fields, "weight": 0}


def in_parts(message: Message) -> dict[str, Any]:
    fields = openai(message)
    thoughts = fields.pop("reasoning_content", None)
    parts = []
    if thoughts is not None:
        parts += [{"type": "thinking", "thinking": thoughts[:3]}]
        parts += [{"type": "reasoning", "reasoning": thoughts[3:]}]
    if message.content is not None:
        half = len(message.content) // 2
        parts += [{"type": "text", "text": message.content[:half]}]
        parts += [{"type": "text", "text": message.content[half:]}]
    return {**fields, "content": parts}


def with_arguments_as_text(message: Message) -> dict[str, Any]:
    fields = openai(message)
    for call in fields.get("tool_calls", ()):
        call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return fields


def without_text(message: Message) -> Message:
    """Leave away what says how the record wrote it, and what follows of the rest."""
    calls = tuple(replace(call, arguments_text=None) for call in message.tool_calls)
    return replace(message, tool_calls=calls, verbatim=None, finished=True, noticed=())


def cut(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """What prompt and completion make of the messages: the prompt is context."""
    prompt = [replace(message, train=message.role != "assistant") for message in messages[:-1]]
    return (*prompt, messages[-1])


@pytest.mark.long
@given(conversations(), st.booleans())
@example((Message("user", ""), Message("assistant", "")), False)
def test_every_dialect_gives_the_same_messages(
    messages: tuple[Message, ...], ascii_only: bool
) -> None:
    def read(record: dict[str, Any]) -> tuple[Message, ...]:
        VALIDATOR.validate(record)
        line = json.dumps(record, ensure_ascii=ascii_only).encode()
        reading = Reading(stray_closing_tag="text")
        return tuple(without_text(m) for m in parse_line(line, "x", reading=reading).messages)

    assert read({"messages": [openai(m) for m in messages]}) == messages
    assert read({"conversations": [sharegpt(m) for m in messages]}) == messages
    assert read({"conversation": [in_parts(m) for m in messages]}) == messages
    assert read({"messages": [with_arguments_as_text(m) for m in messages]}) == messages
    *prompt, completion = [openai(m) for m in messages]
    assert read({"prompt": prompt, "completion": [completion]}) == cut(messages)


@pytest.mark.parametrize("record", [record for record, _ in DIALECTS.values()], ids=DIALECTS)
def test_schema_takes_every_dialect(record: dict[str, Any]) -> None:
    VALIDATOR.validate(record)


@pytest.mark.skipif(not DATA, reason="the shared data are not here")
@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_real_data(path: Path) -> None:
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        record = json.loads(line)
        VALIDATOR.validate(record)
        reading = Reading(stray_closing_tag="text")
        read = parse_line(line, f"{path.name}:{number}", reading=reading)
        assert (read.id, read.tools) == (record["id"], tuple(record["tools"]) or None)
        for message, raw in zip(read.messages, record["messages"], strict=True):
            calls = [call["function"] for call in raw.get("tool_calls", ())]
            assert message.role == raw["role"]
            assert message.content == raw["content"]
            assert message.reasoning == (raw.get("reasoning_content") or None)
            assert [(c.name, c.arguments) for c in message.tool_calls] == [
                (call["name"], call["arguments"]) for call in calls
            ]
