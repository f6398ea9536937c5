"""How values from data appear in messages: escaped, on one line, counted, listed."""

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
