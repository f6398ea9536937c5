"""How wide a terminal is, lines that fit it, and a pager for those that are too many."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

import click

from reasonpack.wording import printable


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None for what is none, or does not know its width."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def fitted(line: str, width: int | None, *, indent: int = 0) -> Iterator[str]:
    """Break a line between words where it is wider than a terminal, and indent what follows.

    A line with colours is left to the terminal.

    >>> list(fitted("tokens  so many that they fill a line", 30, indent=2))
    ['tokens  so many that they fill', '  a line']
    """
    if width is None or len(line) <= width or "\x1b" in line:
        yield line
        return
    yield from textwrap.wrap(
        line,
        max(width, indent + 20),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )


def shortened(text: str, most: int) -> str:
    """Escape a text from data, and shorten it to so many characters."""
    preview = printable(text[: most + 1])
    return preview if len(preview) <= most else preview[: most - 1] + "…"


def show(lines: Iterable[str], *, colour: bool) -> None:
    """Write lines to standard output; on a terminal that has not as many by a pager.

    The pager is what PAGER names, or less. Nothing is paged in a pipe or a file.
    """
    if width_of(sys.stdout) is None or os.environ.get("TERM") == "dumb":
        for line in lines:
            click.echo(encodable(line), color=colour)
        return
    text = "\n".join(map(encodable, lines))
    size = shutil.get_terminal_size()
    rows = sum(-(-len(click.unstyle(line)) // size.columns) or 1 for line in text.split("\n"))
    if rows < size.lines or not sys.stdin.isatty():
        click.echo(text, color=colour)
    else:
        click.echo_via_pager(f"{text}\n", color=colour)


def encodable(text: str) -> str:
    """Escape what the encoding of standard output cannot say."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def wants_colour() -> bool:
    """Say whether standard output is to be coloured; see https://no-color.org."""
    dumb = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not dumb
