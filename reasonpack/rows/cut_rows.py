"""Arrow rows → the samples packed in them: the inverse of `rows_to_table`.

input_ids     s0 s2 │ s1           one Arrow row per training row, ragged
segment_start  0… +|s0| │ 0…       indices of tokens, calls and samples count from the row's start
              │
rows  [[s0, s2], [s1]]             indices count from the sample's start
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonpack.rows.content_hash import flattened, numbers_of, offsets
from reasonpack.rows.optional_columns import FILLS
from reasonpack.rows.sample import Calls, Sample, Segments, slices


def cut_rows(batch: pa.RecordBatch) -> list[list[Sample]]:
    """Cut rows into their samples, whose arrays are slices of the columns.

    The rows must have passed `check_sound`.

    Returns:
        The samples of each row, in order.
    """
    columns = {name: batch.column(name) for name in batch.schema.names}
    lists = {name: column for name, column in columns.items() if pa.types.is_list(column.type)}
    bounds = {name: offsets(column) - offsets(column)[:1] for name, column in lists.items()}
    texts = {"sample_id", "call_id"}
    flat = {
        name: numbers_of(flattened(column)) for name, column in lists.items() if name not in texts
    }
    per_row = np.diff(bounds["sample_start"])
    starts = flat["sample_start"] + np.repeat(bounds["input_ids"][:-1], per_row)
    rows = np.diff(bounds["segment_start"])
    segments = flat["segment_start"] + np.repeat(bounds["input_ids"][:-1], rows)
    firsts = np.searchsorted(segments, starts)
    tokens = slices(np.append(starts, len(flat["input_ids"])))
    parts = slices(np.append(firsts, len(segments)))
    calls = _calls(columns, flat, bounds) if "call_id" in columns else None
    samples = []
    ids = flattened(columns["sample_id"]).to_pylist()
    for number, (own, part, start) in enumerate(
        zip(tokens, parts, flat["sample_start"], strict=True)
    ):
        call, held = calls[number] if calls else (0, None)
        numbered = flat["segment_call"][part] if calls else None
        samples.append(
            Sample(
                id=ids[number],
                input_ids=flat["input_ids"][own],
                position_ids=flat["position_ids"][own],
                labels=flat["labels"][own],
                segments=Segments(
                    start=flat["segment_start"][part] - start,
                    visible_until=flat["segment_visible_until"][part] - start,
                    kind=flat["segment_kind"][part],
                    message=flat["segment_message"][part],
                    call=None if numbered is None else np.where(numbered < 0, -1, numbered - call),
                ),
                extra={name: flat[name][own] for name in FILLS if name in flat},
                calls=held,
            )
        )
    return [samples[first:stop] for first, stop in pairwise(bounds["sample_start"].tolist())]


def _calls(
    columns: dict[str, pa.Array], flat: dict[str, NDArray[Any]], bounds: dict[str, NDArray[Any]]
) -> Sequence[tuple[int, Calls]]:
    """Return for each sample its calls, and the index in the row of the first of them."""
    per_row, samples = np.diff(bounds["call_id"]), bounds["sample_start"]
    of = flat["call_sample"] + np.repeat(samples[:-1], per_row)
    first = np.searchsorted(of, np.arange(samples[-1] + 1))
    row_first = np.repeat(bounds["call_id"][:-1], np.diff(samples))
    ids, size = flattened(columns["call_id"]).to_pylist(), len(of)
    role = flat.get("call_role", np.zeros(size, np.uint8))
    reward = flat.get("call_reward", np.full(size, np.nan, np.float32))
    return [
        (start - int(row), Calls(ids[start:stop], role[start:stop], reward[start:stop]))
        for (start, stop), row in zip(pairwise(first.tolist()), row_first, strict=True)
    ]
