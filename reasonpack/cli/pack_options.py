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
    The day that a template which shows today's date is to show.
-o --output DIR|URL
    Dataset directory to write; required, but for --dry-run.
--resume/--overwrite
    Go on with an unfinished run in DIR if it is the same, which is the default, or remove what
    a run wrote there; files of your own in data or receipts stop it.
--input-format
    What a record is: a chat, or calls of a model as a service or an agent logged them. By
    default the first record of each input says it.
--group-by FIELD
    The field that says which calls belong together, as trace_id or metadata.run; none if each
    record is alone. By default the one of the usual fields that the records have.
--max-group-bytes BYTES
    Input that may belong to one group of calls.
--call-columns NAME,...
    Columns that a dataset of calls is to have beside loss_weights: logprobs, advantages,
    call_reward, call_role, preference_labels; or none. By default those for which there are
    values.
--train-on WHICH[,PART...]
    What of assistant messages to train: all, last-turn or last-message, where a message has no
    flag of its own, and of these reasoning, response, tool-calls, or all three.
--loss-weights
    Write the column loss_weights: each token weighs what the data say, or each message, turn or
    conversation weighs the same, times that. auto writes it where an input has a weight other
    than 0 and 1; none refuses such records.
--layout
    Write each conversation once, to be trained by branches or with a mask, or one plain causal
    sample for each of its leaves.
--force-onepass
    Write the onepass layout even if config.json names a model with recurrent layers: for
    another model, or layers that fork their state at branches (an example for Qwen3.5 is among
    those of the trainers).
--missing-reasoning
    What to do with an answer without reasoning where the template makes the model reason: keep
    it as context, train it after an empty block, or refuse it.
--train-empty-think
    Train such an empty block too.
--on-message-error
    What to do with a message that the template does not let the model write like that: reject
    its conversation, or keep the message as untrained context if the template shows it.
--template-behaviour FILE
    JSON file with what you know better about the template than `reasonpack template` finds out.
--packing
    Put several conversations in a row: where they fit best, which is meant by --packing alone,
    or in the order of the input. Needs --max-length.
--max-length TOKENS
    Longest row, such as 8192 or 8k.
--max-cost PAIRS
    Most pairs of tokens in a row of which one sees the other: no row that several samples share
    takes longer than that. A sample with more has a row to itself. Needs --packing.
--max-position TOKENS
    Longest view, which is what the model must be able to attend over. Default: model_max_length
    of the tokenizer, else --max-length.
--overlong
    What to do with a conversation that is too long: divide it into samples that fit, which
    repeat what they need of its history, untrained, and leave single messages untrained whose
    own views are too long; reject it; or stop. Nothing is cut; what is left out stands in
    rejects.jsonl, and ends the run with status 3.
--split NAME=SHARE
    Set a share of the conversations apart, as in validation=0.02, in shards of that name. What
    a conversation says decides: equal ones are never of two splits, and data that is added
    moves none.
--dedup
    Pack only the first of the conversations that have the same messages and tools, or of the
    groups that have the same calls, over all inputs.
--sample N
    Pack only N conversations, drawn from all of the input, always the same: to look at before a
    full run.
--shuffle
    Write the rows of each split in a random order, over all shards; else they stand in the
    order of the input.
--seed N
    Which order --shuffle gives.
--on-error
    Stop at a record that cannot be packed, or write it to rejects.jsonl and go on.
--ignore-fields NAME,...
    Fields that nobody reads, and that are not to be refused though they may hold what the model
    is to learn; a nested one is dotted, as in extra.cot.
--field NAME=KNOWN
    Read a field under a name that is known, as in cot=reasoning_content.
--role NAME=ROLE
    Read a role of messages as one that is known, as in Bot=assistant.
--columns JSON
    Columns of a dataset_info.json of LLaMA-Factory: what names the records give to messages,
    system, tools, prompt and response.
--tags JSON
    Tags of such a file: what names messages give to role, content, and the roles.
--stray-closing-tag
    What a </think> is that may be part of an answer or end reasoning: refuse the record, or
    read all such tags as text, or as the end of reasoning. In a field of reasoning it can be
    text only.
--null-arguments
    What to do with a null in tool arguments that a Parquet column holds as a struct, where it
    may stand for a key that is not there: refuse the record, leave the key out, or keep it.
--format
    Parquet files, or Arrow IPC streams.
--compression
    Default: zstd for Parquet, none for Arrow, which can then be memory-mapped.
--num-proc N
    Worker processes. Default: one a core, but no more than the input repays. Where that is more
    than there are units, each unit of JSON Lines is divided. The output does not depend on it.
--unit-size BYTES
    Input that becomes one shard, at most about: a file is cut evenly into as few units as that
    allows. Each worker holds one unit at a time, in about 400 MiB + 20 x BYTES of memory,
    however large the input is. A compressed file is one unit, whose memory goes by what it
    holds decompressed; so is a row group of Parquet.
--engine
    Where workers run: on this machine, or on the Ray cluster that RAY_ADDRESS names.
--shard-index I
    Pack only part I, from 0, of --shard-count parts; then call merge.
--shard-count N
    How many parts.
--tokenizer-backend
    What encodes texts. The ids are those of tokenizers whichever it is: another is used only
    after it has proved itself, and is checked all along.
--backend-check RATE
    Share of the texts of each unit that tokenizers encodes too, to check the backend.
--temp-dir DIR
    Where calls are unpacked that are in compressed files or in Parquet, so that groups can be
    looked up. Default: the system's.
--profile
    Work in one process, and say which stage took how long.
--samples/--no-samples
    Write samples.html into DIR, up to 20 rows to look at, where a run is whole and on this
    machine.
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
