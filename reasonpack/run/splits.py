"""A conversation → its split, chosen by a hash of its content; hashes by which calls are the same.

    --split validation=0.02      SHA-256 of messages and tools → 0 ──┬──────────────── 1
                                                          validation └─ train

So equal conversations get the same split wherever they are, and adding data moves none to another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.datasets.options import TRAIN
from reasonpack.errors import UsageError
from reasonpack.records.calls import Call
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


def content_of(call: Call) -> bytes:
    """Return a hash of a call without its id and its messages."""
    hash_ = hashlib.sha256()
    arrays: list[NDArray[Any] | None]
    arrays = [call.prompt_ids, call.completion_ids, call.logprobs, call.advantages]
    said: list[object] = [call.weight, call.reward, call.role]
    if call.completion_ids is not None:
        mask = call.loss_mask
        arrays.append(np.ones(len(call.completion_ids), bool) if mask is None else mask)
    for array in arrays:
        hash_.update(b"none" if array is None else np.ascontiguousarray(array).data)
        hash_.update(b"|")
    hash_.update(repr(said).encode())
    return hash_.digest()


def key_of_calls(calls: Iterable[Call]) -> bytes:
    """Return the joined hashes of a group's trained calls, repeated calls once; empty for none.

    Groups with the same key are duplicates, as `schemas/FORMAT.md` defines them.
    """
    found = dict.fromkeys(
        (each.id.removeprefix(each.where), _hash_of(each)) for each in calls if each.trained
    )
    return b"".join(content for _, content in found)


def _hash_of(call: Call) -> bytes:
    said = call.conversation
    if call.prompt_ids is not None or said is None:
        return content_of(call)
    more = [said.messages[-1].finished, said.template_kwargs]
    text = key(said) + json.dumps(more, sort_keys=True, default=str).encode()
    return hashlib.sha256(content_of(call) + text).digest()


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
