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

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, groupby
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call
from reasonpack.records.groups import Group
from reasonpack.records.strict_json import quoted
from reasonpack.rows.encoded_views import common_prefix
from reasonpack.rows.group_forest import CallView, GroupForest, Joined
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE, Calls, write
from reasonpack.run.call_checks import VALUES
from reasonpack.run.length import LeftOut
from reasonpack.run.splits import key, split_of
from reasonpack.run.stages import stage
from reasonpack.run.waiting_calls import GroupReader, Waiting, WaitingGroup
from reasonpack.run.work import Work, ids_of_copies
from reasonpack.tokens.call_cutter import CutCall
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.tokens.view_tokens import Pieces

ENCODED_AT_ONCE = 1 << 25
"""Characters of text from which the waiting groups are encoded and written."""
ROLES = {"none": 0, "chosen": 1, "rejected": 2}


class CallGroups(Work[Group]):
    """Lays out the groups of a unit."""

    def begin(self) -> None:
        """Start a new batch: no group waits."""
        super().begin()
        self.groups: list[WaitingGroup] = []
        self.characters = 0

    def read(self, each: Group, times: int) -> None:
        """Read a group; encode and write all waiting groups if their text is long."""
        waiting = GroupReader(self, each, times).read()
        self.characters += waiting.characters
        self.groups.append(waiting)
        if self.characters > ENCODED_AT_ONCE:
            self.flush()

    def write(self) -> None:
        """Write the samples of the waiting groups."""
        for group in self.groups:
            with stage("lay out"):
                self._write(group)

    def _write(self, group: WaitingGroup) -> None:
        found = self._kept(group)
        try:
            if kept := list(chain.from_iterable(found.values())):
                self._write_samples(group, kept)
        except RecordError as error:
            for position in found:
                self.reject(position, group.again(position), dataclasses.replace(error))
            found.clear()
        rejected = {each.position for each in group.calls} - found.keys()
        for position, notes in group.notes.items():
            if position not in rejected:
                missing = notes.pop("missing-reasoning", 0)
                self.laid.counts.missing_reasoning += missing * group.times
                self.laid.counts.note(notes)

    def _write_samples(self, group: WaitingGroup, kept: Sequence[Waiting]) -> None:
        forest = GroupForest(apart=any(carries_values(each.call) for each in kept))
        notes, examples, written = Counter[str](), list[str](), set[CutCall]()
        for each, weight in zip(kept, self._weights(kept), strict=True):
            cut = each.cut
            if each.cut is not None and each.call.prompt_ids is None:
                cut = each.cut.with_shared_borders(written)
                written.add(each.cut)
            call = replace(each.call, weight=weight)
            view = call_view(call, cut, self.pieces, self.columns, len(forest))
            joined = forest.add(view)
            if len(forest) > 1:
                notes[_joint_note(joined, view)] += 1
            if each.cut is not None and each.call.prompt_ids is not None:
                note, example = compared(each.call, each.cut, self.pieces, self.context.tokenizer)
                notes[note] += 1
                if example:
                    examples.append(example)
        planted = forest.finish()
        laid_out = self.limits.lay_out(planted, 0)
        ids = ids_of_copies(group.id, group.times)
        values = columns_of_calls([each.call for each in kept])
        samples = write(planted, [(id_, laid_out) for id_ in ids], values)
        self.laid.pack(samples, [laid_out] * len(ids))
        self.laid.counts.copies += len(ids) - 1
        self.laid.counts.note(notes, {"rendered-otherwise": min(examples)} if examples else {})
        split = split_of(group.id.encode(), self.context.shares)
        self.laid.splits += [split] * len(samples)

    def _kept(self, group: WaitingGroup) -> dict[int, list[Waiting]]:
        """Return the calls to pack, repeated ones once, by their record; reject faulty records."""
        seen: dict[tuple[str, int, int], list[Waiting]] = {}
        kept: dict[int, list[Waiting]] = {}
        contents: dict[int, bytes] = {}

        def said(each: Waiting) -> bytes:
            if id(each) not in contents:
                contents[id(each)] = self._content(each)
            return contents[id(each)]

        for position, of_record in groupby(group.calls, key=lambda each: each.position):
            new: dict[tuple[str, int, int], Waiting] = {}
            repeated = 0
            try:
                calls = list(of_record)
                long = self._too_long(calls)
                for each in (each for each in calls if each.number not in long):
                    key = self._key(each)
                    there = [*seen.get(key, ()), *filter(None, [new.get(key)])]
                    again = any(said(each) == said(other) for other in there)
                    if there and not again and key[0]:
                        what = f"{quoted(each.call.id)} is the id of another call of the group"
                        fix = "Give each call an id of its own, or none."
                        raise RecordError("conflict", "id", f"{what}, expected one of its own", fix)
                    repeated += again
                    new |= {} if again else {key: each}
            except RecordError as error:
                self.reject(position, group.again(position), error)
                continue
            if long:
                self.leave_out(position, group.again(position), list(long.values()))
            kept[position] = [*new.values()]
            for key, each in new.items():
                seen.setdefault(key, []).append(each)
            if repeated:
                self.laid.counts.note({"repeated-call": repeated})
        return kept

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


def _joint_note(joined: Joined, view: CallView) -> str:
    """Return a note on how a call joined the others, with the first message that is rewritten."""
    note = f"joined-{joined.joint}"
    if joined.joint != "rewritten":
        return note
    message = next((each for stop, _, each in view.runs if stop > joined.depth), -1)
    return f"{note} message {message}" if message >= 0 else f"{note} token ids"


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
        found = pieces.runs(cut.pieces, stops, cut.borders)
        prompt, header = stops.item(cut.prompt), stops.item(cut.header)
        of = dict(enumerate(cut.sources))
        runs = [(stop, kind, of.get(message, message)) for stop, kind, message, _ in found]
        ends = np.maximum.accumulate([prompt, *(min(stop, len(tokens)) for stop, *_ in runs)])
        trained = np.repeat(np.array([each[-1] for each in found], bool), np.diff(ends))
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


def content_of(call: Call) -> bytes:
    """Return a hash of a call without its id and its messages."""
    hash_ = hashlib.sha256()
    arrays: list[NDArray[Any] | None]
    arrays = [call.prompt_ids, call.completion_ids, call.logprobs, call.advantages]
    said: list[object] = [call.weight, call.reward, call.role]
    if call.completion_ids is not None:
        mask = call.loss_mask
        arrays.append(np.ones(len(call.completion_ids), bool) if mask is None else mask)
    for array in arrays:
        hash_.update(b"none" if array is None else np.ascontiguousarray(array).data)
        hash_.update(b"|")
    hash_.update(repr(said).encode())
    return hash_.digest()


def key_of_calls(calls: Iterable[Call]) -> bytes:
    """Return the joined hashes of a group's trained calls, repeated calls once; empty for none.

    Groups with the same key are duplicates, as `schemas/FORMAT.md` defines them.
    """
    found = dict.fromkeys(
        (each.id.removeprefix(each.where), _hash_of(each)) for each in calls if each.trained
    )
    return b"".join(content for _, content in found)


def _hash_of(call: Call) -> bytes:
    said = call.conversation
    if call.prompt_ids is not None or said is None:
        return content_of(call)
    more = [said.messages[-1].finished, said.template_kwargs]
    text = key(said) + json.dumps(more, sort_keys=True, default=str).encode()
    return hashlib.sha256(content_of(call) + text).digest()


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
