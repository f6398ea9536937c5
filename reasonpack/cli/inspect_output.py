"""What `inspect` finds and writes: rows, masks, views and rejects, on a terminal or elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click

from reasonpack.datasets.manifest import REJECTS, Manifest, read_manifest
from reasonpack.errors import UsageError
from reasonpack.show import terminal, text
from reasonpack.show.call_tree import tree_json
from reasonpack.show.dataset_tokenizer import tokenizer_if_any
from reasonpack.show.mask_picture import mask_lines, mask_png, mask_svg
from reasonpack.show.message_view import MessageView, find_view, view_json, view_text
from reasonpack.show.rejects import each_reject
from reasonpack.show.row import Decode, RowData, choose_samples, find_rows, read_rows, row_json
from reasonpack.show.row_facts import draw_rows, matching, ranked, row_facts
from reasonpack.storage.publish import publish
from reasonpack.tokens.token_bytes import bytes_of_tokens
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.wording import listed, printable


def inspect(asked: Any) -> None:
    """Write what the options ask for to standard output or to files.

    `asked` has the values of the options as attributes, by the parameter names of the command.
    """
    manifest, id_ = read_manifest(asked.directory), asked.id_
    views = asked.diff or ([] if asked.message is None else [asked.message])
    option = "--diff" if asked.diff else "--view"
    if "rejects" in asked.where:
        show_rejects(asked.directory, asked.limit, as_json=asked.as_json)
        return
    by_facts = asked.where or asked.most
    if sum(map(bool, (asked.drawn, by_facts, asked.number is not None or id_))) > 1:
        raise click.UsageError("--row or --id, --sample, and --where or --most exclude each other.")
    numbers = _numbers(asked, manifest, views, option)
    if not views:
        numbers = _limited(numbers, asked.limit or asked.drawn or 1, id_)
    rows = read_rows(asked.directory, manifest, numbers)
    shown = [(row, choose_samples(row, id_)) for row in rows]
    if asked.svg or asked.png or (asked.mask and not asked.as_json):
        draw_mask(rows[0], asked.svg, asked.png)
        return
    parts = [(row, sample) for row, samples in shown for sample in samples]
    found = [find_view(parts, _named(each, manifest), option=option) for each in views]
    exact = asked.message is not None and not asked.as_json  # so ids instead of text would mislead
    own, said = tokenizer_if_any(asked.directory, manifest, asked.tokenizer, optional=not exact)
    decode = own.decode if own else None
    if own and sys.stdout.isatty():
        click.echo(printable(said), err=True)
    if asked.as_json and asked.diff:
        click.echo(json.dumps(text.diff_json(found[0], found[1], asked.diff, decode)))
    elif asked.as_json and found:
        click.echo(json.dumps(view_json(found[0], decode)))
    elif asked.as_json:
        click.echo(json.dumps(_rows_json(shown, decode, wide=asked.tokens or asked.boundaries)))
    elif asked.diff:
        show_diff(found[0], found[1], asked.diff, decode or only_ids)
    elif found:
        show_view(found[0], decode or only_ids)
    else:
        how = {"tokens": asked.tokens or asked.boundaries, "boundaries": asked.boundaries}
        show_rows(shown, own, **how)


def _numbers(asked: Any, manifest: Manifest, views: Sequence[str], option: str) -> list[int]:
    """Return the numbers of the rows to show, by default of row 0 or of the call to view."""
    directory = asked.directory
    if asked.drawn:
        seed = f"{manifest.content_hash} {asked.seed}"
        return draw_rows(manifest.counts.rows, asked.drawn, seed=seed)
    if asked.where or asked.most:
        facts = row_facts(directory, manifest)
        numbers = matching(facts, asked.where)
        if not len(numbers):
            fix = "see what there is with stats"
            raise UsageError("--where", "no row meets this", "at least one", fix)
        return [*ranked(facts, numbers, asked.most)] if asked.most else numbers.tolist()
    if asked.number is not None:
        return [asked.number]
    if asked.id_ is not None:
        return find_rows(directory, manifest, asked.id_)
    if views and "call_id" in manifest.columns:
        return find_rows(directory, manifest, views[0], option=option)
    return [0]


def _limited(numbers: list[int], limit: int, id_: str | None) -> list[int]:
    """Return the first `limit` row numbers; say on standard error which are left out."""
    shown = numbers[:limit]
    if rest := numbers[limit:]:
        rows = f"Row {shown[0]}" if len(shown) == 1 else f"Rows {listed(shown)}"
        what = "with this id" if id_ is not None else "that were asked for"
        click.echo(f"{rows} of {len(numbers)} {what}; see also {listed(rest)}.", err=True)
    return shown


def _named(message: str, manifest: Manifest) -> int | str:
    """Return the index of a message; in a dataset of calls, the id of a call."""
    if "call_id" in manifest.columns:
        return message
    if not message.isdecimal():
        raise click.BadParameter(
            f"got {message!r}, expected the number of a message, counted from 0",
            param_hint="--view or --diff",
        )
    return int(message)


def _rows_json(
    shown: Sequence[tuple[RowData, Sequence[int]]], decode: Decode | None, *, wide: bool
) -> dict[str, Any]:
    """Return samples of rows as a JSON object: that of a single row, or a list under `rows`."""
    every = []
    for row, samples in shown:
        calls = [call for sample in samples for call in tree_json(row, sample)]
        described = row_json(row, samples, decode, tokens=wide)
        every.append({**described, **({"calls": calls} if calls else {})})
    return every[0] if len(every) == 1 else {"rows": every}


def show_rows(
    shown: Sequence[tuple[RowData, Sequence[int]]],
    tokenizer: Tokenizer | None,
    *,
    tokens: bool,
    boundaries: bool,
) -> None:
    """Write rows with their texts, or their tokens in columns; without a tokenizer, ids."""
    colour, width = terminal.wants_colour(), terminal.width_of(sys.stdout)
    piece = bytes_of_tokens(tokenizer) if tokenizer else lambda _: b""
    decode = tokenizer.decode if tokenizer else only_ids

    def lines() -> Iterator[str]:
        for number, (row, samples) in enumerate(shown):
            if number:
                yield ""
            if tokens:
                yield from text.token_lines(row, samples, piece, boundaries=boundaries)
            else:
                yield from text.row_lines(row, samples, decode, colour=colour, width=width)

    terminal.show(lines(), colour=colour)


def show_diff(one: MessageView, other: MessageView, named: tuple[str, str], decode: Decode) -> None:
    """Write where two views differ."""
    names = (f"view {printable(named[0])}", f"view {printable(named[1])}")
    colour = terminal.wants_colour()
    terminal.show(text.diff_lines(one, other, names, decode, colour=colour), colour=colour)


def show_view(view: MessageView, decode: Decode) -> None:
    """Write the text of a view; to a pipe or a file, exactly the text."""
    colour = terminal.wants_colour()
    prompt, completion = view_text(view, decode)
    click.echo(text.view_line(view, prompt), err=True)
    if sys.stdout.isatty():
        shown = text.marked(prompt, "h", trained=False, colour=colour)
        shown += text.marked(completion, "r_out", trained=True, colour=colour)
        terminal.show(shown.split("\n"), colour=colour)
    else:
        click.echo((prompt + completion).encode(), nl=False)


def show_rejects(directory: Path, limit: int | None, *, as_json: bool) -> None:
    """Write the reason and the error of each reject, at most `limit` of them."""
    found = islice(each_reject(directory / REJECTS), limit)
    if as_json:
        rejects = [{"reason": reason, "error": error} for reason, error in found]
        click.echo(json.dumps({"rejects": rejects}))
        return
    for reason, error in found:
        click.echo(terminal.encodable(f"{reason}: {printable(error)}"))


def draw_mask(row: RowData, svg: str | None, png: str | None) -> None:
    """Write a row's mask to the picture files named; if none is, to standard output as text."""
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
    """Return ids as text, instead of decoding them, for use without a tokenizer."""
    return "".join(f"{token} " for token in ids)
