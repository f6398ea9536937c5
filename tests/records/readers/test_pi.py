"""Sessions of pi → calls."""

from __future__ import annotations

from typing import Any

import pytest
from sessions import ASKED, CALLED, RESULT, SAID, UNKNOWN, WEST, lines, read, turns

from reasonpack.records.call_formats import format_of

MODEL = {"api": "openai-completions", "provider": "local", "model": "harbour-1"}
TOOL = {"name": "count_boats", "description": "Count.", "parameters": {"type": "object"}}


def behind(found: list[Any], *entries: dict[str, Any]) -> list[Any]:
    """Put entries behind the last of some, each behind the one before it."""
    for number, entry in enumerate(entries):
        found.append({"id": f"f{number}", "parentId": found[-1]["id"], "timestamp": 2, **entry})
    return found


def message(role: str, content: Any, **fields: Any) -> dict[str, Any]:
    more = MODEL if role == "assistant" else {}
    return {"type": "message", "message": {"role": role, "content": content, **more, **fields}}


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
    assert {error.what for error in refused} == {"the parent of x:4 does not come before it"}


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
        {"type": "message", "message": {"role": "assistant", "content": texts, **MODEL}},
    ]
    calls, _ = read(behind(found, *entries))
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


def test_a_compaction_of_version_1_keeps_from_the_line_that_it_counts_to() -> None:
    old = [{k: v for k, v in each.items() if k not in ("id", "parentId")} for each in lines("pi")]
    old[9]["firstKeptEntryIndex"] = 7  # of all lines, with that of the session
    del old[9]["firstKeptEntryId"]
    old[1:7] = [old[1], old[2], old[3], old[4], old[6], old[5]]
    calls, _ = read([{**old[0], "id": "s"}, *old[1:]])
    assert turns(calls)[-1] == [
        *(("user", "There are 12 boats."), ("user", "Say it in a word.")),
        *(("assistant", "Twelve."), WEST, UNKNOWN),
    ]
    assert {call.id for call in calls} == {call.where for call in calls}  # none of their own


def system(**fields: Any) -> dict[str, Any]:
    return message("system", fields.pop("content", ""), **fields)


def test_system_messages_together_are_one() -> None:
    first = system(
        sections={"preamble": "You watch.", "cwd": "/harbour"},
        toolsAdded=[TOOL, {**TOOL, "name": "write", "constrainedSampling": {}}],
    )
    later = system(
        content=[{"type": "text", "text": "Be"}, {"type": "text", "text": "brief."}],
        sections={"cwd": None, "skills": "None."},
        toolsRemoved=[{"name": "write"}],
    )
    ask, tell = message("user", "East?"), message("assistant", [{"type": "text", "text": "12"}])
    found = behind([lines("pi")[0], {"id": "m", "parentId": None, "type": "model_change"}])
    calls, _ = read(behind(found, first, ask, tell, later, ask, tell))
    one, two = calls
    turn = [("user", "East?"), ("assistant", "12")]
    assert turns([one])[0] == [("system", "You watch.\n\n/harbour"), *turn]
    assert turns([two])[0] == [("system", "Be\nbrief.\n\nYou watch.\n\nNone."), *turn, *turn]
    assert [
        [tool["function"] for tool in call.conversation.tools or ()]
        for call in calls
        if call.conversation
    ] == [[TOOL, {**TOOL, "name": "write"}], [TOOL]]
    assert (one.notes, two.notes) == ({}, {"missing system-place": 1})


def test_a_compaction_brings_the_system_message_that_holds_behind_it() -> None:
    ask, tell = message("user", "East?"), message("assistant", [{"type": "text", "text": "12"}])
    checkpoint = {"role": "system", "content": "You watch again.", "toolsAdded": [TOOL]}
    compacted = {"type": "compaction", "summary": "12.", "systemMessage": checkpoint}
    found = [lines("pi")[0], {"id": "m", "parentId": None, "type": "model_change"}]
    found = behind(found, ask, system(content="You watch."), ask, tell)
    found = behind(found, {**compacted, "id": "c", "firstKeptEntryId": "f1"})
    found = behind(found, {**ask, "id": "g0"}, {**tell, "id": "g1"})
    found[-1]["parentId"], found[-2]["parentId"] = "g0", "c"
    calls, _ = read(found)
    said, asked = ("assistant", "12"), ("user", "East?")
    assert turns(calls)[-1] == [
        *(("system", "You watch again."), ("user", "12."), asked, said, asked, said),
    ]


def test_edits_of_the_context_hold_for_what_they_name() -> None:
    found = lines("pi")[:5]
    edits: list[dict[str, Any]] = [
        {"type": "context_edit", "targetId": "e3", "replacement": {"content": "Cut."}},
        {"type": "context_edit", "targetId": "e1", "replacement": None},
        message("assistant", [{"type": "text", "text": "Yes."}]),
    ]
    before, _ = read(behind(lines("pi")[:5], edits[-1]))
    after, _ = read(behind(found, *edits))
    assert turns(before)[-1] == [ASKED, CALLED, RESULT, ("assistant", "Yes.")]
    assert turns(after)[-1] == [CALLED, ("tool", "Cut."), ("assistant", "Yes.")]


def test_what_another_model_thought_is_not_sent() -> None:
    other = message("assistant", [{"type": "text", "text": "Yes."}], model="harbour-2")
    calls, _ = read(behind(lines("pi")[:5], other))
    assert turns(calls)[-1] == [ASKED, ("assistant", None), RESULT, ("assistant", "Yes.")]
    assert calls[-1].notes["missing thoughts-of-another-model"] == 1


def test_what_pi_says_of_an_answer_is_no_part_of_it() -> None:
    block = {"type": "toolCall", "id": "c", "name": "f", "arguments": {}, "partialJson": "{"}
    more = {"thinkingLevel": "high", "responseModel": "x", "diagnostics": [], "rawStopReason": "s"}
    hook = message("hookMessage", "From a hook.")
    cut = message("assistant", [block], stopReason="aborted", **more)
    calls, refused = read(behind(lines("pi")[:3], hook, cut))
    assert not refused
    assert turns(calls)[-1] == [ASKED, ("user", "From a hook."), ("assistant", None)]
    assert calls[-1].notes["unfinished"] == 1
