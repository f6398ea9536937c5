"""Conversations of a finished unit → samples within other limits, laid out as `pack` would.

What is as long as it was is left as it is. The rest is planted again from its views. Laying these
out within the old limits has to give the samples that are there; else they do not tell all that the
conversation was made of, and it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from reasonpack.datasets.receipt import Counts, Receipt
from reasonpack.errors import FormatError, RecordError, UsageError
from reasonpack.rows.forest import plant
from reasonpack.rows.replant import LostViewsError, ends_of, views_of
from reasonpack.rows.sample import Sample, write
from reasonpack.run.length import LeftOut, Limits
from reasonpack.run.weights import weighed_again
from reasonpack.run.work import count_laid_out
from reasonpack.storage.place import Place, public_name
from reasonpack.wording import count

Group = list[Sample]
"""The samples of a conversation."""


class Old(Struct, frozen=True):
    """A unit of a source: its dataset, its number there, and the limits of that dataset.

    Its conversations are packed `times` each, or as is drawn for each; `inputs` are what that
    dataset was packed from.
    """

    directory: Place
    number: int
    limits: Limits
    times: int = 1
    inputs: tuple[str, ...] = ()
    is_drawn: bool = False

    def __str__(self) -> str:
        """Name it in messages."""
        return f"unit {self.number} of {public_name(self.directory)}"


class Again:
    """A unit that is laid out again.

    Attributes:
        groups: its conversations, by split and in their order.
        every: of them.
        rejects: lines of rejects.jsonl for what fits no longer.
        before: what of the counts those conversations stood for that are laid out anew.
        after: what they stand for now.
        drawn: how often conversations are packed, by id, where that is drawn for each.
    """

    def __init__(
        self, old: Old, receipt: Receipt, limits: Limits, groups: Mapping[str, Sequence[Group]]
    ) -> None:
        self.drawn: Mapping[str, int] = {}
        self.old, self.receipt, self.limits, self.groups = old, receipt, limits, groups
        self.every = [group for own in groups.values() for group in own]
        self.rejects: list[dict[str, Any]] = []
        self.before, self.after = Counts(), Counts()
        self._unfit: list[LeftOut] = []
        self._ids: Counter[str] = Counter()

    @property
    def weighs_anew(self) -> bool:
        """Whether samples get weights that they did not have."""
        return self.limits.options.loss_weights != self.old.limits.options.loss_weights

    def lay_out(self, turns: Mapping[str, Mapping[int, int]]) -> dict[str, list[Sample]]:
        """Return the samples of the conversations, by split.

        `turns` are those of the answers of each id, where weights go by them.

        Raises:
            FormatError: rows do not tell what is to be divided.
            UsageError: a conversation would be left without a view, and cannot be rejected here.
        """
        anew = {id(group) for group in self.every if self._is_anew(group)}
        if anew or self.weighs_anew or self.old.is_drawn:
            if self.old.limits.options.shuffle:
                raise self._untold("rows of other units, as they are shuffled")
            if not self.old.is_drawn:  # else that was checked before
                self.check_told()
            self._ids.update(group[0].id for group in self.every)
            if (self.weighs_anew or self.old.is_drawn) and len(self._ids) < len(self.every):
                raise self._untold("several conversations of one id")
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
        """Tell whether the limits ask for another layout."""
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
        """Refuse a unit whose rows do not tell all that its conversations were made of."""
        counts = self.receipt.counts
        if len(self.every) != counts.packed:
            ids = f"{len(self.every):,} ids between them"
            raise self._untold(f"its {counts.packed:,} conversations have {ids}")
        try:
            ends = [end for group in self.every for end in ends_of(group).values()]
        except LostViewsError as error:
            raise self._untold(str(error)) from error
        if (len(ends), sum(ends)) != (counts.views, counts.naive_tokens):
            raise self._untold(f"{len(ends):,} of {counts.views:,} views stand out in its rows")

    def _untold(self, what: str) -> FormatError:
        expected = "rows that tell the views of what is to be divided, joined or weighed"
        return FormatError(self.old, what, expected, "pack the inputs again with the new options")

    def _laid_out(self, group: Group) -> Sequence[Sample]:
        """Lay out a conversation within the new limits; none if it fits no longer."""
        id_ = group[0].id
        try:
            views, messages = views_of(group)
        except LostViewsError as error:
            raise self._untold(f"conversation {id_!r}: {error}") from error
        forest = plant(views)
        planted, was, _ = self.old.limits.lay_out(forest, 0, messages)
        if not _same(write(planted, [(id_, was)]), group):
            raise self._untold(f"conversation {id_!r}, from which views were left out")
        count_laid_out([was], self.before)
        if not (often := self.drawn.get(id_, 1)):
            return []
        found = map(self.limits.too_long, messages, views.end)
        left = [each for each in found if each is not None]
        if self.limits.options.overlong == "split" and len(left) == len(messages):
            self._reject(id_, left)
            return []
        try:
            planted, now, out = self.limits.lay_out(forest, 0, messages)
        except RecordError as error:
            raise self._undivided(id_, error) from error
        count_laid_out([now] * often, self.after)
        self.after.copies += often - 1
        self.after.conversations += often - 1
        self.rejects += (each.line(id_) for each in out)
        if out and self.receipt.counts.copies:
            self._unfit.append(min(out, key=lambda each: each.length))
        return write(planted, [(id_, now)])

    def _undivided(self, id_: str, error: RecordError) -> UsageError:
        overlong = self.limits.options.overlong
        where = f"{self.old}, conversation {id_!r}"
        expected = f"nothing to divide, as --overlong {overlong} has rejected others"
        fix = "pack the inputs again with the new limits"
        return UsageError(where, error.what.partition(", expected")[0], expected, fix)

    def _reject(self, id_: str, left: Sequence[LeftOut]) -> None:
        """Reject a conversation of which nothing fits, unless more than its record is missing."""
        error = self.limits.nothing_fits(left)
        error.where = id_
        line = {"kind": "conversation", "where": id_, "reason": error.reason, "error": str(error)}
        self.rejects.append(line)
        self.after.rejected += 1
        counts = self.receipt.counts
        known = counts.missing_reasoning or counts.left_out or counts.copies
        if known or self._ids[id_] > 1:
            self._unfit.append(min(left, key=lambda each: each.length))

    def _nothing_fits(self) -> UsageError:
        """Refuse limits within which a conversation has no view, and what is counted goes wrong."""
        worst, counts = max(self._unfit, key=lambda each: each.length), self.receipt.counts
        why = "conversations of one id"
        if counts.missing_reasoning or counts.left_out:
            why = "answers that are untrained, which are known by their records only"
        elif counts.copies:
            why = "copies of conversations, of which what is left out counts once"
        conversations = count(len(self._unfit), "conversation")
        what = f"{worst.limit}, and {conversations} of {self.old} with no view so short"
        fix = f"pass {worst.option} {worst.length}, or pack the inputs again with the new limits"
        return UsageError(worst.option, what, f"at least {worst.length} for a unit with {why}", fix)


def _same(made: Sequence[Sample], there: Group) -> bool:
    """Tell whether samples are equal, in any order."""
    return Counter(map(_content, made)) == Counter(map(_content, there))


def _content(sample: Sample) -> tuple[bytes, ...]:
    segments = sample.segments
    columns = (sample.input_ids, sample.position_ids, sample.labels)
    table = (segments.start, segments.visible_until, segments.kind, segments.message)
    extra = (sample.extra[name] for name in sorted(sample.extra))
    return tuple(np.ascontiguousarray(each).tobytes() for each in (*columns, *table, *extra))
