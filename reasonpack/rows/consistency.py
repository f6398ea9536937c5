"""Check that the lists in the rows of a shard fit together.

    length         6        input_ids, labels, …     6 of each
    segment_start  0 2 4    segment_kind, …          as many; they tile the row
    sample_start   0 4      sample_id                as many; each begins with a segment
    call_id        a b      call_sample, …           as many; in the order of the samples

Code that takes rows apart relies on this check. It does not look at tokens; `verify` does so, with
code of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reasonpack.rows.content_hash import flattened, lengths, numbers_in, numbers_of
from reasonpack.rows.kind import Kind
from reasonpack.rows.optional_columns import FILLS
from reasonpack.rows.schema import COLUMNS, OPTIONAL

_PARALLEL = {
    "length": ("input_ids", "position_ids", "labels", *FILLS),
    "segment_start": ("segment_visible_until", "segment_kind", "segment_message", "segment_call"),
    "sample_start": ("sample_id",),
    "call_id": ("call_sample", "call_role", "call_reward"),
}
"""A column that says how many elements lists of a row have → the columns of these lists."""
I64 = NDArray[np.int64]


def check_sound(batch: pa.RecordBatch) -> None:
    """Refuse rows whose lists do not fit together; columns may be missing from the batch.

    Raises:
        ValueError: says what is wrong, and in which row.
    """
    known = {name: type_ for name, type_ in (*COLUMNS, *OPTIONAL) if name in batch.schema.names}
    lists = {name: batch.column(name) for name in known if name != "length"}
    for name, column in lists.items():
        if column.null_count or flattened(column).null_count:
            raise ValueError(f"{name}: there is a null")
    sizes: dict[str, I64] = {name: lengths(column) for name, column in lists.items()}
    if "length" in known:
        sizes["length"] = numbers_of(batch.column("length")).astype(np.int64)
    for like, names in _PARALLEL.items():
        for name in names:
            if name in sizes and like in sizes:
                _refuse_if(f"{name} is not as long as {like} says", sizes[name] != sizes[like])
    if {"length", "segment_start", "sample_start"} <= sizes.keys():
        _check_numbers({name: numbers_in(lists[name]) for name in _NUMBERS if name in lists}, sizes)


_NUMBERS = (
    *("segment_start", "segment_visible_until", "segment_kind", "segment_message"),
    *("sample_start", "segment_call", "call_sample"),
)


def _check_numbers(flat: dict[str, I64], sizes: dict[str, I64]) -> None:
    """Refuse indices of tokens, samples or calls that are out of range or out of order."""
    length = sizes["length"]
    _refuse_if("there is no token", length < 1)
    begin = np.cumsum(length) - length
    at: dict[str, I64] = {}
    for name in ("segment_start", "sample_start"):
        _refuse_if(f"{name} is empty", sizes[name] < 1)
        row = np.repeat(np.arange(len(length)), sizes[name])
        at[name] = flat[name] + begin[row]
        firsts = np.cumsum(sizes[name]) - sizes[name]
        stops = np.append(at[name][1:], length.sum())
        wrong = (stops <= at[name]) | (at[name] >= (begin + length)[row])
        wrong[firsts] |= at[name][firsts] != begin
        _refuse_if(f"{name} does not rise from 0 to below the length", wrong, row)
    segments, samples = at["segment_start"], at["sample_start"]
    of_segment, of_sample = (np.repeat(np.arange(len(length)), sizes[name]) for name in at)
    # Not np.isin, which takes longer to import than all of this.
    nearest = segments[np.searchsorted(segments, samples, "right") - 1]
    _refuse_if("a sample begins within a segment", nearest != samples, of_sample)
    own = np.searchsorted(samples, segments, "right") - 1
    last = np.append(samples[1:], length.sum())[own] - begin[of_segment]
    end = np.append(segments[1:], length.sum()) - begin[of_segment]
    calls = sizes.get("call_id", np.zeros(len(length), np.int64))[of_segment]
    for name, (least, most) in {
        "segment_visible_until": (end, last),
        "segment_kind": (0, len(Kind) - 1),
        "segment_message": (-1, np.iinfo(np.int32).max),
        "segment_call": (-1, calls - 1),
    }.items():
        if name in flat:
            wrong = (flat[name] < least) | (flat[name] > most)
            _refuse_if(f"{name} is out of its range", wrong, of_segment)
    if "call_sample" in flat and "call_id" in sizes:
        of = np.repeat(np.arange(len(length)), sizes["call_id"])
        wrong = (flat["call_sample"] < 0) | (flat["call_sample"] >= sizes["sample_start"][of])
        wrong[1:] |= (np.diff(flat["call_sample"]) < 0) & (np.diff(of) == 0)
        _refuse_if("call_sample is out of its range or order", wrong, of)


def _refuse_if(what: str, wrong: NDArray[np.bool_], row: NDArray[Any] | None = None) -> None:
    """Raise ValueError if an element is wrong; `row` has the row of each, by default its index."""
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"{what}, in row {first if row is None else row[first]} of its group")
