"""What only the records of a finished unit say of its conversations, which its rows do not.

records of the unit, read again ─→ messages and tools ─→ the split of each id
                                ├→ roles ─────────────→ the turn of each answer
                                └→ all of it ─────────→ notes, and answers that are not trained
groups of calls ─────────────────────────────────────→ their splits, by their ids alone
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.datasets.receipt import Counts, Receipt
from reasonpack.errors import FormatError, RecordError
from reasonpack.records.unit import read_records
from reasonpack.rows.replant import ends_of
from reasonpack.run.context import Loaded
from reasonpack.run.conversations import notes_of, parse
from reasonpack.run.copies import DUPLICATE, Times
from reasonpack.run.lay_out_again import Group, Old
from reasonpack.run.splits import read_shares, split_of
from reasonpack.run.weights import of_answers
from reasonpack.views.chosen import read_train_on


class Drawn(Struct):
    """How often what is of a unit is packed.

    Attributes:
        times: by the id of a conversation, and by its place in the input.
        counts: records that are not taken, and notes and untrained answers of those that are.
    """

    times: dict[str, int] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)


class _Said(NamedTuple):
    """What a record says; of one that cannot be read only where it is."""

    where: str
    id: str | None = None
    split: str = ""
    turns: Mapping[int, int] = {}
    notes: Mapping[str, int] = {}
    answers: int = 0
    """That are to be trained."""


class ReadAgain:
    """The records of a unit, which are read when the first of its methods needs them.

    All of them raise a FormatError where an id is of no record, or of several that say different
    things, and a StorageError where the input cannot be read.
    """

    def __init__(self, old: Old, receipt: Receipt, loaded: Loaded) -> None:
        self.old, self.receipt = old, receipt
        self._loaded, self.options = loaded, loaded.options

    @cached_property
    def _said(self) -> list[_Said]:
        context, found = self._loaded.context, list[_Said]()
        reading = replace(context.reading, weighs=True)  # what is in rows was accepted
        trained = read_train_on(self.options.train_on)
        for record in read_records(self.receipt.unit, self.old.inputs[self.receipt.unit.input]):
            try:
                chat = parse(record, reading)
            except RecordError:
                found.append(_Said(record.where))  # as it was rejected
                continue
            turns, notes = of_answers(chat)[1], notes_of(chat, {}, context)
            answers = len(trained.messages(chat.messages))
            found.append(_Said(record.where, chat.id, context.split(chat), turns, notes, answers))
        return found

    def by_split(self, groups: Sequence[Group]) -> dict[str, list[Group]]:
        """Return conversations by the splits that options ask for, in the order of the input."""
        if self.receipt.unit.container == "groups":
            shares = read_shares(self.options.split)
            by_id = {group[0].id: split_of(self._own(group).encode(), shares) for group in groups}
        else:
            by_id = self._by_id("split")
        places = {id_: place for place, id_ in enumerate(by_id)}
        found: dict[str, list[Group]] = {split: [] for split in self.options.splits}
        own = zip(self._ids(groups, by_id), groups, strict=True)
        for id_, group in sorted(own, key=lambda each: places[each[0]]):
            found[by_id[id_]].append(group)
        return found

    def turns(self, groups: Sequence[Group]) -> dict[str, Mapping[int, int]]:
        """Return for the id of each conversation the turns of its answers.

        These are by the index of a message in its record.
        """
        by_id = self._by_id("turns")
        ids = self._ids(groups, by_id)
        return {group[0].id: by_id[id_] for group, id_ in zip(groups, ids, strict=True)}

    def drawn(self, groups: Sequence[Group], times: Times, left: Mapping[str, int]) -> Drawn:
        """Return how often what is of the unit is packed, by `times` of each record.

        `left` says of an id, or of a place in the input, how many messages were left out there.

        Raises:
            FormatError: records do not give what is counted of the unit.
        """
        found, was = Drawn(), Counts()
        views = {group[0].id: len(ends_of(group)) for group in groups}
        for said, often in zip(self._said, times.tolist(), strict=True):
            if often == DUPLICATE:
                continue
            names = {said.where} if said.id is None else {said.where, said.id}
            found.counts.not_taken += often == 0
            if said.id in views:
                missing = said.answers - views[said.id]
                missing -= sum(left.get(name, 0) for name in names)
                was.note(said.notes)
                was.missing_reasoning += missing
                found.counts.note(said.notes if often else {})
                found.counts.missing_reasoning += missing * often
            for name in names:
                if found.times.setdefault(name, often) != often:
                    raise self._unclear(f"several conversations have the id {name!r}")
        counts = self.receipt.counts
        if (was.notes, was.missing_reasoning) != (counts.notes, counts.missing_reasoning):
            what = "notes of conversations, or untrained answers, that their records do not tell"
            raise self._unclear(what, "records that tell what is counted of each")
        return found

    def _by_id(self, name: str) -> dict[str, Any]:
        """Return what the record of each id says, in their order."""
        found: dict[str, Any] = {}
        for said in self._said:
            value = getattr(said, name)
            if said.id is not None and found.setdefault(said.id, value) != value:
                raise self._unclear(f"several conversations have the id {said.id!r}")
        return found

    def _ids(self, groups: Sequence[Group], known: Mapping[str, object]) -> list[str]:
        """Return the id of the record of each conversation, which may be a copy."""
        ids = [group[0].id if group[0].id in known else self._own(group) for group in groups]
        if missing := next((id_ for id_ in ids if id_ not in known), None):
            raise self._unclear(f"conversation {missing!r} is of no record of its input")
        return ids

    def _own(self, group: Group) -> str:
        """Return the id of the conversation that a group is of, which may be a copy."""
        id_ = group[0].id
        return re.sub(r"#\d+$", "", id_) if self.receipt.counts.copies else id_

    def _unclear(
        self, what: str, expected: str = "ids that tell which conversation a row is of"
    ) -> FormatError:
        return FormatError(self.old, what, expected, "pack the inputs again with the new options")
