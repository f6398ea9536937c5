"""Session files of agents become calls: each answer, with what the model saw before it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sessions import lines, read

from reasonpack.errors import RecordError
from reasonpack.records.call_formats import format_of
from reasonpack.records.calls import read_calls
from reasonpack.records.unit import Record


@pytest.mark.parametrize("name", ["claude_code", "codex", "pi"])
def test_the_format_of_a_line(name: str) -> None:
    assert format_of(lines(name)[0]) == name.replace("_", "-")
    with pytest.raises(
        RecordError, match=r"a line of a session file of .*, expected a call by its"
    ):
        read_calls(Record("x:1", json.dumps(lines(name)[0]).encode()))


@pytest.mark.parametrize(
    "record",
    [
        *({"sessionId": "s"}, {"sessionId": "s", "type": "novel"}),
        *({"parentUuid": "u1"}, {"parentUuid": "u1", "type": "progress"}),
        *({"type": "compacted"}, {"type": "compacted", "payload": "Lost."}),
        *({"payload": {}}, {"type": "novel", "payload": {}}),
    ],
)
def test_what_is_no_line_of_a_session(record: dict[str, Any]) -> None:
    assert format_of(record) == "chat"


@pytest.mark.parametrize("name", ["claude_code", "codex", "pi"])
def test_an_empty_answer_in_a_session_is_not_trained_and_ends_nothing(name: str) -> None:
    found = [each for each in lines(name) if "The tool says" not in json.dumps(each.get("payload"))]
    for each in found:
        message = each.get("message") or each.get("payload") or {}
        if message.get("role") == "assistant" and "Twelve" in json.dumps(message):
            message["content"] = []
    if name == "claude_code":
        found[9]["message"]["content"] = []
        found[10]["parentUuid"] = "u8"
    calls, refused = read(found)
    empty = [call for call in calls if "empty-generation" in call.notes]
    assert empty
    assert not refused
    assert not any(call.trained for call in empty)
    assert calls[-1].trained


@pytest.mark.parametrize("name", ["claude_code", "pi"])
def test_a_line_whose_parent_is_not_there_ends_its_calls_alone(name: str) -> None:
    found = lines(name)
    at = next(i for i, each in enumerate(found) if each.get("uuid", each.get("id")) in ("u1", "e1"))
    calls, refused = read([*found[:at], *found[at + 1 :]])
    assert "does not come before it, expected each after" in str(refused[0])
    assert bool(calls) == (name == "claude_code")


def test_lines_of_two_sessions_are_refused() -> None:
    with pytest.raises(RecordError, match="lines of codex and pi, expected a session"):
        read([*lines("pi"), *lines("codex")])
    with pytest.raises(RecordError, match="lines of no known format, expected a session"):
        read([{"a": 1}])
