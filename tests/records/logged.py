"""Records of a log, read as a line and as a row, or refused; and what is there of their calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, read_calls
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
    assert error.expected
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
