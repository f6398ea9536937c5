"""Every refusal of the reader of calls was seen: it says what was expected, and what to do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import sessions
import test_call_formats as formats
from fixing import ROOT, noted, unseen
from readers.test_verifiers import PLANTED
from refused_calls import IDS, REFUSED

from reasonpack.errors import RecordError
from reasonpack.records.calls import read_calls, read_session
from reasonpack.records.unit import Record

RECORDS = ROOT / "reasonpack" / "records"
OF_CALLS = {path.name for path in (*RECORDS.glob("call*.py"), *RECORDS.glob("readers/*.py"))}


def planted() -> list[Any]:
    """Return records of other formats, each with something that is refused."""
    found: list[Any] = [sessions.lines("pi")[0]]
    for plant, _ in PLANTED.values():
        found.append(formats.records("verifiers")[0]["traces"][0])
        plant(found[-1])
    trace = formats.records("verifiers")[0]["traces"][0]
    found.append({**trace, "rewards": {"right": {"score": "1"}}})
    found.append({**formats.records("litellm")[0], **trace})
    redacted = [{"role": "user", "content": "redacted-by-litellm"}]
    found.append({**formats.records("litellm")[0], "messages": redacted})
    found.append({**formats.records("nemo_gym_entries")[0], "schema_version": 2})
    rollout = formats.records("nemo_gym_rollouts")[0]
    found.append({**rollout, "response": None})
    trajectory = sessions.lines("atif")[0]
    found.append({**trajectory, "schema_version": "ATIF-v2.0"})
    found.append({**trajectory, "steps": [{"source": "critic", "message": "No."}]})
    found += [
        {"messages": [{"role": "assistant", "content": "4", "train": False}], "response": "5"},
        {"prompt": [], "response": "4", "system": "", "messages": [{"role": "tool"}]},
        {"messages": ["a"], "response": "4"},
        {"request": [1], "response": "4"},
        {"messages": [{"role": "user", "content": "a"}], "response": 4},
        {"messages": [{"role": "user", "content": "a"}], "candidates": "4"},
        {"messages": [{"role": "user", "content": "a"}], "choices": [{"message": 4}]},
        {"request": {"instructions": "a", "system": "b", "input": "c"}, "response": "4"},
        {"request": {"messages": [{"role": "user", "content": "a"}], "reasoning_effort": "low",
                     "chat_template_kwargs": {"reasoning_effort": "high"}}, "response": "4"},
        *({**IDS, name: value} for name, value in
          [("weight", "1"), ("reward", "1"), ("loss_mask", ["1", 0, 0]),
           ("logprobs", "a")]),
    ]  # fmt: skip
    return found


def test_every_refusal_is_seen() -> None:
    def tried(read: Callable[[], object]) -> None:
        with contextlib.suppress(RecordError):
            read()

    with noted() as seen:
        for record in [*(record for record, *_ in REFUSED.values()), *planted()]:
            line = json.dumps(record).encode()
            tried(lambda line=line: read_calls(Record("x", line)))
        found = sessions.lines("codex")
        back = {"type": "event_msg", "payload": {"type": "thread_rolled_back", "num_turns": 1}}
        for lines in (
            [{"a": 1}],
            [*found, back, found[-1]],
            sessions.lines("claude_code")[3:],
            [
                {**line, "microcompactMetadata": {"compactedToolIds": ["toolu_1"]}}
                for line in sessions.lines("claude_code")
            ],
            sessions.lines("pi")[3:],
        ):
            records = [Record("x", json.dumps(line).encode()) for line in lines]
            tried(lambda records=records: read_session(records))
    left = unseen("records", {"RecordError"}, seen)
    assert not [each for each in left if each.partition(":")[0] in OF_CALLS]
