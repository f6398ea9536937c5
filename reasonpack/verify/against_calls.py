"""The groups of a source, one after another → what waits for its match, or is rejected.

records of a group ─→ rejected, or their calls ─→ Kept ─→ Read, by the id of the group
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial

from reasonpack.records.unit import Record
from reasonpack.verify.calls import NAMES
from reasonpack.verify.copies import Taken, ids_of, leave_out
from reasonpack.verify.findings import Findings
from reasonpack.verify.group_views import CallTokens, Kept, rebuild_calls
from reasonpack.verify.groups import Group, Groups, fields_of
from reasonpack.verify.match import NO_VIEWS, Join, Read, Reject
from reasonpack.verify.rebuilt import Rebuilt, not_rebuilt, whole_size
from reasonpack.verify.rejects import check_left_out, check_reason, take_reject
from reasonpack.verify.sessions import Value, decoded_calls
from reasonpack.verify.source import Source
from reasonpack.verify.splits import split_of_text

Feed = Callable[[int | None], None]
"""Adds so many records more, or all of them, to what waits for its match."""
EXPLAINED = 1 << 24
"""Tokens that the calls of a group may have if they are all to be looked at together."""


def feed_of_groups(
    join: Join, source: Source, groups: Groups, taken: Iterable[Taken], findings: Findings
) -> Feed:
    """Return what adds the groups of a source, in their order, each as often as it is `taken`."""
    each, done, upto = zip(groups, taken, strict=False), 0, 0

    def feed(count: int | None) -> None:
        nonlocal done, upto
        upto = groups.bounds[-1] if count is None else upto + count
        while done < upto and (next_ := next(each, None)) is not None:
            group, taken_ = next_
            if taken_.times:
                _Adding(join, source, groups, findings, group, taken_.times, group.id).add()
            else:
                leave_out(taken_, next(group.records).where, findings)
            done = groups.bounds[group.number + 1]

    return feed


@dataclass(slots=True)
class _Adding:
    """A group that is read, to be packed so many times, and what was found of its records."""

    join: Join
    source: Source
    groups: Groups
    findings: Findings
    group: Group
    times: int
    id: str
    where: str = ""
    kept: Kept = field(default_factory=Kept)
    unknown: bool = False
    failed: Read | None = None
    left_out: set[str] = field(default_factory=set)
    long: list[tuple[Reject, Record, list[CallTokens]]] = field(default_factory=list)

    def add(self) -> None:
        """Read all records, and add what is to be matched."""
        compares = not self.id or self._compares()
        for record, value in decoded_calls(self.source, self.group.records, self.group.by.field):
            self.findings.count("records")
            self.where = self.where or record.where
            self._add(record, value, compares=compares)
        self._check_long()
        if self.unknown or not self._compares():
            # Its samples may be in another shard, or there are none as nothing of it is trained.
            self._wait(Read(self.where, None, is_open=True), packed=self.id in self.join.packed)
        elif self.failed is not None:
            self._wait(self.failed)
        elif self.kept.calls:
            self._count("groups")
            self._count("views", len(self.kept.calls))
            self._count("naive_tokens", self.kept.tokens)
            split = split_of_text(self.id.encode(), self.source.manifest.options.split)
            again: Callable[[], Sequence[CallTokens]] = tuple
            if self.kept.tokens <= EXPLAINED:
                again = partial(_again, self.source, self.groups, self.group, self.left_out)
            divided = self.source.manifest.counts.extra_samples > 0
            self.kept.weigh(self.source.manifest.options.loss_weights)
            read = self.kept.read(self.where, split, divided=divided)
            self.findings.count("context tokens", sum(read.contexts.values()))
            self._wait(replace(read, again=again))
            self._size(read, divided=divided)

    def _size(self, read: Read, *, divided: bool) -> None:
        """Count the tokens of the group, if these are few enough and do not stand apart."""
        if self.kept.apart or (divided and self.kept.tokens > EXPLAINED):
            self.findings.count("unsized")
            return
        leaves = [path for path, (least, _) in read.leaves.items() if least]
        self._count("npass_tokens", sum(self.kept.lengths[path] for path in leaves))
        if divided:
            whole, most = whole_size(self.kept.views), self.source.manifest.options.max_length
            self._count("divided", whole > (most or whole))
            self._count("whole tokens", whole)

    def _compares(self) -> bool:
        return any(map(self.join.compares, ids_of(self.id, self.times)))

    def _count(self, name: str, number: int = 1) -> None:
        """Count what each copy of the group has."""
        self.findings.count(name, number * self.times)

    def _wait(self, read: Read, *, packed: bool = True) -> None:
        self._count("packed", packed)
        self.findings.count("copies", (self.times - 1) * packed)
        for each in ids_of(self.id, self.times):
            self.join.wait(each, read)

    def _add(self, record: Record, value: Value, *, compares: bool) -> None:
        rejected, found, calls = take_reject(self.join, record), None, list[CallTokens]()
        if compares:
            found, calls, id_ = _rebuilt(self.source, record, value)
            self.id = self.id or id_ or self._guessed(record)
        if rejected is not None:
            self.left_out.add(record.where)
            reason = "" if found is None else found.reason
            if rejected.reason != "overlong" or found is None or reason or found.unknown:
                check_reason(rejected, record, found, reason, self.findings)
            else:
                self.long.append((rejected, record, calls))
            return
        check_left_out(self.join, record, self.id, found, self.findings)
        if found is None:
            return
        if found.unknown:
            self.unknown = True
            self.findings.leave(found.unknown, record.where)
        elif error := found.error or self.kept.add(calls, record.where):
            self.failed = Read(record.where, NO_VIEWS, error)
        else:
            self._note(record, found)
            self.findings.count("calls with ids", sum(each.message < 0 for each in calls))

    def _note(self, record: Record, found: Rebuilt) -> None:
        """Count what the join does not compare."""
        self._count("missing_reasoning", found.built.untrained)
        for where, number in found.built.stops.items():
            self.findings.count(f"stops: {where}", number)
        self.join.contradict(found.built.contradictions, record.where)

    def _guessed(self, record: Record) -> str:
        """Return the id that a record which is not read here was packed under, if it was."""
        value = fields_of(record)
        names = [value.get(name) for name in NAMES]
        names += [each.get("id") for each in (value.get("response"),) if isinstance(each, dict)]
        return next((str(name) for name in names if str(name) in self.join.packed), record.where)

    def _check_long(self) -> None:
        """Check that a group was too long as a whole, of which all records were left out so."""
        options, everything = self.source.manifest.options, Kept()
        for _, record, calls in self.long:
            everything.add(calls, record.where)
        size = whole_size(everything.views) if everything.calls else 0
        is_long = options.layout == "onepass" and size > (options.max_length or size)
        is_long &= options.overlong != "split" and not self.kept.calls
        # Calls that stand apart are longer, by how much is not known.
        known = Rebuilt() if is_long or not everything.apart else None
        for rejected, record, _ in self.long:
            check_reason(rejected, record, known, "overlong" if is_long else "", self.findings)


def _rebuilt(source: Source, record: Record, value: Value) -> tuple[Rebuilt, list[CallTokens], str]:
    """Rebuild the calls of a record; return their id, too, if it has one call."""
    if value is None:
        return Rebuilt(), [], ""
    if isinstance(value, Exception):
        return not_rebuilt(value), [], ""
    return rebuild_calls(source, value, record.where, row=record.row is not None)


def _again(
    source: Source, groups: Groups, group: Group, left_out: AbstractSet[str]
) -> Sequence[CallTokens]:
    """Rebuild a group, but for records that were left out."""
    kept = Kept()
    for record, value in decoded_calls(source, groups.records(group.number), group.by.field):
        if record.where not in left_out:
            kept.add(_rebuilt(source, record, value)[1], record.where)
    kept.weigh(source.manifest.options.loss_weights)
    return kept.calls
