"""Sessions of Claude Code → calls."""

from __future__ import annotations

from typing import Any

import pytest
from sessions import ASKED, CALLED, RESULT, lines, read, turns

from reasonpack.records.call_formats import format_of


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
    assert str(error).endswith("; or leave these calls out (--on-error skip).")


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


@pytest.mark.parametrize(
    "first",
    [
        {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}},
        {"type": "summary", "summary": "Boats", "leafUuid": "u9"},
    ],
)
def test_a_file_of_claude_code_that_begins_with_a_line_of_no_session(first: Any) -> None:
    assert format_of(first) == "claude-code"
    assert turns(read([first, *lines("claude_code")])[0]) == turns(read(lines("claude_code"))[0])


@pytest.mark.parametrize("parent", ["u10", "u8"])
def test_a_segment_that_a_compaction_kept_stands_behind_the_summary(parent: str) -> None:
    """Whether the next message hangs on the summary or on the last message that was kept."""
    found = lines("claude_code")[:13]
    segment = {"headUuid": "u7", "anchorUuid": "u10", "tailUuid": "u8"}
    found[10]["compactMetadata"] = {"preservedSegment": segment}
    said = {**found[9], "uuid": "u22", "parentUuid": "u11"}
    said["message"] = {**said["message"], "id": "msg_10"}
    found[12]["parentUuid"] = parent
    (*before, last), refused = read([*found, said])
    assert not refused
    assert turns(before) == turns(read(found)[0])
    answered = ("assistant", "Fifteen boats.")
    summary, asked = ("user", "There are 15 boats."), ("user", "And in the north?")
    assert turns([last])[0] == [summary, answered, asked, answered]


def test_what_a_compaction_kept_and_the_file_does_not_hold_is_refused() -> None:
    found = lines("claude_code")
    segment = {"headUuid": "u0", "anchorUuid": "u10", "tailUuid": "u8"}
    found[10]["compactMetadata"] = {"preservedSegment": segment}
    calls, (error,) = read(found)
    assert ([call.id for call in calls], error.where) == (["msg_1", "msg_2", "msg_5"], "x:16")
    assert "give the whole file" in error.fix


def test_messages_that_waited_and_commands_are_sent() -> None:
    found = lines("claude_code")
    found[8]["attachment"] = {"type": "queued_command", "prompt": "And the masts?"}
    command = {"type": "system", "subtype": "local_command", "content": "<command-name>/a"}
    found.insert(9, {**found[8], "attachment": None, **command, "uuid": "c", "parentUuid": "u7"})
    found[10]["parentUuid"] = "c"
    calls, _ = read(found)
    assert turns(calls)[1][4:6] == [("user", "And the masts?"), ("user", "<command-name>/a")]
    assert calls[1].notes["missing attachment"] == 1  # the words around it


def test_what_the_model_saw_of_a_prompt_that_was_edited_is_not_in_the_file() -> None:
    found = lines("claude_code")
    found[8]["microcompactMetadata"] = {"compactedToolIds": ["toolu_1"]}
    calls, (error,) = read(found)
    assert ("msg_2" not in [call.id for call in calls], error.reason) == (True, "missing")
    found = lines("claude_code")
    edits = [{"type": "clear_thinking_20251015"}, {"type": "clear_tool_uses_20250919"}]
    found[9]["message"]["context_management"] = {"applied_edits": edits[:1]}
    assert turns(read(found)[0]) == turns(read(lines("claude_code"))[0])
    for said in (edits, True):
        found[9]["message"]["context_management"] = {"applied_edits": said}
        calls, (error,) = read(found)
        assert (len(calls), error.path) == (3, "message.context_management")


def test_an_answer_that_the_user_interrupted_has_no_stop() -> None:
    found = lines("claude_code")
    message = {
        "role": "user",
        "content": [{"type": "text", "text": "[Request interrupted by user]"}],
    }
    stop = {**found[12], "uuid": "i", "parentUuid": "u8", "message": message}
    assert "unfinished" not in read([*found, stop])[0][1].notes  # it had ended
    found[9]["message"]["stop_reason"] = None
    assert "unfinished" not in read(found)[0][1].notes
    assert read([*found, stop])[0][1].notes["unfinished"] == 1


def test_a_call_says_that_the_model_made_it() -> None:
    found = lines("claude_code")
    for block in (b for line in found for b in line.get("message", {}).get("content", ())):
        if isinstance(block, dict) and block["type"] == "tool_use":
            block["caller"] = {"type": "direct"}
    calls, refused = read(found)
    assert not refused
    assert turns(calls) == turns(read(lines("claude_code"))[0])
    found[4]["message"]["content"][0]["caller"] = {"type": "code_execution", "tool_id": "s"}
    _, (error, *_) = read(found)
    assert (error.where, error.path) == ("x:4", "message.content[1].caller")
