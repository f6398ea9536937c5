"""Chats of one question and one answer, read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reasonpack.records.conversation import Conversation, parse_line

ASK = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4"}


def parse(record: object) -> Conversation:
    return parse_line(json.dumps(record).encode(), "chats.jsonl:7")


def chat(*messages: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def answer(**fields: Any) -> dict[str, Any]:
    """A chat whose second message is an assistant message with these fields."""
    return chat(ASK, {"role": "assistant", **fields})
