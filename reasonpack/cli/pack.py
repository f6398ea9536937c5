"""`reasonpack pack`: chats in, a dataset directory out."""

from __future__ import annotations

import json
import os
import sys
from datetime import date as Date  # noqa: N812 (the option is called date)
from pathlib import Path
from typing import Any

import click

__all__ = ["command"]


@click.command("pack")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "--tokenizer",
    required=True,
    metavar="PATH|HUB_ID",
    help="tokenizer.json, a directory that holds one, or a model on the hub.",
)
@click.option("--revision", metavar="REV", help="Revision of a hub model.")
@click.option(
    "--chat-template",
    metavar="FILE|NAME|TEXT",
    help="Chat template; the tokenizer's own by default.",
)
@click.option(
    "--chat-template-kwargs",
    metavar="JSON",
    default="{}",
    help="Variables for the template, for every conversation.",
)
@click.option(
    "--date",
    metavar="YYYY-MM-DD",
    help="The day that a template which shows today's date is to show.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Dataset directory to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace the dataset in DIR.")
@click.option(
    "--train-on",
    type=click.Choice(["all", "last-turn"]),
    default="all",
    show_default=True,
    help="Which assistant messages to train.",
)
@click.option(
    "--packing/--no-packing",
    default=False,
    help="Put several conversations in a row; needs --max-length.",
)
@click.option("--max-length", type=click.IntRange(min=1), metavar="TOKENS", help="Longest row.")
@click.option(
    "--max-position",
    type=click.IntRange(min=1),
    metavar="TOKENS",
    help="Longest view, which is what the model must be able to attend over. "
    "Default: model_max_length of the tokenizer, else --max-length.",
)
@click.option(
    "--overlong",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="What to do with a conversation that is too long; it is never cut.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Stop at a record that cannot be packed, or write it to rejects.jsonl and go on.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["parquet", "arrow"]),
    default="parquet",
    show_default=True,
    help="Parquet files, or Arrow IPC streams.",
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "lz4", "none"]),
    help="Default: zstd for Parquet, none for Arrow, which can then be memory-mapped.",
)
@click.option("--json", "as_json_", is_flag=True, help="Write the manifest to standard output.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    inputs: tuple[str, ...],
    output: Path,
    overwrite: bool,
    format_: Any,
    compression: str | None,
    chat_template_kwargs: str,
    date: str | None,
    as_json_: bool,
    **rest: Any,
) -> None:
    """Pack chats into rows that train exactly as N passes would.

    INPUT is a file of chats (JSON Lines, plain or as .gz or .zst, or Parquet), a directory
    of such files, or - for standard input.
    """
    from reasonpack.run.pack import pack_files  # noqa: PLC0415 (after --help)
    from reasonpack.run.unit import Options, as_json  # noqa: PLC0415
    from reasonpack.show.summary import summary  # noqa: PLC0415

    if compression is None and format_ == "parquet":
        compression = "zstd"
    options = Options(
        format=format_,
        compression=None if compression == "none" else compression,
        chat_template_kwargs=_variables(chat_template_kwargs),
        date=_date(date),
        **rest,
    )
    with _progress() as bar:
        manifest = pack_files(
            inputs,
            output,
            options,
            overwrite=overwrite,
            on_plan=lambda units: bar.reset(sum(unit.input_bytes for unit in units)),
            on_unit=lambda unit: bar.update(unit.input_bytes),
        )
    click.echo(summary(manifest), err=True)
    if as_json_:
        click.echo(as_json(manifest), nl=False)
    ctx.exit(3 if manifest.counts.rejected else 0)


def _variables(text: str) -> str:
    """Check the template's variables, and write them in one way."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}", param_hint="--chat-template-kwargs") from error
    if not isinstance(value, dict):
        raise click.BadParameter(
            'expected an object such as {"enable_thinking": true}',
            param_hint="--chat-template-kwargs",
        )
    return json.dumps(value, sort_keys=True)


def _date(text: str | None) -> str | None:
    try:
        return Date.fromisoformat(text).isoformat() if text else None
    except ValueError as error:
        raise click.BadParameter(f"{error}", param_hint="--date") from error


def _progress() -> Any:
    from tqdm import tqdm  # noqa: PLC0415

    quiet = not sys.stderr.isatty() or os.environ.get("TERM") == "dumb"
    return tqdm(
        total=0, unit="B", unit_scale=True, desc="pack", disable=quiet, leave=False, delay=1.0
    )
