"""Which split a record is of, found again from what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from reasonpack.verify.chat import Chat, Message


def what_is_said(chat: Chat) -> bytes:
    """Write messages and tools of a chat in one way."""
    said = [[each.role, each.content, each.reasoning, _calls(each)] for each in chat.messages]
    return json.dumps([said, list(chat.tools)], sort_keys=True).encode()


def split_of(chat: Chat, given: Sequence[str]) -> str:
    """Return the split that a chat belongs in, of those that the run was given as `NAME=SHARE`."""
    return split_of_text(what_is_said(chat), given)


def split_of_text(text: bytes, given: Sequence[str]) -> str:
    """Return the split that a text is drawn for: that of a chat, or the name of a group."""
    drawn = Fraction(int(hashlib.sha256(text).hexdigest()[:16], 16), 1 << 64)
    for name, _, share in (each.partition("=") for each in given):
        if drawn < Fraction(share):
            return name
        drawn -= Fraction(share)
    return "train"


def _calls(message: Message) -> list[list[Any]]:
    functions = [call["function"] for call in message.calls]
    return [[each["name"], each["arguments"]] for each in functions]
