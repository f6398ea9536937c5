"""Conversations of a finished unit → other splits, which go by what the inputs say.

records of the unit, read again ─→ messages and tools ─→ the split of each id, by `splits`
groups of calls ─────────────────────────────────────→ by their ids alone
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Receipt
from reasonpack.errors import FormatError, RecordError
from reasonpack.records.unit import read_records
from reasonpack.run.context import load_context
from reasonpack.run.conversations import parse
from reasonpack.run.lay_out_again import Group, Old
from reasonpack.run.splits import key, read_shares, split_of


def split_again(
    groups: Mapping[str, Sequence[Group]], old: Old, receipt: Receipt, options: Options
) -> dict[str, list[Group]]:
    """Return the conversations of a unit by the splits that options ask for.

    They stand in the order of the input.

    Raises:
        FormatError: an id is of two conversations of several splits, or of no record.
        StorageError: the input cannot be read.
    """
    every = [group for own in groups.values() for group in own]
    shares = read_shares(options.split)
    if receipt.unit.container == "groups":
        by_id = {group[0].id: split_of(_own(group, receipt).encode(), shares) for group in every}
    else:
        by_id = _read(old, receipt, options)
    places = {id_: place for place, id_ in enumerate(by_id)}
    found: dict[str, list[Group]] = {split: [] for split in options.splits}
    ids = [group[0].id if group[0].id in by_id else _own(group, receipt) for group in every]
    if missing := next((id_ for id_ in ids if id_ not in by_id), None):
        raise _unclear(old, f"conversation {missing!r} is of no record of its input")
    for at in sorted(range(len(every)), key=lambda at: places[ids[at]]):
        found[by_id[ids[at]]].append(every[at])
    return found


def _own(group: Group, receipt: Receipt) -> str:
    """Return the id of the conversation that a group is of, which may be a copy."""
    return re.sub(r"#\d+$", "", group[0].id) if receipt.counts.copies else group[0].id


def _read(old: Old, receipt: Receipt, options: Options) -> dict[str, str]:
    """Read the records of a unit again; return the split of each id, in their order."""
    assert old.inputs, "only where options ask for other splits"
    reading, shares = load_context(options).reading, read_shares(options.split)
    found: dict[str, str] = {}
    for record in read_records(receipt.unit, old.inputs[receipt.unit.input]):
        try:
            conversation = parse(record, reading)
        except RecordError:
            continue  # as it was rejected
        split = split_of(key(conversation), shares)
        if found.setdefault(conversation.id, split) != split:
            raise _unclear(old, f"several conversations have the id {conversation.id!r}")
    return found


def _unclear(old: Old, what: str) -> FormatError:
    expected = "ids that tell which conversation a row is of"
    return FormatError(old, what, expected, "pack the inputs again with --split")
