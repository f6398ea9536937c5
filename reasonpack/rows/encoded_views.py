"""Views in tokens: those of many conversations in a few arrays, and nothing that is shared twice.

view 1   h1 t1 r_out1              tokens   h1 t1 r_out1 │ r_in1 h2 t2 r_out2
view 2   h1 r_in1 h2 t2 r_out2     shared   0            │ 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
ROOT = -1
"""Stands for the view of which the first tokens of a conversation are children."""
Run = tuple[int, int, int, bool]
"""Tokens that are alike: one past the last, kind, message (−1 for none), whether trained."""


@dataclass(frozen=True, slots=True)
class EncodedViews:
    """V views of C conversations, of each the tokens that it does not share with `base`.

    The token at depth d ≥ `shared[v]` of view v is `tokens[origin[v] + d]`.

    Attributes:
        tokens: i32[N], those of each view, one view after another.
        trained: bool[N], which of them the model is to learn, be it as a rejected answer.
        run_start: i64[R], where kind, message, call or view changes in `tokens`.
        run_kind: u8[R], what the tokens from there on are part of.
        run_message: i32[R], the message they belong to, −1 for none.
        base: for each view an earlier one of its conversation that begins with the same
            `shared` tokens; −1 where it shares none. `shared[base] <= shared`.
        shared: for each view how many of its tokens are left out; none of them is trained.
        origin: see above.
        end: how many tokens each view has, the shared ones included.
        first_trained: depth of the first trained token of each view; `end` where there is none.
        bounds: C + 1 of them; conversation c has the views from `bounds[c]` to `bounds[c + 1]`.
        extra: [N] by the names of optional columns with a value for each token (`optional.FILLS`);
            what is not trained has any value.
        run_call: i32[R], the call of the conversation whose completion the tokens are, −1 for none;
            None where nothing is a call.
    """

    tokens: I32
    trained: NDArray[np.bool_]
    run_start: NDArray[np.int64]
    run_kind: NDArray[np.uint8]
    run_message: I32
    base: Sequence[int]
    shared: Sequence[int]
    origin: Sequence[int]
    end: Sequence[int]
    first_trained: Sequence[int]
    bounds: Sequence[int]
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    run_call: I32 | None = None


def encoded_views(
    tokens: I32,
    runs: Sequence[Run] | NDArray[np.int64],
    *,
    shared: Sequence[int],
    end: Sequence[int],
    bounds: Sequence[int],
    extra: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> EncodedViews:
    """Put views together that are no calls, each without what it shares with the one before it.

    Args:
        tokens: i32[N], those of each view, one view after another.
        runs: tile `tokens`, each from where the one before stops; none goes over the end of a
            view. One that does not stop behind all before it is empty.
        shared: how many tokens of each view are left out, which the one before begins with too.
            None of them is trained.
        end: how many tokens each view has, the shared ones included.
        bounds: C + 1 of them; conversation c has the views from `bounds[c]` to `bounds[c + 1]`.
        extra: as in `EncodedViews`.
    """
    stop, *kinds = np.array(runs, np.int64).reshape(-1, 4).T
    stop = np.maximum.accumulate(stop)
    start = np.concatenate(([0], stop[:-1]))
    start, stop, kind, message, trained = np.array((start, stop, *kinds))[:, stop > start]
    sizes = np.array(end) - shared
    stops = np.cumsum(sizes)
    changes = np.ones(len(start), bool)
    changes[1:] = (np.diff(kind) != 0) | (np.diff(message) != 0)
    changes[np.searchsorted(start, (stops - sizes)[sizes > 0])] = True
    firsts = np.append(start[trained > 0], len(tokens))
    firsts = firsts[np.searchsorted(firsts, stops - sizes)]
    return EncodedViews(
        tokens=tokens,
        trained=np.repeat(trained > 0, stop - start),
        run_start=start[changes],
        run_kind=kind[changes].astype(np.uint8),
        run_message=message[changes].astype(np.int32),
        base=_bases(shared, bounds),
        shared=shared,
        origin=(stops - end).tolist(),
        end=end,
        first_trained=(np.minimum(firsts, stops) - stops + end).tolist(),
        bounds=bounds,
        extra=extra,
    )


def common_prefix(a: I32, b: I32) -> int:
    """Return how many leading elements are equal.

    >>> common_prefix(np.array([1, 2, 3], np.int32), np.array([1, 2, 4, 5], np.int32))
    2
    """
    length = min(len(a), len(b))
    differs = a[:length] != b[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length


def runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield the stretches of true.

    >>> list(runs(np.array([True, False, True, True])))
    [(0, 1), (2, 4)]
    """
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    yield from zip(changes[::2], changes[1::2], strict=True)


def _bases(shared: Sequence[int], bounds: Sequence[int]) -> list[int]:
    """Return for each view the last one before it that has all that it shares; ROOT for none."""
    base: list[int] = []
    for first, last in pairwise(bounds):
        for view in range(first, last):
            other = view - 1 if view > first else ROOT
            while other != ROOT and shared[other] > shared[view]:
                other = base[other]
            base.append(other)
    return base
