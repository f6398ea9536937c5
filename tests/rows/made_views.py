"""Views over few tokens, and the trie of one node a token that a forest of them has to equal.

view_lists() ── trie() ──▶ nodes ── written() ──▶ places, in the order of the sample
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from encoded import EncodedView, encoded_view
from hypothesis import strategies as st
from oracle import expected_pairs

from reasonpack.rows.sample import Sample


def pairs(views: Sequence[EncodedView]) -> Counter[tuple[bytes, int]]:
    """What the views train, each prefix with its next token once."""
    return expected_pairs((0, view.prompt, view.completion) for view in views)


def columns(sample: Sample) -> dict[str, list[int]]:
    """The columns of a row that holds this sample alone."""
    return {
        "input_ids": sample.input_ids.tolist(),
        "position_ids": sample.position_ids.tolist(),
        "labels": sample.labels.tolist(),
        "segment_start": sample.segments.start.tolist(),
        "segment_visible_until": sample.segments.visible_until.tolist(),
        "sample_start": [0],
    }


def per_token(sample: Sample) -> list[tuple[int, int, int]]:
    """Spread the segments: kind, message and visible_until of every token."""
    table = sample.segments
    ends = [*table.start.tolist()[1:], sample.length]
    return [
        (int(kind), int(message), int(until))
        for start, end, kind, message, until in zip(
            table.start, ends, table.kind, table.message, table.visible_until, strict=True
        )
        for _ in range(start, end)
    ]


# --- the reference -------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """One token. `path` is every token from the root down to it."""

    token: int
    path: tuple[int, ...]
    kind: int
    message: int
    parent: Node | None
    trained: bool = False
    below: dict[int, Node] = field(default_factory=dict)


def trie(views: Sequence[EncodedView]) -> list[Node]:
    """Insert the views token by token, and return the roots."""
    top: dict[int, Node] = {}
    for view in views:
        level, parent = top, None
        each = zip(view.tokens, view.kinds, view.messages, strict=True)
        for place, (token, kind, message) in enumerate(each):
            if token not in level:
                path = (*(parent.path if parent else ()), token)
                level[token] = Node(token, path, kind, message, parent)
            parent = level[token]
            parent.trained |= place >= len(view.prompt)
            level = parent.below
    return list(top.values())


def plain(level: Sequence[Node]) -> list[Node]:
    """List the nodes depth first, children in order of insertion."""
    return [each for node in level for each in (node, *plain(list(node.below.values())))]


@dataclass
class Place:
    """A token as it is written: a node or an untrained copy of it, and what comes below."""

    node: Node
    copied: bool
    below: list[Place]


def written(level: Sequence[Node]) -> list[Place]:
    """Order the children of one token, and give copies to those that have none to follow."""
    places: list[Place] = []
    for node in level:
        children = node.below.values()
        first, *further = [child for child in children if child.trained] or [None]
        behind = [first] if first else []
        behind += [child for child in children if not child.trained]
        places.append(Place(node, False, written(behind)))
        places += [Place(node, True, written([child])) for child in further if child]
    return places


def listed(places: Sequence[Place]) -> list[Place]:
    return [each for place in places for each in (place, *listed(place.below))]


def reference(views: Sequence[EncodedView]) -> list[Place]:
    return listed(written(trie(views)))


def check_tiles(sample: Sample) -> None:
    starts = sample.segments.start.tolist()
    assert starts[0] == 0
    assert all(a < b for a, b in itertools.pairwise([*starts, sample.length]))


# --- made views ----------------------------------------------------------------------------------


@st.composite
def view_lists(draw: st.DrawFn) -> list[EncodedView]:
    """Views over three tokens; most go on from where an earlier one was cut."""
    token = st.integers(0, 2)
    views: list[EncodedView] = []
    for _ in range(draw(st.integers(1, 6))):
        begun: list[int] = []
        if views and draw(st.integers(0, 5)) > 0:
            number = draw(st.integers(0, len(views) - 1))
            earlier: list[int] = views[number].tokens
            begun = earlier[: draw(st.integers(0, len(earlier)))]
        prompt = begun + draw(st.lists(token, min_size=0 if begun else 1, max_size=4))
        completion = draw(st.lists(token, max_size=5))
        total = len(prompt) + len(completion)
        views.append(
            encoded_view(
                prompt,
                completion,
                kinds=draw(st.lists(st.integers(0, 3), min_size=total, max_size=total)),
                messages=draw(st.lists(st.integers(-1, 2), min_size=total, max_size=total)),
            )
        )
    return views


def shared_beginnings(made: Sequence[Sequence[EncodedView]], data: st.DataObject) -> list[int]:
    """Draw for each view how many tokens it leaves to the view before it, which begins so too."""
    shared: list[int] = []
    for views in made:
        for before, view in itertools.pairwise([encoded_view([], []), *views]):
            pairs = zip(before.prompt, view.prompt, strict=False)
            same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
            shared.append(data.draw(st.integers(0, same)))
    return shared


STRIPPED = [  # h1 = 10 11, t1 = 20 21, r1 = 30 31, h2 = 12 13, t2 = 22, r2 = 32
    encoded_view([10, 11], [20, 21, 30, 31], kinds=[0, 0, 1, 1, 3, 3], messages=[0, 0, 1, 1, 1, 1]),
    encoded_view(
        [10, 11, 30, 31, 12, 13],
        [22, 32],
        kinds=[0, 0, 2, 2, 0, 0, 1, 3],
        messages=[0, 0, 1, 1, 2, 2, 3, 3],
    ),
]
KEPT = [encoded_view([10], [20, 30]), encoded_view([10, 20, 30, 11], [21, 31])]
