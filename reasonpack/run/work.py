"""Records of a unit → samples and rows: what is the same for chats and for calls.

    chats, groups of calls ── read ──→ texts that wait ── write ──→ samples ─→ rows
                                └────── what cannot be packed ──────┴──→ rejects

`conversations` and `calls` each have a way to read and to write.
"""

from __future__ import annotations

import base64
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Generic, TypeVar

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import RecordError, TemplateError
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
from reasonpack.tokens.view_tokens import Pieces

Encode = Callable[[Sequence[str]], Sequence[NDArray[np.int32]]]
_Read = TypeVar("_Read")


class Laid(Struct):
    """What records became.

    Attributes:
        samples: of the conversations that were packed, in their order.
        splits: that each of them is of.
        rows: for each row of a split the indices of its samples.
        rejects: the lines of rejects.jsonl, in the order of their records.
        first_error: what was rejected, or left out, first; None if all was packed.
        backend: what encoded their texts.
        backend_faults: why others did not that were to.
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
        """Add what the records behind these became, but for their rows and their first error."""
        self.samples += other.samples
        self.splits += other.splits
        self.rejects += other.rejects
        self.counts.add(other.counts)
        self.backend = self.backend or other.backend
        self.backend_faults += other.backend_faults

    def pack(self, samples: Sequence[Sample], laid_out: Sequence[LaidOut]) -> None:
        """Add the samples of conversations that are packed, and what these were made of."""
        count_samples(samples, self.counts)
        count_laid_out(laid_out, self.counts)
        self.samples += samples

    def put_into_rows(self, options: Options) -> None:
        """Put samples into rows, several in each if they are to be packed."""
        with stage("rows"):
            for split in options.splits:
                own = [index for index, each in enumerate(self.splits) if each == split]
                rows = join_samples([self.samples[index] for index in own], options)
                self.rows[split] = [[own[index] for index in row] for row in rows]
        self.counts.rows = sum(map(len, self.rows.values()))


class Work(ABC, Generic[_Read]):
    """Records, or groups, of a unit that wait for the ids of their texts; and what others became.

    `encode` is by default that of the tokenizer itself; `columns` are optional ones of the rows.

    Attributes:
        laid: what the others became.
        pieces: the texts of those that wait.
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
        """For each reject that of its record, by which they are sorted."""
        self.begin()

    def begin(self) -> None:
        """Forget the texts of what is written."""
        tokenizer = self.context.tokenizer
        self.pieces = Pieces(tokenizer.cut, reach=tokenizer.reach, decode=tokenizer.decode)

    @abstractmethod
    def read(self, each: _Read, times: int) -> None:
        """Read one, which then waits; it is packed so many times."""

    @abstractmethod
    def write(self) -> None:
        """Write the samples of those that wait, whose texts are encoded."""

    def lay_out(self, each_read: Iterable[_Read], times: Iterable[int] | None = None) -> Laid:
        """Turn all into samples and rows.

        `times` says how often each is packed, or `DUPLICATE`; None for once.

        Raises:
            RecordError: a record that cannot be packed, unless `options.on_error` skips it.
        """
        laid, positions = self.laid, self._positions
        each_times = itertools.repeat(1) if times is None else map(int, times)
        for each, often in zip(staged("read", each_read), each_times, strict=False):
            laid.counts.duplicates += often == DUPLICATE
            laid.counts.not_taken += often == 0
            if often not in (0, DUPLICATE):
                self.read(each, often)
        self.flush()
        # What is too long is known only once it is encoded, after what is broken behind it.
        order = sorted(range(len(positions)), key=positions.__getitem__)
        laid.rejects = [laid.rejects[at] for at in order]
        laid.counts.conversations = laid.counts.packed + laid.counts.rejected
        laid.put_into_rows(self.options)
        return laid

    def flush(self) -> None:
        """Encode the texts of those that wait, and write them."""
        with stage("encode"):
            self.pieces.encode(self.encode)
        self.write()
        self.begin()

    @contextmanager
    def rejecting(self, position: int, record: Record) -> Iterator[None]:
        """Reject the record at a position if it cannot be packed; see `reject`.

        Raises:
            TemplateError: the template fails, at this record.
        """
        try:
            yield
        except RecordError as error:
            self.reject(position, record, error)
        except TemplateError as error:
            where = f"{record.where}: {error.where}"
            raise TemplateError(where, error.what, error.expected, error.fix) from error

    def reject(self, position: int, record: Record, error: RecordError) -> None:
        """Keep the record at a position that is not packed, unless that stops the run."""
        error.where = error.where or record.where
        if isinstance(error, UnknownFieldError):
            raise error
        skipped = error.reason == "overlong" and self.options.overlong != "error"
        if self.options.on_error == "stop" and not skipped:
            raise error
        laid = self.laid
        # By its frames, which know `laid`, an error would keep all of the unit in memory.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        laid.first_error = laid.first_error or error
        laid.rejects.append(_reject_line(record, error))
        self._positions.append(position)
        laid.counts.rejected += 1
        laid.counts.rejects[error.reason] = laid.counts.rejects.get(error.reason, 0) + 1

    def leave_out(self, position: int, record: Record, left_out: Sequence[LeftOut]) -> None:
        """Keep messages that are not trained because their views are too long, with the reason."""
        laid = self.laid
        for each in sorted(left_out, key=lambda each: each.message):
            laid.first_error = laid.first_error or each.error(record.where)
            laid.rejects.append(each.line(record.where))
            self._positions.append(position)
            laid.counts.left_out[each.reason] = laid.counts.left_out.get(each.reason, 0) + 1


def ids_of_copies(id_: str, times: int) -> list[str]:
    """Name the copies of a conversation.

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
    """Say which samples share a row, as indices."""
    if not options.packed or options.max_length is None:
        return [[index] for index in range(len(samples))]
    pack = best_fit if options.packing == "best-fit" else in_sequence
    return pack(
        [sample.length for sample in samples],
        options.max_length,
        costs=[sample.pairs for sample in samples],
        max_cost=options.max_cost,
    )


def without_rows(counts: Counts) -> Counts:
    """Return counts of the records of a unit, without those of what its shards hold."""
    return replace(
        counts, samples=0, rows=0, tokens=0, trained_tokens=0, pairs=0, tokens_by_kind={}
    )


def count_samples(samples: Sequence[Sample], counts: Counts) -> None:
    """Add what samples hold."""
    if not samples:
        return
    by_kind = np.zeros(len(Kind), np.int64)
    for sample in samples:
        sizes = np.diff(sample.segments.start, append=sample.length)
        by_kind += np.bincount(sample.segments.kind, sizes, len(Kind)).astype(np.int64)
        counts.tokens += sample.length
        counts.pairs += sample.pairs
        counts.trained_tokens += int(np.count_nonzero(sample.labels != IGNORE))
    for kind, tokens in zip(Kind, by_kind.tolist(), strict=True):
        counts.tokens_by_kind[kind.label] = counts.tokens_by_kind.get(kind.label, 0) + tokens
    counts.samples += len(samples)


def count_laid_out(laid_out: Sequence[LaidOut], counts: Counts) -> None:
    """Add what conversations were made of, and what dividing them cost."""
    counts.packed += len(laid_out)
    counts.divided += sum(each.extra_samples > 0 for each in laid_out)
    counts.extra_samples += sum(each.extra_samples for each in laid_out)
    counts.extra_tokens += sum(each.extra_tokens for each in laid_out)
    counts.views += sum(each.views for each in laid_out)
    counts.npass_tokens += sum(each.npass_tokens for each in laid_out)
    counts.naive_tokens += sum(each.naive_tokens for each in laid_out)
