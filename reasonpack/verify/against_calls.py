"""Groups of calls in the source → what their samples are compared with, by the group's id.

records of a group ─→ rejected, or their calls ─→ Kept ─→ Expected
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.records.unit import Record
from reasonpack.verify.calls import NAMES
from reasonpack.verify.copies import Copies, count_not_packed
from reasonpack.verify.encoding import TokenView
from reasonpack.verify.group_views import Kept, rebuild_calls
from reasonpack.verify.groups import Group, Groups, fields_of
from reasonpack.verify.match import NO_VIEWS, Expected, Join, Reject
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
        if self.kept.tokens <= EXPLAINED:
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
