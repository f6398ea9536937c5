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
        for forms in _argument_forms(call):
            shown = (form for form in forms if text.find(form, at) >= 0)
            first = next(shown, None)
            if first is None:
                return False
            if stopped:
                written |= {f for f in (first, *shown) if any(stop in f for stop in stops)}
    for form in sorted(written, key=len, reverse=True):
        text = text.replace(form, "")
    return not stopped or not any(stop in text for stop in stops)


def _argument_forms(call: ToolCall) -> Iterator[Iterator[str]]:
    """Yield, for each key and value in a call's arguments, the texts that may show it."""
    for leaf in _leaves(call.arguments):
        yield _text_forms(leaf) if isinstance(leaf, str) else _plain_forms(leaf)


def _plain_forms(value: Any) -> Iterator[str]:
    yield str(value)
    yield json.dumps(value)
    yield json.dumps(value, ensure_ascii=False)
    yield repr(value)


def _text_forms(text: str) -> Iterator[str]:
    """Yield the forms of a text, the most common first: later ones are seldom needed."""
    yield _escaped(text)
    yield text
    yield text.strip()
    for quoted in (json.dumps(text)[1:-1], repr(text)[1:-1]):
        yield quoted
        yield _escaped(quoted)
    yield _escaped(_escaped(text))


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
