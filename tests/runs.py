"""Small runs for tests: chats with a seed, options, and a dataset as a dictionary of bytes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from reasonpack.datasets.options import Options
from reasonpack.run.engine import Run

ROOT = Path(__file__).parent.parent
FIXTURES = ROOT / "fixtures"
Json = dict[str, Any]
WORDS = [
    word
    for words in json.loads((FIXTURES / "words.json").read_text(encoding="utf-8")).values()
    for word in words
]
UNIT_BYTES = 4_000
CHATS = 40
"""With these a run has about ten units."""

OPTIONS = Options(tokenizer=str(FIXTURES / "tokenizer"), packing=True, max_length=2_000)
SKIPPING = Options(tokenizer=str(FIXTURES / "tokenizer"), on_error="skip")


def run(**settings: object) -> Run:
    """Give the settings of a run with small units."""
    return Run(**{"unit_bytes": UNIT_BYTES, **settings})  # type: ignore[arg-type]


def chats(count: int = CHATS, *, seed: int = 0, bad: bool = True) -> bytes:
    """Write chats as JSON Lines; every tenth cannot be packed if `bad`."""
    draw = random.Random(seed)

    def text(least: int, most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(least, most)))

    lines = []
    for number in range(count):
        messages = []
        for _ in range(draw.randint(1, 3)):
            messages.append({"role": "user", "content": text(3, 20)})
            answer = {"content": text(5, 30), "reasoning_content": text(5, 30)}
            messages.append({"role": "assistant", **answer})
        if bad and number % 10 == 9:
            messages[0]["role"] = "nobody"
        lines.append(json.dumps({"id": f"chat {number}", "messages": messages}) + "\n")
    return "".join(lines).encode()


def said(role: str, text: str) -> Json:
    return {"role": role, "content": text}


def agents(count: int = 12, *, seed: int = 0, bad: bool = True) -> list[Json]:
    """Make the calls of some agents, in any order; every tenth cannot be read if `bad`."""
    draw = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(3, most)))

    calls: list[Json] = []
    for agent in range(count):
        history: list[Json] = []
        for turn in range(draw.randint(1, 4)):
            history = [*history, said("user", text(20))]
            answer = {**said("assistant", text(30)), "reasoning_content": text(30)}
            call = {"id": f"{agent}.{turn}", "trace_id": f"agent {agent}", "messages": history}
            calls.append({**call, "response": {"choices": [{"message": answer}]}})
            history = [*history, answer]
    draw.shuffle(calls)
    if bad:
        for call in calls[9::10]:
            call["messages"] = [said("nobody", "x")]
    return calls


def tree(directory: Path) -> dict[str, bytes]:
    """Read everything in a dataset but its plan, which says when the input was written."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != "plan.json"
    }
