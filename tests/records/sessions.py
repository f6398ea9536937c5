"""Session files of agents, read; and the turns of their calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logged import shown

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, read_session
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
