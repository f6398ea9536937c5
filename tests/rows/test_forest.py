"""The branches of arrays equal a trie of one node a token, and a token sees its path and no more.

    views ── lay_out() ───▶ samples ─┐
    views ── reference() ─▶ places ──┴─ the same tokens, positions, labels, visibility

The reference has a node for each token, and dictionaries for the branches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from encoded import EncodedView, LaidOut, encoded_view, encoded_views, lay_out
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_views import (
    KEPT,
    STRIPPED,
    Node,
    check_tiles,
    columns,
    listed,
    pairs,
    per_token,
    plain,
    reference,
    shared_beginnings,
    trie,
    view_lists,
)
from oracle import COPY_FAULTS, FAULTS, check_row, paper_visibility, planted, visible

from reasonpack.errors import RecordError
from reasonpack.rows import forest
from reasonpack.rows.sample import Sample, write
from tests.changed import replace


def onepass(views: Sequence[EncodedView]) -> Sample:
    (sample,) = lay_out("x", views).samples
    return sample


def trained_after_parent(nodes: Sequence[Node]) -> bool:
    """Whether every trained token stands right after its parent."""
    return all(
        not node.trained or (place > 0 and node.parent is nodes[place - 1])
        for place, node in enumerate(nodes)
    )


def check_equal(laid_out: LaidOut, views: Sequence[EncodedView]) -> None:
    """Raise AssertionError unless the sample is the reference's."""
    places = reference(views)
    (sample,) = laid_out.samples
    assert sample.id == "x"
    assert sample.input_ids.tolist() == [place.node.token for place in places]
    assert sample.position_ids.tolist() == [len(place.node.path) - 1 for place in places]
    assert sample.labels.tolist() == [
        place.node.token if place.node.trained and not place.copied else -100 for place in places
    ]
    assert per_token(sample) == [
        (place.node.kind, place.node.message, at + 1 + len(listed(place.below)))
        for at, place in enumerate(places)
    ]
    check_tiles(sample)
    check_counts(laid_out, views)


def check_counts(laid_out: LaidOut, views: Sequence[EncodedView]) -> None:
    nodes, counts = plain(trie(views)), laid_out.counts
    assert counts.npass_tokens == sum(len(node.path) for node in nodes if not node.below)
    assert counts.naive_tokens == sum(len(view.tokens) for view in views)
    assert counts.longest_view == max(len(node.path) for node in nodes)
    assert counts.longest_sample == max(sample.length for sample in laid_out.samples)
    assert counts.views == len(views)


@settings(max_examples=200)
@given(view_lists())
@example([encoded_view([1], [1]), encoded_view([1, 1], [])])
@example([encoded_view([1, 2], [0]), encoded_view([1, 2, 0, 0], [1]), encoded_view([1, 0], [2])])
def test_equals_a_trie_of_single_tokens(views: list[EncodedView]) -> None:
    check_equal(lay_out("x", views), views)


@pytest.mark.long
@settings(max_examples=150)
@given(view_lists())
def test_copies_are_written_only_where_a_trained_token_has_no_parent_before_it(
    views: list[EncodedView],
) -> None:
    nodes = plain(trie(views))
    if trained_after_parent(nodes):
        assert onepass(views).input_ids.tolist() == [node.token for node in nodes]
    else:
        assert [place.node for place in reference(views)] != nodes


@pytest.mark.long
@settings(max_examples=150)
@given(view_lists())
def test_every_token_sees_its_path_from_the_root(views: list[EncodedView]) -> None:
    row = columns(onepass(views))
    for seen, place in zip(visible(row), reference(views), strict=True):
        keys = sorted(np.flatnonzero(seen).tolist(), key=lambda key: row["position_ids"][key])
        assert tuple(row["input_ids"][key] for key in keys) == place.node.path


@pytest.mark.long
@settings(max_examples=150)
@given(view_lists())
def test_trains_what_the_views_train_each_once(views: list[EncodedView]) -> None:
    assert check_row(columns(onepass(views))) == pairs(views)


@given(view_lists(), st.data())
def test_a_view_twice_changes_the_counts_alone(
    views: list[EncodedView], data: st.DataObject
) -> None:
    again = views[data.draw(st.integers(0, len(views) - 1))]
    once, twice = lay_out("x", views), lay_out("x", [*views, again])
    for before, after in zip(once.samples, twice.samples, strict=True):
        assert (columns(before), per_token(before)) == (columns(after), per_token(after))
    assert once.counts.npass_tokens == twice.counts.npass_tokens
    assert twice.counts.naive_tokens == once.counts.naive_tokens + len(again.tokens)
    assert twice.counts.views == once.counts.views + 1


@pytest.mark.long
@settings(max_examples=150)
@given(
    st.lists(view_lists(), min_size=1, max_size=3), st.sampled_from(["onepass", "npass"]), st.data()
)
def test_many_conversations_of_views_that_share_their_beginnings(
    made: list[list[EncodedView]], layout: forest.Layout, data: st.DataObject
) -> None:
    """A batch is what each of its conversations is alone, whatever of a view is left out."""
    shared = shared_beginnings(made, data)
    planted = forest.plant(encoded_views(made, shared))
    together = [forest.lay_out(planted, number, layout=layout) for number in range(len(made))]
    found = write(planted, [(str(number), each) for number, each in enumerate(together)])
    alone = [lay_out(str(number), views, layout=layout) for number, views in enumerate(made)]
    expected = [sample for each in alone for sample in each.samples]
    for one, other in zip(found, expected, strict=True):
        assert one.id == other.id
        assert (columns(one), per_token(one)) == (columns(other), per_token(other))
    for counts, each in zip(together, alone, strict=True):
        assert replace(counts, samples=[]) == replace(each.counts, samples=[])


# --- npass ---------------------------------------------------------------------------------------


@pytest.mark.long
@settings(max_examples=150)
@given(view_lists())
def test_npass_writes_each_leaf_and_trains_each_token_once(views: list[EncodedView]) -> None:
    laid_out = lay_out("x", views, layout="npass")
    leaves = [node for node in plain(trie(views)) if not node.below]
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
    assert sum(sample.length for sample in laid_out.samples) == laid_out.counts.npass_tokens
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
    views = [encoded_view([1], [2]), encoded_view([1, 2, 3], [4]), encoded_view([1, 2, 5], [6])]
    first, second = lay_out("x", views, layout="npass").samples
    assert (first.labels.tolist(), second.labels.tolist()) == (
        [-100, 2, -100, 4],
        [-100, -100, -100, 6],
    )


def test_npass_holds_two_answers_to_one_prompt() -> None:
    first, second = lay_out(
        "x", [encoded_view([1], [2, 3]), encoded_view([1], [2, 4])], layout="npass"
    ).samples
    assert (first.labels.tolist(), second.labels.tolist()) == ([-100, 2, 3], [-100, -100, 4])


# --- by hand -------------------------------------------------------------------------------------


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
    assert replace(laid_out.counts, samples=[]) == forest.LaidOut([], 2, 8, 12, 14, 14)


def test_kept_reasoning_is_a_plain_causal_sequence() -> None:
    laid_out = lay_out("x", KEPT)
    (sample,) = laid_out.samples
    assert sample.input_ids.tolist() == [10, 20, 30, 11, 21, 31]
    assert sample.position_ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert sample.labels.tolist() == [-100, 20, 30, -100, 21, 31]
    assert set(sample.segments.visible_until.tolist()) == {6}
    # A view that a later one only goes on from is no leaf.
    assert replace(laid_out.counts, samples=[]) == forest.LaidOut([], 2, 6, 6, 6, 9)


def test_views_that_share_nothing_are_trees_of_their_own() -> None:
    sample = onepass([encoded_view([1], [2]), encoded_view([3], [4])])
    assert sample.position_ids.tolist() == [0, 1, 0, 1]
    assert sample.segments.visible_until.tolist() == [2, 4]


def test_a_view_inside_another_cuts_no_segment() -> None:
    sample = onepass([encoded_view([1], [2, 3, 4]), encoded_view([1, 2], [3])])
    assert sample.segments.start.tolist() == [0]


def test_a_view_without_prompt_is_refused() -> None:
    with pytest.raises(RecordError) as caught:
        lay_out("x", [encoded_view([1], [2]), encoded_view([], [3])])
    assert caught.value.reason == "view"


# --- siblings, by hand ---------------------------------------------------------------------------


def test_two_answers_to_one_prompt() -> None:
    sample = onepass([encoded_view([1, 2], [3, 5]), encoded_view([1, 2], [4])])
    assert sample.input_ids.tolist() == [1, 2, 3, 5, 2, 4]
    assert sample.position_ids.tolist() == [0, 1, 2, 3, 1, 2]
    assert sample.labels.tolist() == [-100, -100, 3, 5, -100, 4]
    assert [until for _, _, until in per_token(sample)] == [6, 4, 4, 4, 6, 6]


def test_two_answers_with_a_common_beginning_copy_its_last_token() -> None:
    sample = onepass([encoded_view([1], [2, 3]), encoded_view([1], [2, 4]), encoded_view([1], [2])])
    assert sample.input_ids.tolist() == [1, 2, 3, 2, 4]
    assert sample.labels.tolist() == [-100, 2, 3, -100, 4]
    assert [until for _, _, until in per_token(sample)] == [5, 3, 3, 5, 5]


def test_a_copy_at_depth_0_is_a_second_root() -> None:
    kinds = {"kinds": [2, 3], "messages": [0, 1]}
    sample = onepass([encoded_view([1], [3], **kinds), encoded_view([1], [4], **kinds)])
    assert sample.input_ids.tolist() == [1, 3, 1, 4]
    assert sample.position_ids.tolist() == [0, 1, 0, 1]
    assert per_token(sample) == [(2, 0, 2), (3, 1, 2), (2, 0, 4), (3, 1, 4)]


def test_context_comes_behind_the_branch_that_is_trained() -> None:
    """What was inserted first is written second: the paper's order has no mask."""
    sample = onepass(STRIPPED[::-1])
    assert sample.input_ids.tolist() == [10, 11, 20, 21, 30, 31, 30, 31, 12, 13, 22, 32]
    assert check_row(columns(sample)) == pairs(STRIPPED)


def test_an_answer_under_a_parent_that_a_later_prompt_extends() -> None:
    """2 is written for 3, and again for 4, below which the conversation goes on."""
    views = [encoded_view([1, 2], [3]), encoded_view([1, 2], [4]), encoded_view([1, 2, 4, 5], [6])]
    sample = onepass([*views, encoded_view([1, 2, 7], [8])])
    assert sample.input_ids.tolist() == [1, 2, 3, 7, 8, 2, 4, 5, 6]
    assert sample.labels.tolist() == [-100, -100, 3, -100, 8, -100, 4, -100, 6]
    assert [until for _, _, until in per_token(sample)] == [9, 5, 3, 5, 5, 9, 9, 9, 9]


def test_an_answer_that_was_context_before_it_was_trained() -> None:
    sample = onepass([encoded_view([1, 2, 3], [4]), encoded_view([1], [2])])
    assert sample.labels.tolist() == [-100, 2, -100, 4]


def test_many_answers_to_one_prompt() -> None:
    """A group of rollouts; each costs its own tokens and one copy."""
    views = [encoded_view([1, 2], [number, 9]) for number in range(3, 2003)]
    laid_out = lay_out("x", views)
    assert laid_out.counts.longest_sample == 1 + 2000 * 3
    assert laid_out.samples[0].segments.visible_until[0] == 6001


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
        views.append(encoded_view(prompt, stream("t", turn) + stream("r_out", turn)))
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


SIBLINGS = [*STRIPPED, encoded_view([10, 11, 30, 31, 12, 13], [23])]


@pytest.mark.parametrize("fault", [*FAULTS, *COPY_FAULTS])
def test_a_wrong_row_is_caught(fault: str) -> None:
    right = columns(onepass(SIBLINGS))
    assert check_row(right) == pairs(SIBLINGS)
    wrong: Any = planted(right, fault)
    assert wrong is not None
    try:
        found = check_row(wrong)
    except AssertionError:
        return
    assert found != pairs(SIBLINGS)
