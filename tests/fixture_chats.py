"""The fixtures: their templates, their tokenizer and their chats."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from oracle import (
    FAMILIES,
    view_texts,
)
from tokenizers import Tokenizer

FIXTURES = Path(__file__).parents[1] / "fixtures"


@functools.cache
def source(name: str) -> str:
    return (FIXTURES / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FIXTURES / "tokenizer" / "tokenizer.json"))


def texts(name: str, messages: list[dict[str, Any]], message: int, **more: Any) -> tuple[str, str]:
    family = FAMILIES[name]
    return view_texts(
        messages,
        source(name),
        message,
        stop=family.stop,
        reasoning_field=family.reasoning_field,
        **more,
    )


def chats() -> list[dict[str, Any]]:
    lines = (FIXTURES / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


CALL: dict[str, Any] = {
    "id": "c1",
    "type": "function",
    "function": {"name": "add", "arguments": {"to": "ü"}},
}
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U1"},
    {"role": "assistant", "reasoning_content": "R1", "content": "A1"},
    {"role": "user", "content": "U2"},
    {"role": "assistant", "reasoning_content": "R2", "content": "A2", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "T"},
    {"role": "assistant", "reasoning_content": "R3", "content": "A3"},
]
