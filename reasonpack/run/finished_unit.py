"""A unit of a finished dataset → its conversations within new limits.

    its samples ─→ conversations ─→ as they are, or planted again and laid out as `pack` would

Conversations that the new limits do not affect stay as they are. The others, laid out within the
old limits, have to give the samples that are there; else the samples lack views, and the run is
refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from reasonpack.datasets.receipt import Counts, Receipt
from reasonpack.errors import FormatError, RecordError, UsageError
from reasonpack.rows.encoded_views import without
from reasonpack.rows.forest import plant
from reasonpack.rows.replant import LostViewsError, ends_of, views_of
from reasonpack.rows.sample import Sample, write
from reasonpack.run.length import LeftOut, Limits
from reasonpack.run.sources import Source
from reasonpack.run.weights import weighed_again
from reasonpack.run.work import counts_of_layouts
from reasonpack.wording import count

Group = list[Sample]
"""The samples of a conversation."""
VIEWS = "rows with all views of the conversations to divide, join or weigh"
IDS = "ids that tell which conversation a row belongs to"


class Old(Struct, frozen=True):
    """A unit of a dataset that is packed again: the dataset, and the unit's receipt there."""

    source: Source
    receipt: Receipt

    @property
    def limits(self) -> Limits:
        """The limits within which it was packed."""
        return Limits(self.source.manifest.options, self.source.manifest.max_position)

    def __str__(self) -> str:
        """Name the unit in messages."""
        return f"unit {self.receipt.unit.number} of {self.source.name}"

    def untold(self, what: str, expected: str = VIEWS) -> FormatError:
        """Return the error of a unit whose rows do not tell what is `expected`."""
        return FormatError(self, what, expected, "pack the inputs again with the new options")


class Again:
    """A unit that is laid out again.

    Attributes:
        groups: its conversations, by split and in their order.
        every: all of its conversations.
        rejects: lines of rejects.jsonl for conversations and messages that no longer fit.
        before: counts of the conversations that are laid out anew, as they were.
        after: counts of the same conversations now.
        counts: those of its receipt.
        drawn: how often conversations are packed, by id, if that is drawn for each.
    """

    def __init__(self, old: Old, limits: Limits, groups: Mapping[str, Sequence[Group]]) -> None:
        self.drawn: Mapping[str, int] = {}
        self.old, self.limits, self.groups, self.counts = old, limits, groups, old.receipt.counts
        self.every = [group for own in groups.values() for group in own]
        self.rejects: list[dict[str, Any]] = []
        self.before, self.after = Counts(), Counts()
        self._unfit: list[LeftOut] = []
        self._ids: Counter[str] = Counter()

    @property
    def weighs_anew(self) -> bool:
        """Whether samples get weights of another scheme."""
        new, old = self.limits.options, self.old.limits.options
        return bool(new.columns) and new.loss_weights != old.loss_weights

    def lay_out(self, turns: Mapping[str, Mapping[int, int]]) -> dict[str, list[Sample]]:
        """Return the samples of the conversations, by split.

        `turns` has the turn of each answer, by id and message, if weights depend on turns.

        Raises:
            FormatError: the rows lack views of a conversation that is laid out anew.
            UsageError: a conversation would be left without a view, and cannot be rejected here.
        """
        anew = {id(group) for group in self.every if self._is_anew(group)}
        if anew or self.weighs_anew or self.old.source.is_drawn:
            if self.old.limits.options.shuffle:
                raise self.old.untold("holds rows of other units, because the dataset is shuffled")
            if not self.old.source.is_drawn:  # else that was checked before
                self.check_told()
            self._ids.update(group[0].id for group in self.every)
            if (self.weighs_anew or self.old.source.is_drawn) and len(self._ids) < len(self.every):
                raise self.old.untold("several conversations with one id")
        made = {
            split: [
                sample
                for group in own
                for sample in (self._laid_out(group) if id(group) in anew else group)
            ]
            for split, own in self.groups.items()
        }
        if self._unfit:
            raise self._nothing_fits()
        if self.weighs_anew:
            scheme = self.limits.options.loss_weights
            return {
                split: weighed_again(self.every, own, scheme, turns) for split, own in made.items()
            }
        return made

    def _is_anew(self, group: Group) -> bool:
        """Return whether a conversation has to be laid out anew for the new limits or draw."""
        if self.drawn.get(group[0].id, 1) != 1:
            return True
        row, limit = self.limits.options.max_length, self.limits.max_position
        old, before = self.old.limits.options, self.old.limits.max_position
        if row is not None and any(sample.length > row for sample in group):
            return True
        if limit is not None and (before is None or limit < before):
            return any(int(sample.position_ids.max()) >= limit for sample in group)
        return len(group) > 1 and old.layout == "onepass" and old.max_length != row

    def check_told(self) -> None:
        """Check that the rows have all conversations and views that the receipt counts."""
        counts = self.counts
        if len(self.every) != counts.packed:
            ids = f"{len(self.every):,} ids between them"
            raise self.old.untold(f"its {counts.packed:,} conversations have {ids}")
        try:
            ends = [end for group in self.every for end in ends_of(group).values()]
        except LostViewsError as error:
            raise self.old.untold(str(error)) from error
        if (len(ends), sum(ends)) != (counts.views, counts.naive_tokens):
            raise self.old.untold(f"its rows show {len(ends):,} of {counts.views:,} views")

    def _laid_out(self, group: Group) -> Sequence[Sample]:
        """Return the samples of a conversation within the new limits; none if it no longer fits."""
        id_ = group[0].id
        try:
            views, messages = views_of(group)
        except LostViewsError as error:
            raise self.old.untold(f"conversation {id_!r}: {error}") from error
        forest = plant(views)
        was = self.old.limits.lay_out(forest, 0)
        if not _same(write(forest, [(id_, was)]), group):
            raise self.old.untold(f"conversation {id_!r}, from which views were left out")
        self.before.add(counts_of_layouts([was]))
        if not (often := self.drawn.get(id_, 1)):
            return []
        left = self.limits.left_out(messages, views.end)
        out = list(left.values())
        if len(out) == len(messages):
            self._reject(id_, out)
            return []
        planted = plant(without(views, left.keys())) if left else forest
        try:
            now = self.limits.lay_out(planted, 0)
        except RecordError as error:
            raise self._undivided(id_, error) from error
        self.after.add(counts_of_layouts([now] * often))
        self.after.copies += often - 1
        self.after.conversations += often - 1
        self.rejects += (each.line(id_) for each in out)
        if out and self.counts.copies:
            self._unfit.append(min(out, key=lambda each: each.length))
        return write(planted, [(id_, now)])

    def _undivided(self, id_: str, error: RecordError) -> UsageError:
        overlong = self.limits.options.overlong
        where = f"{self.old}, conversation {id_!r}"
        expected = f"nothing to divide, as --overlong {overlong} has rejected others"
        fix = "pack the inputs again with the new limits"
        return UsageError(where, error.what, expected, fix)

    def _reject(self, id_: str, left: Sequence[LeftOut]) -> None:
        """Reject a conversation without a view that fits; add to `_unfit` if counts are lost."""
        error = self.limits.nothing_fits(left)
        error.where = id_
        line = {"kind": "conversation", "where": id_, "reason": error.reason, "error": str(error)}
        self.rejects.append(line)
        self.after.rejected += 1
        counts = self.counts
        known = counts.missing_reasoning or counts.left_out or counts.copies
        if known or self._ids[id_] > 1:
            self._unfit.append(min(left, key=lambda each: each.length))

    def _nothing_fits(self) -> UsageError:
        """Return the error of limits that leave conversations without a view, and wrong counts."""
        worst, counts = max(self._unfit, key=lambda each: each.length), self.counts
        why = "several have the same id"
        if counts.missing_reasoning or counts.left_out:
            why = "only their records tell which of their answers are untrained"
        elif counts.copies:
            why = "some are copies, of which a message that is left out counts once"
        conversations = count(len(self._unfit), "conversation")
        what = f"{worst.limit}, but {conversations} of {self.old} cannot be left out: {why}"
        fix = f"pass {worst.option} {worst.length}, or pack the inputs again with the new limits"
        return UsageError(worst.option, what, f"at least {worst.length}", fix)


def _same(made: Sequence[Sample], there: Group) -> bool:
    """Return whether both have the same samples, in any order."""
    return Counter(map(_content, made)) == Counter(map(_content, there))


def _content(sample: Sample) -> tuple[bytes, ...]:
    segments = sample.segments
    columns = (sample.input_ids, sample.position_ids, sample.labels)
    table = (segments.start, segments.visible_until, segments.kind, segments.message)
    extra = (sample.extra[name] for name in sorted(sample.extra))
    return tuple(np.ascontiguousarray(each).tobytes() for each in (*columns, *table, *extra))
