"""`reasonpack merge`: the parts of a run on several machines, checked and made a dataset."""

from __future__ import annotations

import sys

import click


@click.command("merge")
@click.argument("directory", metavar="DIR")
@click.option("--json", "as_json_", is_flag=True, help="Write the manifest to standard output.")
@click.pass_context
def command(ctx: click.Context, /, *, directory: str, as_json_: bool) -> None:
    """Check all parts that pack --shard-index wrote to DIR, and write the manifest.

    Every shard is read and compared with its receipt. If a unit is missing or was altered,
    nothing is written and the message names it.
    """
    from reasonpack.datasets.manifest import REJECTS  # noqa: PLC0415
    from reasonpack.datasets.receipt import as_json  # noqa: PLC0415
    from reasonpack.run.pack import merge_parts  # noqa: PLC0415
    from reasonpack.show.rejects import examples, rejects_told  # noqa: PLC0415
    from reasonpack.show.summary import summary  # noqa: PLC0415
    from reasonpack.show.terminal import width_of  # noqa: PLC0415
    from reasonpack.storage.place import join  # noqa: PLC0415
    from reasonpack.wording import printable  # noqa: PLC0415 (after --help)

    with rejects_told(directory):
        manifest = merge_parts(directory, lambda note: click.echo(printable(note), err=True))
    first = examples([join(directory, REJECTS)], manifest.counts.reasons)
    click.echo(summary(manifest, first, width_of(sys.stderr)), err=True)
    if as_json_:
        click.echo(as_json(manifest), nl=False)
    ctx.exit(3 if manifest.counts.incomplete else 0)
