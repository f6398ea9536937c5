"""A forest that is too long for a row → several samples.

    views 1 … 4 of a conversation, in the order in which they are written

    one sample      1 2 3 4       h1 t1 r_out1 r_in1 h2 t2 r_out2 r_in2 h3 …
    divided         1 2           h1 t1 r_out1 r_in1 h2 t2 r_out2
                    3 4           h1 r_in1 h2 r_in2 h3 …       what 2 has too is not trained again

`divide` cuts the views of a forest into runs of neighbours, each of which becomes a sample; a token
that several runs hold is trained in the first. Of all divisions whose samples fit in a row it takes
one with the fewest tokens, and of those one with the fewest samples.

In pre-order, the longest prefix that a view shares with any earlier view is the one that it shares
with the view directly before it. So a view adds to its run the tokens that it does not share with
its neighbour, and one copy more if the first of these is trained and the run also trains an earlier
sibling of this token (`forest.preorder`). Finding the best division takes O(V²) time for V views,
with NumPy.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from reasonpack.rows.encoded_views import ROOT
from reasonpack.rows.forest import Forest, LaidOut, Stretch, preorder

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Order:
    """V views in the order in which the forest is written.

    Attributes:
        views: their indices in the forest.
        length: i64[V], number of tokens in each.
        shared: i64[V], how many leading tokens the view before it has too.
        sibling: i64[V], if the first token that is not shared is trained, the place in this order
            of the view that adds the last trained sibling before this token; −1 for none.
    """

    views: list[int]
    length: I64
    shared: I64
    sibling: I64


def divide(forest: Forest, number: int, whole: LaidOut, max_length: int) -> LaidOut:
    """Divide a conversation into samples of at most `max_length` tokens.

    `whole` is its layout as one sample; no view has more than `max_length` tokens.
    """
    (all_,) = whole.samples
    order = _order(forest, number, all_)
    samples = []
    for first, stop in pairwise(_division(order, max_length)):
        part = _part(forest, number, order.views[first:stop])
        repeated = _path(forest, order.views[first], int(order.shared[first]))
        samples.append(preorder(part, number, repeated))
    sizes = [sum(each.end - each.begin for each in sample) for sample in samples]
    return replace(
        whole,
        samples=samples,
        longest_sample=max(sizes),
        extra_samples=len(samples) - 1,
        extra_tokens=sum(sizes) - whole.longest_sample,
    )


def _part(forest: Forest, number: int, views: Sequence[int]) -> Forest:
    """Return the forest with only some views of a conversation; `trained` stays as it is."""
    first, stop = forest.views.bounds[number : number + 2]
    end = [*forest.end]
    end[first:stop] = forest.at[first:stop]
    for view in views:
        _cover(forest, end, view)
    below = {
        place: kept
        for place, branches in forest.below[number].items()
        if (
            kept := {token: each for token, each in branches.items() if end[each] > forest.at[each]}
        )
    }
    all_below = [*forest.below]
    all_below[number] = below
    return replace(forest, end=end, below=all_below)


def _cover(forest: Forest, end: list[int], view: int) -> list[tuple[int, int, int]]:
    """Raise the `end` of branches, in place, until they hold a view.

    Returns:
        The stretches added, from the end of the view upwards: branch, depth of the first token,
        one past the last. Together they are one contiguous part at the end of the view.
    """
    new: list[tuple[int, int, int]] = []
    branch, depth = view, forest.views.end[view]
    while branch != ROOT:
        held, at = end[branch], forest.at[branch]
        if at < depth:
            if held < depth:
                end[branch] = depth
                new.append((branch, held, depth))
            if held > at:
                break
        branch, depth = forest.parent[branch], min(at, depth)
    return new


def _order(forest: Forest, number: int, written: Sequence[Stretch]) -> _Order:
    """Return the views in the order in which `written`, their common layout, completes them."""
    bounds = forest.views.bounds[number : number + 2]
    views = sorted(range(*bounds), key=_written_order(forest, written))
    cuts, reach = forest.cuts(number), [*forest.at]
    shared, siblings = [], []
    latest: dict[tuple[int, int], int] = {}  # the view that last added a trained child
    for place, view in enumerate(views):
        new = _cover(forest, reach, view)
        shared.append(new[-1][1] if new else forest.views.end[view])
        sibling = -1
        for branch, begin, end in new:
            for depth in (begin, *(each for each in cuts[branch] if begin < each < end)):
                if forest.trained[forest.views.origin[branch] + depth]:
                    at = forest.at[branch]
                    parent = (branch, depth) if depth > at else (forest.parent[branch], at)
                    sibling = latest.get(parent, sibling)
                    latest[parent] = place
        siblings.append(sibling)
    length = [forest.views.end[view] for view in views]
    return _Order(views, np.array(length), np.array(shared), np.array(siblings))


def _written_order(forest: Forest, written: Sequence[Stretch]) -> Callable[[int], tuple[int, int]]:
    """Return a sort key of views: the stretch where the last token is written, and its depth."""
    ends: dict[int, list[int]] = {}
    places: dict[int, list[int]] = {}
    for place, each in enumerate(written):
        if each.trains:  # and is no copy
            ends.setdefault(each.view, []).append(each.end)
            places.setdefault(each.view, []).append(place)

    def place_of(view: int) -> tuple[int, int]:
        depth = forest.views.end[view]
        branch = view if forest.at[view] < depth else forest.parent[view]
        return places[branch][bisect_left(ends[branch], depth)], depth

    return place_of


def _division(order: _Order, max_length: int) -> list[int]:
    """Return the bounds of the cheapest runs of views, from 0 to the number of views."""
    count = len(order.views)
    best = np.full(count + 1, np.iinfo(np.int64).max)  # tokens * (count + 1) + samples
    best[0] = 0
    begun = np.zeros(count + 1, np.int64)
    for first in range(count):
        rest = slice(first + 1, None)
        more = order.length[rest] - order.shared[rest] + (order.sibling[rest] >= first)
        sizes = order.length[first] + np.concatenate(([0], np.cumsum(more)))
        sizes = sizes[: np.searchsorted(sizes, max_length, "right")]
        costs = best[first] + sizes * (count + 1) + 1
        stops = slice(first + 1, first + 1 + len(sizes))
        better = costs < best[stops]
        best[stops][better] = costs[better]
        begun[stops][better] = first
    bounds = [count]
    while bounds[-1]:
        bounds.append(int(begun[bounds[-1]]))
    return bounds[::-1]


def _path(forest: Forest, view: int, depth: int) -> dict[int, int]:
    """Map each branch that holds some of the first `depth` tokens of a view to where it is left."""
    path, branch = {}, view
    while branch != ROOT:
        if forest.at[branch] < depth:
            path[branch] = depth
        branch, depth = forest.parent[branch], min(depth, forest.at[branch])
    return path
