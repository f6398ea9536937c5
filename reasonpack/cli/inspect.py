"""`reasonpack inspect`: rows of a dataset, or the view of one message, on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from reasonpack.datasets.manifest import Manifest
    from reasonpack.show.message_view import MessageView
    from reasonpack.show.row import Decode, RowData


@click.command("inspect")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--row",
    "number",
    type=click.IntRange(min=0),
    metavar="N",
    help="Which row, counted from 0 over all shards.  [default: 0]",
)
@click.option("--id", "id_", metavar="ID", help="Show only the sample with this id.")
@click.option(
    "--sample", "drawn", type=click.IntRange(min=1), metavar="N", help="Show N rows drawn by hash."
)
@click.option("--seed", default=0, help="Draw other rows.")
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="Show rows that meet a condition, such as kind=t, 'length>8000' or 'branches>=3'; or "
    "rejects: what was not packed. May be repeated.",
)
@click.option(
    "--most",
    type=click.Choice(["length", "samples", "segments", "branches"]),
    help="Show the longest row, or the one with most samples, segments or branches.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show at most N of the rows that were asked for.  [default: 1, or those of --sample]",
)
@click.option("--tokens", is_flag=True, help="Show every token: id, label, position, kind, text.")
@click.option("--boundaries", is_flag=True, help="Show the tokens around each segment's borders.")
@click.option("--mask", is_flag=True, help="Draw the mask of the row in characters.")
@click.option(
    "--svg", metavar="FILE", help="Write the mask of the row as a picture, and nothing else."
)
@click.option("--png", metavar="FILE", help="Write that picture without its words, as PNG.")
@click.option(
    "--view",
    "message",
    metavar="K|CALL",
    help="Write the text that the model sees when it writes message K, and what it writes; of "
    "calls, what the call with this id saw and wrote.",
)
@click.option(
    "--diff",
    nargs=2,
    metavar="J K",
    help="Show where the views of messages, or calls, J and K of a sample part.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option(
    "--tokenizer",
    metavar="PATH|HUB_ID",
    help="Where the dataset's tokenizer is, if not where it was when it was packed.",
)
def command(
    *,
    directory: Path,
    number: int | None,
    id_: str | None,
    drawn: int | None,
    seed: int,
    where: tuple[str, ...],
    most: str | None,
    limit: int | None,
    tokens: bool,
    boundaries: bool,
    mask: bool,
    svg: str | None,
    png: str | None,
    message: str | None,
    diff: tuple[str, str] | None,
    as_json: bool,
    tokenizer: str | None,
) -> None:
    """Show rows of a dataset: segments, text, what is trained.

    DIR is a dataset that pack wrote. On a terminal text is coloured by kind, and what is
    trained is bold and underlined; elsewhere it stands between « and ». What does not fit on a
    terminal goes to the pager (PAGER).
    """
    from reasonpack.cli import inspect_output as write  # noqa: PLC0415 (after --help)
    from reasonpack.datasets.manifest import read_manifest  # noqa: PLC0415
    from reasonpack.show import message_view as views  # noqa: PLC0415
    from reasonpack.show import row as rows  # noqa: PLC0415
    from reasonpack.show.dataset_tokenizer import tokenizer_if_any  # noqa: PLC0415
    from reasonpack.wording import printable  # noqa: PLC0415

    manifest = read_manifest(directory)
    if "rejects" in where:
        write.show_rejects(directory, limit, as_json=as_json)
        return
    if sum(map(bool, (drawn, where or most, number is not None or id_))) > 1:
        raise click.UsageError("--row or --id, --sample, and --where or --most exclude each other.")
    option = "--diff" if diff else "--view"
    named = diff or ((message,) if message is not None else ())
    if drawn or where or most:
        numbers = _chosen(directory, manifest, drawn, seed, where, most)
    elif number is None:
        numbers = _rows_of(directory, manifest, id_, named[0] if named else None, option)
    else:
        numbers = [number]
    numbers = numbers if named else _limited(numbers, limit or drawn or 1, id_)
    shown = [
        (row, rows.choose_samples(row, id_)) for row in rows.read_rows(directory, manifest, numbers)
    ]
    if svg or png or (mask and not as_json):
        write.draw_mask(shown[0][0], svg, png)
        return
    parts = [(row, sample) for row, samples in shown for sample in samples]
    found = [views.find_view(parts, _named(each, manifest), option=option) for each in named]
    exact = message is not None and not as_json  # a program may read it
    own, said = tokenizer_if_any(directory, manifest, tokenizer, optional=not exact)
    decode = own.decode if own else None
    if own and sys.stdout.isatty():
        click.echo(printable(said), err=True)
    if as_json:
        wide = tokens or boundaries
        views_ = _views_json(found, named, decode) if found else None
        click.echo(json.dumps(views_ or _rows_json(shown, decode, wide=wide)))
    elif diff:
        write.show_diff(found[0], found[1], diff, decode or write.only_ids)
    elif found:
        write.show_view(found[0], decode or write.only_ids)
    else:
        how = {"tokens": tokens or boundaries, "boundaries": boundaries}
        write.show_rows(shown, own, **how)


def _views_json(
    found: Sequence[MessageView], named: Sequence[str], decode: Decode | None
) -> dict[str, Any]:
    from reasonpack.show.message_view import view_json  # noqa: PLC0415
    from reasonpack.show.view_diff import diff_json  # noqa: PLC0415

    if len(found) == 1:
        return view_json(found[0], decode)
    return diff_json(found[0], found[1], (named[0], named[1]), decode)


def _rows_json(
    shown: Sequence[tuple[RowData, Sequence[int]]], decode: Decode | None, *, wide: bool
) -> dict[str, Any]:
    """Describe samples of rows: of one row by itself, of several as a list."""
    from reasonpack.show.call_tree import tree_json  # noqa: PLC0415
    from reasonpack.show.row import row_json  # noqa: PLC0415

    every = []
    for row, samples in shown:
        calls = [call for sample in samples for call in tree_json(row, sample)]
        described = row_json(row, samples, decode, tokens=wide)
        every.append({**described, **({"calls": calls} if calls else {})})
    return every[0] if len(every) == 1 else {"rows": every}


def _chosen(
    directory: Path,
    manifest: Manifest,
    drawn: int | None,
    seed: int,
    where: tuple[str, ...],
    most: str | None,
) -> list[int]:
    """Find the rows that were asked for by what they are."""
    from reasonpack.errors import UsageError  # noqa: PLC0415
    from reasonpack.show.row_facts import draw_rows, matching, ranked, row_facts  # noqa: PLC0415

    if drawn:
        return draw_rows(manifest.counts.rows, drawn, seed=f"{manifest.content_hash} {seed}")
    facts = row_facts(directory, manifest)
    numbers = matching(facts, where)
    if not len(numbers):
        raise UsageError(
            "--where", "no row meets this", "some to do", "see what there is with stats"
        )
    return list(ranked(facts, numbers, most)) if most else [int(each) for each in numbers]


def _limited(numbers: list[int], limit: int, id_: str | None) -> list[int]:
    """Leave out rows beyond a number of them, and say which."""
    from reasonpack.wording import listed  # noqa: PLC0415

    shown = numbers[:limit]
    if rest := numbers[limit:]:
        rows = f"Row {shown[0]}" if len(shown) == 1 else f"Rows {listed(shown)}"
        what = "with this id" if id_ is not None else "that were asked for"
        click.echo(f"{rows} of {len(numbers)} {what}; see also {listed(rest)}.", err=True)
    return shown


def _rows_of(
    directory: Path, manifest: Manifest, id_: str | None, message: str | None, option: str
) -> list[int]:
    """Find the rows of a sample, or of a call; the first row where only a message is named."""
    from reasonpack.show.row import find_rows  # noqa: PLC0415

    if id_ is not None:
        return find_rows(directory, manifest, id_)
    if message is not None and "call_id" in manifest.columns:
        return find_rows(directory, manifest, message, option=option)
    return [0]


def _named(message: str, manifest: Manifest) -> int | str:
    """Return the number of a message, or of calls the id of one."""
    if "call_id" in manifest.columns:
        return message
    if not message.isdecimal():
        raise click.BadParameter(
            f"got {message!r}, expected the number of a message, counted from 0",
            param_hint="--view or --diff",
        )
    return int(message)
