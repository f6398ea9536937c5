"""Groups of calls → samples, one per group, and rejects.

    records ─→ calls ─→ views, or ids as logged ─→ the forest of a group ─→ sample ─→ rows
       └───────── records that cannot be packed ─────→ rejects

    prompt_ids 5 6, completion_ids 7 2      tokens 5 6 7 2
    logprobs −0.1 −0.2, weight 0.5          logprobs 0 0 −0.1 −0.2, weight 0.5 of tokens 7 and 2

A record that cannot be packed is left out of its group, which does not change how the other calls
are trained. Logged token ids are trained as they are; if a call has messages too, their rendering
is only compared with the ids. Memory is the distinct text of the groups that are encoded together.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from copy import copy
from functools import cache
from itertools import chain

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call
from reasonpack.records.groups import Group
from reasonpack.records.strict_json import quoted
from reasonpack.rows.encoded_views import common_prefix
from reasonpack.rows.forest import LaidOut
from reasonpack.rows.group_forest import CallView, GroupForest, Joined
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE, Calls, write
from reasonpack.run.call_checks import VALUES
from reasonpack.run.length import LeftOut
from reasonpack.run.splits import content_of, split_of
from reasonpack.run.stages import stage, staged
from reasonpack.run.waiting_calls import GroupCutter, Waiting, WaitingGroup, calls_of
from reasonpack.run.work import Work, ids_of_copies
from reasonpack.tokens.call_cutter import CutCall
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.tokens.view_tokens import Pieces

ENCODED_AT_ONCE = 1 << 25
"""Characters of text from which the waiting groups are encoded and written."""
WRITTEN_AT_ONCE = 1 << 16
"""Tokens from which the groups in the forest are written."""
ROLES = {"none": 0, "chosen": 1, "rejected": 2}


class _Planted(Struct):
    """A group whose calls are in the forest.

    Attributes:
        kept: its calls, by the position of their record.
        repeated: how many further calls were logged twice.
        notes: counted notes on how its calls join each other and agree with their messages.
        examples: of a call that does not agree with its messages, the first in order of texts.
    """

    group: WaitingGroup
    kept: dict[int, list[Waiting]]
    repeated: int
    notes: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


class CallGroups(Work[Group]):
    """Lays out the groups of a unit."""

    def begin(self) -> None:
        """Start a new batch: no group waits."""
        super().begin()
        self.groups: list[WaitingGroup] = []
        self.planted: list[_Planted] = []
        self.forest = GroupForest()
        self.said = cache(self._content)

    def read(self, each: Group, times: int) -> None:
        """Read a group; encode and write all waiting groups if their text is long."""
        group, is_empty = GroupCutter(self, each, times), each.is_session
        self.groups.append(group.waiting)
        for position, record, calls in staged("parse", calls_of(each, self.context.reading)):
            self.put(position, record, calls, group.add)
            is_empty = False
        if is_empty:
            self.laid.counts.note({"no-call": 1, "untrained-call": 1})
        if self.pieces.characters > ENCODED_AT_ONCE:
            self.flush()

    def write(self) -> None:
        """Write the samples of the waiting groups, in batches."""
        with stage("lay out"):
            for group in self.groups:
                self._plant(group)
                if self.forest.size > WRITTEN_AT_ONCE:
                    self._write_planted()
            self._write_planted()

    def _plant(self, group: WaitingGroup) -> None:
        """Add the calls of a group to the forest."""
        planted = _Planted(group, *self._kept(group))
        self.planted.append(planted)
        calls, written = _all_of(planted.kept), set[CutCall]()
        self.forest.begin(apart=any(carries_values(each.call) for each in calls))
        weights = enumerate(self._weights(calls))
        for each, (number, weight) in zip(calls, weights, strict=True):
            cut = whole = each.cut
            has_ids = each.call.prompt_ids is not None
            if cut and not has_ids:
                whole = cut.with_shared_borders(written)
                written.add(cut)
            call = each.call if weight == each.call.weight else replace(each.call, weight=weight)
            view = call_view(call, whole, self.pieces, self.columns, number)
            joined = self.forest.add(view)
            if number:
                planted.notes[_joint_note(joined, view, has_ids=has_ids)] += 1
            if cut and has_ids:
                note, example = compared(each.call, cut, self.pieces, self.context.tokenizer)
                planted.notes[note] += 1
                if example:
                    first = min([example, *planted.examples.values()])
                    planted.examples["rendered-otherwise"] = first

    def _write_planted(self) -> None:
        """Lay out and write the groups in the forest."""
        planted, forest = self.planted, self.forest.finish()
        self.planted, self.forest = [], GroupForest()
        counts, written, values = self.laid.counts, list[tuple[str, LaidOut]](), list[Calls]()
        for number, each in enumerate(planted):
            group, kept, calls = each.group, each.kept, _all_of(each.kept)
            counts.note({"repeated-call": each.repeated})
            try:
                laid_out = self.limits.lay_out(forest, number) if calls else None
            except RecordError as error:
                for position in kept:
                    self.reject(position, group.again(position), copy(error))
                laid_out, kept = None, {}
            if laid_out:
                ids = ids_of_copies(group.id, group.times)
                written += ((id_, laid_out) for id_ in ids)
                values += [columns_of_calls([one.call for one in calls])] * len(ids)
                split = split_of(group.id.encode(), self.context.shares)
                self.laid.splits += [split] * len(laid_out.samples) * len(ids)
                counts.copies += len(ids) - 1
                counts.note(each.notes, each.examples)
            for position, notes in group.notes.items():
                if position in kept or position not in group.calls:
                    missing = notes.pop("missing-reasoning", 0)
                    counts.missing_reasoning += missing * group.times
                    counts.note(notes)
        self.laid.pack(write(forest, written, values), [laid_out for _, laid_out in written])

    def _kept(self, group: WaitingGroup) -> tuple[dict[int, list[Waiting]], int]:
        """Return the calls to pack, by their record, and how many repeat another one of these.

        Faulty records are rejected once the groups before are written: their errors come first.
        """
        seen: dict[tuple[str, int, int], list[Waiting]] = {}
        kept: dict[int, list[Waiting]] = {}
        repeated = 0
        for position, calls in group.calls.items():
            new: dict[tuple[str, int, int], Waiting] = {}
            try:
                long = self._too_long(calls)
                for each in (each for each in calls if each.number not in long):
                    key = self._key(each)
                    there = [*seen.get(key, ()), *filter(None, [new.get(key)])]
                    again = any(self.said(each) == self.said(other) for other in there)
                    if there and not again and key[0]:
                        what = f"{quoted(each.call.id)} is the id of another call of the group"
                        fix = "give each call an id of its own, or none"
                        raise RecordError("conflict", "id", what, "one of its own", fix)
                    new |= {} if again else {key: each}
            except RecordError as error:
                self._write_planted()
                self.reject(position, group.again(position), error)
                continue
            if long:
                self._write_planted()
                self.leave_out(position, group.again(position), list(long.values()))
            kept[position] = [*new.values()]
            for key, each in new.items():
                seen.setdefault(key, []).append(each)
            repeated += len(calls) - len(long) - len(new)
        return kept, repeated

    def _too_long(self, calls: Sequence[Waiting]) -> dict[int, LeftOut]:
        """Return the calls of a record that are too long, by their number.

        Raises:
            RecordError: all calls are too long, or one is and `options.overlong` is not `split`.
        """
        long: dict[int, LeftOut] = {}
        for each in calls:
            tokens = size_of(each.call, each.cut, self.pieces)
            if found := self.limits.too_long(each.message, tokens):
                long[each.number] = found
        if long and (len(long) == len(calls) or self.options.overlong != "split"):
            raise self.limits.nothing_fits(long.values())
        return long

    def _weights(self, calls: Sequence[Waiting]) -> list[float]:
        """Return the weight of each call's trained tokens, as `schemas/FORMAT.md` defines it."""
        weights = [each.call.weight for each in calls]
        scheme = self.options.loss_weights
        if scheme in {"auto", "data"}:
            return weights
        alike = [
            {"message": number, "turn": each.turn}.get(scheme) for number, each in enumerate(calls)
        ]
        tokens: Counter[object] = Counter()
        for each, of_unit in zip(calls, alike, strict=True):
            if each.call.role != "rejected":
                view = call_view(each.call, each.cut, self.pieces)
                tokens[of_unit] += int(view.trained.sum())
        return [w / max(1, tokens[each]) for w, each in zip(weights, alike, strict=True)]

    def _key(self, waiting: Waiting) -> tuple[str, int, int]:
        """Return a key that equal calls share: the id, else the number in the record and size."""
        call = waiting.call
        if call.id == call.where or call.id.startswith(f"{call.where}#"):
            return "", waiting.number, size_of(call, waiting.cut, self.pieces)
        return call.id, 0, 0

    def _content(self, waiting: Waiting) -> bytes:
        """Return a hash of a call without its id; its texts count as tokens."""
        view = call_view(waiting.call, waiting.cut, self.pieces)
        own = view.tokens.tobytes() + view.trained.tobytes() + f"{view.prompt}".encode()
        return hashlib.sha256(content_of(waiting.call) + own).digest()


def _all_of(calls: Mapping[int, Sequence[Waiting]]) -> list[Waiting]:
    """Return all calls, in the order of their records."""
    return [*chain.from_iterable(calls.values())]


def _joint_note(joined: Joined, view: CallView, *, has_ids: bool) -> str:
    """Return a note on how a call joined the others, with the first message that is rewritten.

    Text of the template that belongs to no message, as that of tools, may be rewritten too.
    """
    note = f"joined-{joined.joint}"
    if joined.joint != "rewritten":
        return note
    message = next((each for stop, _, each in view.runs if stop > joined.depth), -1)
    of_none = "token ids" if has_ids else "template text"
    return f"{note} message {message}" if message >= 0 else f"{note} {of_none}"


# --- a call in tokens, and its values --------------------------------------------------


def carries_values(call: Call) -> bool:
    """Return whether a call has a role or values that cannot be added up with another call's."""
    values = (call.logprobs, call.advantages, call.reward)
    return call.role != "none" or any(each is not None for each in values)


def call_view(
    call: Call,
    cut: CutCall | None,
    pieces: Pieces,
    columns: AbstractSet[str] = frozenset(),
    number: int = 0,
) -> CallView:
    """Return the view of a call in tokens, with its values for optional `columns`.

    `cut` may be None if the call has ids; `number` is the index of the call in its group.
    """
    if call.prompt_ids is not None and call.completion_ids is not None:
        header = prompt = len(call.prompt_ids)
        tokens = np.concatenate([call.prompt_ids, call.completion_ids])
        runs = [(prompt, int(Kind.CONTEXT), -1), (len(tokens), int(Kind.R_OUT), -1)]
        trained = np.ones(len(tokens) - prompt, bool) if call.loss_mask is None else call.loss_mask
    else:
        assert cut is not None
        tokens, stops = pieces.tokens(cut.pieces)
        prompt, header = stops.item(cut.prompt), stops.item(cut.header)
        trained, at = np.zeros(len(tokens) - prompt, bool), 0
        of, runs = dict(enumerate(cut.sources)), []
        for stop, kind, message, is_trained in pieces.runs(cut.pieces, stops, cut.borders):
            runs.append((stop, kind, of.get(message, message)))
            before, at = at, max(at, stop - prompt)
            trained[before:at] = is_trained
    said = {name: getattr(call, name) for name in VALUES if name in columns}
    values: dict[str, NDArray[np.float32] | NDArray[np.int32]] = {
        name: np.broadcast_to(np.float32(np.nan) if each is None else each, trained.shape)
        for name, each in said.items()
    }
    if "preference_labels" in columns:
        wanted = trained & (call.role == "rejected")
        values["preference_labels"] = np.where(wanted, tokens[prompt:], np.int32(IGNORE))
    return CallView(
        call=number,
        tokens=tokens,
        prompt=prompt,
        header=header,
        trained=trained,
        runs=runs,
        weight=call.weight,
        values=values,
    )


def size_of(call: Call, cut: CutCall | None, pieces: Pieces) -> int:
    """Return the number of tokens of a call, prompt and completion."""
    if call.prompt_ids is not None and call.completion_ids is not None:
        return len(call.prompt_ids) + len(call.completion_ids)
    assert cut is not None
    return pieces.size(cut.pieces)


def compared(call: Call, cut: CutCall, pieces: Pieces, tokenizer: Tokenizer) -> tuple[str, str]:
    """Compare a call's ids with its rendered messages; return a note, and the first difference."""
    assert call.prompt_ids is not None
    assert call.completion_ids is not None
    tokens, stops = pieces.tokens(cut.pieces)
    prompt = stops.item(cut.prompt)
    for part, own, other in (
        ("prompt", call.prompt_ids, tokens[:prompt]),
        ("completion", call.completion_ids, tokens[prompt:]),
    ):
        if not np.array_equal(own, other):
            at = common_prefix(own, other)
            logged, shown = (
                repr(tokenizer.decode(ids[at : at + 3])) if at < len(ids) else "nothing"
                for ids in (own, other)
            )
            where = f"{call.where}, token {at:,} of the {part}"
            return f"rendered-otherwise {part}", f"{where}: {logged} logged, {shown} rendered"
    return "rendered-equal", ""


def columns_of_calls(calls: Sequence[Call]) -> Calls:
    """Return the values of the columns `call_id`, `call_role` and `call_reward`."""
    rewards = [np.nan if call.reward is None else call.reward for call in calls]
    roles = np.array([ROLES[call.role] for call in calls], np.uint8)
    return Calls([call.id for call in calls], roles, np.array(rewards, np.float32))
