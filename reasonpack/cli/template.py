"""`reasonpack template`: what a chat template does to reasoning, and what packing makes of it."""

from __future__ import annotations

import json
from typing import Any

import click

from reasonpack.cli.pack import command as pack

OF_PACK = (
    *("tokenizer", "revision", "chat_template", "chat_template_kwargs", "template_behaviour"),
    "date",
)
"""Names of options that are the same as in `pack`."""


@click.command("template", params=[each for each in pack.params if each.name in OF_PACK])
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(*, as_json: bool, **rest: Any) -> None:
    """Show what a chat template does to reasoning, and what packing makes of it."""
    from reasonpack.datasets.options import Options  # noqa: PLC0415 (after --help)
    from reasonpack.run.context import load_context  # noqa: PLC0415
    from reasonpack.show import template as show  # noqa: PLC0415
    from reasonpack.show.terminal import encodable, wants_colour  # noqa: PLC0415

    options = Options(**rest)
    context = load_context(options)
    context.check_template()
    rendering = context.without_tools
    if as_json:
        click.echo(json.dumps(show.behaviour_json(rendering, layout=options.layout)))
        return
    colour = wants_colour()
    lines = [*show.behaviour_lines(rendering), ""]
    lines += [show.what_packing_does(rendering.behaviour, layout=options.layout), ""]
    lines += [f"{name.ljust(30)}  {verdict}" for name, verdict in show.shapes(rendering)]
    lines += ["", "Two turns, as they are laid out (↵ is a line break):"]
    lines += show.example_lines(rendering, context.tokenizer, colour=colour)
    for line in lines:
        click.echo(encodable(line), color=colour)
