"""Views as tokens → a token forest → the order in which its tokens are written as samples.

    view 1   h1 t1 r_out1                     h1 ─┬─ t1 ── r_out1
    view 2   h1 r_in1 h2 t2 r_out2                └─ r_in1 ── h2 ── t2 ── r_out2

    onepass  h1 t1 r_out1 r_in1 h2 t2 r_out2                one sample: the forest in pre-order
    npass    h1 t1 r_out1   and   h1 r_in1 h2 t2 r_out2     one plain causal sample per leaf

`plant` inserts the views of each conversation, in order, into a trie of tokens; `lay_out` orders
the trie of one conversation and says until where each stretch of tokens is visible; `sample.write`
makes the arrays of many conversations at once.

The trie is kept as branches: view v has tokens of its own from depth `at[v]` on, where it leaves
the branch of the view `parent[v]`. A view costs a few comparisons of arrays and a few integers, so
the time is linear in the number of tokens that the views do not share.

Trainers predict token k from the output at k − 1, whatever the mask, so every trained token must
directly follow its parent in the trie. The first trained child of a token P is written directly
after P, and then the untrained children. Each further trained child follows the subtree of P,
preceded by an untrained copy of P, which is a child of the parent of P:

    P ─┬─ a      (trained)
       ├─ b      (trained)      onepass  … P a c P' b        P' the copy
       └─ c
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from reasonpack.choices import Layout
from reasonpack.errors import RecordError
from reasonpack.rows.encoded_views import ROOT, EncodedViews, common_prefix

I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Forest:
    """The tries of C conversations with V views: each prefix once, any number of trained children.

    Attributes:
        views: the views that were planted.
        parent: for each view the view whose branch its own branch leaves; −1 for a root.
        at: for each view the depth where its own branch begins, which is how many of its tokens
            are in other branches; its length if all are.
        end: for each view the depth where its own branch ends: its length, or less in a part of a
            forest (`split`), where a branch ends with the last token that a view there needs.
        below: for each conversation, (view, depth) → first token → the view whose branch leaves
            the branch of the former view at that depth; in the order of the views.
        trained: bool[N], which of `views.tokens` are trained by any view.
        weights: f64[N], the sum of the loss weights of all views that train each of
            `views.tokens`; None without loss weights.
        call: i32[N], the first call that trains each of `views.tokens`, or else the call whose
            completion the token is in, −1 for none; None without calls.
    """

    views: EncodedViews
    parent: list[int]
    at: list[int]
    end: list[int]
    below: list[dict[tuple[int, int], dict[int, int]]]
    trained: NDArray[np.bool_]
    weights: NDArray[np.float64] | None = None
    call: I32 | None = None

    def children(self, number: int, view: int, depth: int) -> list[int]:
        """List the views whose branches hold the children of a token, in order of insertion.

        Args:
            number: index of the conversation.
            view: the view whose branch holds the token; ROOT for the roots of the trie.
            depth: the depth of the children, one more than that of the token.
        """
        own = [view] if view != ROOT and depth < self.end[view] else []
        return [*own, *self.below[number].get((view, depth), {}).values()]

    def cuts(
        self, number: int, also: Mapping[int, int] = MappingProxyType({})
    ) -> dict[int, list[int]]:
        """For each view of a conversation, list the depths where its branch is cut, deepest first.

        It is cut where other branches leave it, at its end, and at its depth in `also`.
        """
        end = self.end
        first, stop = self.views.bounds[number : number + 2]
        cuts = {view: [end[view]] for view in range(first, stop)}
        for view, depth in sorted(self.below[number], reverse=True):
            if view != ROOT and depth < end[view]:
                cuts[view].append(depth)
        for view, depth in also.items():
            if depth not in cuts[view]:
                cuts[view] = sorted([*cuts[view], depth], reverse=True)
        return cuts


@dataclass(slots=True)
class Stretch:
    """Consecutive tokens of one branch that are written together.

    Attributes:
        view: the view whose branch holds them.
        begin: depth of the first.
        end: one past the depth of the last.
        trains: whether those that are trained are trained here; False if in another stretch.
        until: one past the last token of the sample that may attend to them.
    """

    view: int
    begin: int
    end: int
    trains: bool = True
    until: int = 0


@dataclass(frozen=True, slots=True)
class LaidOut:
    """The samples of a conversation, as the stretches to write, and their sizes.

    Attributes:
        samples: one; several if it is divided; in the npass layout one per leaf of the trie.
        views: how many views they hold.
        longest_view: tokens in the longest view.
        longest_sample: tokens in the longest sample.
        npass_tokens: tokens in all leaves, which is what N-pass has to write.
        naive_tokens: tokens in all views, one view per trained message.
        extra_samples: how many samples were added by dividing it.
        extra_tokens: how many tokens were added by dividing it.
    """

    samples: list[list[Stretch]]
    views: int
    longest_view: int
    longest_sample: int
    npass_tokens: int
    naive_tokens: int
    extra_samples: int = 0
    extra_tokens: int = 0


# --- views → tries ---------------------------------------------------------------------


def plant(views: EncodedViews) -> Forest:
    """Insert the views of each conversation, in order, into one trie per conversation."""
    trained, weights = views.trained.copy(), None
    if "loss_weights" in views.extra:
        weights = np.where(trained, views.extra["loss_weights"], 0.0)
    forest = Forest(views, [], [], [*views.end], [], trained, weights)
    for first, stop in pairwise(views.bounds):
        below: dict[tuple[int, int], dict[int, int]] = {}
        forest.below.append(below)
        for view in range(first, stop):
            parent, at = _branch_point(forest, below, view)
            forest.parent.append(parent)
            forest.at.append(at)
            if at < views.end[view]:
                token = views.tokens.item(views.origin[view] + at)
                below.setdefault((parent, at), {})[token] = view
            _train_above(forest, view)
    return forest


def _branch_point(
    forest: Forest, below: dict[tuple[int, int], dict[int, int]], view: int
) -> tuple[int, int]:
    """Return the branch that a view leaves, and the depth of the first token after it."""
    views, parent, at = forest.views, forest.parent, forest.at
    tokens, origin, end = views.tokens, views.origin, views.end
    mine, stop, depth = origin[view], end[view], views.shared[view]
    branch = view - 1 if depth else ROOT
    while branch != ROOT and at[branch] >= depth:
        branch = parent[branch]
    while depth < stop:
        token = tokens.item(mine + depth)
        if branch == ROOT or depth >= end[branch] or tokens.item(origin[branch] + depth) != token:
            other = below.get((branch, depth), {}).get(token)
            if other is None:
                break
            branch = other
        theirs = tokens[origin[branch] + depth : origin[branch] + end[branch]]
        depth += common_prefix(tokens[mine + depth : mine + stop], theirs)
    return branch, depth


def _train_above(forest: Forest, view: int) -> None:
    """Mark what a view trains in the branches above its own, and add its loss weights there."""
    views, branch, stop = forest.views, forest.parent[view], forest.at[view]
    while stop > views.shared[view]:
        begin = max(views.shared[view], forest.at[branch])
        here = slice(views.origin[view] + begin, views.origin[view] + stop)
        there = slice(views.origin[branch] + begin, views.origin[branch] + stop)
        forest.trained[there] |= views.trained[here]
        if forest.weights is not None:
            weights = views.extra["loss_weights"][here]
            forest.weights[there] += np.where(views.trained[here], weights, 0.0)
        branch, stop = forest.parent[branch], begin


# --- a trie → how it is written --------------------------------------------------------


def lay_out(forest: Forest, number: int = 0, *, layout: Layout = "onepass") -> LaidOut:
    """Lay out one conversation.

    Args:
        forest: holds the trie of the conversation.
        number: index of the conversation.
        layout: `onepass` writes every prefix once, `npass` one plain causal sample per
            leaf, and trains each token in only one of them.

    Raises:
        RecordError: a view has no prompt.
    """
    views, below = forest.views, forest.below[number]
    first, stop = views.bounds[number : number + 2]
    if any(forest.trained[views.origin[root]] for root in forest.children(number, ROOT, 0)):
        what, expected = "a view without any prompt token", "something that the model answers"
        fix = "put a user message before the answer"
        raise RecordError("view", "messages", what, expected, fix)
    npass = layout == "npass"
    samples = [*_npass_samples(forest, number)] if npass else [preorder(forest, number)]
    lengths = views.end[first:stop]
    return LaidOut(
        samples=samples,
        views=len(lengths),
        longest_view=max(lengths),
        longest_sample=max(sum(each.end - each.begin for each in sample) for sample in samples),
        npass_tokens=sum(
            end
            for view, end in enumerate(forest.end[first:stop], first)
            if forest.at[view] < end and (view, end) not in below
        ),
        naive_tokens=sum(lengths),
    )


def preorder(
    forest: Forest, number: int, repeated: Mapping[int, int] = MappingProxyType({})
) -> list[Stretch]:
    """Write a trie depth first, with copies where a token has several trained children.

    Args:
        forest: holds the trie.
        number: index of the conversation.
        repeated: branch → the depth up to which an earlier sample trains its tokens.
    """
    origin, cuts = forest.views.origin, forest.cuts(number, repeated)
    written: list[Stretch] = []
    length = 0
    # A stack. (view, depth, ROOT): write the stretch of a branch that begins at a depth.
    # (view, depth, child): copy the token there, then write the child. Stretch: set its `until`.
    tasks: list[tuple[int, int, int] | Stretch] = []
    tasks += [(view, 0, ROOT) for view in reversed(forest.children(number, ROOT, 0))]

    def put(stretch: Stretch) -> None:
        nonlocal length
        length += stretch.end - stretch.begin
        written.append(stretch)
        tasks.append(stretch)

    while tasks:
        task = tasks.pop()
        if isinstance(task, Stretch):
            task.until = length
            continue
        view, begin, child = task
        if child != ROOT:
            put(Stretch(view, begin, begin + 1, trains=False))
            tasks.append((child, begin + 1, ROOT))
            continue
        end, new = cuts[view].pop(), begin >= repeated.get(view, 0)
        trained: list[int] = []
        others: list[int] = []
        for child in forest.children(number, view, end):
            trains = end >= repeated.get(child, 0) and forest.trained[origin[child] + end]
            (trained if trains else others).append(child)
        if len(trained) > 1:
            if begin < end - 1:
                put(Stretch(view, begin, end - 1, new))
            begin = end - 1
            tasks += [(view, begin, child) for child in reversed(trained[1:])]
        put(Stretch(view, begin, end, new))
        tasks += [(child, end, ROOT) for child in reversed([*trained[:1], *others])]
    return written


def _npass_samples(forest: Forest, number: int) -> Iterator[list[Stretch]]:
    """Yield a causal sample for each leaf of a trie; what an earlier leaf has too is untrained."""
    cuts = forest.cuts(number)
    path: list[tuple[int, int, int]] = []
    seen = 0  # how many entries of `path` the previous leaf has too
    tasks = [(view, 0) for view in reversed(forest.children(number, ROOT, 0))]
    while tasks:
        view, begin = tasks.pop()
        while path and path[-1][2] > begin:
            path.pop()
        seen = min(seen, len(path))
        end = cuts[view].pop()
        path.append((view, begin, end))
        below = forest.children(number, view, end)
        if not below:
            yield [Stretch(*each, place >= seen, end) for place, each in enumerate(path)]
            seen = len(path)
        tasks += [(child, end) for child in reversed(below)]
