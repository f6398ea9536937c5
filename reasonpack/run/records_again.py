"""The records of a unit of a finished dataset, read again → facts that its rows do not tell.

    record ─→ messages and tools ─→ the split of each id
           ├→ roles ─────────────→ the turn of each answer
           ├→ all fields ────────→ notes, and answers that are not trained
           └→ rendered views ────→ notes on answers that are hidden or kept as context
    groups of calls ─────────────→ their splits, by their ids alone

Views are rendered only if the receipt of the unit has such notes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple

from msgspec.structs import replace

from reasonpack.datasets.receipt import Counts
from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.unit import read_records
from reasonpack.rows.replant import ends_of
from reasonpack.run.context import Context, Loaded
from reasonpack.run.conversations import note_on, notes_of, parse
from reasonpack.run.copies import DUPLICATE, Times
from reasonpack.run.finished_unit import IDS, Group, Old
from reasonpack.run.splits import read_splits, split_of
from reasonpack.run.weights import of_answers
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.views.chosen import read_train_on
from reasonpack.views.view import each_view

OF_VIEWS = ("hidden-answer", "kept ")
"""How notes begin that only the rendered views of a conversation tell."""


class _Facts(NamedTuple):
    """Facts of a record; only its place if it cannot be read."""

    where: str
    id: str | None = None
    split: str = ""
    turns: Mapping[int, int] = {}
    notes: Mapping[str, int] = {}
    answers: int = 0
    """How many answers are to be trained, those that are kept as context left out."""


def _notes_of_views(chat: Conversation, context: Context, train_on: str) -> Counter[str]:
    """Render the views of a conversation, and return what `Chats` notes of them."""
    notes = Counter[str]()
    with suppress(RecordError), ready_for_bounds():  # else it was rejected when it was packed
        for view in each_view(chat, context.rendering(chat), train_on=train_on):
            note, number = note_on(view)
            notes[note] += number
    return notes


class ReadAgain:
    """The records of a unit, read when a method first needs them.

    Every method raises a FormatError if an id belongs to no record or to several that differ, and
    a StorageError if the input cannot be read.
    """

    def __init__(self, old: Old, loaded: Loaded) -> None:
        self.old, self._loaded, self.options = old, loaded, loaded.options

    @cached_property
    def _facts(self) -> list[_Facts]:
        context, found = self._loaded.context, list[_Facts]()
        reading = replace(context.reading, weighs=True)  # weights were accepted before
        trained = read_train_on(self.options.train_on)
        unit = self.old.receipt.unit
        for record in read_records(unit, self.old.source.manifest.inputs[unit.input].path):
            try:
                chat = parse(record, reading)
            except RecordError:
                found.append(_Facts(record.where))  # rejected when it was packed
                continue
            answers, of_views = len(trained.messages(chat.messages)), Counter[str]()
            if any(each.startswith(OF_VIEWS) for each in self.old.receipt.counts.notes):
                of_views = _notes_of_views(chat, context, self.options.train_on)
                of_views.pop("kept missing-reasoning", None)
                answers -= sum(n for each, n in of_views.items() if each.startswith("kept "))
            turns, notes = of_answers(chat)[1], notes_of(chat, of_views, context)
            found.append(_Facts(record.where, chat.id, context.split(chat), turns, notes, answers))
        return found

    def by_split(self, groups: Sequence[Group]) -> dict[str, list[Group]]:
        """Return the conversations of each split of the options, in the order of the input."""
        if self.old.receipt.unit.container == "groups":
            shares, first = read_splits(self.options.split), dict[str, int]()
            told = [
                (first.setdefault(group[0].id, at), split_of(self._own(group).encode(), shares))
                for at, group in enumerate(groups)
            ]
        else:
            told = self._fact("split", groups)
        found: dict[str, list[Group]] = {split: [] for split in self.options.splits}
        for at in sorted(range(len(groups)), key=lambda at: told[at][0]):
            found[told[at][1]].append(groups[at])
        return found

    def turns(self, groups: Sequence[Group]) -> dict[str, Mapping[int, int]]:
        """Return for each id the turns of its answers, by their index in the record."""
        told = self._fact("turns", groups)
        return {group[0].id: turns for group, (_, turns) in zip(groups, told, strict=True)}

    def drawn(
        self, groups: Sequence[Group], times: Times, left: Mapping[str, int]
    ) -> tuple[dict[str, int], Counts]:
        """Return how often each conversation is packed; the records have `times` in their order.

        `left` has the number of messages left out before, by id or place in the input.

        Returns:
            How often, by the id of a conversation and by its place in the input; counts of records
            that are not taken, and of notes and untrained answers of those that are.

        Raises:
            FormatError: the records do not give the counts of the unit's receipt.
        """
        found, now, was = dict[str, int](), Counts(), Counts()
        views = {group[0].id: len(ends_of(group)) for group in groups}
        for facts, often in zip(self._facts, times.tolist(), strict=True):
            if often == DUPLICATE:
                continue
            names = {facts.where} if facts.id is None else {facts.where, facts.id}
            now.not_taken += often == 0
            if facts.id in views:
                missing = facts.answers - views[facts.id]
                missing -= sum(left.get(name, 0) for name in names)
                was.note(facts.notes)
                was.missing_reasoning += missing
                now.note(facts.notes if often else {})
                now.missing_reasoning += missing * often
            for name in names:
                if found.setdefault(name, often) != often:
                    raise self.old.untold(f"several conversations have the id {name!r}", IDS)
        counts = self.old.receipt.counts
        if (was.notes, was.missing_reasoning) != (counts.notes, counts.missing_reasoning):
            what = "counts of notes, or of untrained answers, that its records do not give"
            raise self.old.untold(what, "records that give the counts of each conversation")
        return found, now

    def _fact(self, name: str, groups: Sequence[Group]) -> list[tuple[int, Any]]:
        """Return for each conversation its record's number in the unit, and its fact `name`."""
        known: dict[str, tuple[int, Any]] = {}
        for place, facts in enumerate(self._facts):
            value = getattr(facts, name)
            if facts.id is not None and known.setdefault(facts.id, (place, value))[1] != value:
                raise self.old.untold(f"several conversations have the id {facts.id!r}", IDS)
        ids = [group[0].id if group[0].id in known else self._own(group) for group in groups]
        if missing := next((id_ for id_ in ids if id_ not in known), None):
            raise self.old.untold(f"conversation {missing!r} has no record in its input", IDS)
        return [known[id_] for id_ in ids]

    def _own(self, group: Group) -> str:
        """Return the id of a conversation, without the suffix that marks a copy."""
        id_ = group[0].id
        return re.sub(r"#\d+$", "", id_) if self.old.receipt.counts.copies else id_
