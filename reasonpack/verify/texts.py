"""Where the parts of a message stand in a text, as they are or stripped of white space."""

from __future__ import annotations

import json
import re

from reasonpack.verify.chat import Message

__all__ = ["fitting", "holds", "in_calls", "last_place", "named", "start_of"]


def fitting(text: str, part: str, start: int = 0) -> str:
    """Return the part, or what is left of it where it was stripped, as the text has it."""
    return next((each for each in (part, part.strip()) if text.find(each, start) >= 0), part)


def last_place(text: str, part: str, start: int = 0) -> int:
    """Return where the part stands last in a text from `start` on; −1 if it does not.

    >>> last_place("a b a ", " a "), last_place("a b a", " a "), last_place("b", "a")
    (3, 4, -1)
    """
    return text.rfind(fitting(text, part, start), start)


def holds(text: str, part: str) -> bool:
    """Tell whether a text has a part, or what is left of it where it was stripped."""
    return fitting(text, part) in text


def in_calls(token: str, message: Message) -> bool:
    """Tell whether a token stands in a call of a message."""
    return any(token in json.dumps(call, ensure_ascii=False) for call in message.calls)


def named(text: str, tool: str, start: int = 0) -> int:
    """Return where the name of a tool ends in a text from `start` on, in no longer one; or −1."""
    found = re.compile(rf"(?<![-\w]){re.escape(tool)}(?![-\w])").search(text, start)
    return found.end() if found else -1


def start_of(message: Message, completion: str, most: int) -> int:
    """Find where content begins behind an empty block that ends at most there.

    White space after the block is the block's, unless the content begins with it.
    """
    space = len(message.content) - len(message.content.lstrip())
    if space and completion[most - space :].startswith(message.content):
        return most - space
    return most
