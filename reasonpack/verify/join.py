"""Samples of a dataset and records of its source, held by id until they are matched.

samples ─→ id, fingerprint ──┐
                             ├─ by id ─→ dropped if equal
records ─→ id, fingerprint ──┘
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from msgspec import Struct, field

from reasonpack.datasets.manifest import Manifest
from reasonpack.records.strict_json import quoted
from reasonpack.rows.kind import Kind
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import LeftOut
from reasonpack.verify.order import Order
from reasonpack.verify.paths import U64, Fingerprint, together
from reasonpack.wording import count

if TYPE_CHECKING:
    from reasonpack.verify.encoding import TokenView

NO_VIEWS: Fingerprint = (0, 0, 0, 0, 0, 0)
"""The fingerprint of a record whose views cannot be built."""
NONE = np.zeros((0, 2), np.uint64)
Kinds = Counter[tuple[str, int, int]]
"""Number of tokens by the id of a call (empty without one), the index of a message, and a kind.

The kinds `t` and `r_out` count trained tokens alone; `TRAINED` counts those of both together."""
TRAINED = len(Kind)


class Packed(Struct, frozen=True):
    """A sample of the dataset.

    Attributes:
        row: number of its row, counted over all shards.
        number: its number within the row.
        fingerprint: None if it is not compared.
        ends: paths of its leaves, u64[L, 2].
        trains_ends: all leaves are trained, or need not be.
        calls: keys of its calls.
    """

    shard: str
    row: int
    number: int
    fingerprint: Fingerprint | None = None
    kinds: Kinds = field(default_factory=Counter)
    ends: U64 = field(default_factory=NONE.copy)
    trains_ends: bool = True
    calls: frozenset[int] = frozenset()


class Expected(Struct, frozen=True):
    """What the samples of a record, or of a group of calls, must hold.

    Attributes:
        fingerprint: that of all these samples together; None if they are not compared.
        error: why its views cannot be built.
        kinds: number of tokens whose kind and message are certain.
        split: the split that it belongs in; empty if not known.
        calls: keys of its calls.
        leaves: for the last path of each view, how often it is a leaf, at least and at most.
        again: rebuilds the views of a group; None for a conversation.
        npass_tokens: tokens of the views that no other view extends.
        is_optional: it may have no sample, because it may train nothing.
    """

    where: str
    fingerprint: Fingerprint | None
    error: str = ""
    kinds: Kinds = field(default_factory=Counter)
    split: str = ""
    calls: frozenset[int] = frozenset()
    leaves: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)
    again: Callable[[], Sequence[TokenView]] | None = None
    npass_tokens: int = 0
    is_optional: bool = False

    @property
    def context_tokens(self) -> int:
        """Number of context tokens whose kind and message are certain."""
        context = (Kind.CONTEXT, Kind.R_IN)
        return sum(number for (*_, kind), number in self.kinds.items() if kind in context)


_One = TypeVar("_One", Packed, Expected)


class Different(Struct, frozen=True):
    """Samples and records of one id that differ; at least one of each."""

    id: str
    packed: list[Packed]
    expected: list[Expected]


class Reject(Struct, frozen=True):
    """A line of rejects.jsonl: its reason, and a digest of its record; None without a record."""

    reason: str
    digest: bytes | None


def ids_of(id_: str, times: int) -> list[str]:
    """Return the ids of the copies of a record that is packed `times` times."""
    return [id_ if copy == 1 else f"{id_}#{copy}" for copy in range(1, times + 1)]


class Join(Struct):
    """All that has no match yet: samples and records by id, rejects and left-out messages by place.

    Attributes:
        chosen: the ids to compare; None for all.
        rejects: records of rejects.jsonl that were not met in the input.
        left_out: messages of rejects.jsonl that were not met.
        touched: ids that were added since the last `match`.
        passed: ids that are not compared, of which further samples may come (`scattered`).
        contradictions: stop tokens for which the manifest is wrong: how often, and where first.
        order: checks the order of shuffled rows; None if it is not checked.
        not_left_out: messages that are too long and not in rejects.jsonl, by `where`: they are
            context for another reason.
    """

    manifest: Manifest
    findings: Findings
    chosen: set[str] | None
    rejects: dict[str, list[Reject]]
    left_out: dict[str, list[LeftOut]]
    packed: dict[str, list[Packed]] = field(default_factory=dict)
    expected: dict[str, list[Expected]] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)
    contradictions: dict[str, tuple[int, str]] = field(default_factory=dict)
    order: Order | None = None
    not_left_out: dict[str, set[int]] = field(default_factory=dict)

    @property
    def of_calls(self) -> bool:
        """Whether groups of calls are matched."""
        return "call_id" in self.manifest.columns

    @property
    def divided(self) -> bool:
        """Whether a record may have several samples."""
        return self.manifest.layout == "npass" or self.manifest.counts.extra_samples > 0

    @property
    def as_context(self) -> bool:
        """Whether pack kept messages whose views it could not build as context."""
        return self.manifest.options.on_message_error == "context"

    @property
    def weighs(self) -> bool:
        """Whether samples have a column of weights."""
        return "loss_weights" in self.manifest.columns

    @property
    def scattered(self) -> bool:
        """Whether the samples of an id may be in different shards."""
        return self.divided and self.manifest.options.shuffle

    def compares(self, id_: str, times: int = 1) -> bool:
        """Return whether the conversation with this id, or one of its copies, is compared."""
        return self.chosen is None or not self.chosen.isdisjoint(ids_of(id_, times))

    def add_expected(self, id_: str, expected: Expected, times: int) -> None:
        """Add a record or group of the source, once for each of its `times` copies."""
        for each in ids_of(id_, times):
            self.touched[each] = None
            self.expected.setdefault(each, []).append(expected)
            if self.order is not None:
                self.order.add_conversation(each)


def match(join: Join) -> None:
    """Drop samples and records that are equal, of the ids added since the last call.

    Those with equal tokens but other kinds, messages or splits are reported.
    """
    for id_ in join.touched:
        if id_ in join.passed:
            join.packed.pop(id_, None)
            join.expected.pop(id_, None)
        if id_ in join.packed and id_ in join.expected:
            both = join.packed.pop(id_), join.expected.pop(id_)
            packed, expected = _unequal(*both, join)
            if join.scattered and None in [each.fingerprint for each in both[1]]:
                join.passed.add(id_)
            if not packed and not expected:
                kinds = ""
                if not _has_unknown(*both):
                    kinds = _kinds_fault(*both)
                first = both[0][0]
                for code, what in (("RP312", kinds), ("RP315", _split_fault(*both))):
                    if what:
                        join.findings.report(code, first.shard, what, first.row, id_)
            if packed:
                join.packed[id_] = packed
            if expected:
                join.expected[id_] = expected
    join.touched.clear()


def _has_unknown(packed: Sequence[Packed], expected: Sequence[Expected]) -> bool:
    """Return whether one of these has no fingerprint, so is not compared."""
    return None in [*(one.fingerprint for one in packed), *(one.fingerprint for one in expected)]


def _kinds_fault(packed: Sequence[Packed], expected: Sequence[Expected]) -> str:
    """Describe the first message with too few tokens of a kind; empty without one.

    As many tokens are trained as expected, so no message has too many of them either.
    """
    found, least = (sum((one.kinds for one in ones), Kinds()) for ones in (packed, expected))
    for (call, message, kind), number in sorted(least.items()):
        if found[call, message, kind] < number:
            label = [each.label for each in Kind][kind] if kind < TRAINED else "t or r_out"
            have = count(found[call, message, kind], "token")
            where = f"call {quoted(call)}, " * bool(call) + f"message {message}"
            return f"{where} has {have} of the kind {label}, expected at least {number:,}"
    return ""


def _split_fault(packed: Sequence[Packed], expected: Sequence[Expected]) -> str:
    """Describe samples in the wrong split; empty without any, or if the right one is unknown."""
    found = {each.shard.removeprefix("data/").partition("-")[0] for each in packed}
    wanted = {each.split for each in expected}
    if found == wanted or "" in wanted:
        return ""
    return f"in {', '.join(sorted(found))}, expected in {', '.join(sorted(wanted))}"


def _unequal(
    packed: list[Packed], expected: list[Expected], join: Join
) -> tuple[list[Packed], list[Expected]]:
    """Return the samples and records of one id that have no equal on the other side.

    A sample without a fingerprint matches any record, and the other way round. A record that may
    have several samples is compared with all of them together.
    """
    if join.of_calls:
        equal_ = _has_unknown(packed, expected) or equal_together(packed, expected)
        return ([], []) if equal_ else (packed, expected)
    counts = [Counter(one.fingerprint for one in ones) for ones in (packed, expected)]
    equal = counts[0] & counts[1]
    samples, left = _without(packed, equal), _without(expected, equal)
    sound = [each for each in samples if each.fingerprint is not None]
    unsound = [each for each in samples if each.fingerprint is None]
    known = [each for each in left if each.fingerprint is not None]
    unknown = [each for each in left if each.fingerprint is None]
    if not join.divided:
        samples = sound[len(unknown) :] + unsound[len(known) :]
        return samples, known[len(unsound) :] + unknown[len(sound) :]
    if unsound or unknown:
        return [], []
    return ([], []) if equal_together(sound, known) else (sound, left)


def equal_together(packed: Sequence[Packed], expected: Sequence[Expected]) -> bool:
    """Return whether samples together train the same as records or groups, and hold nothing else.

    Each trained path occurs as often as expected, with the same weights and values. Each leaf of a
    sample is the end of a view and is trained, unless it need not be. The calls are the same.
    """
    prints = [each.fingerprint for each in packed if each.fingerprint is not None]
    wanted = [each.fingerprint for each in expected if each.fingerprint is not None]
    if not prints or not wanted or NO_VIEWS in wanted:
        return False
    if together(*prints)[2:] != together(*wanted)[2:]:
        return False
    found = Counter(path.tobytes() for each in packed for path in each.ends)
    least, most = Counter[bytes](), Counter[bytes]()
    for path, times in (leaf for each in expected for leaf in each.leaves.items()):
        least[path] += times[0]
        most[path] += times[1]
    alike = least <= found <= most and calls_of(packed) == calls_of(expected)
    return alike and all(each.trains_ends for each in packed)


def calls_of(ones: Sequence[Packed | Expected]) -> frozenset[int]:
    """Return the keys of the calls of samples or of groups."""
    return frozenset(key for one in ones for key in one.calls)


def _without(ones: Sequence[_One], prints: Counter[Fingerprint | None]) -> list[_One]:
    """Return `ones` without as many of each fingerprint as `prints` counts."""
    left, kept = Counter(prints), []
    for one in ones:
        if left[one.fingerprint]:
            left[one.fingerprint] -= 1
        else:
            kept.append(one)
    return kept
