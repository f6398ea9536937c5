"""Records in any shape: the check of a dataset reads as packing does, or says that it cannot.

The two have no code for it in common; the check was written from the schema.
"""

from __future__ import annotations

import contextlib
import json
import unittest.mock
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reasonpack.errors import RecordError
from reasonpack.records.conversation import parse_line
from reasonpack.records.reading import Reading as PackReading
from reasonpack.verify.calls import read_calls
from reasonpack.verify.chat import NotChecked, Reading, Refused
from reasonpack.verify.reader import read_chat
from reasonpack.verify.sessions import calls_of_session
from tests.records.test_call_formats import LOGS, fields_of, records
from tests.records.test_record_schema import RECORDS

ASK = {"role": "user", "content": "Ask."}
CALL = '{"name": "f", "arguments": {"a": null}}'
TEXT, THINKING = {"type": "text", "text": "Hm."}, {"type": "thinking", "thinking": "Think."}
USE = {"type": "tool_use", "id": "u", "name": "f", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "u", "content": [TEXT, TEXT]}
CHUNKS = {"type": "thinking", "thinking": [TEXT, TEXT], "closed": False}


def answer(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(parts) or "Answer.", **fields}


PIECES: list[dict[str, Any]] = [
    ASK,
    answer(),
    answer(content="<think>\nThink.\n</think>"),
    answer(content="", reasoning="Think.", loss=0),
    answer(content="Think.\n</think>"),
    answer(content="<think>\nThink.\n</think>", finish_reason="stop"),
    answer(content=""),
    answer(tool_calls=[{"name": "f", "arguments": "{}"}]),
    answer(content="", tool_calls=[{"function": {"name": "f", "arguments": {}}}], loss=0),
    answer(tool_calls=[{"function": {"name": "f", "parameters": {"a": 1}}, "arguments": None}]),
    answer(tool_calls=[{"name": "f", "arguments": {}, "args": '{"a": 1}'}]),
    answer(finish_details={"type": "max_tokens"}),
    answer(content="", finish_reason="length"),
    answer(metadata={"finish_reason": "length", "finish_details": {"type": "stop"}}),
    answer(end_turn=False),
    answer(status="Status.TRUNCATED", truncated=False),
    answer(content="", reasoning="Think.", truncated=True),
    answer(is_truncated="true", error=0.5),
    answer(status="failed"),
    answer(content="", error="m"),
    answer(error={"message": "m"}, train=False),
    {"role": "tool_call", "content": CALL},
    {"from": "function_call", "value": f"<think>Think.</think>[{CALL}, {CALL}]"},
    {"role": "tool_response", "content": "Result."},
    answer(THINKING, TEXT, USE),
    answer(THINKING, TEXT, TEXT),
    answer(CHUNKS),
    {"role": "user", "content": [RESULT, RESULT, TEXT]},
    {"role": "user", "content": [RESULT]},
    answer(thinking_blocks=[{"type": "thinking", "thinking": "Think."}]),
    answer(reasoning_details=[{"type": "reasoning.text", "text": t} for t in ("Think", ".")]),
    answer(provider_specific_fields={"reasoning_content": "Think."}, step_loss_mask=0),
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": t} for t in "ab"]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "A"}]},
    {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
    {"type": "function_call_output", "call_id": "c", "output": "Result."},
]
CHATS = st.builds(
    lambda pieces, more: {"messages": [ASK, *pieces, ASK, answer()], **more},
    st.lists(st.sampled_from(PIECES), max_size=6),
    st.sampled_from(
        [
            *({}, {"system": "Be brief."}, {"system": [TEXT, TEXT]}),
            *({"finish_reasons": ["length"]}, {"finish_details": {"type": "interrupted"}}),
            {"finish_reasons": ["stop", "length"], "generations": ["A", "Answer."]},
            *({"status": "truncated"}, {"truncated": 1}, {"error": "m"}, {"status": "error"}),
        ]
    ),
)


IGNORED = st.frozensets(
    st.sampled_from(["status", "record.truncated", "message.error", "finish_reason", "metadata"]),
    max_size=2,
)


@pytest.mark.long
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS | CHATS, IGNORED)
def test_what_is_packed_is_read_the_same(record: dict[str, Any], ignored: frozenset[str]) -> None:
    line = json.dumps(record).encode()
    try:
        read = parse_line(line, "x:1", reading=PackReading(ignored=ignored))
    except RecordError:
        return
    try:
        checked = read_chat(json.loads(line), Reading(ignored=ignored))
    except NotChecked:
        return
    assert [
        (
            *(m.role, m.content, m.reasoning),
            [(c["function"]["name"], c["function"]["arguments"]) for c in m.calls],
            *(m.trained, m.cut, m.verbatim),
        )
        for m in checked.messages
    ] == [
        (
            m.role,
            m.content or "",
            m.reasoning or "",
            [(call.name, call.arguments) for call in m.tool_calls],
            m.train and m.role == "assistant",
            not m.finished,
            m.verbatim,
        )
        for m in read.messages
    ]
    assert [m.source for m in checked.messages] == list(read.sources or range(len(read.messages)))
    assert checked.tools == list(read.tools or ())


def is_read(read: Callable[[], object]) -> None:
    """Read, if need be as far as to say that it is not checked, or must not be packed."""
    with contextlib.suppress(NotChecked, Refused):
        read()


@pytest.mark.parametrize("other", [[1, {"a": 1}], 5, "x"])
def test_a_field_of_another_type_ends_no_check(other: Any) -> None:
    """Packing has rejected what it could not read, and verify reads it all the same."""
    for piece in PIECES:
        chat = {"messages": [ASK, piece, answer()]}
        for held, name in [*fields_of(chat)]:
            with unittest.mock.patch.dict(held, {name: other}):
                is_read(partial(read_chat, chat, Reading()))


@pytest.mark.long
@pytest.mark.parametrize("other", [[1, {"a": 1}], 5])
@pytest.mark.parametrize("log", sorted(path.stem for path in LOGS.glob("*.jsonl")))
def test_a_field_of_another_type_in_a_log_ends_no_check(log: str, other: Any) -> None:
    lines = records(log)
    for held, name in [*fields_of(lines)]:
        with unittest.mock.patch.dict(held, {name: other}):
            if log in {"claude_code", "codex", "pi"}:
                is_read(partial(calls_of_session, lines))
            for line in lines:
                is_read(partial(read_calls, line, Reading(), "x:1"))
