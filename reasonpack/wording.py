"""How values from data appear in messages: escaped, on one line, counted, listed, set right."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str, *, keep: str = "") -> str:
    r"""Escape what could steer a terminal; text from data goes through here.

    Args:
        text: from data, from the name of a file, from a message.
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
    """Return what an error of another library says, in one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def count(number: int, noun: str) -> str:
    """Write a number of things.

    >>> count(1, "token"), count(1200, "token")
    ('1 token', '1,200 tokens')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(items: Iterable[object], *, most: int = 5) -> str:
    """List some things, and say how many more there are.

    >>> listed(range(7))
    '0, 1, 2, 3, 4 and 2 more'
    """
    texts = [str(item) for item in items]
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def nearest(name: str, likely: Iterable[str]) -> str:
    """Return the known name of which another one is a misspelling; empty if there is none.

    >>> nearest("reasoning_contnet", ["reasoning", "reasoning_content"])
    'reasoning_content'
    """
    allowed = min(2, len(name) // 3)
    distance, best = min(((_distance(name.lower(), each), each) for each in likely),
                         default=(3, ""))  # fmt: skip
    return best if distance <= allowed else ""


def _distance(one: str, other: str) -> int:
    """Count the letters to add, drop, change or swap with the next, to make `other` of `one`."""
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
