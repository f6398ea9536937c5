"""`reasonpack inspect`: one row of a dataset, or the view of one message, on standard output."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reasonpack.errors import TokenizerError

if TYPE_CHECKING:
    from reasonpack.datasets.manifest import Manifest
    from reasonpack.show.row import Decode


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
    "--view",
    "message",
    type=click.IntRange(min=0),
    metavar="K",
    help="Write the text that the model sees when it writes message K, and what it writes.",
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
    message: int | None,
    as_json: bool,
    tokenizer: str | None,
) -> None:
    """Show a row of a dataset: segments, text, what is trained.

    DIR is a dataset that pack wrote. On a terminal text is coloured by kind, and what is
    trained is bold and underlined; elsewhere it stands between « and ».
    """
    from reasonpack.datasets.manifest import read_manifest  # noqa: PLC0415 (after --help)
    from reasonpack.show import message_view as views  # noqa: PLC0415
    from reasonpack.show import row as rows  # noqa: PLC0415
    from reasonpack.show import text  # noqa: PLC0415
    from reasonpack.wording import listed  # noqa: PLC0415

    manifest = read_manifest(directory)
    numbers = [number or 0]
    if id_ is not None and number is None:
        numbers = rows.find_rows(directory, manifest, id_)
    if message is None and len(numbers) > 1:
        others = listed(numbers[1:])
        click.echo(f"Row {numbers[0]} of {len(numbers)} with this id; see also {others}.", err=True)
        numbers = numbers[:1]
    parts = [
        (row, sample)
        for row in (rows.read_row(directory, manifest, number) for number in numbers)
        for sample in rows.choose_samples(row, id_)
    ]
    view = None if message is None else views.find_view(parts, message)
    decode = _load_decode(directory, manifest, tokenizer, optional=as_json)
    row, samples = parts[0][0], [sample for _, sample in parts]
    if as_json:
        found = views.view_json(view, decode) if view else rows.row_json(row, samples, decode)
        click.echo(json.dumps(found))
        return
    assert decode is not None
    colour = text.wants_colour()
    if view is None:
        for line in text.row_lines(row, samples, decode, colour=colour):
            click.echo(text.encodable(line), color=colour)
        return
    prompt, completion = views.view_text(view, decode)
    click.echo(text.view_line(view, prompt), err=True)
    if sys.stdout.isatty():
        shown = text.marked(prompt, "h", trained=False, colour=colour)
        shown += text.marked(completion, "r_out", trained=True, colour=colour)
        click.echo(text.encodable(shown), color=colour)
    else:  # exactly, for a file or a program
        click.echo((prompt + completion).encode(), nl=False)


def _load_decode(
    directory: Path, manifest: Manifest, source: str | None, *, optional: bool
) -> Decode | None:
    """Load the tokenizer of a dataset; None if it is optional and cannot be had.

    Raises:
        TokenizerError: it cannot be had, or is another one.
    """
    from reasonpack.show.dataset_tokenizer import load_own_tokenizer  # noqa: PLC0415
    from reasonpack.wording import printable  # noqa: PLC0415

    try:
        return load_own_tokenizer(directory, manifest, source).decode
    except TokenizerError as error:
        if source is not None or not optional:
            raise
        click.echo(f"No text: {printable(str(error))}", err=True)
        return None
