"""Format values from data for messages: escape, shorten, count, list, suggest a spelling."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str, *, keep: str = "") -> str:
    r"""Escape characters that could steer a terminal, in text to be printed.

    Args:
        text: a value from data, a file name or a message.
        keep: characters that stay as they are, e.g. a newline.

    >>> printable("a\x1b[31m\nb\u202e")
    'a\\x1b[31m\\nb\\u202e'
    >>> printable("a\r\n", keep="\n")
    'a\\r\n'
    """
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def one_line(error: BaseException) -> str:
    """Return the message of another library's error, on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def count(number: int, noun: str) -> str:
    """Write a number and its noun, in the plural unless the number is 1.

    >>> count(1, "token"), count(1200, "token")
    ('1 token', '1,200 tokens')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(items: Iterable[object], *, most: int = 5) -> str:
    """List the first `most` items, and say how many more there are.

    >>> listed(range(7))
    '0, 1, 2, 3, 4 and 2 more'
    """
    texts = [str(item) for item in items]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def shown(value: object) -> str:
    """Return the value of an option as text: `none` for None and an empty list, `on` for True.

    >>> shown(None), shown(("a", "b")), shown(False), shown(8192)
    ('none', 'a, b', 'off', '8192')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return "none" if value in (None, "") else str(value)


def nearest(name: str, likely: Iterable[str]) -> str:
    """Return which of the `likely` names `name` misspells; empty if none is close enough.

    >>> nearest("reasoning_contnet", ["reasoning", "reasoning_content"])
    'reasoning_content'
    """
    allowed = min(2, len(name) // 3)
    distance, best = min(((_distance(name.lower(), each), each) for each in likely),
                         default=(3, ""))  # fmt: skip
    return best if distance <= allowed else ""


def _distance(one: str, other: str) -> int:
    """Return the edit distance, with swaps of neighbours; 3 if lengths differ by more than 2."""
    if abs(len(one) - len(other)) > 2:
        return 3
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        next_ = [i]
        for j, wanted in enumerate(other, 1):
            cost = min(row[j] + 1, next_[-1] + 1, row[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and one[i - 2] == wanted and letter == other[j - 2]:
                cost = min(cost, before[j - 2] + 1)
            next_.append(cost)
        before, row = row, next_
    return row[-1]
