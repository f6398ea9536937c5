"""Session files of agents become calls: each answer, with what the model saw before it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from test_calls import shown

from reasonpack.errors import RecordError
from reasonpack.records.call_formats import format_of
from reasonpack.records.calls import Call, read_calls, read_session
from reasonpack.records.unit import Record

LOGS = Path(__file__).parent / "call_logs"
ASKED = ("user", "How many boats lie in the east harbour?")
CALLED = ("assistant", None, "I have to count them.")
RESULT = ("tool", "12")
SAID = ("assistant", "Twelve boats.", "The tool says 12.")
WEST, UNKNOWN = ("user", "And in the west?"), ("assistant", "I do not know.")
Turn = tuple[Any, ...]


def lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (LOGS / f"{name}.jsonl").read_text("utf-8").splitlines()]


def read(found: Sequence[Any]) -> tuple[list[Call], list[RecordError]]:
    records = [Record(f"x:{i}", json.dumps(each).encode()) for i, each in enumerate(found, 1)]
    return read_session(records)


def turns(calls: Sequence[Call]) -> list[list[Turn]]:
    return [shown(call)["messages"] for call in calls]


@pytest.mark.parametrize("name", ["claude_code", "codex", "pi"])
def test_the_format_of_a_line(name: str) -> None:
    assert format_of(lines(name)[0]) == name.replace("_", "-")
    with pytest.raises(
        RecordError, match=r"a line of a session file of .*, expected a call by its"
    ):
        read_calls(Record("x:1", json.dumps(lines(name)[0]).encode()))


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


def test_codex_with_another_effort_behind_an_answer() -> None:
    """What a turn's first line says of it holds for that turn, not for the answer before."""
    found = lines("codex")
    more = {"type": "turn_context", "payload": {"effort": "high"}}
    calls, _ = read([*found[:11], more, found[13], found[14]])
    efforts = [call.conversation and call.conversation.template_kwargs for call in calls]
    assert efforts == [{"reasoning_effort": each} for each in ("medium", "medium", "high")]


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


@pytest.mark.parametrize("name", ["claude_code", "pi"])
def test_a_line_whose_parent_is_not_there_ends_its_calls_alone(name: str) -> None:
    found = lines(name)
    at = next(i for i, each in enumerate(found) if each.get("uuid", each.get("id")) in ("u1", "e1"))
    calls, refused = read([*found[:at], *found[at + 1 :]])
    assert "does not stand before it, expected it" in str(refused[0])
    assert bool(calls) == (name == "claude_code")


def test_lines_of_two_sessions_are_refused() -> None:
    with pytest.raises(RecordError, match="lines of codex and pi, expected a session"):
        read([*lines("pi"), *lines("codex")])
    with pytest.raises(RecordError, match="lines of no known format, expected a session"):
        read([{"a": 1}])


def test_trajectories() -> None:
    records = [Record(f"x:{i}", json.dumps(each).encode()) for i, each in enumerate(lines("atif"))]
    system = ("system", "You watch a harbour.")
    first, second, nested = read_calls(records[0])
    assert turns([first, second, nested]) == [
        [system, ASKED, CALLED],
        [system, ASKED, CALLED, RESULT, SAID],
        [("user", "Is 12 right?"), ("assistant", "Yes.")],
    ]
    assert shown(first)["prompt_ids"] == [10, 11, 12]
    assert shown(first)["completion_ids"] == [20, 21]
    assert shown(first)["logprobs"] == [-0.5, -0.25]
    assert (first.id, nested.id) == ("t1:3", "t2:2")
    assert not first.notes
    assert nested.notes == {"missing system": 1, "missing tools": 1}
    assert [(call.trained, *call.notes) for call in read_calls(records[1])] == [
        (False, "copied-context"),
        (False, "no-model-call"),
        (False, "several-calls"),
        (True,),
        (False, "rewritten-context"),
    ]


def test_an_operation_of_the_system_is_no_message_and_may_change_the_context() -> None:
    record = lines("atif")[0]
    operation = {"step_id": 9, "source": "system", "message": "Summarized the context."}
    operation["observation"] = {"results": [{"content": "12 boats."}]}
    record["steps"].insert(3, operation)
    _, second, _ = read_calls(Record("x:1", json.dumps(record).encode()))
    assert (second.trained, [*second.notes]) == (False, ["rewritten-context"])
    assert ("system", "Summarized the context.") not in shown(second)["messages"]


def test_trajectories_of_other_versions_are_refused() -> None:
    record = {**lines("atif")[0], "schema_version": "ATIF-v2.0"}
    with pytest.raises(
        RecordError, match=r"schema_version: got 'ATIF-v2\.0', expected one of ATIF-"
    ):
        read_calls(Record("x:1", json.dumps(record).encode()))
    record = lines("atif")[0]
    record["steps"][1]["source"] = "critic"
    with pytest.raises(RecordError, match=r"steps\[1\]\.source: got 'critic', expected system"):
        read_calls(Record("x:1", json.dumps(record).encode()))
