"""`reasonpack pack`: chats in, a dataset directory out."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import click

from reasonpack.cli.llama_factory import as_pack_options
from reasonpack.cli.options import part_of_run
from reasonpack.cli.pack_options import pack_options
from reasonpack.cli.progress import Progress, estimate_lines, resumable, summarize


@click.command("pack")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@pack_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    inputs: tuple[str, ...],
    output: str | None,
    resume: bool,
    num_proc: int | None,
    unit_size: int,
    engine: Any,
    shard_index: int | None,
    shard_count: int | None,
    dry_run: bool,
    json: bool,
    tokenizer_backend: Any,
    backend_check: float,
    profile: bool,
    samples: bool,
    temp_dir: str | None,
    **rest: Any,
) -> None:
    """Pack chats into rows that train exactly as N passes would.

    INPUT is a file of chats (JSON Lines or one JSON list, plain or as .gz or .zst, Parquet or
    Arrow), a directory of such files, or - for standard input. Files and directories may be URLs:
    s3://, gs://, hf://, or any other that fsspec knows. INPUT:2.5 packs each conversation of INPUT
    twice and half of them once more, INPUT:0.1 a tenth of them, INPUT#5000 5,000 of them.

    A run that was stopped goes on when the same command is given again.
    """
    began = time.perf_counter()
    from reasonpack.datasets.options import Options  # noqa: PLC0415 (after --help)
    from reasonpack.datasets.receipt import as_json  # noqa: PLC0415
    from reasonpack.run.engine import Run, Watch  # noqa: PLC0415
    from reasonpack.run.pack import pack_files, pack_part  # noqa: PLC0415
    from reasonpack.run.stages import measured, profile_lines  # noqa: PLC0415
    from reasonpack.show.rejects import (  # noqa: PLC0415
        examples,
        part_of_rejects,
        reject_lines,
        rejects_told,
    )
    from reasonpack.show.terminal import width_of  # noqa: PLC0415
    from reasonpack.show.text import columns  # noqa: PLC0415
    from reasonpack.tokens.fast_backends import Choice  # noqa: PLC0415 (after --help)

    part = part_of_run(shard_index, shard_count, overwrite=not resume)
    options = Options(**as_pack_options(rest))
    with contextlib.closing(Progress("pack")) as progress:
        watch = Watch(on_plan=progress.begin, on_receipt=progress.advance, on_note=progress.note)
        run = Run(
            unit_bytes=unit_size,
            num_proc=1 if profile else num_proc,
            engine="local" if profile else engine,
            watch=watch,
            backend=Choice(tokenizer_backend, backend_check),
            samples=samples,
            temp_dir=temp_dir,
        )
        if dry_run or output is None:
            from reasonpack.run.estimate import estimate  # noqa: PLC0415

            found = estimate(inputs, options, run=run, output=output)
            click.echo(as_json(found) if json else estimate_lines(found))
            return
        with rejects_told(output), resumable(progress):
            manifest = None
            if part:
                index, count = part
                counts = pack_part(inputs, output, options, index=index, count=count, run=run)
            else:
                manifest = pack_files(inputs, output, options, overwrite=not resume, run=run)
                counts = manifest.counts
    if profile:
        click.echo(profile_lines(measured(), time.perf_counter() - began), err=True)
    if manifest:
        summarize(manifest, output, as_json_=json)
    elif part:
        first = examples(part_of_rejects(output, *part), counts.reasons)
        for line in columns(reject_lines(counts, first), width_of(sys.stderr)).splitlines():
            click.echo(line, err=True)
        click.echo("part {} of {} is done; when all are: merge DIR".format(*part), err=True)
    ctx.exit(3 if counts.incomplete else 0)
