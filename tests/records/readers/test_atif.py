"""Trajectories in ATIF → calls."""

from __future__ import annotations

import json

import pytest
from test_calls import shown
from test_sessions import ASKED, CALLED, RESULT, SAID, lines, turns

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
