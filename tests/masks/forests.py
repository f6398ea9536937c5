"""Token forests the slow way: parents in a list, everything else by walking up.

    parents  None 0 1 0 None          token 1 and 3 are children of 0
    ->
    row      segment_start 0 1 3 4, segment_visible_until 4 3 4 5, position_ids 0 1 2 1 0

A parent comes before its child and on the path to the token before it, so the list is a
pre-order. Nothing here is shared with the package: this is what its masks are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

Row = dict[str, Any]
View = tuple[Sequence[int], Sequence[int]]  # prompt, completion


@dataclass(frozen=True)
class Forest:
    """Tokens in pre-order; `cuts` are segment bounds that visibility alone does not ask for."""

    parents: tuple[int | None, ...]
    cuts: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.parents)


def path(forest: Forest, token: int) -> list[int]:
    """The token and its ancestors, from the token up."""
    out = [token]
    while (parent := forest.parents[out[-1]]) is not None:
        out.append(parent)
    return out


def visible(forest: Forest, padded_length: int | None = None) -> np.ndarray:
    """bool[T, T] by the definition: k is the token or an ancestor; padding sees itself."""
    total = len(forest) if padded_length is None else padded_length
    out = np.zeros((total, total), bool)
    for q in range(total):
        out[q, path(forest, q) if q < len(forest) else [q]] = True
    return out


def positions(forest: Forest) -> list[int]:
    return [len(path(forest, token)) - 1 for token in range(len(forest))]


def row(forest: Forest) -> Row:
    """The columns of the format that masks read."""
    until = list(range(1, len(forest) + 1))
    for token in range(len(forest)):
        for ancestor in path(forest, token):
            until[ancestor] = token + 1
    start = [
        token
        for token in range(len(forest))
        if token == 0 or until[token] != until[token - 1] or token in forest.cuts
    ]
    return {
        "length": len(forest),
        "segment_start": start,
        "segment_visible_until": [until[token] for token in start],
        "position_ids": positions(forest),
        "sample_start": [token for token, parent in enumerate(forest.parents) if parent is None],
    }


def grow(pops: Sequence[int]) -> tuple[int | None, ...]:
    """Parents from how many levels to climb before each token: 0 goes on, many starts a root."""
    parents: list[int | None] = []
    spine: list[int] = []
    for token, levels in enumerate(pops):
        del spine[max(len(spine) - levels, 0) :]
        parents.append(spine[-1] if spine else None)
        spine.append(token)
    return tuple(parents)


def forests(max_tokens: int = 40) -> st.SearchStrategy[Forest]:
    """Any pre-order forest, long chains and packed samples included, with needless cuts."""
    levels = st.one_of(st.just(0), st.just(0), st.integers(0, 8), st.just(1000))
    pops = st.lists(levels, min_size=1, max_size=max_tokens)
    cuts = st.frozensets(st.integers(1, max_tokens), max_size=4)
    return st.builds(lambda pops, cuts: Forest(grow(pops), cuts), pops, cuts)


def batches(max_rows: int = 3, max_tokens: int = 40) -> st.SearchStrategy[list[Forest]]:
    return st.lists(forests(max_tokens), min_size=1, max_size=max_rows)


def chats(samples: Sequence[int], *, seed: int, unit: int = 12) -> Forest:
    """Packed conversations with stripped reasoning: `samples` turns each, lengths from `seed`.

    Each turn is `h`, then the branch `t r_out`, then `r_in` on the trunk.
    """
    random = np.random.default_rng(seed)
    pops: list[int] = []
    for turns in samples:
        pops.append(10**6)
        for turn in range(turns):
            message, reasoning, response = (int(random.integers(1, unit)) for _ in "htr")
            pops += [0] * (message + reasoning + response)
            if turn + 1 < turns:
                pops += [reasoning + response] + [0] * (response - 1)
    return Forest(grow(pops))


def trie(views: Sequence[View]) -> tuple[list[int], list[int], list[int], Forest]:
    """Insert the views of one sample in order: token ids, labels, positions, and the forest.

    Tokens with several trained children are copied, as the layout onepass asks for.
    """
    ids: list[int] = []
    parents: list[int | None] = []
    trained: list[bool] = []
    for prompt, completion in views:
        at: int | None = None
        for place, token in enumerate([*prompt, *completion]):
            known = [n for n in range(len(ids)) if (parents[n], ids[n]) == (at, token)]
            if not known:
                ids.append(token)
                parents.append(at)
                trained.append(False)
            at = known[0] if known else len(ids) - 1
            trained[at] |= place >= len(prompt)
    order, places = _written(parents, trained)
    labels = [ids[old] if labelled else -100 for old, labelled in order]
    forest = Forest(tuple(places))
    return [ids[old] for old, _ in order], labels, positions(forest), forest


def _written(
    parents: Sequence[int | None], trained: Sequence[bool]
) -> tuple[list[tuple[int, bool]], list[int | None]]:
    """Order nodes: of each its number and whether it is trained, and the place of its parent.

    The first trained child of a node comes first. Each other one comes behind all that is below
    the node, after an untrained copy of it.
    """
    order: list[tuple[int, bool]] = []
    places: list[int | None] = []

    def write(node: int, parent: int | None, children: Sequence[int], *, labelled: bool) -> None:
        order.append((node, labelled))
        places.append(parent)
        place = len(order) - 1
        for child in children:
            write_all(child, place)

    def write_all(node: int, parent: int | None) -> None:
        children = [n for n, above in enumerate(parents) if above == node]
        further = [n for n in children if trained[n]][1:]
        behind = sorted(set(children) - set(further), key=lambda n: not trained[n])
        write(node, parent, behind, labelled=trained[node])
        for child in further:
            write(node, parent, [child], labelled=False)

    for root in [n for n, above in enumerate(parents) if above is None]:
        write_all(root, None)
    return order, places


def join(parts: Sequence[Forest]) -> Forest:
    """Forests one behind the other, as packed samples."""
    parents: list[int | None] = []
    for part in parts:
        offset = len(parents)
        parents += [None if parent is None else parent + offset for parent in part.parents]
    return Forest(tuple(parents))
