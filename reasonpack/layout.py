"""The views of one conversation → its samples: a token forest, written out.

    view 1   h1 t1 r_out1                     h1 ─┬─ t1 ── r_out1
    view 2   h1 r_in1 h2 t2 r_out2                └─ r_in1 ── h2 ── t2 ── r_out2

    onepass  h1 t1 r_out1 r_in1 h2 t2 r_out2                one sample: the forest in pre-order
    npass    h1 t1 r_out1   and   h1 r_in1 h2 t2 r_out2     one plain causal sample a leaf

Views are inserted into a trie of tokens in order, and the trie is written out depth
first, children in order of insertion. A token's position is its depth, and it is
visible from itself up to the end of its subtree. Where views share tokens these are
written once; where a template rewrites its history the paths part.

The trie is compressed: a node holds a run of tokens, and comparing runs is one NumPy
operation. A view goes on from where it parts from the one before, as far as that is known,
so that the cost is linear in the tokens that are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import RecordError

__all__ = [
    "IGNORE",
    "EncodedView",
    "LaidOut",
    "Layout",
    "Sample",
    "Segments",
    "common_prefix",
    "lay_out",
]

Layout = Literal["onepass", "npass"]

I32 = NDArray[np.int32]
IGNORE = -100
"""Label of a token that is not trained, as everywhere in the field."""


@dataclass(frozen=True, slots=True)
class EncodedView:
    """A view in tokens: `shared` of them not said again, and L behind those.

    Attributes:
        tokens: i32[L], prompt and then completion.
        prompt_length: how many tokens are the prompt, the shared ones included.
        kinds: u8[L], what each token is part of.
        messages: i32[L], the message it belongs to, −1 for none.
        shared: how many tokens of the prompt are those that the prompt of the view before
            begins with, and are left out here.
    """

    tokens: I32
    prompt_length: int
    kinds: NDArray[np.uint8]
    messages: I32
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
    """A run of tokens that every view through it shares."""

    tokens: I32
    kinds: NDArray[np.uint8]
    messages: I32
    trained: NDArray[np.bool_]
    children: list[_Node]

    def split(self, at: int) -> None:
        """Cut the run at `at`; the second part becomes the only child."""
        rest = _Node(
            self.tokens[at:],
            self.kinds[at:],
            self.messages[at:],
            self.trained[at:],
            self.children,
        )
        self.tokens, self.kinds = self.tokens[:at], self.kinds[:at]
        self.messages, self.trained = self.messages[:at], self.trained[:at]
        self.children = [rest]

    def extend(self, view: EncodedView, trained: NDArray[np.bool_], *, start: int) -> None:
        """Let a leaf go on with a view's tokens from `start`, so that no chain of nodes grows."""
        self.tokens = np.concatenate((self.tokens, view.tokens[start:]))
        self.kinds = np.concatenate((self.kinds, view.kinds[start:]))
        self.messages = np.concatenate((self.messages, view.messages[start:]))
        self.trained = np.concatenate((self.trained, trained[start:]))


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
    ...     return EncodedView(tokens, len(prompt), np.zeros(len(tokens), np.uint8), tokens * 0)
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
    path: list[tuple[_Node, int]] = []
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
        npass_tokens=sum(len(node.tokens) for path, _ in paths for node in path),
        naive_tokens=sum(view.length for view in views),
    )


def _forest_sample(id_: str, roots: Sequence[_Node]) -> Sample:
    nodes = list(_preorder(roots))
    lengths = np.array([len(node.tokens) for node, _, _ in nodes], np.int64)
    depths = np.array([depth for _, depth, _ in nodes], np.int64)
    starts = np.cumsum(lengths) - lengths
    ends = _subtree_ends([level for _, _, level in nodes], starts, int(lengths.sum()))
    tokens = np.concatenate([node.tokens for node, _, _ in nodes])
    trained = np.concatenate([node.trained for node, _, _ in nodes])
    positions = np.arange(len(tokens)) + np.repeat(depths - starts, lengths)
    _check_parents(trained, positions)
    return Sample(
        id=id_,
        input_ids=tokens,
        position_ids=positions.astype(np.int32),
        labels=np.where(trained, tokens, np.int32(IGNORE)).astype(np.int32),
        segments=_segments([node for node, _, _ in nodes], starts, ends),
    )


def _leaf_sample(id_: str, path: Sequence[_Node], trains: Sequence[bool]) -> Sample:
    """Write the way from the root to one leaf; `trains` says which nodes are trained here."""
    tokens = np.concatenate([node.tokens for node in path])
    trained = np.concatenate([node.trained & here for node, here in zip(path, trains, strict=True)])
    lengths = np.array([len(node.tokens) for node in path], np.int64)
    return Sample(
        id=id_,
        input_ids=tokens,
        position_ids=np.arange(len(tokens), dtype=np.int32),
        labels=np.where(trained, tokens, np.int32(IGNORE)).astype(np.int32),
        segments=_segments(path, np.cumsum(lengths) - lengths, [len(tokens)] * len(path)),
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


def _insert(roots: list[_Node], path: list[tuple[_Node, int]], view: EncodedView) -> None:
    """Insert a view.

    Args:
        roots: of the trie.
        path: the nodes of the view before, each with the depth at which it begins; gets
            those of this one.
        view: what to insert.
    """
    while path and path[-1][1] >= view.shared:
        path.pop()
    trained = np.zeros(len(view.tokens), bool)
    trained[view.prompt_length - view.shared :] = True
    at = 0
    if path:  # go on inside the last node that is shared
        node, begin = path[-1]
        at = _walk(node, view.shared - begin, view, trained, 0)
    while at < len(view.tokens):
        siblings = path[-1][0].children if path else roots
        found = next((node for node in siblings if node.tokens[0] == view.tokens[at]), None)
        if found is None:
            rest = slice(at, None)
            found = _Node(
                view.tokens[rest], view.kinds[rest], view.messages[rest], trained[rest], []
            )
            siblings.append(found)
        path.append((found, view.shared + at))
        at = _walk(found, 0, view, trained, at)


def _walk(node: _Node, offset: int, view: EncodedView, trained: NDArray[np.bool_], at: int) -> int:
    """Follow a view through a node from `offset`; split it where they part.

    Returns:
        The first token of the view that is not in the node.
    """
    same = common_prefix(node.tokens[offset:], view.tokens[at:])
    node.trained[offset : offset + same] |= trained[at : at + same]
    at += same
    if at < len(view.tokens) and offset + same < len(node.tokens):
        node.split(offset + same)
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


def _preorder(roots: Sequence[_Node]) -> Iterator[tuple[_Node, int, int]]:
    """Yield each node with its depth in tokens and its level in nodes, parents first."""
    stack = [(node, 0, 0) for node in reversed(roots)]
    while stack:
        node, depth, level = stack.pop()
        yield node, depth, level
        below = depth + len(node.tokens)
        stack.extend((child, below, level + 1) for child in reversed(node.children))


def _subtree_ends(levels: Sequence[int], starts: NDArray[np.int64], total: int) -> list[int]:
    """Return where each node's subtree ends: at the next node that is not below it.

    >>> _subtree_ends([0, 1, 1, 0], np.array([0, 2, 5, 6]), 9)
    [6, 5, 6, 9]
    """
    ends = [total] * len(levels)
    open_: list[int] = []
    for node, level in enumerate(levels):
        while open_ and levels[open_[-1]] >= level:
            ends[open_.pop()] = int(starts[node])
        open_.append(node)
    return ends


def _segments(nodes: Sequence[_Node], starts: NDArray[np.int64], ends: Sequence[int]) -> Segments:
    """Cut every node where kind or message changes."""
    kinds = np.concatenate([node.kinds for node in nodes])
    messages = np.concatenate([node.messages for node in nodes])
    begins = np.zeros(len(kinds), bool)
    begins[starts] = True
    begins[1:] |= (kinds[1:] != kinds[:-1]) | (messages[1:] != messages[:-1])
    cuts = np.flatnonzero(begins)
    node_of = np.searchsorted(starts, cuts, side="right") - 1
    return Segments(
        start=cuts.astype(np.int32),
        visible_until=np.asarray(ends, np.int32)[node_of],
        kind=kinds[cuts],
        message=messages[cuts],
    )


def _check_parents(trained: NDArray[np.bool_], positions: NDArray[np.int64]) -> None:
    """Assert that every trained token stands right after its parent in the tree.

    Trainers predict token k from what stands at k − 1, whatever the mask.
    """
    first_of_branch = np.ones(len(trained), bool)
    first_of_branch[1:] = np.diff(positions) != 1
    if np.any(trained & first_of_branch):
        raise RecordError(
            "layout",
            "messages",
            "two answers follow the same prompt, expected one row to hold all of them",
            fix='set "train": false on one of the messages',
        )
