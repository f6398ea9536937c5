"""Groups of calls, packed and compared with what was logged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packed_twice import TOKENIZER, Json
from runs import ROOT, run

from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.findings import Findings

LOGS = ROOT / "tests" / "records" / "call_logs"


def said(role: str, text: str, **more: Any) -> Json:
    return {"role": role, "content": text, **more}


def ids(group: str, name: str, prompt: list[int], completion: list[int], **more: Any) -> Json:
    return {
        "trace_id": group,
        "id": name,
        "prompt_ids": prompt,
        "completion_ids": completion,
        **more,
    }


def answered(group: str, name: str, history: Sequence[Json], text: str, **more: Any) -> Json:
    answer = said("assistant", text, reasoning_content="Hm, " + text)
    return {"trace_id": group, "id": name, "messages": history, "response": answer, **more}


ASKED = [said("user", "2+2?")]
GOING_ON = [*ASKED, said("assistant", "4"), said("user", "And 3+3?")]
PLAIN = [
    answered("t", "first", ASKED, "4"),
    ids("i", "a", [5, 6], [7, 8], weight=0.5),
    answered("t", "next", GOING_ON, "6"),
    ids("i", "b", [5, 6], [7, 8]),
    ids("i", "e", [5, 6], []),
    ids("i", "c", [5, 6, 7, 8, 9], [10]),
    answered("t", "again", ASKED, "four", weight=2),
    ids("i", "d", [5, 6, 7, 8, 9, 10, 11], [12, 13], loss_mask=[0, 1]),
    ids("i", "a", [5, 6], [7, 8], weight=0.5),
    answered("t", "retry", GOING_ON, "6"),
    {"prompt_ids": [5], "completion_ids": [7]},
]
"""Retries, equal answers, histories that go on, one call logged twice, an empty generation."""
VALUES: Json = {"logprobs": [-0.5, -1.5], "advantage": 1, "reward": 2}
ROLLED_OUT = [
    ids("r", "a", [5, 6], [7, 8], **VALUES),
    ids("r", "b", [5, 6], [7, 9], **{**VALUES, "advantage": -1, "reward": None}),
    ids("r", "c", [5, 6, 7, 9, 4], [7, 8], **{**VALUES, "advantage": [0.25, 0.5]}),
    ids("r", "d", [5, 6], [7, 9], **{**VALUES, "logprobs": [-1, -2]}),
    ids("r", "e", [5, 6, 7], [7, 9], **{**VALUES, "advantage": None}),
]
PAIRS = [
    {"id": "p", "trace_id": "p", "messages": ASKED, "chosen": "4", "rejected": "5"},
    {"id": "q", "trace_id": "p", "messages": GOING_ON, "chosen": "6", "rejected": "6!"},
]
KINDS = {"plain": PLAIN, "rolled out": ROLLED_OUT, "pairs": PAIRS}


def written(path: Path, records: Sequence[Json]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def packed(folder: Path, records: Sequence[Json], **asked: Any) -> tuple[Path, Path]:
    source = written(folder / "calls.jsonl", records)
    options = Options(tokenizer=str(TOKENIZER), on_error="skip", **asked)
    pack_files([str(source)], folder / "out", options, run=run(unit_bytes=500))
    return folder / "out", source


def compared(out: Path, *sources: Path, **asked: Any) -> Findings:
    """Compare a dataset, which by itself has to be sound."""
    assert verify_dataset(out).total == 0
    return verify_dataset(out, [*map(str, sources)], **asked)
