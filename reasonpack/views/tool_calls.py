"""Checks that a rendered text contains the tool calls of a message, with all arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from reasonpack.records.tool_calls import ToolCall

_JSON = json.JSONEncoder(ensure_ascii=False)


def find_name(text: str, name: str, at: int = 0) -> int:
    """Return where a tool's name occurs as a whole word in `text` from `at` on; −1 if nowhere.

    >>> find_name("functions.look_up:0", "look_up"), find_name("functions.look_up_all:0", "look_up")
    (10, -1)
    """
    found = re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])").search(text, at)
    return found.start() if found else -1


def are_calls(text: str, calls: Sequence[ToolCall], stops: Sequence[str]) -> bool:
    """Return whether `text` has the calls in order, with all arguments, and no other message.

    A stop token outside the arguments means that another message begins.
    """
    at = 0
    written: set[str] = set()
    stopped = any(stop in text for stop in stops)
    for call in calls:
        at = find_name(text, call.name, at)
        if at < 0:
            return False
        at += len(call.name)
        for leaf in _leaves(call.arguments):
            shown = (form for form in _forms(leaf) if text.find(form, at) >= 0)
            first = next(shown, None)
            if first is None:
                return False
            if stopped:
                written |= {f for f in (first, *shown) if any(stop in f for stop in stops)}
    for form in sorted(written, key=len, reverse=True):
        text = text.replace(form, "")
    return not stopped or not any(stop in text for stop in stops)


def _forms(leaf: Any) -> Iterator[str]:
    """Yield the texts that may show a key or value, the most common first: few need the others."""
    if not isinstance(leaf, str):
        yield str(leaf)
        yield json.dumps(leaf)
        return
    yield _escaped(leaf)
    yield leaf
    yield leaf.strip()
    for quoted in (json.dumps(leaf)[1:-1], repr(leaf)[1:-1]):
        yield quoted
        yield _escaped(quoted)
    yield _escaped(_escaped(leaf))


def _escaped(text: str) -> str:
    return _JSON.encode(text)[1:-1]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None:  # templates may leave it out
        yield value
