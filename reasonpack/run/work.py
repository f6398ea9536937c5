"""Records of a unit → samples, rows, rejects and counts: what is the same for chats and for calls.

    chats, groups of calls ── read ──→ texts that wait ── write ──→ samples ─→ rows
                                └── records that cannot be packed ──┴──→ rejects

`Chats` in `conversations` and `CallGroups` in `calls` implement `read` and `write`.
"""

from __future__ import annotations

import base64
import itertools
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import ReasonpackError, RecordError, TemplateError
from reasonpack.records.unit import Record
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.rows.forest import LaidOut
from reasonpack.rows.kind import Kind
from reasonpack.rows.packing import best_fit, in_sequence
from reasonpack.rows.sample import IGNORE, Sample
from reasonpack.run.context import Context
from reasonpack.run.copies import DUPLICATE
from reasonpack.run.length import LeftOut, Limits
from reasonpack.run.stages import stage, staged
from reasonpack.templates.limits import catching_alarms, ready_for_bounds
from reasonpack.tokens.view_tokens import Pieces

Encode = Callable[[Sequence[str]], Sequence[NDArray[np.int32]]]
Cut = Callable[[int, Record, Any], None]
_Item = TypeVar("_Item")
READ_AT_ONCE, BYTES_AT_ONCE = 64, 1 << 20
"""Records, or bytes of their lines, that are read before views of the first are cut: to take one
step for many records in turn is a seventh faster than to take all steps for each."""
KEPT_AT_ONCE = 1 << 24
"""Characters of views from which the memory that a template may take is measured anew, so that it
does not count what is kept of many records."""


class Laid(Struct):
    """The samples, rows and rejects of some records.

    Attributes:
        samples: samples of the conversations that were packed, in their order.
        splits: the split of each sample.
        rows: for each split its rows, each the indices of its samples.
        rejects: the lines of rejects.jsonl, in the order of their records.
        counts: of these records.
        first_error: error of the first record or message left out; None if all were packed.
        backend: name of the backend that encoded texts.
        backend_faults: why other backends that were chosen were not used.
    """

    samples: list[Sample] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    rows: dict[str, list[list[int]]] = field(default_factory=dict)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    first_error: RecordError | None = None
    backend: str = ""
    backend_faults: list[str] = field(default_factory=list)

    def add(self, other: Laid) -> None:
        """Add the result of the records that follow, without its rows and first error."""
        self.samples += other.samples
        self.splits += other.splits
        self.rejects += other.rejects
        self.counts.add(other.counts)
        self.backend = self.backend or other.backend
        self.backend_faults += other.backend_faults

    def pack(self, samples: Sequence[Sample], laid_out: Sequence[LaidOut]) -> None:
        """Add and count samples, and the layouts that they were written from."""
        self.counts.add(counts_of_samples(samples))
        self.counts.add(counts_of_layouts(laid_out))
        self.samples += samples

    def put_into_rows(self, options: Options) -> None:
        """Put samples into rows, several in each if options pack them."""
        with stage("rows"):
            for split in options.splits:
                own = [index for index, each in enumerate(self.splits) if each == split]
                rows = join_samples([self.samples[index] for index in own], options)
                self.rows[split] = [[own[index] for index in row] for row in rows]
        self.counts.rows = sum(map(len, self.rows.values()))


class Work(ABC, Generic[_Item]):
    """Lays out the items of a unit: records of chats, or groups of calls.

    Records that are read wait until their views are cut, some at once, and these until their texts
    are encoded in one batch. `encode` is by default that of the tokenizer itself; `columns` are
    optional columns of the rows.

    Attributes:
        laid: the result of the items that do not wait.
        pieces: the texts of the views that wait.
    """

    def __init__(
        self,
        options: Options,
        context: Context,
        encode: Encode | None = None,
        columns: Iterable[str] = (),
    ) -> None:
        self.options, self.context, self.columns = options, context, frozenset(columns)
        self.encode = encode or context.tokenizer.encode_batch
        self.limits, self.laid = Limits(options, context.max_position), Laid()
        self._positions: list[int] = []
        """The position of each reject's record, by which rejects are sorted."""
        self._uncut = deque[tuple[int, Record, Any, Cut]]()
        self._bytes = 0
        self.begin()

    def begin(self) -> None:
        """Start a new batch: no view waits."""
        tokenizer = self.context.tokenizer
        self.pieces = Pieces(tokenizer.cut, reach=tokenizer.reach, decode=tokenizer.decode)

    @abstractmethod
    def read(self, each: _Item, times: int) -> None:
        """Read the records of an item, and `put` each; it is packed so many `times`."""

    @abstractmethod
    def write(self) -> None:
        """Write the samples of the items that wait, whose texts are encoded."""

    def lay_out(self, items: Iterable[_Item], times: Iterable[int] | None = None) -> Laid:
        """Turn all items into samples and rows.

        `times` says how often each is packed, or `DUPLICATE`; None for once.

        Raises:
            RecordError: a record that cannot be packed, unless `options.on_error` skips it.
        """
        laid, positions = self.laid, self._positions
        each_times = itertools.repeat(1) if times is None else map(int, times)
        with catching_alarms():
            try:
                for each, often in zip(staged("read", items), each_times, strict=False):
                    laid.counts.duplicates += often == DUPLICATE
                    laid.counts.not_taken += often == 0
                    if often not in (0, DUPLICATE):
                        self.read(each, often)
            except ReasonpackError:
                self.cut()  # errors of the records before it come first
                raise
        self.flush()
        # Records that are too long are rejected once encoded, after broken ones that follow them.
        order = sorted(range(len(positions)), key=positions.__getitem__)
        laid.rejects = [laid.rejects[at] for at in order]
        laid.counts.conversations = laid.counts.packed + laid.counts.rejected
        laid.put_into_rows(self.options)
        return laid

    def put(self, position: int, record: Record, found: Any, cut: Cut) -> None:
        """Let what was `found` in a record, or its error, wait for `cut`, which cuts its views."""
        self._uncut.append((position, record, found, cut))
        self._bytes += len(record.line)
        if len(self._uncut) == READ_AT_ONCE or self._bytes > BYTES_AT_ONCE:
            self.cut()

    def cut(self) -> None:
        """Cut the views of the records that wait for it, and reject those with an error."""
        uncut, self._uncut, self._bytes = self._uncut, deque(), 0
        with stage("render"):
            while uncut:
                most = self.pieces.characters + KEPT_AT_ONCE
                with ready_for_bounds():
                    while uncut and self.pieces.characters < most:
                        self._cut_one(*uncut.popleft())

    def _cut_one(self, position: int, record: Record, found: Any, cut: Cut) -> None:
        """Cut the views of a record, or reject it if it cannot be packed.

        Raises:
            RecordError: it stops the run; see `reject`.
            TemplateError: the template fails; the error names the record.
        """
        try:
            if isinstance(found, RecordError):
                raise found
            cut(position, record, found)
        except RecordError as error:
            self.reject(position, record, error)
        except TemplateError as error:
            where = f"{record.where}: {error.where}"
            raise TemplateError(where, error.what, error.expected, error.fix) from error

    def flush(self) -> None:
        """Encode and write the views that wait."""
        self.cut()
        with stage("encode"):
            self.pieces.encode(self.encode)
        self.write()
        self.begin()

    def reject(self, position: int, record: Record, error: RecordError) -> None:
        """Add the record at a position to the rejects, or raise its error if that stops the run."""
        error.where = error.where or record.where
        if isinstance(error, UnknownFieldError):
            raise error
        skipped = error.reason == "overlong" and self.options.overlong != "error"
        if self.options.on_error == "stop" and not skipped:
            raise error
        laid = self.laid
        # An error would keep all of the unit in memory, because its frames refer to `laid`.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        laid.first_error = laid.first_error or error
        laid.rejects.append(_reject_line(record, error))
        self._positions.append(position)
        laid.counts.rejected += 1
        laid.counts.rejects[error.reason] = laid.counts.rejects.get(error.reason, 0) + 1

    def leave_out(self, position: int, record: Record, left_out: Sequence[LeftOut]) -> None:
        """Add messages that are not trained, because their views are too long, to the rejects."""
        laid = self.laid
        for each in sorted(left_out, key=lambda each: each.message):
            laid.first_error = laid.first_error or each.error(record.where)
            laid.rejects.append(each.line(record.where))
            self._positions.append(position)
            laid.counts.left_out[each.reason] = laid.counts.left_out.get(each.reason, 0) + 1


def ids_of_copies(id_: str, times: int) -> list[str]:
    """Return the ids of a conversation that is packed so many `times`.

    >>> ids_of_copies("a", 3)
    ['a', 'a#2', 'a#3']
    """
    return [id_, *(f"{id_}#{copy}" for copy in range(2, times + 1))]


def _reject_line(record: Record, error: RecordError) -> dict[str, str]:
    line = {"where": record.where, "reason": error.reason, "error": str(error)}
    if record.row is not None:
        return {**line, "record": json.dumps(record.row, ensure_ascii=False, default=str)}
    try:
        return {**line, "record": record.line.decode()}
    except UnicodeDecodeError:
        return {**line, "record_base64": base64.b64encode(record.line).decode()}


def join_samples(samples: Sequence[Sample], options: Options) -> list[list[int]]:
    """Return the rows of samples, each as the indices of its samples."""
    if not options.packed or options.max_length is None:
        return [[index] for index in range(len(samples))]
    pack = best_fit if options.packing == "best-fit" else in_sequence
    return pack(
        [sample.length for sample in samples],
        options.max_length,
        costs=[] if options.max_cost is None else [sample.pairs for sample in samples],
        max_cost=options.max_cost,
    )


def without_rows(counts: Counts) -> Counts:
    """Return counts of a unit with 0 for all that is counted in samples and rows."""
    return replace(
        counts, samples=0, rows=0, tokens=0, trained_tokens=0, pairs=0, tokens_by_kind={}
    )


def counts_of_samples(samples: Sequence[Sample]) -> Counts:
    """Count samples and their tokens."""
    if not samples:
        return Counts()
    segments = [each.segments for each in samples]
    lengths = [each.length for each in samples]
    before = np.repeat(np.cumsum([0, *lengths[:-1]]), [len(each.start) for each in segments])
    starts = before + np.concatenate([each.start for each in segments])
    sizes = np.diff(starts, append=sum(lengths))
    by_kind = np.bincount(np.concatenate([each.kind for each in segments]), sizes, len(Kind))
    labels = np.concatenate([each.labels for each in samples])
    depths = np.concatenate([each.position_ids for each in samples])
    return Counts(
        samples=len(samples),
        tokens=len(labels),
        pairs=len(labels) + int(depths.sum(dtype=np.int64)),
        trained_tokens=int(np.count_nonzero(labels != IGNORE)),
        tokens_by_kind={kind.label: int(by_kind[kind]) for kind in Kind},
    )


def counts_of_layouts(laid_out: Sequence[LaidOut]) -> Counts:
    """Count conversations, their views, and what dividing them cost."""
    return Counts(
        packed=len(laid_out),
        divided=sum(each.extra_samples > 0 for each in laid_out),
        extra_samples=sum(each.extra_samples for each in laid_out),
        extra_tokens=sum(each.extra_tokens for each in laid_out),
        views=sum(each.views for each in laid_out),
        npass_tokens=sum(each.npass_tokens for each in laid_out),
        naive_tokens=sum(each.naive_tokens for each in laid_out),
    )
