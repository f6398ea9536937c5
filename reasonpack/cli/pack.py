"""`reasonpack pack`: chats in, a dataset directory out."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import click

from reasonpack.cli.interrupt import resumable
from reasonpack.cli.llama_factory import llama_factory_options, under_known_names
from reasonpack.cli.options import (
    config_file,
    iso_date,
    json_object,
    json_object_in_file,
    names_with_commas,
    number,
    part_of_run,
    train_on,
)
from reasonpack.cli.pack_options import call_options, choice_options, run_options


@click.command("pack")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--tokenizer",
    required=True,
    metavar="PATH|HUB_ID",
    help="tokenizer.json, a directory that holds one, or a model on the hub.",
)
@click.option(
    "--config",
    callback=config_file,
    is_eager=True,
    expose_value=False,
    metavar="FILE",
    help="YAML file with values for these options, such as `max-length: 8192`, or the "
    "manifest.json of a dataset, to repeat its run; what the command line gives wins.",
)
@click.option("--revision", metavar="REV", help="Revision of a hub model.")
@click.option(
    "--chat-template",
    metavar="FILE|NAME|TEXT",
    help="Chat template; the tokenizer's own by default.",
)
@click.option(
    "--chat-template-kwargs",
    callback=json_object,
    metavar="JSON",
    help="Variables for the template, for every conversation.",
)
@click.option(
    "--date",
    metavar="YYYY-MM-DD",
    help="The day that a template which shows today's date is to show.",
)
@click.option(
    "-o", "--output", required=True, metavar="DIR|URL", help="Dataset directory to write."
)
@click.option(
    "--resume/--overwrite",
    default=True,
    show_default=False,
    help="Go on with an unfinished run in DIR if it is the same, which is the default, or "
    "remove what a run wrote there; files of your own in data or receipts stop it.",
)
@call_options
@click.option(
    "--train-on",
    callback=train_on,
    default="all",
    metavar="WHICH[,PART...]",
    help="What of assistant messages to train: all, last-turn or last-message, where a message has "
    "no flag of its own, and of these reasoning, response, tool-calls, or all three.",
)
@click.option(
    "--loss-weights",
    type=click.Choice(["auto", "none", "data", "message", "turn", "conversation"]),
    default="auto",
    help="Write the column loss_weights: each token weighs what the data say, or each message, "
    "turn or conversation weighs the same, times that. auto writes it where an input has a weight "
    "other than 0 and 1; none refuses such records.",
)
@click.option(
    "--layout",
    type=click.Choice(["onepass", "npass"]),
    default="onepass",
    help="Write each conversation once, to be trained by branches or with a mask, or one plain "
    "causal sample for each of its leaves.",
)
@click.option(
    "--force-onepass",
    is_flag=True,
    help="Write the onepass layout even if config.json names a model with recurrent layers: for "
    "another model, or layers that fork their state at branches (an example for Qwen3.5 is "
    "among those of the trainers).",
)
@click.option(
    "--missing-reasoning",
    type=click.Choice(["skip-loss", "empty-think", "error"]),
    default="skip-loss",
    help="What to do with an answer without reasoning where the template makes the model "
    "reason: keep it as context, train it after an empty block, or refuse it.",
)
@click.option("--train-empty-think", is_flag=True, help="Train such an empty block too.")
@click.option(
    "--on-message-error",
    type=click.Choice(["reject", "context"]),
    default="reject",
    help="What to do with a message that the template does not let the model write like that: "
    "reject its conversation, or keep the message as untrained context if the template shows it.",
)
@click.option(
    "--template-behaviour",
    callback=json_object_in_file,
    metavar="FILE",
    help="JSON file with what you know better about the template than `reasonpack template` "
    "finds out.",
)
@click.option(
    "--packing",
    type=click.Choice(["best-fit", "sequential", "none"]),
    is_flag=False,
    flag_value="best-fit",
    default="none",
    help="Put several conversations in a row: where they fit best, which is meant by --packing "
    "alone, or in the order of the input. Needs --max-length.",
)
@click.option(
    "--max-length", callback=number, metavar="TOKENS", help="Longest row, such as 8192 or 8k."
)
@click.option(
    "--max-cost",
    callback=number,
    metavar="PAIRS",
    help="Most pairs of tokens in a row of which one sees the other: no row that several samples "
    "share takes longer than that. A sample with more has a row to itself. Needs --packing.",
)
@click.option(
    "--max-position",
    callback=number,
    metavar="TOKENS",
    help="Longest view, which is what the model must be able to attend over. "
    "Default: model_max_length of the tokenizer, else --max-length.",
)
@click.option(
    "--overlong",
    type=click.Choice(["split", "skip", "error"]),
    default="split",
    help="What to do with a conversation that is too long: divide it into samples that fit, which "
    "repeat what they need of its history, untrained, and leave single messages untrained whose "
    "own views are too long; reject it; or stop. Nothing is cut.",
)
@choice_options
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    help="Stop at a record that cannot be packed, or write it to rejects.jsonl and go on.",
)
@click.option(
    "--ignore-fields",
    callback=names_with_commas,
    multiple=True,
    metavar="NAME,...",
    help="Fields that nobody reads, and that are not to be refused though they may hold what the "
    "model is to learn; a nested one is dotted, as in extra.cot.",
)
@click.option(
    "--field",
    multiple=True,
    metavar="NAME=KNOWN",
    help="Read a field under a name that is known, as in cot=reasoning_content.",
)
@llama_factory_options
@click.option(
    "--stray-closing-tag",
    type=click.Choice(["refuse", "text", "reasoning"]),
    default="refuse",
    help="What a </think> is that may be part of an answer or end reasoning: refuse the record, "
    "or read all such tags as text, or as the end of reasoning. In a field of reasoning it can be "
    "text only.",
)
@click.option(
    "--null-arguments",
    type=click.Choice(["refuse", "drop", "keep"]),
    default="refuse",
    help="What to do with a null in tool arguments that a Parquet column holds as a struct, where "
    "it may stand for a key that is not there: refuse the record, leave the key out, or keep it.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet", "arrow"]),
    default="parquet",
    help="Parquet files, or Arrow IPC streams.",
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "lz4", "none"]),
    help="Default: zstd for Parquet, none for Arrow, which can then be memory-mapped.",
)
@run_options
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    inputs: tuple[str, ...],
    output: str,
    resume: bool,
    num_proc: int | None,
    unit_bytes: int,
    engine: Any,
    shard_index: int | None,
    shard_count: int | None,
    dry_run: bool,
    format_: Any,
    date: str | None,
    as_json_: bool,
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
    s3://, gs://, hf://, or whatever fsspec knows. INPUT:2.5 packs each of its conversations twice
    and half of them once more, INPUT:0.1 a tenth of them, INPUT#5000 5,000 of them.

    A run that was stopped goes on when the same command is given again.
    """
    began = time.perf_counter()
    from reasonpack.cli.progress import Progress, estimate_lines, summarize  # noqa: PLC0415
    from reasonpack.datasets.options import Options  # noqa: PLC0415 (after --help)
    from reasonpack.datasets.receipt import as_json  # noqa: PLC0415
    from reasonpack.run.engine import Run, Watch  # noqa: PLC0415
    from reasonpack.run.estimate import estimate  # noqa: PLC0415
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
    options = Options(format=format_, date=iso_date(date), **under_known_names(rest))
    with contextlib.closing(Progress()) as progress:
        watch = Watch(on_plan=progress.begin, on_receipt=progress.advance, on_note=progress.note)
        run = Run(
            unit_bytes=unit_bytes,
            num_proc=1 if profile else num_proc,
            engine="local" if profile else engine,
            watch=watch,
            backend=Choice(tokenizer_backend, backend_check),
            samples=samples,
            temp_dir=temp_dir,
        )
        if dry_run:
            found = estimate(inputs, options, run=run, output=output)
            click.echo(as_json(found) if as_json_ else estimate_lines(found))
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
        summarize(manifest, output, as_json_=as_json_)
    elif part:
        first = examples(part_of_rejects(output, *part), counts.reasons)
        for line in columns(reject_lines(counts, first), width_of(sys.stderr)).splitlines():
            click.echo(line, err=True)
        click.echo("part {} of {} is done; when all are: merge DIR".format(*part), err=True)
    ctx.exit(3 if counts.incomplete else 0)
