"""Whatever conversations say, and options ask for: what is packed is what `verify` finds again.

conversations ── answers marked, weighed, cut off, their reasoning put into the content ──┐
options of each kind ──────────────────────────────────────── drawn ──────────────────────┴→ pack
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import logged_calls
import pytest
import strategies
from hypothesis import HealthCheck, given, seed, settings
from packed_twice import FIXTURES, TOKENIZER, Json

from reasonpack.datasets.options import Options
from reasonpack.errors import ReasonpackError
from reasonpack.run.engine import Run
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset

TEMPLATES = [None, *sorted(str(each) for each in (FIXTURES / "templates").glob("*.jinja"))]
PARTS = ["reasoning", "response", "tool-calls"]
CHOICES: list[tuple[float, str, list[Any]]] = [
    (0.3, "layout", ["npass"]),
    (0.4, "missing_reasoning", ["empty-think"]),
    (0.3, "train_empty_think", [True]),
    (0.3, "on_message_error", ["context"]),
    (0.4, "loss_weights", ["none", "data", "message", "turn", "conversation"]),
    (0.2, "stray_closing_tag", ["text", "reasoning"]),
    (0.2, "null_arguments", ["drop", "keep"]),
    (0.3, "max_length", [64, 128, 256, 512]),
    (0.2, "overlong", ["skip"]),
    (0.2, "max_position", [128, 300]),
    (0.1, "dedup", ["exact"]),
    (0.1, "shuffle", [True]),
    (0.1, "split", [("held=0.3",)]),
]
"""How often an option is given, and which of what values."""
AGAIN: dict[str, list[Any]] = {
    "max_length": [128, 256, 600],
    "packing": ["best-fit", "sequential", "none"],
    "shuffle": [True],
    "split": [("held=0.4",)],
    "loss_weights": ["none", "message", "turn", "conversation"],
}
"""With what it is packed again."""


def conversations(number: int, draw: random.Random) -> list[Json]:
    """Draw conversations, the larger ones of many."""
    found: list[Json] = []
    reasoning: Any = draw.choice(["mixed", "always", "never"])

    @settings(max_examples=30, database=None, suppress_health_check=list(HealthCheck))
    @seed(number)
    @given(strategies.conversations(reasoning=reasoning, wild=draw.random() < 0.35))
    def collect(record: Json) -> None:
        found.append(record)

    collect()
    return [changed(each, draw) for each in sorted(found, key=lambda each: len(str(each)))[-12:]]


def changed(record: Json, draw: random.Random) -> Json:
    """Say of some answers what logs say of them too."""
    made = copy.deepcopy(record)
    for message in made["messages"]:
        if message["role"] != "assistant":
            continue
        message.setdefault("content", "")
        if draw.random() < 0.06:
            message["train"] = draw.random() < 0.5
        elif draw.random() < 0.05:
            message["weight"] = draw.choice([0, 0.5, 1, 2])
        if draw.random() < 0.08:
            message["finish_reason"] = draw.choice(["length", "stop"])
        if draw.random() < 0.1 and "reasoning_content" in message:
            space = [draw.choice(["", "\n", "\n\n"]) for _ in range(3)]
            thought = f"<think>{space[0]}{message.pop('reasoning_content')}{space[1]}</think>"
            message["content"] = f"{thought}{space[2]}{message['content']}"
    return made


def options(draw: random.Random) -> dict[str, Any]:
    asked = {name: draw.choice(values) for often, name, values in CHOICES if draw.random() < often}
    if draw.random() < 0.5:
        parts = draw.sample(PARTS, draw.randint(0, 2))
        asked["train_on"] = ",".join([draw.choice(["all", "last-turn", "last-message"]), *parts])
    if "max_length" in asked and draw.random() < 0.6:
        asked["packing"] = draw.choice(["best-fit", "sequential"])
    return asked


@pytest.mark.long
@pytest.mark.parametrize("number", range(80))
def test_what_is_packed_is_found_again(number: int, tmp_path: Path) -> None:
    draw = random.Random(number)
    asked, records = options(draw), conversations(number, draw)
    if draw.random() < 0.15:
        asked["group_by"] = "session_id"
        records = [
            {**call, "session_id": f"{session}"}
            for session, record in enumerate(records)
            for call in logged_calls.calls_of(record, "c")
        ]
        records += draw.sample(records, min(3, len(records)))  # logged again
    source = tmp_path / "a.jsonl"
    source.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    chosen = Options(
        tokenizer=str(TOKENIZER), chat_template=draw.choice(TEMPLATES), on_error="skip", **asked
    )
    try:
        pack_files([str(source)], tmp_path / "out", chosen, run=Run(unit_bytes=3_000))
    except ReasonpackError as error:
        pytest.skip(f"nothing is packed: {error}")
    findings = verify_dataset(tmp_path / "out", [str(source)])
    assert findings.total == 0, findings.listed
    given = {name: draw.choice(values) for name, values in AGAIN.items() if draw.random() < 0.3}
    try:
        repack([tmp_path / "out"], tmp_path / "again", given)
    except ReasonpackError:
        return  # options that do not go with what is packed
    findings = verify_dataset(tmp_path / "again", [str(source)])
    assert findings.total == 0, findings.listed
