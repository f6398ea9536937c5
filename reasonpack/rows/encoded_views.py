"""The views of many conversations as tokens, in a few arrays; shared prefixes are stored once.

view 1   h1 t1 r_out1              tokens   h1 t1 r_out1 │ r_in1 h2 t2 r_out2
view 2   h1 r_in1 h2 t2 r_out2     shared   0            │ 1
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

I32 = NDArray[np.int32]
ROOT = -1
"""Stands for no view, e.g. as the parent of the branches that begin a trie."""
Run = tuple[int, int, int, bool]
"""A run of tokens: one past the last, and their kind, message (−1 for none), whether trained."""


@dataclass(frozen=True, slots=True)
class EncodedViews:
    """V views of C conversations; each holds only the tokens that it does not share with another.

    The token at depth d ≥ `shared[v]` of view v is `tokens[origin[v] + d]`.

    Attributes:
        tokens: i32[N], those of each view, one view after another.
        trained: bool[N], whether each token is trained, as part of a chosen or rejected answer.
        run_start: i64[R], where kind, message or view changes in `tokens`.
        run_kind: u8[R], the `Kind` of each run.
        run_message: i32[R], the message that each run belongs to, −1 for none.
        shared: how many leading tokens of each view are left out. In views that are to be planted,
            none of them is trained, and the view before has them too.
        origin: for each view the index in `tokens` that depth 0 would have.
        end: how many tokens each view has, the shared ones included.
        bounds: C + 1 integers; conversation c has the views from `bounds[c]` to `bounds[c + 1]`.
        extra: optional columns by name (`optional.FILLS`), [N] each; the values of tokens that are
            not trained are arbitrary.
    """

    tokens: I32
    trained: NDArray[np.bool_]
    run_start: NDArray[np.int64]
    run_kind: NDArray[np.uint8]
    run_message: I32
    shared: Sequence[int]
    origin: Sequence[int]
    end: Sequence[int]
    bounds: Sequence[int]
    extra: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def encoded_views(
    tokens: I32,
    runs: Sequence[Run] | NDArray[np.int64],
    *,
    shared: Sequence[int],
    end: Sequence[int],
    bounds: Sequence[int],
    extra: Mapping[str, NDArray[Any]] = MappingProxyType({}),
) -> EncodedViews:
    """Make `EncodedViews` where each view may share tokens with the one before it.

    `runs` tile `tokens`: each begins where the one before it ends, and none crosses the end of a
    view. A run that ends no later than an earlier one is empty.
    """
    stop, *kinds = np.array(runs, np.int64).reshape(-1, 4).T
    stop = np.maximum.accumulate(stop)
    start = np.append(0, stop)[:-1]
    start, stop, kind, message, trained = np.array((start, stop, *kinds))[:, stop > start]
    marks = np.repeat(trained > 0, stop - start)
    return joined_views(
        tokens,
        marks,
        (start, kind, message),
        shared=shared,
        end=end,
        bounds=bounds,
        extra=extra,
    )


def joined_views(
    tokens: I32,
    trained: NDArray[np.bool_],
    runs: tuple[NDArray[np.int64], NDArray[Any], NDArray[Any]],
    *,
    shared: Sequence[int],
    end: Sequence[int],
    bounds: Sequence[int],
    extra: Mapping[str, NDArray[Any]],
) -> EncodedViews:
    """Make `EncodedViews`, with one run for neighbouring runs of a view that say the same.

    `runs` are start, kind and message of each; a view begins with a run.
    """
    start, kind, message = runs
    sizes = np.array(end) - shared
    stops = np.cumsum(sizes)
    changes = np.ones(len(start), bool)
    changes[1:] = (kind[1:] != kind[:-1]) | (message[1:] != message[:-1])
    changes[np.searchsorted(start, (stops - sizes)[sizes > 0])] = True
    return EncodedViews(
        tokens=tokens,
        trained=trained,
        run_start=start[changes],
        run_kind=kind[changes].astype(np.uint8),
        run_message=message[changes].astype(np.int32),
        shared=shared,
        origin=(stops - end).tolist(),
        end=end,
        bounds=bounds,
        extra=extra,
    )


def without(views: EncodedViews, left: AbstractSet[int]) -> EncodedViews:
    """Return the views that are not in `left`, as if only they existed.

    `views` are as from `encoded_views`.
    """
    if not left:
        return views
    kept = [view for view in range(len(views.end)) if view not in left]
    shared: list[int] = []
    sources, is_own = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for view in kept:
        parts, holder, stop = [], view, views.end[view]
        while holder == view or (stop and holder in left):
            begin = min(stop, views.shared[holder])
            parts.append(np.arange(begin, stop) + views.origin[holder])
            holder, stop = holder - 1, begin
        shared.append(stop)
        sources += reversed(parts)
        is_own += (np.full(len(part), part is parts[0]) for part in reversed(parts))
    source = np.concatenate(sources)
    borders = np.zeros(len(views.tokens), bool)
    borders[views.run_start] = True
    start = np.flatnonzero(borders[source])
    run = np.searchsorted(views.run_start, source[start])
    return joined_views(
        views.tokens[source],
        views.trained[source] & np.concatenate(is_own),
        (start, views.run_kind[run], views.run_message[run]),
        shared=shared,
        end=[views.end[view] for view in kept],
        bounds=[bisect_left(kept, bound) for bound in views.bounds],
        extra={name: values[source] for name, values in views.extra.items()},
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
    """Yield the start and the end (exclusive) of each run of true values.

    >>> list(runs(np.array([True, False, True, True])))
    [(0, 1), (2, 4)]
    """
    changes = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    yield from zip(changes[::2], changes[1::2], strict=True)
