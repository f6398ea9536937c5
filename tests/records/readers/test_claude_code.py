"""Sessions of Claude Code → calls."""

from __future__ import annotations

from typing import Any

import pytest
from test_sessions import ASKED, CALLED, RESULT, lines, read, turns


def test_claude_code() -> None:
    calls, refused = read(lines("claude_code"))
    assert not refused
    assert turns(calls) == [
        [ASKED, CALLED],
        [ASKED, CALLED, RESULT, ("tool", "3"), ("assistant", "Fifteen boats.")],
        [
            ("user", "There are 15 boats."),
            ("user", "And in the north?"),
            ("user", "Try again."),
            ("assistant", "None.", "Look north."),
        ],
        [("user", "Count the masts."), ("assistant", "Thirty.")],
    ]
    assert calls[0].conversation
    called = calls[0].conversation.messages[-1].tool_calls
    assert [call.arguments for call in called] == [{"harbour": "east"}, {"harbour": "west"}]
    assert [call.id for call in calls] == ["msg_1", "msg_2", "msg_4", "msg_5"]
    lacking = {"missing system": 1, "missing tools": 1}
    assert calls[1].notes == {**lacking, "missing attachment": 1}
    assert calls[3].notes == {**lacking, "unfinished": 1}


def test_claude_code_with_a_result_that_comes_later() -> None:
    found = lines("claude_code")[:10]
    late = {**found.pop(7), "parentUuid": "u8"}
    found[7]["parentUuid"] = "u5"
    found[8]["parentUuid"] = "u7"
    calls, _ = read([*found, late])
    assert turns(calls)[1] == [ASKED, CALLED, RESULT, ("assistant", "Fifteen boats.")]


def test_claude_code_with_hidden_reasoning() -> None:
    found = lines("claude_code")
    found[15]["message"]["content"][0]["thinking"] = ""
    calls, (error,) = read(found)
    assert len(calls) == 3
    assert (error.reason, error.where) == ("hidden-reasoning", "x:16")
    assert str(error).endswith("Or leave these calls out (--on-error skip).")


def test_claude_code_with_messages_that_a_compaction_kept() -> None:
    found = lines("claude_code")[:13]
    found[10]["compactMetadata"]["preservedMessages"] = {
        "anchorUuid": "u10",
        "uuids": ["u1", "u20", "u21"],
    }
    copy = {**found[9], "uuid": "u20", "parentUuid": "u10"}
    copy["message"] = {**copy["message"], "id": "msg_9"}
    asked = {**found[12], "uuid": "u21", "parentUuid": "u20"}
    said = {**found[9], "uuid": "u22", "parentUuid": "u21"}
    said["message"] = {**said["message"], "id": "msg_10"}
    calls, _ = read([*found[:12], copy, asked, said])
    copied, last = calls[2:]
    assert (copied.id, copied.trained) == ("msg_9", False)
    assert copied.notes["copied-context"] == 1
    assert turns([last])[0] == [
        ("user", "There are 15 boats."),
        ASKED,
        ("assistant", "Fifteen boats."),
        ("user", "And in the north?"),
        ("assistant", "Fifteen boats."),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "assistant", "isApiErrorMessage": True},
        {"type": "assistant", "message": {"role": "assistant", "model": "<synthetic>"}},
        {"type": "user", "isVisibleInTranscriptOnly": True},
        {"type": "progress"},
        {"type": "user", "message": "a text"},
    ],
)
def test_a_line_of_claude_code_that_the_model_never_saw(fields: dict[str, Any]) -> None:
    found = lines("claude_code")
    found[9]["parentUuid"] = "u30"
    message = {"message": {"role": "user", "content": "Hidden."}}
    found.insert(9, {"parentUuid": "u7", "uuid": "u30", "sessionId": "s1", **message, **fields})
    assert turns(read(found)[0]) == turns(read(lines("claude_code"))[0])


def test_lines_of_claude_code_that_stand_twice_or_are_unknown() -> None:
    found = lines("claude_code")
    new = {"type": "novel", "sessionId": "s1", "message": {"role": "user", "content": "New."}}
    calls, _ = read([*found[:6], new, *found])
    assert turns(calls) == turns(read(found)[0])
    assert calls[0].notes == {"missing system": 1, "missing tools": 1, "unread novel": 1}


def test_an_answer_of_claude_code_without_an_id_or_a_stop() -> None:
    found = lines("claude_code")
    found[18]["message"]["id"] = ""
    found[15]["message"]["stop_reason"] = "max_tokens"
    found[16]["message"].pop("stop_reason", None)
    calls, _ = read(found)
    assert [call.id for call in calls[2:]] == ["msg_4", found[18]["uuid"]]
    assert "unfinished" in calls[2].notes
