"""`reasonpack repack`: finished datasets in, one dataset with other limits or rows out."""

from __future__ import annotations

import contextlib
from typing import Any

import click

from reasonpack.cli.option_page import options
from reasonpack.cli.progress import Progress, resumable, summarize


@click.command("repack")
@click.argument("directories", nargs=-1, required=True, metavar="DIR...")
@options(
    """
-o --output DIR|URL
    Dataset directory to write.
--resume/--overwrite
    Go on with an unfinished run in the output if it has the same options (the default), or
    remove what a run wrote there first. Other files in its data or receipts stop it.
--packing
    Put several conversations in a row, as in pack. Default: as it was.
--max-length TOKENS
    Longest row. Default: as it was.
--max-cost PAIRS
    Most visible pairs of tokens in a row. Default: as it was.
--max-position TOKENS
    Longest view. Default: as it was.
--format
    Parquet files, or Arrow IPC streams. Default: as it was.
--compression
    Default: as it was; in another format zstd for Parquet, none for Arrow.
--loss-weights
    Write the column loss_weights where there is none: each message, turn or conversation weighs
    the same. Turns are read from the inputs again, as for --split. Default: as it was.
--split NAME=SHARE
    Put other shares of the conversations into splits, by their messages, which are read from
    the inputs again: these have to be where they were. Default: as it was.
--shuffle
    Write the rows of each split in a random order, over all shards. Default: as it was.
--seed N
    Which order --shuffle gives. Default: as it was.
--num-proc N
    Worker processes. Default: one a core, or none for a single unit. The output does not depend
    on it.
--json
    Write the manifest to standard output.
""",
    defaults=False,
    loss_weights={"type": click.Choice(["message", "turn", "conversation"])},
    shuffle={"default": None},
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    directories: tuple[str, ...],
    output: str,
    resume: bool,
    num_proc: int | None,
    json: bool,
    **given: Any,
) -> None:
    """Pack finished datasets again, as one, without rendering or tokenizing.

    DIR is a dataset that pack or repack wrote, or its URL. Conversations longer than a new limit
    are divided, and those divided for the old one are joined, as pack would have done it. A limit
    that left something out cannot be relaxed. DIR:3 takes a dataset three times, with new ids for
    the copies; DIR:0.5 and DIR#5000 take shares of it, drawn as by pack from its inputs, which
    are read again.

    A run that was stopped goes on when the same command is given again.
    """
    from reasonpack.run.engine import Run, Watch  # noqa: PLC0415 (after --help)
    from reasonpack.run.repack import repack  # noqa: PLC0415
    from reasonpack.show.rejects import rejects_told  # noqa: PLC0415

    changes = {name: value for name, value in given.items() if value not in (None, ())}
    with (
        contextlib.closing(Progress("repack")) as progress,
        rejects_told(output),
        resumable(progress),
    ):
        watch = Watch(on_plan=progress.begin, on_receipt=progress.advance, on_note=progress.note)
        run = Run(num_proc=num_proc, watch=watch)
        manifest = repack(directories, output, changes, overwrite=not resume, run=run)
    summarize(manifest, output, as_json_=json)
    ctx.exit(3 if manifest.counts.incomplete else 0)
