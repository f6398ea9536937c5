"""The prompts of calls, one after another → their messages, common beginnings read only once.

    earlier prompt  [system, user, assistant, tool]
    prompt          [system, user, assistant, tool, assistant, tool]
                     ───────── read already ──────  ─── read now ──

Calls of a group repeat their history. Prompts share the messages of a common beginning, so that
a group holds each of them once.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any

from msgspec import Struct, field

from reasonpack.errors import RecordError
from reasonpack.records.draft import ROLES
from reasonpack.records.message import ReadMessages, read_messages
from reasonpack.records.reading import Reading
from reasonpack.records.repeated_items import AGENTS, RepeatedItems


class _Known(Struct, frozen=True):
    """A prompt as the record has it, the `train` and `reading` it was read with, and the result."""

    items: list[Any]
    how: tuple[bool, Reading]
    read: ReadMessages


class PromptMemo(Struct):
    """Remembers the last `AGENTS` prompts that were read; `lines` decodes the lines of calls."""

    lines: RepeatedItems = field(default_factory=RepeatedItems)
    _known: list[_Known] = field(default_factory=list)

    def read(
        self, messages: Any, path: str, *, train: bool = True, reading: Reading
    ) -> ReadMessages:
        """Read messages as `read_messages` does; reuse those that an earlier prompt begins with.

        Raises:
            RecordError: as `read_messages` does.
        """
        if path != "prompt" or not isinstance(messages, list):
            return read_messages(messages, path, train=train, reading=reading)
        cut, best = 0, None
        for known in self._known:
            same = _cut(known.items, messages) if known.how == (train, reading) else 0
            if same > cut:
                cut, best = same, known
        found = best and _continued(best, messages, cut, path)
        found = found or read_messages(messages, path, train=train, reading=reading)
        if best and cut == len(best.items):
            self._known.remove(best)
        self._known = [*self._known[-AGENTS + 1 :], _Known(messages, (train, reading), found)]
        return found


def _continued(before: _Known, messages: list[Any], cut: int, path: str) -> ReadMessages | None:
    """Read the messages from `cut` on, and append them to those of `before`; None on an error."""
    train, reading = before.how
    try:
        more = read_messages(messages[cut:], path, train=train, reading=reading)
    except RecordError:
        return None  # reading the whole list raises it again, with the right path
    read = before.read
    sources = read.sources or range(len(read.messages))
    kept = sources[: bisect_left(sources, cut)]
    behind = [cut + index for index in more.sources or range(len(more.messages))]
    whole = (*kept, *behind)
    return ReadMessages(
        [*read.messages[: len(kept)], *more.messages],
        () if whole == tuple(range(len(messages))) else whole,
        tuple(dict.fromkeys((*read.notes, *more.notes))),
    )


def _cut(before: list[Any], messages: list[Any]) -> int:
    """Return how many messages both begin with, cut where no message is joined with the next one.

    Consecutive assistant messages may be joined to one answer; others are never joined.
    """
    same = 0
    for one, other in zip(before, messages, strict=False):
        if one is not other and not (one == other and alike(one, other)):
            break
        same += 1
    while same and not (
        _is_alone(messages[same - 1])
        or all(same == len(each) or _is_alone(each[same]) for each in (before, messages))
    ):
        same -= 1
    return same


def _is_alone(message: object) -> bool:
    """Return whether a message is never joined with the one before or after it."""
    if not isinstance(message, dict):
        return False
    role = message.get("role")
    if role is None:
        return message.get("type") == "function_call_output"
    return isinstance(role, str) and ROLES.get(role, "assistant") != "assistant"


def alike(one: object, other: object) -> bool:
    """Return whether two equal values have the same types, and their keys in the same order.

    >>> alike({"x": 1}, {"x": True}), alike([0.0], [-0.0])
    (False, False)
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        if [*one] != [*other]:
            return False
        pairs = zip(one.values(), other.values(), strict=True)
    elif isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=True)
    else:
        return repr(one) == repr(other)  # 0.0 equals -0.0
    return all(type(a) is str or a is b or alike(a, b) for a, b in pairs)
