"""What `inspect` writes: rows, masks, views and rejects, on a terminal or elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from reasonpack.datasets.manifest import REJECTS
from reasonpack.show import message_view, terminal, text
from reasonpack.show.mask_picture import mask_lines, mask_png, mask_svg
from reasonpack.show.message_view import MessageView
from reasonpack.show.rejects import each_reject
from reasonpack.show.row import Decode, RowData
from reasonpack.show.token_table import token_lines
from reasonpack.show.view_diff import diff_lines
from reasonpack.storage.publish import publish
from reasonpack.tokens.token_bytes import bytes_of_tokens
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.wording import printable


def show_rows(
    shown: Sequence[tuple[RowData, Sequence[int]]],
    tokenizer: Tokenizer | None,
    *,
    tokens: bool,
    boundaries: bool,
) -> None:
    """Write rows with their texts, or their tokens in columns; ids where there is no tokenizer."""
    colour, width = terminal.wants_colour(), terminal.width_of(sys.stdout)
    piece = bytes_of_tokens(tokenizer) if tokenizer else lambda _: b""
    decode = tokenizer.decode if tokenizer else only_ids

    def lines() -> Iterator[str]:
        for number, (row, samples) in enumerate(shown):
            if number:
                yield ""
            if tokens:
                yield from token_lines(row, samples, piece, boundaries=boundaries)
            else:
                yield from text.row_lines(row, samples, decode, colour=colour, width=width)

    terminal.show(lines(), colour=colour)


def show_diff(one: MessageView, other: MessageView, named: tuple[str, str], decode: Decode) -> None:
    """Write where two views part."""
    names = (f"view {printable(named[0])}", f"view {printable(named[1])}")
    colour = terminal.wants_colour()
    terminal.show(diff_lines(one, other, names, decode, colour=colour), colour=colour)


def show_view(view: MessageView, decode: Decode) -> None:
    """Write the text of a view; exactly that where it is not for a terminal."""
    colour = terminal.wants_colour()
    prompt, completion = message_view.view_text(view, decode)
    click.echo(text.view_line(view, prompt), err=True)
    if sys.stdout.isatty():
        shown = text.marked(prompt, "h", trained=False, colour=colour)
        shown += text.marked(completion, "r_out", trained=True, colour=colour)
        terminal.show(shown.split("\n"), colour=colour)
    else:
        click.echo((prompt + completion).encode(), nl=False)


def show_rejects(directory: Path, limit: int | None, *, as_json: bool) -> None:
    """Write the reason and the error of each reject, or of the first of them."""
    found = islice(each_reject(directory / REJECTS), limit)
    if as_json:
        rejects = [{"reason": reason, "error": error} for reason, error in found]
        click.echo(json.dumps({"rejects": rejects}))
        return
    for reason, error in found:
        click.echo(terminal.encodable(f"{reason}: {printable(error)}"))


def draw_mask(row: RowData, svg: str | None, png: str | None) -> None:
    """Write the mask of a row as pictures; in characters to standard output without any."""
    if not svg and not png:
        colour, width = terminal.wants_colour(), terminal.width_of(sys.stdout)
        terminal.show(mask_lines(row, colour=colour, width=width), colour=colour)
    if svg:
        _write_picture(svg, mask_svg(row).encode(), row)
    if png:
        _write_picture(png, mask_png(row), row)


def _write_picture(path: str, picture: bytes, row: RowData) -> None:
    if path == "-":
        click.echo(picture, nl=False)
        return
    with publish(path) as file:
        file.write(picture)
    click.echo(f"{path}: the mask of row {row.number}", err=True)


def only_ids(ids: Any) -> str:
    """Stand in for the texts of tokens where there is no tokenizer."""
    return "".join(f"{token} " for token in ids)
