"""`reasonpack repack`: finished datasets in, one of other limits or rows out."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from reasonpack.cli.interrupt import resumable
from reasonpack.cli.options import number


@click.command("repack")
@click.argument("directories", nargs=-1, required=True, metavar="DIR...")
@click.option(
    "-o", "--output", required=True, metavar="DIR|URL", help="Dataset directory to write."
)
@click.option(
    "--resume/--overwrite",
    default=True,
    show_default=False,
    help="Go on with an unfinished run in the output if it is the same, which is the default, or "
    "remove what a run wrote there; files of your own in data or receipts stop it.",
)
@click.option(
    "--packing",
    type=click.Choice(["best-fit", "sequential", "none"]),
    is_flag=False,
    flag_value="best-fit",
    help="Put several conversations in a row, as in pack. Default: as it was.",
)
@click.option(
    "--max-length", callback=number, metavar="TOKENS", help="Longest row. Default: as it was."
)
@click.option(
    "--max-cost",
    callback=number,
    metavar="PAIRS",
    help="Most pairs of tokens in a row of which one sees the other. Default: as it was.",
)
@click.option(
    "--max-position", callback=number, metavar="TOKENS", help="Longest view. Default: as it was."
)
@click.option(
    "--format",
    type=click.Choice(["parquet", "arrow"]),
    help="Parquet files, or Arrow IPC streams. Default: as it was.",
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "lz4", "none"]),
    help="Default: as it was; in another format zstd for Parquet, none for Arrow.",
)
@click.option(
    "--loss-weights",
    type=click.Choice(["message", "turn", "conversation"]),
    help="Write the column loss_weights where there is none: each message, turn or conversation "
    "weighs the same. Turns are read again in the inputs, as for --split. Default: as it was.",
)
@click.option(
    "--split",
    multiple=True,
    metavar="NAME=SHARE",
    help="Set other shares of the conversations apart, by their messages, which are read again in "
    "the inputs: these have to be where they were. Default: as it was.",
)
@click.option(
    "--shuffle",
    is_flag=True,
    default=None,
    help="Write the rows of each split in a random order, over all shards. Default: as it was.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 64) - 1),
    metavar="N",
    help="Which order --shuffle gives. Default: as it was.",
)
@click.option(
    "--num-proc",
    type=click.IntRange(min=1),
    metavar="N",
    help="Worker processes. Default: one a core, or none for a single unit. The output does not "
    "depend on it.",
)
@click.option("--json", "as_json_", is_flag=True, help="Write the manifest to standard output.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    directories: tuple[str, ...],
    output: str,
    resume: bool,
    num_proc: int | None,
    as_json_: bool,
    **options: Any,
) -> None:
    """Pack finished datasets again, as one, without rendering or tokenizing.

    DIR is a dataset that pack or repack wrote, or its URL. What is longer than a new limit is
    divided, and what was divided for the old one is joined, as pack would have done it. A limit
    that left something out cannot be relaxed. DIR:3 is a dataset three times, with ids of their
    own for the copies.

    A run that was stopped goes on when the same command is given again.
    """
    from reasonpack.cli.progress import Progress, summarize  # noqa: PLC0415 (after --help)
    from reasonpack.run.engine import Run, Watch  # noqa: PLC0415
    from reasonpack.run.repack import repack  # noqa: PLC0415
    from reasonpack.show.rejects import rejects_told  # noqa: PLC0415

    given = {name: value for name, value in options.items() if value not in (None, ())}
    with contextlib.closing(Progress()) as progress, rejects_told(output), resumable(progress):
        watch = Watch(on_plan=progress.begin, on_receipt=progress.advance, on_note=progress.note)
        run = Run(num_proc=num_proc, watch=watch)
        manifest = repack(directories, output, given, overwrite=not resume, run=run)
    summarize(manifest, output, as_json_=as_json_)
    ctx.exit(3 if manifest.counts.incomplete else 0)
