"""Groups of calls in the source → what their samples are compared with, by the group's id.

records of a group ─→ rejected, or their calls ─→ Kept ─→ Expected
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.records.unit import Record
from reasonpack.verify.answer_parts import PARTS, parts_of
from reasonpack.verify.call_values import check_columns
from reasonpack.verify.calls import NAMES, Call, read_calls
from reasonpack.verify.chat import Json, NotChecked, Refused
from reasonpack.verify.copies import Copies, count_not_packed
from reasonpack.verify.encoding import TokenView, encode, too_long, too_long_text
from reasonpack.verify.groups import Group, Groups, fields_of
from reasonpack.verify.join import NO_VIEWS, Expected, Join, Reject
from reasonpack.verify.manifest import LeftOut
from reasonpack.verify.rebuilt import (
    EXPLAINED,
    Rebuilt,
    count_built,
    expect,
    kept_apart,
    not_rebuilt,
    weighed,
    whole_size,
)
from reasonpack.verify.rejects import check_left_out, check_reason, take_reject
from reasonpack.verify.sessions import Value, decoded_calls
from reasonpack.verify.source import Source, split_of
from reasonpack.verify.views import TextViews, build_views


class Kept(Struct):
    """The views of the calls of a group, each once, however often it was logged.

    Attributes:
        views: in the order of their records.
        known: hash of each call's content, by the call's id, or by that hash without an id.
    """

    views: list[TokenView] = field(default_factory=list)
    known: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def add(self, views: Sequence[TokenView], where: str) -> str:
        """Add the calls of the next record; return why they cannot be added, or an empty text."""
        new: dict[tuple[str, int], bytes] = {}
        more: list[TokenView] = []
        for each in views:
            assert each.call is not None
            content, id_ = _content(each, each.call), each.call.id
            own, key = id_.removeprefix(where), (id_, 0)
            if own != id_ and own[:1] in ("", "#"):  # no id of its own
                key = (content.hex(), int(own[1:] or 0))
            before = new.get(key, self.known.get(key))
            if before not in (None, content):
                return f"the id of another call of the group: {id_[:200]!r}"
            if before is None:
                new[key] = content
                more.append(each)
        self.known |= new
        self.views += more
        return ""


def _content(view: TokenView, call: Call) -> bytes:
    """Hash everything of a call except its id."""
    hash_ = hashlib.sha256(view.ids.tobytes() + b"|" + view.trained.tobytes())
    for said in (call.logprobs, call.advantages):
        numbers = np.array([] if said is None else said, np.float32)
        there = np.broadcast_to(numbers, view.trained.shape) if numbers.size else numbers
        hash_.update(b"|" + there.tobytes())
    hash_.update(repr((len(view.trained), call.weight, call.reward, call.role)).encode())
    return hash_.digest()


# --- groups ----------------------------------------------------------------------------


def add_groups(
    join: Join, source: Source, groups: Groups, copies: Iterable[Copies]
) -> Iterator[int]:
    """Add the groups of a source to `join`, each as often as `copies` says it is packed.

    Yields after each group how many records the groups so far have.
    """
    for group, own in zip(groups, copies, strict=False):
        if own.times:
            _Adding(join, source, groups, group, own.times, group.id).add()
        else:
            count_not_packed(own, next(group.records).where, join.findings)
        yield group.stop


class _Adding(Struct):
    """A group that is being read, and what its records gave so far.

    Attributes:
        times: how often it is packed.
        where: place of its first record.
        unknown: one of its records cannot be checked.
        failed: what to match instead of views that cannot be built.
        left_out: places of its records that were rejected.
        long: records rejected as `overlong` whose views could be built.
    """

    join: Join
    source: Source
    groups: Groups
    group: Group
    times: int
    id: str
    where: str = ""
    kept: Kept = field(default_factory=Kept)
    unknown: bool = False
    failed: Expected | None = None
    left_out: set[str] = field(default_factory=set)
    long: list[tuple[Reject, Record, Rebuilt]] = field(default_factory=list)

    def add(self) -> None:
        """Read all records of the group, and add to the join what its samples must match."""
        compares = not self.id or self.join.compares(self.id, self.times)
        for record, value in decoded_calls(self.source, self.group.records, self.group.by.field):
            self.join.findings.count("records")
            self.where = self.where or record.where
            self._add(record, value, compares=compares)
        self._check_long()
        if self.unknown or not self.join.compares(self.id, self.times):
            # Its samples may be in a later shard, or it has none because nothing is trained.
            packed = self.id in self.join.packed
            self._add_expected(Expected(self.where, None, is_optional=True), packed=packed)
        elif self.failed is not None:
            self._add_expected(self.failed)
        elif self.kept.views:
            self._add_expected(self._expected())

    def _expected(self) -> Expected:
        """Return what the samples of the group are compared with, and count its views."""
        self._count("groups")
        split = split_of(self.id.encode(), self.join.manifest.options.split)
        expected = expect(self.join, weighed(self.kept.views), self.where, split, self.times)
        again: Callable[[], Sequence[TokenView]] = tuple
        if sum(len(view.ids) for view in self.kept.views) <= EXPLAINED:
            again = partial(_again, self.source, self.groups, self.group, self.left_out)
        return replace(expected, again=again)

    def _count(self, name: str, number: int = 1) -> None:
        """Add `number` for each copy of the group."""
        self.join.findings.count(name, number * self.times)

    def _add_expected(self, expected: Expected, *, packed: bool = True) -> None:
        self._count("packed", packed)
        self.join.findings.count("copies", (self.times - 1) * packed)
        self.join.add_expected(self.id, expected, self.times)

    def _add(self, record: Record, value: Value, *, compares: bool) -> None:
        join, findings = self.join, self.join.findings
        rejected, found = take_reject(join, record), None
        if compares:
            found = _rebuilt(self.source, record, value)
            self.id = self.id or found.id or self._guessed(record)
        if rejected is not None:
            self.left_out.add(record.where)
            reason = "" if found is None else found.reason
            if rejected.reason != "overlong" or found is None or reason or found.unknown:
                check_reason(rejected, record, found, reason, findings)
            else:
                self.long.append((rejected, record, found))
            return
        if found is not None and found.reason == "overlong" and join.as_context:
            found = replace(found, reason="", error="")  # pack may have kept it as context
        check_left_out(join, record, self.id, found)
        if found is None:
            return
        if found.unknown:
            self.unknown = True
            findings.leave_unchecked(found.unknown, record.where)
        elif error := found.error or self.kept.add(found.views, record.where):
            self.failed = Expected(record.where, NO_VIEWS, error)
        else:
            count_built(join, found.built, record.where, self.times)
            findings.count("calls with ids", sum(each.message < 0 for each in found.views))

    def _guessed(self, record: Record) -> str:
        """Return the first of a record's ids under which samples were packed, else its place."""
        value = fields_of(record)
        names = [value.get(name) for name in NAMES]
        names += [each.get("id") for each in (value.get("response"),) if isinstance(each, dict)]
        return next((str(name) for name in names if str(name) in self.join.packed), record.where)

    def _check_long(self) -> None:
        """Check records rejected as `overlong`: all of the group, and too long together."""
        options, everything = self.join.manifest.options, Kept()
        for _, record, found in self.long:
            everything.add(found.views, record.where)
        size = whole_size(everything.views) if everything.views else 0
        is_long = options.layout == "onepass" and size > (options.max_length or size)
        is_long &= options.overlong != "split" and not self.kept.views
        # Calls that are kept apart need more tokens than `size`; how many is not known.
        known = Rebuilt() if is_long or not kept_apart(everything.views) else None
        for rejected, record, _ in self.long:
            reason = "overlong" if is_long else ""
            check_reason(rejected, record, known, reason, self.join.findings)


def _rebuilt(source: Source, record: Record, value: Value) -> Rebuilt:
    if value is None:
        return Rebuilt()
    if isinstance(value, Exception):
        return not_rebuilt(value)
    return rebuild_calls(source, value, record.where, row=record.row is not None)


def _again(
    source: Source, groups: Groups, group: Group, left_out: AbstractSet[str]
) -> Sequence[TokenView]:
    """Rebuild the views of a group, without the records at the places in `left_out`."""
    kept = Kept()
    for record, value in decoded_calls(source, groups.again(group), group.by.field):
        if record.where not in left_out:
            kept.add(_rebuilt(source, record, value).views, record.where)
    return kept.views


# --- the calls of a record -------------------------------------------------------------


def rebuild_calls(source: Source, record: Json, where: str, *, row: bool = False) -> Rebuilt:
    """Build the views of the trained calls of a decoded record, or return why that cannot be."""
    options, made = source.manifest.options, Rebuilt()
    views, left, id_ = list[TokenView](), list[LeftOut](), ""
    try:
        calls = read_calls(record, replace(source.reading, row=row), where)
        id_ = calls[0].id if len(calls) == 1 else where
        for call in (each for each in calls if each.trained):
            check_columns(call, source.manifest.columns, options.call_columns)
            built, found = _in_tokens(call, source)
            made.built.add(built)
            if isinstance(found, LeftOut):
                left.append(found)
            elif found is not None:
                views.append(found)
    except (NotChecked, Refused) as error:
        return replace(not_rebuilt(error), id=id_)
    unencoded = [out for out in left if out.unit == "characters"]
    if unencoded or (left and (not views or options.overlong != "split")):
        first = (unencoded or left)[0]
        said = f"a view of {first.length:,} {first.unit}"
        made = replace(made, reason="overlong", error=said)
    return replace(made, views=views, left_out=tuple(left), id=id_)


def _in_tokens(call: Call, source: Source) -> tuple[TextViews, TokenView | LeftOut | None]:
    """Return what was built of a call in text, and its view in tokens.

    In place of the view: a `LeftOut` if it is too long, None if nothing of it is trained.
    """
    options, manifest = source.manifest.options, source.manifest
    parts, group = parts_of(options.train_on), _shared(call, options.loss_weights)
    if call.prompt is not None:
        built, view = TextViews(), TokenView(-1, *_logged(call, parts, source))
    else:
        assert call.chat is not None
        built = build_views(call.chat, source.rules[bool(call.chat.tools)], parts)
        if not built.views:
            return built, None
        (text,) = built.views
        if out := too_long_text(text, manifest):
            return built, out
        view = encode(text, source.tokenizer)
        if not view.prompt_length:
            raise Refused("a view without any prompt token")
        if not view.trained.any():
            return built, None
    last = call.chat.messages[-1].source if call.chat and call.prompt is None else -1
    if out := too_long(last, len(view.ids), manifest):
        return built, out
    alone = replace(call, chat=None, prompt=None, completion=None, mask=None)
    return built, replace(view, weight=call.weight, group=group, call=alone)


def _shared(call: Call, scheme: str) -> Hashable:
    """Return a key that is equal for calls that share a weight by the option `loss_weights`.

    For `turn` that is a hash of the messages up to the last one of the user.
    """
    if scheme != "turn":
        return {"message": call.id, "conversation": 0}.get(scheme)
    if call.chat is None:
        raise NotChecked("the turn of a call with token ids")
    said = call.chat.messages
    last = max((n for n, each in enumerate(said, 1) if each.role == "user"), default=0)
    text = json.dumps([each.parts for each in said[:last]], sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def _logged(
    call: Call, parts: Sequence[str], source: Source
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return the logged ids i32[L] of a call and bool[C], which of its completion are trained."""
    if tuple(parts) != PARTS:
        raise Refused("token ids, in which the parts of an answer are not known")
    prompt, completion = call.prompt or [], call.completion or []
    if not prompt:
        raise Refused("ids without a prompt")
    for ids in filter(None, (prompt, completion)):
        in_range = 0 <= min(ids) <= max(ids) < 1 << 31
        if not in_range or source.tokenizer.reference.id_to_token(max(ids)) is None:
            raise Refused("an id that is not in the vocabulary")
    mask = [True] * len(completion) if call.mask is None else call.mask
    return np.array(prompt + completion, np.int32), np.array(mask, bool)
