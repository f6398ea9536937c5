"""The options of `pack`, as its help shows them."""

from __future__ import annotations

from typing import get_args

import click

from reasonpack.choices import Backend, Engine
from reasonpack.cli.option_page import options
from reasonpack.cli.options import (
    config_file,
    iso_date,
    json_object,
    json_object_in_file,
    names_with_commas,
    needed_unless_dry,
    size_in_bytes,
    train_on,
)

pack_options = options(
    """
--tokenizer PATH|HUB_ID
    tokenizer.json, a directory that holds one, or a model on the hub.
--config FILE
    YAML file with values for these options, such as `max-length: 8192`, or the manifest.json of
    a dataset, to repeat its run; what the command line gives wins.
--revision REV
    Revision of a hub model.
--chat-template FILE|NAME|TEXT
    Chat template; the tokenizer's own by default.
--chat-template-kwargs JSON
    Variables for the template, for every conversation.
--date YYYY-MM-DD
    The date that a template shows as today's.
-o --output DIR|URL
    Dataset directory to write; required without --dry-run.
--resume/--overwrite
    Go on with an unfinished run in DIR if it has the same options (the default), or remove what
    a run wrote there first. Other files in its data or receipts stop it.
--input-format
    What a record is: a chat, or calls of a model as a service or an agent logged them. By
    default the first record of each input decides.
--group-by FIELD
    The field by which calls belong together, as trace_id or metadata.run; none if each record
    is a group. By default the usual field that the records have.
--max-group-bytes BYTES
    Most input that may belong to one group of calls.
--call-columns NAME,...
    Columns that a dataset of calls has besides loss_weights: logprobs, advantages, call_reward,
    call_role, preference_labels; or none. By default those for which there are values.
--train-on WHICH[,PART...]
    Which assistant messages to train if they have no flag of their own: all, last-turn or
    last-message; and which parts of them: reasoning, response, tool-calls, by default all three.
--loss-weights
    Write the column loss_weights: the weights in the data, or equal weights for all messages,
    turns or conversations, times those in the data. auto writes it if an input has a weight
    other than 0 and 1; none refuses such records.
--layout
    Write each conversation once, to be trained by branches or with a mask, or one plain causal
    sample for each of its leaves.
--force-onepass
    Write the onepass layout even if config.json names a model with recurrent layers: for
    another model, or for layers that fork their state at branches (the examples of trainers
    have one for Qwen3.5).
--missing-reasoning
    What to do with an answer without reasoning if the template makes the model reason: keep it
    as context, train it after an empty block, or refuse it.
--train-empty-think
    Train such an empty block too.
--on-message-error
    What to do with a message that the template cannot show exactly as the model wrote it: reject
    its conversation, or keep the message as untrained context if the template shows it.
--template-behaviour FILE
    JSON file with fields that replace what `reasonpack template --json` finds out.
--packing
    Put several conversations in a row: where they fit best (also by --packing alone), or in the
    order of the input. Needs --max-length.
--max-length TOKENS
    Longest row, such as 8192 or 8k.
--max-cost PAIRS
    Most visible pairs of tokens in a row, which bounds the time that it takes. A sample with
    more has a row to itself. Needs --packing.
--max-position TOKENS
    Longest view, which the model must be able to attend over. Default: model_max_length of the
    tokenizer, else --max-length.
--overlong
    What to do with a conversation that is too long: divide it into samples that fit, which
    repeat the history that they need, untrained, and leave messages untrained whose own views
    are too long; reject it; or stop. Nothing is cut. rejects.jsonl lists what is left out, and
    the run then ends with status 3.
--split NAME=SHARE
    Put a share of the conversations, as in validation=0.02, into shards of this name. The
    messages of a conversation decide: equal ones are in one split, and adding data moves none.
--dedup
    Pack only the first of the conversations that have the same messages and tools, or of the
    groups that have the same calls, over all inputs.
--sample N
    Pack only N conversations, drawn from all inputs, always the same: to look at before a full
    run.
--shuffle
    Write the rows of each split in a random order, over all shards; else they stand in the
    order of the input.
--seed N
    Another number gives another order by --shuffle.
--on-error
    Stop at a record that cannot be packed, or write it to rejects.jsonl and go on.
--ignore-fields NAME,...
    Fields to leave out. Without this option they are refused, because they may hold what the
    model is to learn. Nested ones are dotted, as in extra.cot.
--field NAME=KNOWN
    Read the field NAME as the known one, as in cot=reasoning_content.
--role NAME=ROLE
    Read messages of the role NAME as those of a known role, as in Bot=assistant.
--columns JSON
    Columns of a dataset_info.json of LLaMA-Factory: the records' names for messages, system,
    tools, prompt and response.
--tags JSON
    Tags of such a file: the messages' names for role, content, and the roles.
--stray-closing-tag
    How to read a </think> that may be part of an answer or end reasoning: refuse the record,
    or read all such tags as text, or as the end of reasoning. In a field of reasoning it can be
    text only.
--null-arguments
    What to do with a null in tool arguments from a struct column of Parquet, which may stand for
    a missing key: refuse the record, leave the key out, or keep the null.
--format
    Parquet files, or Arrow IPC streams.
--compression
    Default: zstd for Parquet, none for Arrow, which can then be memory-mapped.
--num-proc N
    Worker processes. Default: one per core, but no more than the input is worth. If there are
    more processes than units, each unit of JSON Lines is divided. The output stays the same.
--unit-size BYTES
    Most input, about, for one unit, which becomes a shard: a file is cut evenly into as few
    units as possible. Each worker holds one unit at a time, in about 400 MiB + 20 x BYTES of
    memory, however large the input is. A compressed file, or a row group of Parquet, is one
    unit, whose memory depends on its decompressed size.
--engine
    Where workers run: on this machine, or on the Ray cluster that RAY_ADDRESS names.
--shard-index I
    Pack only part I, from 0, of --shard-count parts; then call merge.
--shard-count N
    How many parts.
--tokenizer-backend
    The library that encodes texts. The ids are always those of tokenizers: another library is
    used only after it has passed tests, and is checked during the run.
--backend-check RATE
    Share of the texts of each unit that tokenizers encodes too, to check the backend.
--temp-dir DIR
    Where calls in compressed files or in Parquet are unpacked, so that groups can be looked up, and
    standard input is stored if the output is a URL. Default: the system's.
--profile
    Work in one process, and say which stage took how long.
--samples/--no-samples
    Write samples.html into DIR, a page with up to 20 rows, if one run writes the whole dataset on
    this machine.
--dry-run
    Say what would be done and about how long, write nothing, and stop.
--json
    Write the manifest to standard output.
""",
    tokenizer={"required": True},
    output={"required": False, "callback": needed_unless_dry},
    config={"callback": config_file, "is_eager": True, "expose_value": False},
    chat_template_kwargs={"callback": json_object, "default": None},
    date={"callback": iso_date},
    max_group_bytes={"callback": size_in_bytes, "default": "1G"},
    call_columns={"callback": names_with_commas, "show_default": "auto"},
    train_on={"callback": train_on},
    template_behaviour={"callback": json_object_in_file, "default": None},
    ignore_fields={"callback": names_with_commas},
    columns={"callback": json_object},
    tags={"callback": json_object},
    unit_size={"callback": size_in_bytes, "default": "32M"},
    engine={"type": click.Choice(get_args(Engine)), "default": "local"},
    shard_index={"type": click.IntRange(min=0)},
    shard_count={"type": click.IntRange(min=1)},
    tokenizer_backend={"type": click.Choice(get_args(Backend)), "default": "auto"},
    backend_check={"type": float, "default": 0.005},
    profile={"is_flag": True},
    samples={"default": True},
    dry_run={"is_flag": True, "is_eager": True},
)
