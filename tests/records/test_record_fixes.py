"""Every refusal of a record says what to do, and doing it makes the refusal go away.

The records are those of refused.py. To add one: its name, and its fix as an edit, or
several that are each enough.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fixing import Pack, Row, also, check, noted, unseen, write
from refused import ANSWER, ASK, CALL, REFUSED, REFUSED_ROWS
from runs import FIXTURES
from test_call_refusals import OF_CALLS

from reasonpack.errors import RecordError
from reasonpack.records.conversation import parse_line, parse_row
from tests.records.test_dialect_fixes import FIXES

Edit = Callable[[Any], Any]


def _keys(path: str) -> list[Any]:
    return [int(key) if key.isdigit() else key for key in re.findall(r"\w+", path)]


def put(path: str, value: Any) -> Edit:
    """Write a value at a path such as `messages[1].role`."""

    def edit(record: Any) -> Any:
        *way, last = _keys(path)
        inner = record
        for key in way:
            inner = inner[key]
        inner[last] = value
        return record

    return edit


def cut(*paths: str) -> Edit:
    """Remove what stands at some paths."""

    def edit(record: Any) -> Any:
        for path in paths:
            *way, last = _keys(path)
            inner = record
            for key in way:
                inner = inner[key]
            del inner[last]
        return record

    return edit


def add(value: Any, at: int = 9) -> Edit:
    """Insert a message."""

    def edit(record: Any) -> Any:
        next(iter(record.values())).insert(at, value)
        return record

    return edit


def both(*edits: Edit) -> Edit:
    def edit(record: Any) -> Any:
        for each in edits:
            record = each(record)
        return record

    return edit


ONE = "messages[1]."
RECORDS: dict[str, tuple[Edit, ...]] = {
    "an answer to be joined with reasoning before it, of no text": (
        put("messages[2].content", "4"),
    ),
    "no messages": (
        put("messages", [ASK, ANSWER]),
        put("conversation", [ASK, ANSWER]),
        both(put("prompt", "2+2?"), put("completion", "4")),
    ),
    "completion without prompt": (put("prompt", "2+2?"),),
    "two containers": (cut("messages"), cut("conversations")),
    "messages that are text": (put("messages", [ASK, ANSWER]),),
    "a message that is text": (put("messages[1]", ANSWER),),
    "a prompt that is an object": (put("prompt", "2+2?"), put("prompt", [ASK])),
    "a role that is a number": (both(put("messages[0].role", "user"), add(ANSWER)),),
    "no role": (both(put("messages[0].role", "user"), add(ANSWER)),),
    "a thought within the answer": (cut(ONE + "thought"), put(ONE + "content", "So:")),
    "an unknown role": (put(ONE + "role", "assistant"), put(ONE + "role", "gpt")),
    "two roles": (cut(ONE + "from"),),
    "two contents": (cut(ONE + "content"), cut(ONE + "value")),
    "two reasonings": (cut(ONE + "reasoning", ONE + "thought"), put(ONE + "content", "4")),
    "messages in a list in a list": (put("messages", [ASK, ANSWER]),),
    "messages that are an object": (put("messages", [ASK, ANSWER]),),
    "a part that is text": (put("messages[0].content[0]", {"type": "text", "text": "2+2?"}),),
    "reasoning that is an object": (put(ONE + "reasoning_content", "easy"),),
    "reasoning that is a list": (put(ONE + "reasoning_content", "easy"),),
    "blocks that are an object": (
        put(ONE + "reasoning_details", [{"type": "reasoning.text", "text": "easy"}]),
    ),
    "tool calls that are text": (put(ONE + "tool_calls", [CALL]),),
    "a function call that is text": (put(ONE + "function_call", CALL),),
    "arguments that are a number": (put(ONE + "tool_calls[0].arguments", {"a": 3}),),
    "arguments that are no object": (put(ONE + "tool_calls[0].arguments", {}),),
    "arguments under two names": (cut(ONE + "tool_calls[0].args"),),
    "a tool in the place of its call": (
        put(ONE + "tool_calls[0]", {"name": "f", "arguments": {"a": 1}}),
    ),
    "a flag that is a number in quotes": (put(ONE + "train", 1),),
    "a flag that is an object": (put(ONE + "train", True),),
    "a switch that is text": (
        both(put("enable_thinking", True), put(ONE + "reasoning_content", "easy")),
    ),
    "a number as an id": (put("id", "1.5"),),
    "parts of a call": (put("messages[1]", {"role": "assistant", "tool_calls": [CALL]}),),
    "reasoning without its call": (put(ONE + "role", "assistant"),),
    "a part of the system text that is no text": (put("system", [{"type": "text", "text": "a"}]),),
    "reasoning twice": (cut(ONE + "reasoning"), put(ONE + "content", "4")),
    "a tool without a name": (put("tool_defs", [{"type": "function", "function": {"name": "f"}}]),),
    "fields of a provider that are a number": (
        put(ONE + "provider_specific_fields", {"reasoning_content": "So."}),
    ),
    "content that is an object": (put(ONE + "content", "4"),),
    "content that is a number": (both(put("messages[0].value", "4"), add(ANSWER)),),
    "an answer with nothing in it": (put(ONE + "content", ""),),
    "user content null": (put("messages[0].content", ""),),
    "tool content missing": (put(ONE + "content", ""),),
    "an image": (lambda record: {"messages": [ASK, ANSWER]},),
    "encrypted reasoning": (
        put(ONE + "reasoning_details", [{"type": "reasoning.text", "text": "a"}]),
        both(cut(ONE + "reasoning_details"), put(ONE + "train", False), add(ASK), add(ANSWER)),
    ),
    "a part without type": (put("messages[0].content[0].type", "text"),),
    "reasoning after text": (
        both(cut(ONE + "content[1]"), add({"role": "assistant", "content": "5"})),
    ),
    "a think tag that is never closed, in a completion": (
        put("completion", "<think>2 and 2 are</think>4"),
    ),
    "a key twice in arguments": (
        put(ONE + "tool_calls[0].function.arguments", '{"x": [{"a": 1, "b": 2}]}'),
    ),
    "a call without a name in a function call": (
        put("conversations[1].value", json.dumps([CALL, CALL])),
    ),
    "a function call that is a list of text": (put("conversations[1].value", json.dumps([CALL])),),
    "a call of another type": (put(ONE + "tool_calls[0].type", "function"),),
    "tools that are no JSON": (put("tools", "[{}]"),),
    "a part without text": (put("messages[0].content[0].text", "hi"),),
    "a think tag that is never closed": (
        put(ONE + "content", "<think>2 and 2 are</think>4"),
        both(cut("messages[1]"), add(ANSWER)),
    ),
    "reasoning of a user": (cut("messages[0].reasoning"),),
    "tool calls of a user": (cut("messages[0].tool_calls"),),
    "a user to train": (cut("messages[0].train"),),
    "a call without a name": (put(ONE + "tool_calls[0].function.name", "f"),),
    "a call without arguments": (put(ONE + "tool_calls[0].arguments", {}),),
    "arguments that are a list": (put(ONE + "tool_calls[1].arguments", {}),),
    "a call twice in one": (cut(ONE + "tool_calls[0].name"),),
    "tool calls and a function call": (cut(ONE + "function_call"),),
    "a function call that is no JSON": (put("conversations[1].value", json.dumps(CALL)),),
    "a function call without calls": (both(cut("conversations[1]"), add(ANSWER)),),
    "a function call that has tool calls": (put(ONE + "role", "assistant"),),
    "a flag that is text": (put(ONE + "train", True), put(ONE + "train", 1)),
    "a number in a flag": (put(ONE + "loss_mask", 1),),
    "flags that contradict": (cut(ONE + "train", ONE + "weight"), cut(ONE + "weight")),
    "a record that weighs nothing": (put("weight", 1),),
    "an id that is a list": (put("id", "a"), put("id", 1)),
    "another system text": (cut("system"), cut("messages[0]")),
    "tools that are an object": (put("tools", []), put("tools", "[]")),
    "a tool that is text": (put("tools", [{"name": "f"}]),),
    "a key twice in tools": (put("tools", '[{"type": 1}]'),),
    "tools and other functions": (cut("functions"),),
    "template variables that are a list": (put("chat_template_kwargs", {}),),
    "thinking on and off": (
        both(cut("enable_thinking"), put(ONE + "reasoning", "a")),
        both(cut("chat_template_kwargs"), put(ONE + "reasoning", "a")),
    ),
    "no message": (put("conversations", [ASK, ANSWER]),),
    "no assistant message": (add(ANSWER),),
    "an assistant message first": (add(ASK, 0), put("messages[0].train", False)),
    "a closing tag beside reasoning": (put(ONE + "content", "A"),),
    "a closing tag in a field of reasoning": (put(ONE + "reasoning", "I close it."),),
    "tags inside an answer": (put(ONE + "content", "See a."),),
    "reasoning with its tags in a field": (put(ONE + "reasoning", "easy"),),
    "reasoning with its tags in a part": (put(ONE + "content.0.thinking", "easy"),),
}
OPTIONS: dict[str, tuple[str, ...]] = {
    "a closing tag that is not first on its line": (
        "--stray-closing-tag text",
        "--stray-closing-tag reasoning",
    ),
    "a second closing tag": ("--stray-closing-tag text", "--stray-closing-tag reasoning"),
    "a closing tag beside reasoning": ("--stray-closing-tag text",),
    "a closing tag in a field of reasoning": ("--stray-closing-tag text",),
    "tags inside an answer": ("--stray-closing-tag text",),
    "a field of an answer that nobody reads": (
        "--field reasoning_contnet=reasoning_content",
        "--ignore-fields reasoning_contnet",
    ),
    "a misspelt role": ("--field rol=role",),
    "messages under another name": ("--field trajectory=messages",),
    "messages as JSON text under one of two other names": (
        "--field chat=messages",
        "--field chat_again=messages",
    ),
    "a question and its answer": ("--field Question=prompt --field Response=completion",),
    "an answer to a prompt": ("--field output=completion",),
    "texts of messages under another name": ("--field text=content",),
    "the name of an image": ("--ignore-fields record.image",),
    "a sample that is to be removed": ("--ignore-fields remove_sample",),
    "a record with label False": ("--ignore-fields label",),
    "a record with kto_tag false": ("--ignore-fields kto_tag",),
    "a record with train False": ("--ignore-fields record.train",),
    "a record with trainable 0": ("--ignore-fields record.trainable",),
    "a record with loss false": ("--ignore-fields record.loss",),
    "an advantage": ("--input-format calls", "--ignore-fields advantage"),
    "a sample of status aborted": ("--ignore-fields status",),
    "a sample of status Status.Failed": ("--ignore-fields status",),
    "a sample that a clock ended": ("--ignore-fields termination_reason",),
    "an answer with an error": ("--ignore-fields message.error",),
    "a sample with an error": ("--ignore-fields error",),
    "a sample with a flag of an error": ("--ignore-fields error",),
    "a request under another name": ("--field inputs=request --field outputs=response",),
    "reasoning that is a list, in a wrapper": (
        "--ignore-fields provider_specific_fields.reasoning_content",
    ),
}
"""Options that the fix of a record names, each enough."""


ARGUMENTS = ONE + "tool_calls[0].arguments"
ROWS: dict[str, tuple[Edit | str, ...]] = {
    "null in a struct of arguments": (
        put(ARGUMENTS, '{"a": 1}'),
        "--null-arguments drop",
        "--null-arguments keep",
    ),
    "text that is no text": (put(ONE + "content", "a\ufffd"),),
    "NaN": (put(ARGUMENTS, {"a b": None}), put(ARGUMENTS, {"c": 1})),
    "bytes": (put(ONE + "content", "4"),),
    "a key that is a number": (lambda record: {"messages": [ASK, ANSWER, {**ASK, "1": 2}]},),
}
"""The fixes of rows that a Parquet file, or a caller, may hold."""


def parquet(row: Any) -> bytes | None:
    """Write a row as a Parquet file; None where none can hold it."""
    sink = io.BytesIO()
    try:
        pq.write_table(pa.Table.from_pylist([row]), sink)
    except (pa.ArrowException, AttributeError, UnicodeError):
        return None
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "edit"), [(name, edit) for name, edits in ROWS.items() for edit in edits]
)
def test_what_the_fix_of_a_row_says_helps(name: str, edit: Edit | str, pack_here: Pack) -> None:
    row, *_ = REFUSED_ROWS[name]
    if isinstance(edit, str):
        assert edit in REFUSED_ROWS[name][3]
        mended, options = row, edit.split()
    else:
        mended, options = edit(copy.deepcopy(row)), ["--null-arguments", "keep"] * (name == "NaN")
    bad = parquet(row)
    if bad is None:
        assert parse_row(mended, "here").messages
        return
    good = parquet(mended)
    assert good is not None
    mend = write("a.parquet", good, *options)
    check(Row({"a.parquet": bad}, ["a.parquet"], re.escape(REFUSED_ROWS[name][3]), mend), pack_here)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        pytest.param(name, edit, id=f"{name}, {number}")
        for name, edits in RECORDS.items()
        for number, edit in enumerate(edits)
    ],
)
def test_what_the_fix_of_a_record_says_helps(name: str, edit: Edit, pack_here: Pack) -> None:
    record, _, what, fix = REFUSED[name]
    bad = json.dumps(record).encode()
    mended = json.dumps(edit(json.loads(bad))).encode()
    words = re.escape(what) + ".*" + re.escape(f"Fix: {fix}")
    check(Row({"a.jsonl": bad}, ["a.jsonl"], words, write("a.jsonl", mended)), pack_here)


NOT_HERE = {
    "decode_line": "a line beyond all limits",
    "renamed": "depends on an option",
    "typed": "what no value is known for",
    "_check": "depends on an option",
    "_syntax": "what no text is known for",
}
"""Functions whose refusals other tests see."""
LINES = (
    b"{",
    b"",
    b"\xef\xbb\xbf{}",
    b'{"id": "\\ud800"}',
    b'{"id": NaN}',
    101 * b"[",
    b"\xff",
    b'{"id": "\xff"}',
    b'{"messages": [{"role": "tool_call", "content": " "}]}',
)
"""What is no JSON; test_fixes.py mends the like."""


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name, each in OPTIONS.items() for option in each]
)
def test_an_option_that_a_fix_names_helps(name: str, option: str, pack_here: Pack) -> None:
    """With a template that does not look for tags in the content itself."""
    record, *_ = REFUSED[name]
    bad = {"a.jsonl": json.dumps(record).encode()}
    template = ["--chat-template", str(FIXTURES / "templates" / "kept.jinja")]
    row = Row(bad, ["a.jsonl", *template], re.escape(option), also(*option.split()))
    check(row, pack_here)


def test_every_record_that_is_refused_is_mended_here() -> None:
    """A list is refused as a file, and a weight only where weights are switched off."""
    as_calls = {"a batch of token ids"}
    assert set(REFUSED) - set(RECORDS) - set(OPTIONS) == {"a list", "a weight", *as_calls}
    assert set(REFUSED_ROWS) == set(ROWS)


def test_every_refusal_of_the_reader_is_among_them() -> None:
    lines = [record for record, *_ in REFUSED.values()]
    dialects = [{"messages": [ASK, *bad]} for bad, *_ in FIXES.values()]
    with noted() as seen:
        for line in [*(json.dumps(each).encode() for each in (*lines, *dialects)), *LINES]:
            with contextlib.suppress(RecordError):
                parse_line(line, "here")
        for row, *_ in REFUSED_ROWS.values():
            with contextlib.suppress(RecordError):
                parse_row(row, "here")
    left = unseen("records", {"RecordError"}, seen, but=NOT_HERE)
    assert not [each for each in left if each.partition(":")[0] not in OF_CALLS]
