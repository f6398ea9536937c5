"""`reasonpack merge`: checks the parts of a run on several machines and makes them a dataset."""

from __future__ import annotations

import click

from reasonpack.cli.progress import summarize
from reasonpack.wording import printable


@click.command("merge")
@click.argument("directory", metavar="DIR")
@click.option("--json", "as_json_", is_flag=True, help="Write the manifest to standard output.")
@click.pass_context
def command(ctx: click.Context, /, *, directory: str, as_json_: bool) -> None:
    """Check all parts that pack --shard-index wrote to DIR, and write the manifest.

    Every shard is read and compared with its receipt. If a unit is missing or was altered,
    nothing is written and the message names it.
    """
    from reasonpack.run.pack import merge_parts  # noqa: PLC0415 (after --help)
    from reasonpack.show.rejects import rejects_told  # noqa: PLC0415

    with rejects_told(directory):
        manifest = merge_parts(directory, lambda note: click.echo(printable(note), err=True))
    summarize(manifest, directory, as_json_=as_json_)
    ctx.exit(3 if manifest.counts.incomplete else 0)
