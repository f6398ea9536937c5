"""Sessions of pi → calls."""

from __future__ import annotations

import pytest
from test_sessions import ASKED, CALLED, RESULT, SAID, UNKNOWN, WEST, lines, read, turns

from reasonpack.records.call_formats import format_of


def test_pi() -> None:
    calls, refused = read(lines("pi"))
    assert not refused
    first = [ASKED, CALLED]
    assert turns(calls) == [
        first,
        [*first, RESULT, ("assistant", "Tw")],
        [*first, RESULT, SAID],
        [*first, RESULT, ("user", "Say it in a word."), ("assistant", "Twelve.")],
        [
            ("user", "There are 12 boats."),
            ("user", "Say it in a word."),
            ("assistant", "Twelve."),
            WEST,
            UNKNOWN,
        ],
    ]
    assert [call.id for call in calls] == ["e2", "e4", "e5", "e7", "e10"]
    assert calls[0].where == "x:4"
    lacking = {"missing system": 1, "missing tools": 1}
    assert calls[0].notes == lacking
    assert calls[1].notes == {**lacking, "unfinished": 1}
    assert calls[-1].notes == {**lacking, "missing summary-wording": 1}


def test_pi_without_ids_is_a_line_of_entries() -> None:
    old = [{k: v for k, v in each.items() if k not in ("id", "parentId")} for each in lines("pi")]
    calls, _ = read([{**old[0], "id": "s"}, *old[1:5]])
    assert turns(calls) == [[ASKED, CALLED]]


def test_an_entry_whose_parent_stands_behind_it_is_refused() -> None:
    found = lines("pi")
    found[3]["parentId"] = "e4"
    calls, refused = read(found)
    assert not calls
    assert {error.what for error in refused} == {
        "the parent of x:4 does not stand before it, expected it"
    }


@pytest.mark.parametrize(
    "record",
    [
        {"type": "session"},
        {"type": "session", "cwd": "/", "payload": {}},
        {"type": "message", "message": {}},
        {"type": "message", "message": {}, "timestamp": 1, "sessionId": "s"},
        {"type": "message", "message": "Hello", "timestamp": 1},
        {"type": "novel", "message": {}, "timestamp": 1},
    ],
)
def test_what_is_no_line_of_pi(record: dict[str, object]) -> None:
    assert format_of(record) != "pi"


def test_what_pi_sends_and_what_it_does_not() -> None:
    found = lines("pi")[:4]
    texts = [{"type": "text", "text": "The fleet is in."}]
    entries = [
        {"type": "message", "message": {"role": "user", "content": texts}},
        {"type": "message", "message": {"role": "assistant", "stopReason": "error"}},
        {"type": "message", "message": {"role": "user", "content": "x", "excludeFromContext": 1}},
        {"type": "message", "message": {"role": "bashExecution", "command": "ls", "output": "a"}},
        {"type": "custom_message", "content": "From an extension."},
        {"type": "branch_summary", "summary": "Nothing was found."},
        {"type": "novel", "content": "?"},
        {"type": "message", "message": {"role": "assistant", "content": texts}},
    ]
    for number, entry in enumerate(entries):
        found.append({"id": f"f{number}", "parentId": found[-1]["id"], "timestamp": 2, **entry})
    calls, _ = read(found)
    assert turns(calls)[-1] == [
        *(ASKED, CALLED, ("user", "The fleet is in."), ("user", "ls\na")),
        *(("user", "From an extension."), ("user", "Nothing was found.")),
        ("assistant", "The fleet is in."),
    ]
    assert calls[0].notes["unread novel"] == 1
    assert calls[-1].notes == {
        **dict.fromkeys(["missing system", "missing tools", "missing command-wording"], 1),
        "missing summary-wording": 1,
    }


def test_reasoning_of_pi_that_was_redacted_is_refused() -> None:
    found = lines("pi")[:4]
    found[3]["message"]["content"][0]["redacted"] = True
    calls, (error,) = read(found)
    assert (calls, error.reason) == ([], "hidden-reasoning")
