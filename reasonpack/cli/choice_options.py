"""The options of `pack` that choose conversations, put them into splits, and order rows."""

from __future__ import annotations

import click

from reasonpack.cli.options import adding, number

choice_options = adding(
    click.option(
        "--split",
        multiple=True,
        metavar="NAME=SHARE",
        help="Set a share of the conversations apart, as in validation=0.02, in shards of that "
        "name. What a conversation says decides: equal ones are never of two splits, and data that "
        "is added moves none.",
    ),
    click.option(
        "--dedup",
        type=click.Choice(["none", "exact"]),
        default="none",
        show_default=True,
        help="Pack only the first of the conversations that have the same messages and tools, "
        "over all inputs.",
    ),
    click.option(
        "--sample",
        callback=number,
        metavar="N",
        help="Pack only N conversations, drawn from all of the input, always the same: to look at "
        "before a full run.",
    ),
    click.option(
        "--shuffle",
        is_flag=True,
        help="Write the rows of each split in a random order, over all shards; else they stand in "
        "the order of the input.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, (1 << 64) - 1),
        default=0,
        show_default=True,
        metavar="N",
        help="Which order --shuffle gives.",
    ),
)
