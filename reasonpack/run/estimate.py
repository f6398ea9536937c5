"""A small sample → about what a run would cost; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from reasonpack.datasets.options import Options
from reasonpack.errors import UsageError
from reasonpack.records.plan import InputFile, plan
from reasonpack.run.call_plan import formats_of_inputs, kind_of_inputs
from reasonpack.run.context import Context, load_context
from reasonpack.run.conversations import lay_out_records
from reasonpack.run.engine import Run
from reasonpack.run.named_inputs import STDIN, named_inputs
from reasonpack.run.plan_file import planned_columns
from reasonpack.run.pool import usable_cores
from reasonpack.run.sample import Stratum, strata
from reasonpack.run.unit import load_encoder
from reasonpack.storage.place import Place
from reasonpack.tokens.fast_backends import Encoder

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


def estimate(
    inputs: Sequence[str], options: Options, *, run: Run, output: Place | None = None
) -> Estimate:
    """Plan a run and pack a sample of its input.

    Args:
        inputs: as for `pack_files`, without standard input.
        options: of the run.
        run: how it would be done.
        output: the directory of the run, which may lie in one of the inputs.

    Raises:
        UsageError: standard input, which would be used up, or calls.
        ReasonpackError: what would stop the run at once.
    """
    if STDIN in inputs:
        raise UsageError("-", "cannot be read twice", "files", "name a file instead")
    context = load_context(options)
    files = named_inputs(inputs, without=output, on_note=run.watch.on_note)
    if kind_of_inputs(formats_of_inputs(files, options), options) != "chats":
        raise UsageError(
            "--dry-run", "calls", "chats", "pack a part of the calls, whose time can be measured"
        )
    weighted = options.loss_weights == "auto"
    planned, units = plan(files, unit_bytes=run.unit_bytes, weighted=weighted)
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
    encoder = load_encoder(options, run.backend)
    sample = strata(units, [place for place, _ in files])
    columns = planned_columns(options, planned)
    return _measured(found, sample, options, context, encoder, columns)


def _measured(
    found: Estimate,
    sample: Iterable[Stratum],
    options: Options,
    context: Context,
    encoder: Encoder,
    columns: Sequence[str],
) -> Estimate:
    """Pack a sample, and count each part of it as often as there is such input."""
    total: dict[str, float] = dict.fromkeys(("conversations", "packed", "tokens", "seconds"), 0.0)
    for stratum in sample:
        began = time.perf_counter()
        skipping = replace(options, on_error="skip")
        laid = lay_out_records(stratum.records, skipping, context, encoder.encode, columns=columns)
        counts = laid.counts
        total["seconds"] += (time.perf_counter() - began) * stratum.times
        total["tokens"] += counts.tokens * stratum.times
        for name in ("conversations", "packed"):
            total[name] += getattr(counts, name) * stratum.more
    if not total["conversations"]:
        return found
    return replace(
        found,
        conversations=total["packed"],
        tokens=total["tokens"],
        seconds=total["seconds"] / found.workers,
        rejected_share=1 - total["packed"] / total["conversations"],
    )
