"""A small sample → about what a run would cost; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reasonpack.backends import Encoder
from reasonpack.errors import UsageError
from reasonpack.run.context import Options, load_context
from reasonpack.run.pack import STDIN, Run, named_inputs
from reasonpack.run.plan import InputFile, Record, Unit, plan, read_records
from reasonpack.run.pool import usable_cores
from reasonpack.run.unit import Counts, lay_out_records, load_encoder
from reasonpack.storage import Place

__all__ = ["Estimate", "estimate"]

SAMPLE_BYTES = 1 << 19
SAMPLE_UNITS = 3
MEMORY_AT_REST = 400 << 20
MEMORY_PER_BYTE = 20
"""Memory of a worker, and what a byte of a plain unit adds to it; measured, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run would do.

    Attributes:
        inputs: the files, each with its number of units.
        units: of all files.
        input_bytes: of all files.
        workers: processes that would run.
        memory: of all of them, in bytes.
        compressed: whether a file is, so that memory may be several times as much.
        conversations: about; None where there was nothing to take a sample of.
        tokens: about.
        seconds: about, by all workers.
        rejected_share: of the conversations in the sample.
    """

    inputs: tuple[tuple[InputFile, int], ...]
    units: int
    input_bytes: int
    workers: int
    memory: int
    compressed: bool
    conversations: float | None = None
    tokens: float | None = None
    seconds: float | None = None
    rejected_share: float = 0.0


def estimate(inputs: Sequence[str], options: Options, *, run: Run) -> Estimate:
    """Plan a run and pack a sample of its input.

    Args:
        inputs: as for `pack_files`, without standard input.
        options: of the run.
        run: how it would be done.

    Raises:
        UsageError: standard input, which would be used up.
        ReasonpackError: what would stop the run at once.
    """
    if STDIN in inputs:
        raise UsageError("-: cannot be read twice, expected files. Fix: name a file instead.")
    load_context(options)
    files = named_inputs(inputs, on_note=run.watch.on_note)
    planned, units = plan(files, unit_bytes=run.unit_bytes)
    numbers = [sum(unit.input == at for unit in units) for at in range(len(planned))]
    input_bytes = sum(unit.input_bytes for unit in units)
    workers = min(run.num_proc or usable_cores(), max(1, len(units)))
    largest = max((unit.input_bytes for unit in units), default=0)
    found = Estimate(
        inputs=tuple(zip(planned, numbers, strict=True)),
        units=len(units),
        input_bytes=input_bytes,
        workers=workers,
        memory=workers * (MEMORY_AT_REST + MEMORY_PER_BYTE * largest),
        compressed=any(unit.container in {"gzip", "zstd"} for unit in units),
    )
    plain = [unit for unit in units if unit.container == "plain" and unit.input_bytes]
    sample = plain[:: max(1, len(plain) // SAMPLE_UNITS)][:SAMPLE_UNITS]
    if not sample:
        return found
    encoder = load_encoder(options, run.backend)
    return _measured(found, sample, [place for place, _ in files], options, encoder)


def _measured(
    found: Estimate,
    sample: Sequence[Unit],
    places: Sequence[Place],
    options: Options,
    encoder: Encoder,
) -> Estimate:
    counts, began, seen = Counts(), time.perf_counter(), [0]
    for unit in sample:
        records = _first(read_records(unit, places[unit.input]), seen)
        lay_out_records(records, replace(options, on_error="skip"), [], counts, encoder=encoder)
    times = found.input_bytes / max(1, seen[0])
    return replace(
        found,
        conversations=counts.packed * times,
        tokens=counts.tokens * times,
        seconds=(time.perf_counter() - began) * times / found.workers,
        rejected_share=counts.rejected / max(1, counts.conversations),
    )


def _first(records: Iterator[Record], seen: list[int]) -> Iterator[Record]:
    """Yield the first records, about as many bytes of them as a sample has; count the bytes."""
    stop = seen[0] + SAMPLE_BYTES
    for record in records:
        seen[0] += len(record.line) + 1
        yield record
        if seen[0] >= stop:
            return
