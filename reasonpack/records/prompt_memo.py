"""The prompt of a call, read after another one → its messages, those that both begin with once.

    prompt before   [system, user, assistant, tool]
    prompt          [system, user, assistant, tool, assistant, tool]
                     ───────── read already ──────  ─── read now ──

Calls of a group repeat their history. The messages that were read are the same objects, so that
a group holds each once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.message import ReadMessages, read_messages
from reasonpack.records.reading import Reading
from reasonpack.records.roles import ROLES


@dataclass(slots=True)
class PromptMemo:
    """The last prompt that was read, and what it was read as."""

    _items: list[Any] = field(default_factory=list)
    _read: ReadMessages | None = None
    _how: tuple[Any, ...] = ()

    def read(
        self, messages: Any, path: str, *, train: bool = True, null_keys: bool, reading: Reading
    ) -> ReadMessages:
        """Read a list of messages as `read_messages` does, from where it differs from the last.

        Raises:
            RecordError: as that does.
        """
        how = (train, null_keys, reading)
        if path != "prompt" or not isinstance(messages, list):
            return read_messages(messages, path, train=train, null_keys=null_keys, reading=reading)
        found = self._continued(messages, path, how) if how == self._how else None
        if found is None:
            self._read = None
            found = read_messages(messages, path, train=train, null_keys=null_keys, reading=reading)
        self._items, self._read, self._how = messages, found, how
        return found

    def _continued(
        self, messages: list[Any], path: str, how: tuple[Any, ...]
    ) -> ReadMessages | None:
        """Read what follows the messages that are there already; None where all is to be read."""
        cut = self._cut(messages)
        if not cut or self._read is None:
            return None
        train, null_keys, reading = how
        try:
            more = read_messages(
                messages[cut:], path, train=train, null_keys=null_keys, reading=reading
            )
        except RecordError:
            return None  # which the whole list has, with its own place
        before = self._read
        sources = before.sources or range(len(before.messages))
        kept = [index for index in sources if index < cut]
        read = [*before.messages[: len(kept)], *more.messages]
        behind = [cut + index for index in more.sources or range(len(more.messages))]
        whole = (*kept, *behind)
        return ReadMessages(
            read,
            () if whole == tuple(range(len(messages))) else whole,
            tuple(dict.fromkeys((*before.notes, *more.notes))),
        )

    def _cut(self, messages: list[Any]) -> int:
        """Return how many messages both begin with, up to where none before can join one behind.

        Messages of the model that follow each other may be one answer; others are by themselves.
        """
        same = 0
        for one, other in zip(self._items, messages, strict=False):
            if one is not other and not (one == other and _alike(one, other)):
                break
            same += 1
        while same and not (
            _is_alone(messages[same - 1])
            or all(same == len(each) or _is_alone(each[same]) for each in (self._items, messages))
        ):
            same -= 1
        return same


def _is_alone(message: object) -> bool:
    """Tell whether a message is not joined with the one before or behind it."""
    if not isinstance(message, dict):
        return False
    role = message.get("role")
    if role is None:
        return message.get("type") == "function_call_output"
    return isinstance(role, str) and ROLES.get(role, "assistant") != "assistant"


def _alike(one: object, other: object) -> bool:
    """Tell whether two equal values are of the same types, with their keys in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        if [*one] != [*other]:
            return False
        pairs = zip(one.values(), other.values(), strict=True)
    elif isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=True)
    else:
        return True
    return all(type(a) is str or a is b or _alike(a, b) for a, b in pairs)
