"""Groups of calls → samples, one a group, and what of them cannot be packed.

    records ─→ calls ─→ views, or ids as logged ─→ the forest of a group ─→ sample ─→ rows
       └─────────── what cannot be packed ───────────→ rejects

A record that cannot be packed is left out of its group: what the other calls train does not depend
on it. Memory is the distinct text of the groups that wait for their ids together.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby

from msgspec.structs import replace

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.records.groups import Group
from reasonpack.records.strict_json import quoted
from reasonpack.rows.group_forest import CallView, GroupForest, Joined
from reasonpack.rows.sample import write
from reasonpack.run.call_values import (
    VALUES,
    call_view,
    carries_values,
    columns_of_calls,
    compared,
    content_of,
    size_of,
)
from reasonpack.run.call_views import CutCall
from reasonpack.run.context import Context
from reasonpack.run.length import LeftOut
from reasonpack.run.splits import split_of
from reasonpack.run.stages import stage
from reasonpack.run.waiting_calls import GroupReader, Waiting, WaitingGroup
from reasonpack.run.work import Encode, Laid, Work, ids_of_copies

ENCODED_AT_ONCE = 1 << 25
"""Characters of text after which groups do not wait for more."""


def lay_out_calls(
    groups: Iterable[Group],
    options: Options,
    context: Context,
    encode: Encode | None = None,
    *,
    columns: Sequence[str],
    times: Iterable[int] | None = None,
) -> Laid:
    """Turn groups of records into samples; see `Work`."""
    return _Calls(options, context, encode, columns).lay_out(groups, times)


class _Calls(Work[Group]):
    """The groups of a unit that wait, and what the others became."""

    def begin(self) -> None:
        """Forget the texts of groups that are written."""
        super().begin()
        self.groups: list[WaitingGroup] = []
        self.characters = 0

    def read(self, each: Group, times: int) -> None:
        """Read a group; write those that wait where their texts are many."""
        waiting = GroupReader(self, each, times).read()
        self.characters += waiting.characters
        if waiting.calls:
            self.groups.append(waiting)
        if self.characters > ENCODED_AT_ONCE:
            self.flush()

    def write(self) -> None:
        """Write a sample for each group that waits."""
        for group in self.groups:
            with stage("lay out"):
                self._write(group)

    def _write(self, group: WaitingGroup) -> None:
        kept = self._kept(group)
        if not kept:
            return
        forest = GroupForest(
            apart=any(carries_values(each.call) for each in kept),
            values=self.columns & {*VALUES, "preference_labels"},
        )
        notes, examples, written = Counter[str](), list[str](), set[CutCall]()
        for each, weight in zip(kept, self._weights(kept), strict=True):
            cut = each.cut
            if each.cut is not None and each.call.prompt_ids is None:
                cut = each.cut.beside(written)
                written.add(each.cut)
            view = call_view(each.call, cut, self.pieces, self.columns, len(forest))
            view = replace(view, weight=weight)
            joined = forest.add(view)
            if len(forest) > 1:
                notes[_joint_note(joined, view)] += 1
            if each.cut is not None and each.call.prompt_ids is not None:
                note, example = compared(each.call, each.cut, self.pieces, self.context.tokenizer)
                notes[note] += 1
                if example:
                    examples.append(example)
        try:
            planted, laid_out, _ = self.limits.lay_out(forest.finish(), 0, [0] * len(kept))
        except RecordError as error:
            for position in sorted({each.position for each in kept}):
                self.reject(position, group.again(position), dataclasses.replace(error))
            return
        ids = ids_of_copies(group.id, group.times)
        values = columns_of_calls([each.call for each in kept])
        samples = write(planted, [(id_, laid_out) for id_ in ids], values)
        self.laid.pack(samples, [laid_out] * len(ids))
        self.laid.counts.copies += len(ids) - 1
        self.laid.counts.note(notes, {"rendered-otherwise": min(examples)} if examples else {})
        split = split_of(group.id.encode(), self.context.shares)
        self.laid.splits += [split] * len(samples)

    def _kept(self, group: WaitingGroup) -> list[Waiting]:
        """Return the calls of a group but those that are logged twice, or cannot be packed."""
        seen: dict[tuple[str, int], bytes] = {}
        kept: list[Waiting] = []
        for position, of_record in groupby(group.calls, key=lambda each: each.position):
            new: dict[tuple[str, int], tuple[Waiting, bytes]] = {}
            repeated = 0
            try:
                for each in self._short_enough(group, position, list(of_record)):
                    key, content = self._key(each)
                    there = new[key][1] if key in new else seen.get(key)
                    if there not in (None, content):
                        what = f"{quoted(each.call.id)} is the id of another call of the group"
                        fix = "Give each call an id of its own, or none."
                        raise RecordError("conflict", "id", f"{what}, expected one of its own", fix)
                    repeated += there is not None
                    new.setdefault(key, (each, content))
            except RecordError as error:
                self.reject(position, group.again(position), error)
                continue
            kept += [each for key, (each, _) in new.items() if key not in seen]
            seen |= {key: content for key, (_, content) in new.items()}
            if repeated:
                self.laid.counts.note({"repeated-call": repeated})
        return kept

    def _short_enough(
        self, group: WaitingGroup, position: int, calls: Sequence[Waiting]
    ) -> Sequence[Waiting]:
        """Return the calls of a record but those that are too long, if any is short enough.

        Raises:
            RecordError: none is, or one is not and `options.overlong` leaves none out.
        """
        long: dict[int, LeftOut] = {}
        for each in calls:
            tokens = size_of(each.call, each.cut, self.pieces)
            if found := self.limits.too_long(each.message, tokens):
                long[each.number] = found
        if long and (len(long) == len(calls) or self.options.overlong != "split"):
            raise self.limits.nothing_fits(long.values())
        if long:
            self.leave_out(position, group.again(position), list(long.values()))
        return [each for each in calls if each.number not in long]

    def _weights(self, calls: Sequence[Waiting]) -> list[float]:
        """Return what each trained token of a call weighs, as `schemas/FORMAT.md` describes it."""
        weights = [each.call.weight for each in calls]
        scheme = self.options.loss_weights
        if scheme in {"auto", "data"}:
            return weights
        alike = [
            {"message": number, "turn": each.turn}.get(scheme) for number, each in enumerate(calls)
        ]
        tokens: Counter[object] = Counter()
        for each, key in zip(calls, alike, strict=True):
            if each.call.role != "rejected":
                view = call_view(each.call, each.cut, self.pieces)
                tokens[key] += int(view.trained.sum())
        return [w / max(1, tokens[key]) for w, key in zip(weights, alike, strict=True)]

    def _key(self, waiting: Waiting) -> tuple[tuple[str, int], bytes]:
        """Return by what a call is known, if it is logged twice, and a hash of what it says."""
        call = waiting.call
        content = content_of(call, waiting.cut)
        if call.id == call.where or call.id.startswith(f"{call.where}#"):
            return (content.hex(), waiting.number), content
        return (call.id, 0), content


def _joint_note(joined: Joined, view: CallView) -> str:
    """Name how a call joined the others, and the message at which its history was rewritten."""
    note = f"joined-{joined.joint}"
    if joined.joint != "rewritten":
        return note
    message = next((each for stop, _, each in view.runs if stop > joined.depth), -1)
    return f"{note} message {message}" if message >= 0 else f"{note} token ids"
