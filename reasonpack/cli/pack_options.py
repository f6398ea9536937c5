"""Options of `pack`: of calls, of what is chosen and in which order, and how a run is done."""

from __future__ import annotations

import click

from reasonpack.cli.options import adding, names_with_commas, number, size_in_bytes

call_options = adding(
    click.option(
        "--input-format",
        type=click.Choice(["auto", "chat", "calls"]),
        default="auto",
        help="What a record is: a chat, or calls of a model as a service or an agent logged them. "
        "By default the first record of each input says it.",
    ),
    click.option(
        "--group-by",
        default="auto",
        metavar="FIELD",
        help="The field that says which calls belong together, as trace_id or metadata.run; none "
        "if each record is alone. By default the one of the usual fields that the records have.",
    ),
    click.option(
        "--max-group-bytes",
        callback=size_in_bytes,
        default="1G",
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
        help="Pack only the first of the conversations that have the same messages and tools, or "
        "of the groups that have the same calls, over all inputs.",
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
        metavar="N",
        help="Which order --shuffle gives.",
    ),
)
run_options = adding(
    click.option(
        "--num-proc",
        type=click.IntRange(min=1),
        metavar="N",
        help="Worker processes. Default: one a core, but no more than there are units, or than "
        "the input repays. The output does not depend on it.",
    ),
    click.option(
        "--unit-size",
        "unit_bytes",
        callback=size_in_bytes,
        default="32M",
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
        help="What encodes texts. The ids are those of tokenizers whichever it is: another is used "
        "only after it has proved itself, and is checked all along.",
    ),
    click.option(
        "--backend-check",
        type=float,
        default=0.005,
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
        help="Write samples.html into DIR, up to 20 rows to look at, where a run is whole and "
        "on this machine.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Say what would be done and about how long; stop."
    ),
    click.option("--json", "as_json_", is_flag=True, help="Write the manifest to standard output."),
)
