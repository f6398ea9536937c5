"""The compressed trie equals one node a token, and every token sees its path and no more.

    views ── lay_out() ───▶ samples ─┐
    views ── reference() ─▶ nodes ───┴─ the same tokens, positions, labels, visibility

The reference has a node for each token, and dictionaries for the branches.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from encoded import encoded_view
from encoded import per_token as said
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from oracle import FAULTS, check_row, expected_pairs, paper_visibility, planted, visible

from reasonpack.errors import RecordError
from reasonpack.rows.forest import EncodedView, LaidOut, Sample, lay_out


def encoded(
    prompt: Sequence[int],
    completion: Sequence[int],
    *,
    kinds: Sequence[int] | None = None,
    messages: Sequence[int] | None = None,
) -> EncodedView:
    tokens = [*prompt, *completion]
    return encoded_view(
        tokens,
        prompt_length=len(prompt),
        kinds=kinds or [0] * len(tokens),
        messages=messages or [0] * len(tokens),
    )


def onepass(views: Sequence[EncodedView]) -> Sample:
    (sample,) = lay_out("x", views).samples
    return sample


def pairs(views: Sequence[EncodedView]) -> Counter[tuple[bytes, int]]:
    """What the views train, each prefix with its next token once."""
    return expected_pairs(
        (0, view.tokens[: view.prompt_length].tolist(), view.tokens[view.prompt_length :].tolist())
        for view in views
    )


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


def reference(views: Sequence[EncodedView]) -> list[Node]:
    """Insert the views token by token, and list the nodes depth first."""
    top: dict[int, Node] = {}
    for view in views:
        level, parent = top, None
        for place, (token, kind, message) in enumerate(said(view)):
            if token not in level:
                path = (*(parent.path if parent else ()), token)
                level[token] = Node(token, path, kind, message, parent)
            parent = level[token]
            parent.trained |= place >= view.prompt_length
            level = parent.below
    return list(listed(top))


def listed(level: dict[int, Node]) -> list[Node]:
    return [each for node in level.values() for each in (node, *listed(node.below))]


def size(node: Node) -> int:
    return 1 + sum(size(child) for child in node.below.values())


def trained_after_parent(nodes: Sequence[Node]) -> bool:
    """Whether every trained token stands right after its parent."""
    return all(
        not node.trained or (place > 0 and node.parent is nodes[place - 1])
        for place, node in enumerate(nodes)
    )


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


def check_equal(laid_out: LaidOut, views: Sequence[EncodedView]) -> None:
    """Raise AssertionError unless the sample is the reference's."""
    nodes = reference(views)
    (sample,) = laid_out.samples
    assert sample.id == "x"
    assert sample.input_ids.tolist() == [node.token for node in nodes]
    assert sample.position_ids.tolist() == [len(node.path) - 1 for node in nodes]
    assert sample.labels.tolist() == [node.token if node.trained else -100 for node in nodes]
    assert per_token(sample) == [
        (node.kind, node.message, place + size(node)) for place, node in enumerate(nodes)
    ]
    assert sample.length == len(nodes)
    check_tiles(sample)
    check_counts(laid_out, views)


def check_tiles(sample: Sample) -> None:
    starts = sample.segments.start.tolist()
    assert starts[0] == 0
    assert all(a < b for a, b in itertools.pairwise([*starts, sample.length]))


def check_counts(laid_out: LaidOut, views: Sequence[EncodedView]) -> None:
    nodes = reference(views)
    assert laid_out.npass_tokens == sum(len(node.path) for node in nodes if not node.below)
    assert laid_out.naive_tokens == sum(len(view.tokens) for view in views)
    assert laid_out.longest_view == max(len(node.path) for node in nodes)
    assert laid_out.views == len(views)


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
            earlier: list[int] = views[number].tokens.tolist()
            begun = earlier[: draw(st.integers(0, len(earlier)))]
        prompt = begun + draw(st.lists(token, min_size=0 if begun else 1, max_size=4))
        completion = draw(st.lists(token, max_size=5))
        total = len(prompt) + len(completion)
        views.append(
            encoded(
                prompt,
                completion,
                kinds=draw(st.lists(st.integers(0, 3), min_size=total, max_size=total)),
                messages=draw(st.lists(st.integers(-1, 2), min_size=total, max_size=total)),
            )
        )
    return views


@settings(max_examples=500)
@given(view_lists())
@example([encoded([1], [1]), encoded([1, 1], [])])
@example([encoded([1, 2], [0]), encoded([1, 2, 0, 0], [1]), encoded([1, 0], [2])])
def test_equals_a_trie_of_single_tokens(views: list[EncodedView]) -> None:
    """Where a trained token is parted from its parent there is no sample; else the reference's."""
    if not trained_after_parent(reference(views)):
        with pytest.raises(RecordError, match="two answers follow the same prompt") as caught:
            lay_out("x", views)
        assert caught.value.reason == "layout"
        return
    check_equal(lay_out("x", views), views)


@settings(max_examples=300)
@given(view_lists())
def test_every_token_sees_its_path_from_the_root(views: list[EncodedView]) -> None:
    nodes = reference(views)
    assume(trained_after_parent(nodes))
    row = columns(onepass(views))
    assert len(row["input_ids"]) == len(nodes)
    for seen, node in zip(visible(row), nodes, strict=True):
        keys = sorted(np.flatnonzero(seen).tolist(), key=lambda key: row["position_ids"][key])
        assert tuple(row["input_ids"][key] for key in keys) == node.path


@settings(max_examples=300)
@given(view_lists())
def test_trains_what_the_views_train_each_once(views: list[EncodedView]) -> None:
    assume(trained_after_parent(reference(views)))
    assert check_row(columns(onepass(views))) == pairs(views)


@given(view_lists(), st.data())
def test_a_view_twice_changes_the_counts_alone(
    views: list[EncodedView], data: st.DataObject
) -> None:
    assume(trained_after_parent(reference(views)))
    again = views[data.draw(st.integers(0, len(views) - 1))]
    once, twice = lay_out("x", views), lay_out("x", [*views, again])
    for before, after in zip(once.samples, twice.samples, strict=True):
        assert (columns(before), per_token(before)) == (columns(after), per_token(after))
    assert once.npass_tokens == twice.npass_tokens
    assert twice.naive_tokens == once.naive_tokens + len(again.tokens)
    assert twice.views == once.views + 1


def test_dtypes() -> None:
    sample = onepass([encoded([1, 2], [3]), encoded([1, 4], [5])])
    table = sample.segments
    assert [
        array.dtype for array in (sample.input_ids, sample.position_ids, sample.labels, table.start)
    ] == [np.int32] * 4
    assert [array.dtype for array in (table.visible_until, table.message)] == [np.int32] * 2
    assert table.kind.dtype == np.uint8


# --- npass ---------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(view_lists())
def test_npass_writes_each_leaf_and_trains_each_token_once(views: list[EncodedView]) -> None:
    laid_out = lay_out("x", views, layout="npass")
    leaves = [node for node in reference(views) if not node.below]
    assert [tuple(sample.input_ids.tolist()) for sample in laid_out.samples] == [
        leaf.path for leaf in leaves
    ]
    found: Counter[tuple[bytes, int]] = Counter()
    for sample, leaf in zip(laid_out.samples, leaves, strict=True):
        row = columns(sample)
        found += check_row(row)
        assert row["position_ids"] == list(range(sample.length))
        assert set(row["segment_visible_until"]) == {sample.length}
        check_tiles(sample)
        way = [*ancestors(leaf)][::-1]
        assert [spread[:2] for spread in per_token(sample)] == [
            (node.kind, node.message) for node in way
        ]
        assert sample.id == "x"
    assert found == pairs(views)
    assert sum(sample.length for sample in laid_out.samples) == laid_out.npass_tokens
    check_counts(laid_out, views)


def ancestors(node: Node | None) -> Iterator[Node]:
    while node:
        yield node
        node = node.parent


def test_npass_of_stripped_reasoning() -> None:
    first, second = lay_out("x", STRIPPED, layout="npass").samples
    assert first.input_ids.tolist() == [10, 11, 20, 21, 30, 31]
    assert first.labels.tolist() == [-100, -100, 20, 21, 30, 31]
    assert second.input_ids.tolist() == [10, 11, 30, 31, 12, 13, 22, 32]
    assert second.labels.tolist() == [-100] * 6 + [22, 32]


def test_npass_trains_what_two_leaves_share_in_the_first() -> None:
    views = [encoded([1], [2]), encoded([1, 2, 3], [4]), encoded([1, 2, 5], [6])]
    first, second = lay_out("x", views, layout="npass").samples
    assert (first.labels.tolist(), second.labels.tolist()) == (
        [-100, 2, -100, 4],
        [-100, -100, -100, 6],
    )


def test_npass_holds_two_answers_to_one_prompt() -> None:
    first, second = lay_out(
        "x", [encoded([1], [2, 3]), encoded([1], [2, 4])], layout="npass"
    ).samples
    assert (first.labels.tolist(), second.labels.tolist()) == ([-100, 2, 3], [-100, -100, 4])


# --- by hand -------------------------------------------------------------------------------------

STRIPPED = [  # h1 = 10 11, t1 = 20 21, r1 = 30 31, h2 = 12 13, t2 = 22, r2 = 32
    encoded([10, 11], [20, 21, 30, 31], kinds=[0, 0, 1, 1, 3, 3], messages=[0, 0, 1, 1, 1, 1]),
    encoded(
        [10, 11, 30, 31, 12, 13],
        [22, 32],
        kinds=[0, 0, 2, 2, 0, 0, 1, 3],
        messages=[0, 0, 1, 1, 2, 2, 3, 3],
    ),
]
KEPT = [encoded([10], [20, 30]), encoded([10, 20, 30, 11], [21, 31])]


def test_stripped_reasoning_becomes_a_branch() -> None:
    laid_out = lay_out("x", STRIPPED)
    (sample,) = laid_out.samples
    assert sample.input_ids.tolist() == [10, 11, 20, 21, 30, 31, 30, 31, 12, 13, 22, 32]
    assert sample.position_ids.tolist() == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 6, 7]
    assert sample.labels.tolist() == [-100, -100, 20, 21, 30, 31, -100, -100, -100, -100, 22, 32]
    table = sample.segments
    assert table.start.tolist() == [0, 2, 4, 6, 8, 10, 11]
    assert table.visible_until.tolist() == [12, 6, 6, 12, 12, 12, 12]
    assert table.kind.tolist() == [0, 1, 3, 2, 0, 1, 3]
    assert table.message.tolist() == [0, 1, 1, 1, 2, 3, 3]
    assert (laid_out.npass_tokens, laid_out.naive_tokens, laid_out.longest_view) == (14, 14, 8)


def test_kept_reasoning_is_a_plain_causal_sequence() -> None:
    laid_out = lay_out("x", KEPT)
    (sample,) = laid_out.samples
    assert sample.input_ids.tolist() == [10, 20, 30, 11, 21, 31]
    assert sample.position_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert sample.labels.tolist() == [-100, 20, 30, -100, 21, 31]
    assert set(sample.segments.visible_until.tolist()) == {6}
    # A view that a later one only goes on from is no leaf.
    assert (laid_out.npass_tokens, laid_out.naive_tokens) == (6, 9)


def test_views_that_share_nothing_are_trees_of_their_own() -> None:
    sample = onepass([encoded([1], [2]), encoded([3], [4])])
    assert sample.position_ids.tolist() == [0, 1, 0, 1]
    assert sample.segments.visible_until.tolist() == [2, 4]


def test_a_view_inside_another_cuts_no_segment() -> None:
    sample = onepass([encoded([1], [2, 3, 4]), encoded([1, 2], [3])])
    assert sample.segments.start.tolist() == [0]


def test_two_answers_to_one_prompt_are_refused() -> None:
    with pytest.raises(RecordError) as caught:
        lay_out("x", [encoded([1, 2], [3]), encoded([1, 2], [4])])
    assert caught.value.reason == "layout"
    assert "train" in caught.value.fix


def test_a_view_without_prompt_is_refused() -> None:
    with pytest.raises(RecordError) as caught:
        lay_out("x", [encoded([1], [2]), encoded([], [3])])
    assert caught.value.reason == "view"


def test_context_before_its_branch_is_refused() -> None:
    """The paper's order `h t r_in r_out` puts a trained token behind one that is not its parent."""
    with pytest.raises(RecordError) as caught:
        lay_out("x", STRIPPED[::-1])
    assert caught.value.reason == "layout"


# --- the paper's setting, arXiv 2504.18246 -------------------------------------------------------

lengths = st.integers(1, 3)


@given(st.lists(st.tuples(lengths, lengths, lengths, lengths), min_size=1, max_size=5))
def test_agrees_with_the_paper(turns: list[tuple[int, int, int, int]]) -> None:
    """Visibility, positions and loss of h, t, r_out, r_in; the last r_in is never needed."""
    h, t, r_out, r_in = zip(*turns, strict=True)
    paper = paper_visibility(h=h, t=t, r_out=r_out, r_in=r_in)
    names = list(paper.visible)
    numbers = {token: number for number, token in enumerate(names)}

    def stream(kind: str, turn: int) -> list[int]:
        count = {"h": h, "t": t, "r_out": r_out, "r_in": r_in}[kind][turn - 1]
        return [numbers[(kind, turn), offset] for offset in range(count)]

    views: list[EncodedView] = []
    history: list[int] = []
    for turn in range(1, len(turns) + 1):
        prompt = history + stream("h", turn)
        views.append(encoded(prompt, stream("t", turn) + stream("r_out", turn)))
        history = prompt + stream("r_in", turn)
    row = columns(onepass(views))

    found = [names[number] for number in row["input_ids"]]
    last = ("r_in", len(turns))
    assert set(found) == {token for token in paper.visible if token[0] != last}
    assert len(found) == len(set(found))
    for place, (token, seen) in enumerate(zip(found, visible(row), strict=True)):
        assert {found[key] for key in np.flatnonzero(seen)} == paper.visible[token]
        assert row["position_ids"][place] == paper.position[token]
        assert (row["labels"][place] != -100) == (token in paper.trained)


# --- planted faults ------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_row_is_caught(fault: str) -> None:
    right = columns(onepass(STRIPPED))
    assert check_row(right) == pairs(STRIPPED)
    wrong: Any = planted(right, fault)
    assert wrong is not None
    try:
        found = check_row(wrong)
    except AssertionError:
        return
    assert found != pairs(STRIPPED)
