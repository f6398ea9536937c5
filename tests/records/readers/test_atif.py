"""Trajectories in ATIF → calls."""

from __future__ import annotations

import json

import pytest
from logged import shown
from sessions import ASKED, CALLED, RESULT, SAID, lines, turns

from reasonpack.errors import RecordError
from reasonpack.records.calls import read_calls
from reasonpack.records.unit import Record


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


@pytest.mark.parametrize(("name", "trained"), [("terminus-2", False), ("claude-code", True)])
def test_what_an_agent_took_apart_is_not_trained(name: str, trained: bool) -> None:
    """Terminus has no tools: what it logs as calls was part of a text, but for raw_content."""
    called = {
        "tool_call_id": "c",
        "function_name": "bash_command",
        "arguments": {"keystrokes": "ls"},
    }
    steps = [
        {"step_id": 1, "source": "user", "message": "List it."},
        {"step_id": 2, "source": "agent", "message": "Analysis: a", "tool_calls": [called]},
        {"step_id": 3, "source": "agent", "message": "Analysis: b"},
    ]
    record = {"schema_version": "ATIF-v1.8", "agent": {"name": name}, "steps": steps}
    calls = read_calls(Record("x:1", json.dumps(record).encode()))
    assert [call.trained for call in calls] == [trained, trained]
    assert [call.notes.get("parsed-answer", 0) for call in calls] == [int(not trained)] * 2
    steps[1]["metrics"] = {"prompt_token_ids": [5], "completion_token_ids": [7]}
    (first, _) = read_calls(Record("x:1", json.dumps(record).encode()))
    assert first.trained
    steps[1] = {"step_id": 2, "source": "agent", "message": "raw"}
    calls = read_calls(Record("x:1", json.dumps(record).encode()))
    assert all(call.trained for call in calls)
