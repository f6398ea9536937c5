"""`reasonpack stats`: what a dataset holds and costs, as numbers and histograms."""

from __future__ import annotations

import sys

import click

__all__ = ["command"]


@click.command("stats")
@click.argument("directory", metavar="DIR")
@click.option("--json", "as_json_", is_flag=True, help="Write one JSON object.")
def command(*, directory: str, as_json_: bool) -> None:
    """Count what a dataset holds, and draw how lengths, turns and reasoning are distributed.

    Says which layout costs least with which kernel: tokens, visible pairs of tokens and 128×128
    blocks of attention, of the rows and of the npass samples of the same conversations.

    DIR is a dataset that pack wrote. All shards are read; one that does not hold what the
    manifest says is an error.
    """
    from reasonpack.datasets.receipt import as_json  # noqa: PLC0415 (after --help)
    from reasonpack.show.stats import gather, stats_json, stats_lines  # noqa: PLC0415
    from reasonpack.show.summary import summary  # noqa: PLC0415

    stats = gather(directory)
    if as_json_:
        click.echo(as_json(stats_json(stats)), nl=False)
        return
    encoding = sys.stdout.encoding or "ascii"
    for line in (summary(stats.manifest), *stats_lines(stats)):
        click.echo(line.encode(encoding, "replace").decode(encoding))
