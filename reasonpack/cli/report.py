"""`reasonpack report`: a dataset as one HTML page."""

from __future__ import annotations

import sys

import click


@click.command("report")
@click.argument("directory", metavar="DIR")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    default="report.html",
    help="Where to write the page; - is standard output.",
)
@click.option(
    "--rows", "most", type=click.IntRange(0, 200), default=20, help="How many rows to draw by hash."
)
@click.option("--seed", default=0, help="Another number draws other rows.")
@click.option(
    "--row",
    "numbers",
    type=click.IntRange(min=0),
    metavar="N",
    multiple=True,
    help="Take this row instead, counted from 0 over all shards; may be repeated.",
)
@click.option(
    "--id",
    "ids",
    metavar="ID",
    multiple=True,
    help="Take the rows with this sample instead; may be repeated.",
)
@click.option(
    "--tokenizer",
    metavar="PATH|HUB_ID",
    help="Where the dataset's tokenizer is, if not where it was when it was packed.",
)
@click.option(
    "--json", "as_json_", is_flag=True, help="Write the page's figures to standard output too."
)
def command(
    *,
    directory: str,
    output: str,
    most: int,
    seed: int,
    numbers: tuple[int, ...],
    ids: tuple[str, ...],
    tokenizer: str | None,
    as_json_: bool,
) -> None:
    """Write a dataset as one HTML page, to look at and to send to others.

    The page has the figures of stats, what was rejected, and rows as tokens: which are trained,
    what each of them sees, the tree and the mask, and what the model saw at each message. It needs
    no network. DIR is a dataset that pack wrote; all of its shards are read.
    """
    from reasonpack.datasets.manifest import REJECTS  # noqa: PLC0415 (after --help)
    from reasonpack.datasets.receipt import as_json  # noqa: PLC0415
    from reasonpack.show.dataset_tokenizer import tokenizer_if_any  # noqa: PLC0415
    from reasonpack.show.rejects import examples  # noqa: PLC0415
    from reasonpack.show.report.report import page  # noqa: PLC0415
    from reasonpack.show.row import find_rows, read_rows  # noqa: PLC0415
    from reasonpack.show.row_facts import draw_rows  # noqa: PLC0415
    from reasonpack.show.stats import gather, stats_json  # noqa: PLC0415
    from reasonpack.storage.place import join, public_name  # noqa: PLC0415
    from reasonpack.storage.publish import publish_text  # noqa: PLC0415
    from reasonpack.tokens.token_bytes import bytes_of_tokens  # noqa: PLC0415
    from reasonpack.wording import count  # noqa: PLC0415

    if as_json_ and output == "-":
        raise click.UsageError("--json and the page cannot both go to standard output.")
    stats = gather(directory)
    manifest = stats.manifest
    chosen = {*numbers, *(row for id_ in ids for row in find_rows(directory, manifest, id_))}
    drawn = draw_rows(manifest.counts.rows, most, seed=f"{manifest.content_hash} {seed}")
    rows = read_rows(directory, manifest, sorted(chosen) or drawn)
    own, source = tokenizer_if_any(directory, manifest, tokenizer)
    text = page(
        public_name(directory).rstrip("/").rpartition("/")[2] or directory,
        manifest,
        rows,
        stats=stats,
        first=examples([join(directory, REJECTS)], manifest.counts.reasons),
        piece=bytes_of_tokens(own) if own else None,
        source=source,
    )
    if output == "-":
        sys.stdout.write(text)
        return
    publish_text(output, text)
    size = f"{len(text) / 1e6:.1f} MB"
    click.echo(f"{output}: {count(len(rows), 'row')} of {manifest.counts.rows:,}, {size}", err=True)
    if as_json_:
        written = {"page": output, "rows": [row.number for row in rows], "texts": source}
        click.echo(as_json({**written, **stats_json(stats)}), nl=False)
