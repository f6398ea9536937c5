"""`reasonpack inspect`: rows of a dataset, or the view of one message, on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reasonpack.errors import TokenizerError

if TYPE_CHECKING:
    from reasonpack.datasets.manifest import Manifest
    from reasonpack.show.message_view import MessageView
    from reasonpack.show.row import Decode, RowData
    from reasonpack.tokens.tokenizer import Tokenizer


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
@click.option("--seed", default=0, show_default=True, help="Draw other rows.")
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
@click.option(
    "--svg", metavar="FILE", help="Write the mask of the row as a picture, and nothing else."
)
@click.option(
    "--view",
    "message",
    metavar="K|CALL",
    help="Write the text that the model sees when it writes message K, and what it writes; of "
    "calls, what the call with this id saw and wrote.",
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
    svg: str | None,
    message: str | None,
    as_json: bool,
    tokenizer: str | None,
) -> None:
    """Show rows of a dataset: segments, text, what is trained.

    DIR is a dataset that pack wrote. On a terminal text is coloured by kind, and what is
    trained is bold and underlined; elsewhere it stands between « and ».
    """
    from reasonpack.datasets.manifest import read_manifest  # noqa: PLC0415 (after --help)
    from reasonpack.show import message_view as views  # noqa: PLC0415
    from reasonpack.show import row as rows  # noqa: PLC0415

    manifest = read_manifest(directory)
    if "rejects" in where:
        _show_rejects(directory, limit)
        return
    if sum(map(bool, (drawn, where or most, number is not None or id_))) > 1:
        raise click.UsageError("--row or --id, --sample, and --where or --most exclude each other.")
    if drawn or where or most:
        numbers = _chosen(directory, manifest, drawn, seed, where, most)
    elif number is None and (id_ or message):
        numbers = _rows_of(directory, manifest, id_, message)
    else:
        numbers = [number or 0]
    if message is None:
        numbers = _limited(numbers, limit or drawn or 1, id_)
    if as_json and len(numbers) > 1 and message is None:
        raise click.UsageError("--json writes one object; leave out --limit and --sample.")
    parts = [
        (row, sample)
        for row in rows.read_rows(directory, manifest, numbers)
        for sample in rows.choose_samples(row, id_)
    ]
    if svg:
        _write_svg(svg, parts[0][0])
        return
    view = None if message is None else views.find_view(parts, _named(message, manifest))
    found = _load_tokenizer(directory, manifest, tokenizer, optional=as_json)
    if as_json:
        decode = found.decode if found else None
        row, samples = parts[0][0], [sample for _, sample in parts]
        said = views.view_json(view, decode) if view else _row_json(row, samples, decode)
        click.echo(json.dumps(said))
        return
    assert found is not None
    if view:
        _show_view(view, found.decode)
        return
    for at in numbers:
        here = [part for part in parts if part[0].number == at]
        if at != numbers[0]:
            click.echo()
        samples = [sample for _, sample in here]
        _show_row(here[0][0], samples, found, tokens=tokens or boundaries, boundaries=boundaries)


def _row_json(row: RowData, samples: list[int], decode: Decode | None) -> dict[str, Any]:
    from reasonpack.show.call_tree import tree_json  # noqa: PLC0415
    from reasonpack.show.row import row_json  # noqa: PLC0415

    calls = [call for sample in samples for call in tree_json(row, sample)]
    return {**row_json(row, samples, decode), **({"calls": calls} if calls else {})}


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
    from reasonpack.show.chosen_rows import draw_rows  # noqa: PLC0415
    from reasonpack.show.row_facts import matching, ranked, row_facts  # noqa: PLC0415

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


def _show_row(
    row: RowData, samples: list[int], tokenizer: Tokenizer, *, tokens: bool, boundaries: bool
) -> None:
    from reasonpack.show import text  # noqa: PLC0415
    from reasonpack.show.token_table import token_lines  # noqa: PLC0415
    from reasonpack.tokens.token_bytes import bytes_of_tokens  # noqa: PLC0415

    colour = text.wants_colour()
    if tokens:
        lines = token_lines(row, samples, bytes_of_tokens(tokenizer), boundaries=boundaries)
    else:
        lines = text.row_lines(row, samples, tokenizer.decode, colour=colour)
    for line in lines:
        click.echo(text.encodable(line), color=colour)


def _rows_of(
    directory: Path, manifest: Manifest, id_: str | None, message: str | None
) -> list[int]:
    """Find the rows of a sample, or of a call; the first row where only a message is named."""
    from reasonpack.show.row import find_rows  # noqa: PLC0415

    if id_ is not None:
        return find_rows(directory, manifest, id_)
    if message is not None and "call_id" in manifest.columns:
        return find_rows(directory, manifest, message, of="call")
    return [0]


def _named(message: str, manifest: Manifest) -> int | str:
    """Return the number of a message, or of calls the id of one."""
    if "call_id" in manifest.columns:
        return message
    if not message.isdecimal():
        raise click.BadParameter(
            f"got {message!r}, expected the number of a message, counted from 0",
            param_hint="--view",
        )
    return int(message)


def _show_view(view: MessageView, decode: Decode) -> None:
    from reasonpack.show import message_view, text  # noqa: PLC0415

    colour = text.wants_colour()
    prompt, completion = message_view.view_text(view, decode)
    click.echo(text.view_line(view, prompt), err=True)
    if sys.stdout.isatty():
        shown = text.marked(prompt, "h", trained=False, colour=colour)
        shown += text.marked(completion, "r_out", trained=True, colour=colour)
        click.echo(text.encodable(shown), color=colour)
    else:  # exactly, for a file or a program
        click.echo((prompt + completion).encode(), nl=False)


def _show_rejects(directory: Path, limit: int | None) -> None:
    """Write the reason and the error of each reject, or of the first of them."""
    from reasonpack.datasets.manifest import REJECTS  # noqa: PLC0415
    from reasonpack.show.rejects import each_reject  # noqa: PLC0415
    from reasonpack.show.text import encodable  # noqa: PLC0415
    from reasonpack.wording import printable  # noqa: PLC0415

    for number, (reason, error) in enumerate(each_reject(directory / REJECTS)):
        if number == limit:
            break
        click.echo(encodable(f"{reason}: {printable(error)}"))


def _write_svg(path: str, row: RowData) -> None:
    from reasonpack.show.mask_svg import mask_svg  # noqa: PLC0415
    from reasonpack.storage.publish import publish_text  # noqa: PLC0415

    picture = mask_svg(row)
    if path == "-":
        click.echo(picture, nl=False)
        return
    publish_text(path, picture)
    click.echo(f"{path}: the mask of row {row.number}", err=True)


def _load_tokenizer(
    directory: Path, manifest: Manifest, source: str | None, *, optional: bool
) -> Tokenizer | None:
    """Load the tokenizer of a dataset; None if it is optional and cannot be had.

    Raises:
        TokenizerError: it cannot be had, or is another one.
    """
    from reasonpack.show.dataset_tokenizer import load_own_tokenizer  # noqa: PLC0415
    from reasonpack.wording import printable  # noqa: PLC0415

    try:
        return load_own_tokenizer(directory, manifest, source)
    except TokenizerError as error:
        if source is not None or not optional:
            raise
        click.echo(f"No text: {printable(str(error))}", err=True)
        return None
