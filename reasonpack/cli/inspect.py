"""`reasonpack inspect`: rows of a dataset, or the view of one message, on standard output."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click


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
@click.option("--seed", default=0, help="Another number draws other rows.")
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
    help="Show at most N of the rows found.  [default: 1, or all of --sample]",
)
@click.option("--tokens", is_flag=True, help="Show every token: id, label, position, kind, text.")
@click.option("--boundaries", is_flag=True, help="Show the tokens around each segment's borders.")
@click.option("--mask", is_flag=True, help="Draw the mask of the row in characters.")
@click.option(
    "--svg", metavar="FILE", help="Write the mask of the row as a picture, and nothing else."
)
@click.option("--png", metavar="FILE", help="Write the same picture without its texts, as PNG.")
@click.option(
    "--view",
    "message",
    metavar="K|CALL",
    help="Write the text that the model sees when it writes message K, and what it writes; in a "
    "dataset of calls, that of the call with this id.",
)
@click.option(
    "--diff",
    nargs=2,
    metavar="J K",
    help="Show where the views of messages, or calls, J and K of a sample differ.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option(
    "--tokenizer",
    metavar="PATH|HUB_ID",
    help="Where the dataset's tokenizer is, if not where it was when it was packed.",
)
def command(**asked: Any) -> None:
    """Show rows of a dataset: segments, text, what is trained.

    DIR is a dataset that pack wrote. On a terminal text is coloured by kind, and what is
    trained is bold and underlined; elsewhere it stands between « and ». Output that does not fit
    on a terminal goes to the pager (PAGER).
    """
    from reasonpack.cli.inspect_output import inspect  # noqa: PLC0415 (after --help)

    inspect(SimpleNamespace(**asked))
