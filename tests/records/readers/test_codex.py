"""Sessions of Codex → calls."""

from __future__ import annotations

import json

from sessions import ASKED, CALLED, RESULT, SAID, UNKNOWN, WEST, lines, read, turns

from reasonpack.records.calls import read_session
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record


def test_codex() -> None:
    lost = {"type": "compacted", "payload": {"message": "Lost."}}
    still = json.loads(json.dumps(lines("codex")[14]).replace("I do not know.", "Still here."))
    calls, refused = read([*lines("codex"), lost, still])
    system = ("system", "You watch a harbour.")
    assert turns(calls) == [
        [system, ASKED, CALLED],
        [system, ASKED, CALLED, RESULT, SAID],
        [system, ASKED, ("user", "There are 12 boats."), WEST, UNKNOWN],
    ]
    assert [call.where for call in calls] == ["x:6", "x:11", "x:15"]
    assert calls[0].conversation
    assert calls[0].conversation.template_kwargs == {"reasoning_effort": "medium"}
    assert calls[0].notes == {"missing tools": 1}
    assert calls[2].notes == {"missing tools": 1, "unread phase": 1}
    (error,) = refused
    assert (error.reason, error.where) == ("missing", "x:17")
    assert "the history that follows a compaction is not in the file" in str(error)


def test_codex_says_more_of_items_than_what_was_said() -> None:
    found = lines("codex")
    found[2]["payload"]["role"] = "developer"
    for line in found:
        if line["type"] == "response_item":
            line["payload"]["internal_chat_message_metadata_passthrough"] = {"turn_id": "t"}
    reading = Reading(roles={"developer": "system"})
    records = [Record(f"x:{i}", json.dumps(each).encode()) for i, each in enumerate(found, 1)]
    calls, refused = read_session(records, reading)
    assert not refused
    assert turns(calls)[0] == [("system", "You watch a harbour."), ("system", ASKED[1]), CALLED]


def test_codex_behind_a_message_of_another_agent() -> None:
    found = lines("codex")
    found[7] = {"type": "inter_agent_communication", "payload": {"content": "Stop."}}
    calls, (error,) = read(found)
    assert (len(calls), error.where) == (2, "x:11")
    assert "the history that follows a message of another agent is not in the file" in str(error)


def test_codex_behind_a_rollback() -> None:
    found = lines("codex")
    back = {"type": "event_msg", "payload": {"type": "thread_rolled_back", "num_turns": 1}}
    calls, refused = read([*found[:11], back, *found[13:15]])
    assert len(calls) == 2
    assert "the history that follows a rollback is not in the file" in str(refused[0])


def test_codex_with_hidden_reasoning() -> None:
    found = lines("codex")
    found[4]["payload"] |= {"content": None, "encrypted_content": "gAAA"}
    calls, refused = read(found[:12])
    assert not calls
    assert [(each.reason, each.where) for each in refused] == [
        ("hidden-reasoning", "x:6"),
        ("hidden-reasoning", "x:11"),
    ]


def test_codex_with_another_effort_behind_an_answer() -> None:
    """What a turn's first line says of it holds for that turn, not for the answer before."""
    found = lines("codex")
    more = {"type": "turn_context", "payload": {"effort": "high"}}
    calls, _ = read([*found[:11], more, found[13], found[14]])
    efforts = [call.conversation and call.conversation.template_kwargs for call in calls]
    assert efforts == [{"reasoning_effort": each} for each in ("medium", "medium", "high")]


def test_lines_of_codex_that_say_nothing() -> None:
    found = lines("codex")
    found[0]["payload"]["base_instructions"] = {"text": ""}
    effort = {"payload": {"effort": "high"}}
    more = [{"type": "novel", **effort}, {"type": "turn_context", "payload": {"effort": 3}}]
    calls, _ = read([*found[:2], *more, {"type": "event_msg"}, *found[2:12]])
    assert turns(calls) == [[ASKED, CALLED], [ASKED, CALLED, RESULT, SAID]]
    assert calls[0].conversation
    assert calls[0].conversation.template_kwargs == {"reasoning_effort": "medium"}
    assert calls[0].notes == {"missing tools": 1, "missing system": 1, "unread novel": 1}


def test_codex_behind_a_history_of_no_items() -> None:
    found = lines("codex")
    found[12]["payload"]["replacement_history"] = ["There are 12 boats."]
    calls, (error,) = read(found)
    assert len(calls) == 2
    assert "a compaction" in error.what
