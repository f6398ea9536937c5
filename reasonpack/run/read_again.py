"""What only the records of a finished unit say of its conversations, which its rows do not.

records of the unit, read again ─→ messages and tools ─→ the split of each id, by `splits`
                                └→ roles ─────────────→ the turn of each answer
groups of calls ─────────────────────────────────────→ their splits, by their ids alone
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts, Receipt
from reasonpack.errors import FormatError, RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.unit import read_records
from reasonpack.rows.replant import ends_of
from reasonpack.run.context import load_context
from reasonpack.run.conversations import notes_of, parse
from reasonpack.run.copies import DUPLICATE, Times
from reasonpack.run.lay_out_again import Group, Old
from reasonpack.run.splits import key, read_shares, split_of
from reasonpack.run.weights import of_answers
from reasonpack.views.chosen import read_train_on

_Said = TypeVar("_Said")


@dataclass(slots=True)
class Drawn:
    """How often what is of a unit is packed.

    Attributes:
        times: by the id of a conversation, and by its place in the input.
        counts: records that are not taken, and notes and untrained answers of those that are.
    """

    times: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


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
        by_id = _read(old, receipt, options, lambda each: split_of(key(each), shares))
    places = {id_: place for place, id_ in enumerate(by_id)}
    found: dict[str, list[Group]] = {split: [] for split in options.splits}
    ids = _ids(every, by_id, old, receipt)
    for at in sorted(range(len(every)), key=lambda at: places[ids[at]]):
        found[by_id[ids[at]]].append(every[at])
    return found


def turns_again(
    groups: Sequence[Group], old: Old, receipt: Receipt, options: Options
) -> dict[str, dict[int, int]]:
    """Return for the id of each conversation of a unit the turns of its answers.

    These are by the index of a message in its record.

    Raises:
        FormatError: an id is of two conversations of other turns, or of no record.
        StorageError: the input cannot be read.
    """
    by_id = _read(old, receipt, options, lambda each: of_answers(each)[1])
    ids = _ids(groups, by_id, old, receipt)
    return {group[0].id: by_id[id_] for group, id_ in zip(groups, ids, strict=True)}


def drawn_again(
    groups: Sequence[Group],
    old: Old,
    receipt: Receipt,
    options: Options,
    *,
    times: Times,
    left: Mapping[str, int],
) -> Drawn:
    """Return how often what is of a unit is packed, by `times` of each record.

    `left` says of an id, or of a place in the input, how many messages were left out there.

    Raises:
        FormatError: an id is of two records, or records do not give what is counted of the unit.
    """
    context, found = load_context(options), Drawn()
    views = {group[0].id: len(ends_of(group)) for group in groups}
    reading, was = replace(context.reading, weighs=True), Counts()
    records = read_records(receipt.unit, old.inputs[receipt.unit.input])
    chosen = read_train_on(options.train_on)
    for record, often in zip(records, times.tolist(), strict=True):
        if often == DUPLICATE:
            continue
        names = {record.where}
        found.counts.not_taken += often == 0
        with contextlib.suppress(RecordError):
            conversation = parse(record, reading)
            names.add(conversation.id)
            if conversation.id in views:
                notes = notes_of(conversation, {}, context)
                missing = len(chosen.messages(conversation.messages)) - views[conversation.id]
                missing -= sum(left.get(name, 0) for name in names)
                was.note(notes)
                was.missing_reasoning += missing
                found.counts.note(notes if often else {})
                found.counts.missing_reasoning += missing * often
        for name in names:
            if found.times.setdefault(name, often) != often:
                raise _unclear(old, f"several conversations have the id {name!r}")
    counts = receipt.counts
    if (was.notes, was.missing_reasoning) != (counts.notes, counts.missing_reasoning):
        what = "notes of conversations, or untrained answers, that their records do not tell"
        expected = "records that tell what is counted of each"
        raise FormatError(old, what, expected, "pack the inputs again with the new options")
    return found


def _ids(
    groups: Sequence[Group], known: Mapping[str, object], old: Old, receipt: Receipt
) -> list[str]:
    """Return the id of the record of each conversation, which may be a copy."""
    ids = [group[0].id if group[0].id in known else _own(group, receipt) for group in groups]
    if missing := next((id_ for id_ in ids if id_ not in known), None):
        raise _unclear(old, f"conversation {missing!r} is of no record of its input")
    return ids


def _own(group: Group, receipt: Receipt) -> str:
    """Return the id of the conversation that a group is of, which may be a copy."""
    return re.sub(r"#\d+$", "", group[0].id) if receipt.counts.copies else group[0].id


def _read(
    old: Old, receipt: Receipt, options: Options, say: Callable[[Conversation], _Said]
) -> dict[str, _Said]:
    """Read the records of a unit again; return what is said of each id, in their order."""
    assert old.inputs, "only where options ask for what rows do not tell"
    reading = replace(load_context(options).reading, weighs=True)  # what is in rows was accepted
    found: dict[str, _Said] = {}
    for record in read_records(receipt.unit, old.inputs[receipt.unit.input]):
        try:
            conversation = parse(record, reading)
        except RecordError:
            continue  # as it was rejected
        said = say(conversation)
        if found.setdefault(conversation.id, said) != said:
            raise _unclear(old, f"several conversations have the id {conversation.id!r}")
    return found


def _unclear(old: Old, what: str) -> FormatError:
    expected = "ids that tell which conversation a row is of"
    return FormatError(old, what, expected, "pack the inputs again with the new options")
