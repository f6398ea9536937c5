"""A conversation → its split, chosen by a hash of its content.

    --split validation=0.02      SHA-256 of messages and tools → 0 ──┬──────────────── 1
                                                          validation └─ train

So equal conversations get the same split wherever they are, and adding data moves none to another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from reasonpack.datasets.options import TRAIN
from reasonpack.errors import UsageError
from reasonpack.records.conversation import Conversation
from reasonpack.records.message import Message

_NAME = re.compile(r"[a-z0-9_]+")


def read_splits(given: Sequence[str]) -> dict[str, float]:
    """Return the share of each split, given as `NAME=SHARE`; the rest of conversations is `train`.

    Raises:
        UsageError: a split has another form, or the shares add up to 1 or more.

    >>> read_splits(["validation=0.02", "test=0.01"])
    {'validation': 0.02, 'test': 0.01}
    """
    found: dict[str, float] = {}
    for text in given:
        name, _, number = text.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not _NAME.fullmatch(name) or name == TRAIN or name in found or not 0 < share < 1:
            raise _wrong(text, "a new name of a-z, 0-9 and _, not train, and a share below 1")
        found[name] = share
    if sum(found.values()) >= 1:
        raise _wrong(" ".join(given), "shares that leave something to train on")
    return found


def _wrong(found: str, expected: str) -> UsageError:
    return UsageError("--split", found, expected, "write --split validation=0.02")


def key(conversation: Conversation) -> bytes:
    """Return messages and tools as JSON: their hash decides the split (`schemas/FORMAT.md`)."""
    messages = [*map(_content, conversation.messages)]
    return json.dumps([messages, conversation.tools or []], sort_keys=True).encode()


def turn_of_call(conversation: Conversation) -> bytes:
    """Return a hash of a call's messages up to the last user message, the same for one turn."""
    ends = [n for n, each in enumerate(conversation.messages, 1) if each.role == "user"]
    messages = [*map(_content, conversation.messages[: max(ends, default=0)])]
    return hashlib.sha256(json.dumps(messages, sort_keys=True).encode()).digest()


def _content(message: Message) -> list[Any]:
    calls = [[call.name, call.arguments] for call in message.tool_calls]
    return [message.role, message.content or "", message.reasoning or "", calls]


def on_unit(digest: bytes) -> float:
    """Map a hash to a number from 0 to below 1.

    >>> on_unit(bytes([64, *bytes(31)]))
    0.25
    """
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(key_: bytes, shares: Mapping[str, float]) -> str:
    """Return the split for a key.

    >>> split_of(b"one", {"validation": 0.5}), split_of(b"three", {"validation": 0.5})
    ('validation', 'train')
    """
    place = on_unit(hashlib.sha256(key_).digest())
    for name, share in shares.items():
        if place < share:
            return name
        place -= share
    return TRAIN
