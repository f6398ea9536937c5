"""Rows of a shard become one integer per token: `visible_until i32[B, T]`.

    segment_start          0     2     4              length 6
    segment_visible_until  6     4     6
    ->
    visible_until          6 6 | 4 4 | 6 6 | 7 8      padded to 8, as a line of a batch
                           6 6 | 4 4 | 6 6 | 8 8      padded to 8, as the end of a flat batch

Cost: O(S + T) per row.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import FormatError, UsageError

__all__ = ["Window", "flat", "stack", "visible_until"]

SEGMENTS = frozenset({"length", "segment_start", "segment_visible_until"})
"""Columns from which a mask is made."""


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window, measured in positions: `position_ids[q] - position_ids[k] < size`.

    Row indices would not do: in a row, the copy of a response comes long after the text that
    it follows at inference, but its positions continue those of that text.

    Attributes:
        position_ids: `i32[B, T]`, as in the rows; any value in padding. A NumPy array
            for the NumPy consumers, a tensor or an array for `flex`.
        size: how many positions a token sees, its own included; at least 1.
    """

    position_ids: Any
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(
                "window", f"size {self.size}", "at least 1", "pass the model's sliding_window"
            )


def visible_until(
    row: Mapping[str, Any], padded_length: int | None = None, *, where: str = "row"
) -> NDArray[np.int32]:
    """Expand the segments of one row to `i32[T]`, T = `padded_length` or the row's own length.

    Entry k is the first token after k that does not see k, row-relative; token k is
    visible to exactly the tokens before that, from k on. Padding token p gets p + 1.

    Args:
        row: the columns `length`, `segment_start` and `segment_visible_until`
            (`i32[S]`, exclusive, row-relative), as lists or arrays.
        padded_length: tokens in the padded row; at least `length`.
        where: the name of the row in errors.

    Raises:
        FormatError: the segments do not tile the row, or are not a pre-order.
        UsageError: `padded_length` is below the row's length, or `row` is no row.

    >>> row = {"length": 6, "segment_start": [0, 2, 4], "segment_visible_until": [6, 4, 6]}
    >>> visible_until(row, 8).tolist()
    [6, 6, 4, 4, 6, 6, 7, 8]
    """
    (row,) = listed([row], where=where)
    length = int(row["length"])
    start = np.asarray(row["segment_start"], np.int32)
    until = np.asarray(row["segment_visible_until"], np.int32)
    _check_segments(start, until, length=length, where=where)
    total = length if padded_length is None else padded_length
    if total < length:
        fix = "pad to the longest row of the batch; a row must not be cut"
        raise UsageError(where, f"{length} tokens", f"at most padded_length={total}", fix)
    out = np.arange(1, total + 1, dtype=np.int32)
    out[:length] = np.repeat(until, np.diff(start, append=length))
    return out


def stack(rows: Sequence[Mapping[str, Any]], padded_length: int | None = None) -> NDArray[np.int32]:
    """Expand a batch of rows to `i32[B, T]`, T = `padded_length` or the longest row.

    Raises:
        FormatError: as `visible_until`; names the row by its index in the batch.
        UsageError: as `listed`; or a row is longer than `padded_length`.

    >>> short = {"length": 1, "segment_start": [0], "segment_visible_until": [1]}
    >>> long = {"length": 3, "segment_start": [0], "segment_visible_until": [3]}
    >>> stack([short, long]).tolist()
    [[1, 2, 3], [3, 3, 3]]
    """
    rows = listed(rows)
    total = max(int(row["length"]) for row in rows) if padded_length is None else padded_length
    return np.stack([visible_until(row, total, where=f"row {i}") for i, row in enumerate(rows)])


def flat(rows: Sequence[Mapping[str, Any]], padded_length: int | None = None) -> NDArray[np.int32]:
    """Lay rows end to end as one: `i32[1, T]`, T = `padded_length` or the sum of their lengths.

    Padding is one more plain causal sequence, T for each token, which no row sees.

    Raises:
        FormatError: as `stack`.
        UsageError: as `listed`; or there are more tokens than `padded_length`.

    >>> plain = {"length": 2, "segment_start": [0], "segment_visible_until": [2]}
    >>> branch = {"length": 3, "segment_start": [0, 1, 2], "segment_visible_until": [3, 2, 3]}
    >>> flat([plain, branch], 7).tolist()
    [[2, 2, 5, 4, 5, 7, 7]]
    """
    rows = listed(rows)
    parts: list[NDArray[np.int32]] = []
    tokens = 0
    for number, row in enumerate(rows):
        parts.append(visible_until(row, where=f"row {number}") + np.int32(tokens))
        tokens += parts[-1].size
    total = tokens if padded_length is None else padded_length
    if total < tokens:
        fix = "take fewer rows a batch; a row must not be cut"
        raise UsageError("batch", f"{tokens} tokens", f"at most padded_length={total}", fix)
    return np.concatenate([*parts, np.full(total - tokens, total, np.int32)])[None]


def listed(
    rows: Iterable[Mapping[str, Any]], columns: AbstractSet[str] = SEGMENTS, *, where: str = ""
) -> list[Mapping[str, Any]]:
    """Return the rows of a batch as a list, each of which has these columns.

    `where` names the row in errors; empty for its index in the batch.

    Raises:
        UsageError: no rows; one row, or columns of several, in place of a list; an item that is no
            row; a column is missing.
    """
    if hasattr(rows, "keys"):  # also a table of pandas
        fix = "pass [row]; of datasets, [rows[0], rows[1]] instead of rows[0:2]"
        what = f"a {type(rows).__name__}: one row, or columns of several"
        raise UsageError("batch", what, "a list of rows", fix)
    found = list(rows)
    if not found:
        raise UsageError("batch", "no rows", "at least one", "skip empty batches")
    for number, row in enumerate(found):
        is_row = hasattr(row, "keys")
        if missing := sorted(columns - {*row.keys()} if is_row else columns):
            raise UsageError(
                where or f"row {number}",
                f"no {', '.join(missing)}" if is_row else f"a {type(row).__name__}",
                "the columns of a packed dataset",
                "let the trainer keep them (remove_unused_columns=False), and take the "
                "rows of RowDataset, RowStream or datasets.load_dataset as they are",
            )
    return found


def as_array(visible_until: Any, dimensions: Container[int] = (2,)) -> NDArray[np.int32]:
    """Return `i32[B, T]`, given as an array, a list or a tensor on the CPU.

    `dimensions` may allow `i32[T]` too.

    Raises:
        UsageError: it is something else, such as a row.
    """
    found = np.asarray(visible_until)
    if found.ndim not in dimensions or found.dtype.kind != "i":
        what = f"a {type(visible_until).__name__} of shape {found.shape}"
        fix = "pass what masks.stack or masks.flat returns"
        raise UsageError("visible_until", what, "integers of shape (rows, tokens)", fix)
    return found


def branch_pieces(
    visible_until: NDArray[np.int32],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the branches of `i32[B, T]`, laid end to end: row b starts at token b·T.

    A *branch* is a maximal run of tokens, each the child of the token before it. A *piece* is a
    maximal run in one branch of tokens with the same `visible_until`.

    Returns:
        `visible_until` `i64[B·T]`, counted from the first row's start; the bounds of the N
        branches, `i64[N + 1]`; the first token of each of the P pieces, `i64[P]`.

    >>> [each.tolist() for each in branch_pieces(np.array([[7, 3, 3, 7, 7, 7, 7]], np.int32))]
    [[7, 3, 3, 7, 7, 7, 7], [0, 3, 7], [0, 1, 3]]
    """
    visible_until = as_array(visible_until)
    rows, total = visible_until.shape
    until = (visible_until + total * np.arange(rows, dtype=np.int64)[:, None]).ravel()
    # Token k is the child of k − 1 exactly if the subtree of k − 1 goes on past k − 1.
    opens = np.append(True, until[:-1] == np.arange(1, until.size))
    pieces = np.flatnonzero(opens | np.append(True, until[1:] != until[:-1]))
    return until, np.append(np.flatnonzero(opens), until.size), pieces


def _check_segments(
    start: NDArray[np.int32], until: NDArray[np.int32], *, length: int, where: str
) -> None:
    """Refuse segments that do not tile `[0, length)`, or whose intervals cross.

    In a pre-order of a forest, intervals `[start, until)` nest or are disjoint. `magi` and
    `varlen` rely on that; a crossing pair means a damaged row.
    """
    tiles = (
        len(start) == len(until) > 0
        and start[0] == 0
        and bool(np.all(np.diff(start, append=length) > 0))
    )
    if not tiles:
        what = f"segment_start {_head(start)} with {len(until)} segment_visible_until"
        expected = f"as many of both, the starts rising from 0 to below length={length}"
        raise FormatError(where, what, expected, "read the row whole, or pack it again")
    enclosing = [length]
    for index, (first, end) in enumerate(zip(start.tolist(), until.tolist(), strict=True)):
        while enclosing[-1] <= first:
            enclosing.pop()
        next_start = int(start[index + 1]) if index + 1 < len(start) else length
        if not next_start <= end <= enclosing[-1]:
            what = f"segment_visible_until[{index}] is {end}"
            expected = f"{next_start} (the segment's end) to {enclosing[-1]} (its parent's subtree)"
            raise FormatError(where, what, expected, "read the row whole, or pack it again")
        enclosing.append(end)


def _head(values: NDArray[np.int32]) -> str:
    shown = ", ".join(map(str, values[:6].tolist()))
    return f"[{shown}, … {len(values)} in all]" if len(values) > 6 else f"[{shown}]"
