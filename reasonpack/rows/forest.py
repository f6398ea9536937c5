"""The views of one conversation → its samples: a token forest, written out.

    view 1   h1 t1 r_out1                     h1 ─┬─ t1 ── r_out1
    view 2   h1 r_in1 h2 t2 r_out2                └─ r_in1 ── h2 ── t2 ── r_out2

    onepass  h1 t1 r_out1 r_in1 h2 t2 r_out2                one sample: the forest in pre-order
    npass    h1 t1 r_out1   and   h1 r_in1 h2 t2 r_out2     one plain causal sample a leaf

Views are inserted into a trie of tokens in order, and the trie is written out depth
first, children in order of insertion. A token's position is its depth, and it is
visible from itself up to the end of its subtree. Where views share tokens these are
written once; where a template rewrites its history the paths part.

The trie is compressed: a node holds a stretch of tokens, and comparing two is one NumPy
operation; what they are part of, and which are trained, is kept for stretches too and never
for a token. A view goes on from where it parts from the one before, as far as that is known,
so that the cost is linear in the tokens that are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import RecordError

__all__ = [
    "IGNORE",
    "EncodedView",
    "LaidOut",
    "Layout",
    "Run",
    "Sample",
    "Segments",
    "common_prefix",
    "lay_out",
]

Layout = Literal["onepass", "npass"]

I32 = NDArray[np.int32]
IGNORE = -100
"""Label of a token that is not trained, as everywhere in the field."""


class Run(NamedTuple):
    """Tokens of a view that are of one kind and one message, from where the run before it ends.

    Attributes:
        stop: one past the last token, counted from the start of the view.
        kind: what they are part of.
        message: the message they belong to, −1 for none.
    """

    stop: int
    kind: int
    message: int


@dataclass(frozen=True, slots=True)
class EncodedView:
    """A view in tokens: `shared` of them not said again, and L behind those.

    Attributes:
        tokens: i32[L], prompt and then completion.
        prompt_length: how many tokens are the prompt, the shared ones included.
        runs: tile `tokens`; none is empty.
        shared: how many tokens of the prompt are those that the prompt of the view before
            begins with, and are left out here.
    """

    tokens: I32
    prompt_length: int
    runs: Sequence[Run]
    shared: int = 0

    @property
    def length(self) -> int:
        """Tokens in the view."""
        return self.shared + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Segments:
    """S runs of tokens of one kind, one message and one visibility; they tile T tokens.

    Attributes:
        start: i32[S], first token.
        visible_until: i32[S], one past the last token that may attend to it.
        kind: u8[S].
        message: i32[S].
    """

    start: I32
    visible_until: I32
    kind: NDArray[np.uint8]
    message: I32


@dataclass(frozen=True, slots=True)
class Sample:
    """What is trained together: T tokens in S segments.

    Attributes:
        id: the conversation's id.
        input_ids: i32[T].
        position_ids: i32[T], the position each token has at inference.
        labels: i32[T], the token itself where it is trained, else −100; unshifted.
        segments: tile the sample.
    """

    id: str
    input_ids: I32
    position_ids: I32
    labels: I32
    segments: Segments

    @property
    def length(self) -> int:
        """Tokens in the sample."""
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A conversation, laid out.

    Attributes:
        samples: one, or in the npass layout one a leaf of the forest.
        views: how many views they hold.
        longest_view: tokens of the longest one.
        npass_tokens: tokens of all leaves, which is what N-pass has to write.
        naive_tokens: tokens of all views, one a trained message.
    """

    samples: tuple[Sample, ...]
    views: int
    longest_view: int
    npass_tokens: int
    naive_tokens: int


@dataclass(slots=True)
class _Node:
    """A stretch of tokens that every view through it shares.

    Attributes:
        begin: how many tokens are above it.
        tokens: i32, its own.
        runs: tile them; their stops count from the root.
        trained: which of them are, as (start, stop) from the root; may overlap.
        children: what follows.
    """

    begin: int
    tokens: I32
    runs: list[Run]
    trained: list[tuple[int, int]]
    children: list[_Node]

    @property
    def end(self) -> int:
        """How many tokens there are up to its last."""
        return self.begin + len(self.tokens)

    def split(self, at: int) -> None:
        """Cut the stretch where `at` tokens end; the second part becomes the only child."""
        own = at - self.begin
        runs = [run for run in self.runs if run.stop > at]
        trained = [(max(start, at), stop) for start, stop in self.trained if stop > at]
        rest = _Node(at, self.tokens[own:], runs, trained, self.children)
        kept = len(self.runs) - len(runs)
        border = [] if kept and self.runs[kept - 1].stop == at else [runs[0]._replace(stop=at)]
        self.tokens, self.runs = self.tokens[:own], [*self.runs[:kept], *border]
        self.trained = [(start, min(stop, at)) for start, stop in self.trained if start < at]
        self.children = [rest]

    def train(self, start: int, stop: int) -> None:
        """Note that those of its tokens are trained that lie between the two."""
        start, stop = max(start, self.begin), min(stop, self.end)
        if start < stop:
            self.trained.append((start, stop))


def lay_out(id_: str, views: Sequence[EncodedView], *, layout: Layout = "onepass") -> LaidOut:
    """Lay out the views of a conversation.

    Args:
        id_: of the conversation.
        views: in the order of its messages; at least one.
        layout: `onepass` writes every token once, `npass` one plain causal sample for
            each leaf, with each trained token trained in one of them.

    Raises:
        RecordError: a view has no prompt, or two trained branches start at one token,
            which no onepass row can hold under the usual loss.

    >>> import numpy as np
    >>> def view(prompt, completion):
    ...     tokens = np.array(prompt + completion, np.int32)
    ...     return EncodedView(tokens, len(prompt), [Run(len(tokens), 0, 0)])
    >>> views = [view([1, 2], [3, 4]), view([1, 2, 4, 5], [6])]
    >>> (sample,) = lay_out("two turns", views).samples
    >>> sample.input_ids.tolist()
    [1, 2, 3, 4, 4, 5, 6]
    >>> sample.position_ids.tolist()
    [0, 1, 2, 3, 2, 3, 4]
    >>> sample.labels.tolist()
    [-100, -100, 3, 4, -100, -100, 6]
    >>> sample.segments.start.tolist(), sample.segments.visible_until.tolist()
    ([0, 2, 4], [7, 4, 7])
    >>> [sample.input_ids.tolist() for sample in lay_out("", views, layout="npass").samples]
    [[1, 2, 3, 4], [1, 2, 4, 5, 6]]
    """
    roots: list[_Node] = []
    path: list[_Node] = []
    for view in views:
        if view.prompt_length == 0:
            raise RecordError(
                "view",
                "messages",
                "a view without any prompt token, expected something that the model answers",
                fix="put a user message before the answer",
            )
        _insert(roots, path, view)
    paths = list(_leaf_paths(roots))
    if layout == "npass":
        samples = tuple(_leaf_sample(id_, path, trains) for path, trains in paths)
    else:
        samples = (_forest_sample(id_, roots),)
    return LaidOut(
        samples=samples,
        views=len(views),
        longest_view=max(view.length for view in views),
        npass_tokens=sum(path[-1].end for path, _ in paths),
        naive_tokens=sum(view.length for view in views),
    )


def _forest_sample(id_: str, roots: Sequence[_Node]) -> Sample:
    nodes: list[_Node] = []
    levels: list[int] = []
    for node, level in _preorder(roots):
        if node.trained and (not levels or level <= levels[-1]):
            _check_parent(node)
        nodes.append(node)
        levels.append(level)
    starts = [0, *accumulate(len(node.tokens) for node in nodes)]
    # A position is the place in the row, less the tokens of the branches that were left before.
    behind = np.array([node.begin for node in nodes], np.int32) - np.array(starts[:-1], np.int32)
    lengths = [len(node.tokens) for node in nodes]
    positions = np.arange(starts[-1], dtype=np.int32) + np.repeat(behind, lengths)
    ends = _subtree_ends(levels, starts)
    return _sample(id_, nodes, starts, ends, positions, [True] * len(nodes))


def _leaf_sample(id_: str, path: Sequence[_Node], trains: Sequence[bool]) -> Sample:
    """Write the way from the root to one leaf; `trains` says which nodes are trained here."""
    length = path[-1].end
    starts = [*(node.begin for node in path), length]
    positions = np.arange(length, dtype=np.int32)
    return _sample(id_, path, starts, [length] * len(path), positions, trains)


def _sample(
    id_: str,
    nodes: Sequence[_Node],
    starts: Sequence[int],
    ends: Sequence[int],
    positions: I32,
    trains: Sequence[bool],
) -> Sample:
    """Write nodes one after another, as they begin at `starts` and are visible until `ends`."""
    tokens = np.concatenate([node.tokens for node in nodes])
    labels = np.full(len(tokens), IGNORE, np.int32)
    for node, start, here in zip(nodes, starts, trains, strict=False):
        for first, stop in node.trained if here else ():
            own = slice(start + first - node.begin, start + stop - node.begin)
            labels[own] = tokens[own]
    return Sample(
        id=id_,
        input_ids=tokens,
        position_ids=positions,
        labels=labels,
        segments=_segments(nodes, starts, ends),
    )


def _leaf_paths(roots: Sequence[_Node]) -> Iterator[tuple[list[_Node], list[bool]]]:
    """Yield the way to each leaf, and which nodes on it are met for the first time."""
    stack: list[tuple[list[_Node], list[bool]]] = [([root], [True]) for root in reversed(roots)]
    while stack:
        path, first = stack.pop()
        children = path[-1].children
        if not children:
            yield path, first
        for number, child in reversed(list(enumerate(children))):
            before = first if number == 0 else [False] * len(first)
            stack.append(([*path, child], [*before, True]))


def _insert(roots: list[_Node], path: list[_Node], view: EncodedView) -> None:
    """Insert a view.

    Args:
        roots: of the trie.
        path: the nodes of the view before; gets those of this one.
        view: what to insert.
    """
    while path and path[-1].begin >= view.shared:
        path.pop()
    # Of the tokens above `at` it is known that they are those of the view.
    at = _walk(path[-1], view.shared, view) if path else 0
    while at < view.length:
        siblings = path[-1].children if path else roots
        first = view.tokens[at - view.shared]
        node = next((node for node in siblings if node.tokens[0] == first), None)
        if node is None:
            runs = [run for run in view.runs if run.stop > at]
            node = _Node(at, view.tokens[at - view.shared :], runs, [], [])
            siblings.append(node)
        path.append(node)
        at = _walk(node, at, view)


def _walk(node: _Node, at: int, view: EncodedView) -> int:
    """Follow a view through a node from `at`; split it where they part.

    Returns:
        How many tokens of the view are in the nodes so far.
    """
    same = common_prefix(node.tokens[at - node.begin :], view.tokens[at - view.shared :])
    start, at = at, at + same
    node.train(max(start, view.prompt_length), at)
    if at < view.length and at < node.end:
        node.split(at)
    return at


def common_prefix(a: I32, b: I32) -> int:
    """Return how many leading elements are equal.

    >>> common_prefix(np.array([1, 2, 3], np.int32), np.array([1, 2, 4, 5], np.int32))
    2
    """
    length = min(len(a), len(b))
    differs = a[:length] != b[:length]
    first = int(differs.argmax()) if length else 0
    return first if length and differs[first] else length


def _preorder(roots: Sequence[_Node]) -> Iterator[tuple[_Node, int]]:
    """Yield each node with its level in nodes, parents first."""
    stack = [(node, 0) for node in reversed(roots)]
    while stack:
        node, level = stack.pop()
        yield node, level
        stack.extend((child, level + 1) for child in reversed(node.children))


def _subtree_ends(levels: Sequence[int], starts: Sequence[int]) -> list[int]:
    """Return where each node's subtree ends: at the next node that is not below it.

    >>> _subtree_ends([0, 1, 1, 0], [0, 2, 5, 6, 9])
    [6, 5, 6, 9]
    """
    ends = [starts[-1]] * len(levels)
    open_: list[int] = []
    for node, level in enumerate(levels):
        while open_ and levels[open_[-1]] >= level:
            ends[open_.pop()] = starts[node]
        open_.append(node)
    return ends


def _segments(nodes: Sequence[_Node], starts: Sequence[int], ends: Sequence[int]) -> Segments:
    """Cut every node where kind or message changes."""
    cuts: list[tuple[int, int, int, int]] = []
    for node, start, end in zip(nodes, starts, ends, strict=False):
        at, before = start, None
        for stop, *what in node.runs:
            if what != before:
                cuts.append((at, end, what[0], what[1]))
            at, before = start + stop - node.begin, what
    start, until, kind, message = np.array(cuts, np.int32).T
    return Segments(
        np.ascontiguousarray(start),
        np.ascontiguousarray(until),
        kind.astype(np.uint8),
        np.ascontiguousarray(message),
    )


def _check_parent(node: _Node) -> None:
    """Assert that a trained token stands right after its parent in the tree.

    Trainers predict token k from what stands at k − 1, whatever the mask. So the first token of
    a node must not be trained unless the node before it is its parent, which is asked here of one
    that has no parent, or follows a sibling.
    """
    if any(start == node.begin for start, _ in node.trained):
        raise RecordError(
            "layout",
            "messages",
            "two answers follow the same prompt, expected one row to hold all of them",
            fix='set "train": false on one of the messages',
        )
