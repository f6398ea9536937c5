"""The options of `pack` that say how a run is done, not what is packed."""

from __future__ import annotations

import click

from reasonpack.cli.options import adding, size_in_bytes

run_options = adding(
    click.option(
        "--num-proc",
        type=click.IntRange(min=1),
        metavar="N",
        help="Worker processes. Default: one a core, or none if the input is a single unit. "
        "The output does not depend on it.",
    ),
    click.option(
        "--unit-size",
        "unit_bytes",
        callback=size_in_bytes,
        default="32M",
        show_default=True,
        metavar="BYTES",
        help="Input that becomes one shard, at most about: a file is cut evenly into as few units "
        "as that allows. Each worker holds one unit at a time, in about 400 MiB + 20 x BYTES of "
        "memory, however large the input is. A compressed file is one unit, whose memory goes by "
        "what it holds decompressed; so is a row group of Parquet.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="Where workers run: on this machine, or on the Ray cluster that RAY_ADDRESS names.",
    ),
    click.option(
        "--shard-index",
        type=click.IntRange(min=0),
        metavar="I",
        help="Pack only part I, from 0, of --shard-count parts; then call merge.",
    ),
    click.option("--shard-count", type=click.IntRange(min=1), metavar="N", help="How many parts."),
    click.option(
        "--tokenizer-backend",
        type=click.Choice(["auto", "tokenizers", "gigatoken", "fastokens"]),
        default="auto",
        show_default=True,
        help="What encodes texts. The ids are those of tokenizers whichever it is: another is used "
        "only after it has proved itself, and is checked all along.",
    ),
    click.option(
        "--backend-check",
        type=float,
        default=0.005,
        show_default=True,
        metavar="RATE",
        help="Share of the texts of each unit that tokenizers encodes too, to check the backend.",
    ),
    click.option(
        "--temp-dir",
        metavar="DIR",
        help="Where calls are unpacked that are in compressed files or in Parquet, so that groups "
        "can be looked up. Default: the system's.",
    ),
    click.option(
        "--profile", is_flag=True, help="Work in one process, and say which stage took how long."
    ),
    click.option(
        "--samples/--no-samples",
        default=True,
        show_default=True,
        help="Write samples.html into DIR, up to 20 rows to look at, where a run is whole and "
        "on this machine.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Say what would be done and about how long; stop."
    ),
    click.option("--json", "as_json_", is_flag=True, help="Write the manifest to standard output."),
)
