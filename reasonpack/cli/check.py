"""`reasonpack check`: tokens of other tools against inference, or chats before they are packed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import click

from reasonpack.cli.pack import command as pack

OF_PACK = (
    *("tokenizer", "revision", "chat_template", "chat_template_kwargs", "template_behaviour"),
    *("date", "ignore_fields", "field", "role", "stray_closing_tag", "null_arguments"),
    *("input_format", "group_by", "num_proc"),
)
"""Names of options that are the same as in `pack`."""


@click.command("check", params=[each for each in pack.params if each.name in OF_PACK])
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    inputs: tuple[str, ...],
    num_proc: int | None,
    as_json: bool,
    **rest: Any,
) -> None:
    """Check tokens that another tool prepared, or chats before they are packed.

    INPUT is a directory or file with tokens (input_ids with labels or a mask), as TRL, axolotl
    and LLaMA-Factory save them or as Parquet. If the chats that they were made from are among the
    inputs too, every trained token is compared with what the model sees and writes: exit status 1
    if one differs. Without the chats, what looks wrong in the tokens is reported as suspect: exit
    status 0.

    If INPUT has only chats, they are read and laid out as by pack, but nothing is written: exit
    status 1 if pack would refuse one. To check datasets that pack wrote, use verify.
    """
    from reasonpack.datasets.options import Options  # noqa: PLC0415 (after --help)
    from reasonpack.run.check import found, prepared, records  # noqa: PLC0415
    from reasonpack.run.engine import Run  # noqa: PLC0415
    from reasonpack.show.terminal import wants_colour  # noqa: PLC0415

    tokens, chats = prepared.sorted_inputs(inputs)
    options = Options(missing_reasoning="empty-think", **rest)
    if tokens:
        findings = found.check_tokens(tokens, chats, options)
        _write(
            found.findings_json(findings),
            found.finding_lines(findings, colour=wants_colour()),
            as_json=as_json,
        )
        ctx.exit(1 if findings.faults else 0)
    options = Options(**rest)
    read = records.check_records(chats, options, Run(num_proc=num_proc))
    _write(records.records_json(read), records.record_lines(read), as_json=as_json)
    ctx.exit(1 if read.counts.incomplete or read.counts.reasons else 0)


def _write(described: dict[str, Any], lines: Iterable[tuple[str, str]], *, as_json: bool) -> None:
    from reasonpack.show.terminal import show, wants_colour, width_of  # noqa: PLC0415
    from reasonpack.show.text import columns  # noqa: PLC0415

    if as_json:
        click.echo(json.dumps(described))
    else:
        width = width_of(sys.stdout)
        show(columns(lines, width).split("\n"), colour=wants_colour())
