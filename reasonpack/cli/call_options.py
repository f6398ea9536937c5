"""The options of `pack` for calls: what a record is, what groups them, which columns they need."""

from __future__ import annotations

import click

from reasonpack.cli.options import adding, names_with_commas, size_in_bytes

call_options = adding(
    click.option(
        "--input-format",
        type=click.Choice(["auto", "chat", "calls"]),
        default="auto",
        show_default=True,
        help="What a record is: a chat, or calls of a model as a service or an agent logged them. "
        "By default the first record of each input says it.",
    ),
    click.option(
        "--group-by",
        default="auto",
        show_default=True,
        metavar="FIELD",
        help="The field that says which calls belong together, as trace_id or metadata.run; none "
        "if each record is alone. By default the one of the usual fields that the records have.",
    ),
    click.option(
        "--max-group-bytes",
        callback=size_in_bytes,
        default="1G",
        show_default=True,
        metavar="BYTES",
        help="Input that may belong to one group of calls.",
    ),
    click.option(
        "--call-columns",
        callback=names_with_commas,
        multiple=True,
        default=("auto",),
        show_default="auto",
        metavar="NAME,...",
        help="Columns that a dataset of calls is to have beside loss_weights: logprobs, "
        "advantages, call_reward, call_role, preference_labels; or none. By default those for "
        "which there are values.",
    ),
)
