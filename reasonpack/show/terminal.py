"""The width of a terminal, lines broken to fit it, and a pager for long output."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from typing import TextIO

import click

from reasonpack.wording import printable


def moves_cursor(stream: TextIO) -> bool:
    """Return whether `stream` is a terminal that knows colours and a bar drawn again in place."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal; None if `stream` is none or its width is unknown."""
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def fitted(line: str, width: int | None, *, indent: int = 0) -> Iterator[str]:
    """Break a line between words if it is wider than `width`, and indent the lines after the first.

    A line with colours is not broken.

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
    """Escape a text from data, and cut it to at most `most` characters."""
    preview = printable(text[: most + 1])
    return preview if len(preview) <= most else preview[: most - 1] + "…"


def show(lines: Iterable[str], *, colour: bool) -> None:
    """Write lines to standard output, through a pager if they do not fit on the terminal.

    The pager is the one that PAGER names, else less. Output to a pipe or a file is not paged.
    """
    if width_of(sys.stdout) is None or not moves_cursor(sys.stdout):
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
    """Escape the characters that the encoding of standard output does not have."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def wants_colour() -> bool:
    """Return whether to colour standard output; see https://no-color.org."""
    return moves_cursor(sys.stdout) and not os.environ.get("NO_COLOR")
