"""A divided forest trains what it trained undivided, in rows, for as few tokens as there can be.

    views ── divide() ───▶ samples ─┐
    views ── cheapest() ─▶ size    ─┴─ no division of the views into runs of neighbours costs less

The reference tries all divisions, and counts the tokens of a run in a trie of one node a token.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from encoded import EncodedView, encoded_view, encoded_views
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_views import STRIPPED, check_tiles, columns, pairs, reference, view_lists
from oracle import check_row, visible

from reasonpack.rows import split
from reasonpack.rows.forest import LaidOut, lay_out, plant
from reasonpack.rows.sample import Sample, write
from reasonpack.rows.split import divide
from tests.changed import replace

Path = tuple[int, ...]


def divided(views: Sequence[EncodedView], max_length: int) -> tuple[LaidOut, list[Sample]]:
    """Divide the views of one conversation if they are too long together."""
    forest = plant(encoded_views([views]))
    whole = lay_out(forest)
    made = divide(forest, 0, whole, max_length) if whole.longest_sample > max_length else whole
    return made, write(forest, [("x", made)])


def prefixes(paths: Sequence[Path]) -> set[Path]:
    return {path[:stop] for path in paths for stop in range(1, len(path) + 1)}


def in_order(views: Sequence[EncodedView]) -> list[Path]:
    """The views, in the order in which their last tokens are written."""
    ends = {tuple(view.tokens) for view in views}
    places = [place for place in reference(views) if not place.copied]
    return [place.node.path for place in places if place.node.path in ends]


def size(run: Sequence[Path], before: Sequence[Path], trained: set[Path]) -> int:
    """Count the tokens of a run of views, and its copies, behind those that others train."""
    here, there = prefixes(run), prefixes(before)
    children = Counter(path[:-1] for path in here & trained - there)
    return len(here) + sum(number - 1 for number in children.values())


def divisions(views: Sequence[Path]) -> Iterator[list[int]]:
    inner = range(1, len(views))
    for number in range(len(views)):
        for cuts in itertools.combinations(inner, number):
            yield [0, *cuts, len(views)]


def cheapest(views: Sequence[EncodedView], max_length: int) -> tuple[int, int]:
    """Return tokens and samples of the best division, of all that there are."""
    order = in_order(views)
    trained = {
        tuple(view.tokens[:stop])
        for view in views
        for stop in range(len(view.prompt) + 1, len(view.tokens) + 1)
    }
    found = []
    for bounds in divisions(order):
        runs = itertools.pairwise(bounds)
        sizes = [size(order[first:stop], order[:first], trained) for first, stop in runs]
        if max(sizes) <= max_length:
            found.append((sum(sizes), len(sizes)))
    return min(found)


SIBLINGS = [encoded_view([1], [2, number]) for number in range(3, 9)]
NESTED = [*SIBLINGS, encoded_view([1, 2, 5], [3, 4]), encoded_view([1, 2, 5], [4])]


@pytest.mark.long
@settings(max_examples=500)
@given(view_lists(), st.integers(0, 12))
@example(SIBLINGS, 0)
@example(NESTED, 3)
@example(STRIPPED, 1)
def test_no_division_costs_less(views: list[EncodedView], room: int) -> None:
    max_length = max(len(view.tokens) for view in views) + room
    made, samples = divided(views, max_length)
    tokens = sum(sample.length for sample in samples)
    assert (tokens, len(samples)) == cheapest(views, max_length)
    assert made.longest_sample == max(sample.length for sample in samples) <= max_length
    whole = lay_out(plant(encoded_views([views])))
    assert made.extra_tokens == tokens - whole.longest_sample >= 0
    assert made.extra_samples == len(samples) - 1
    assert made.npass_tokens == whole.npass_tokens
    assert made.naive_tokens == whole.naive_tokens


@pytest.mark.long
@settings(max_examples=500)
@given(view_lists(), st.integers(0, 12))
@example(SIBLINGS, 1)
@example(NESTED, 4)
def test_each_pair_is_trained_once_in_the_first_sample_that_holds_it(
    views: list[EncodedView], room: int
) -> None:
    _, samples = divided(views, max(len(view.tokens) for view in views) + room)
    wanted, held = pairs(views), Counter[tuple[bytes, int]]()
    known: set[Path] = set()
    for sample in samples:
        row = columns(sample)
        check_tiles(sample)
        held += check_row(row)
        here = seen_paths(row)
        assert set(here) <= prefixes([tuple(view.tokens) for view in views])
        for path, label in zip(here, row["labels"], strict=True):
            assert label == -100 or path not in known, "trained, and in an earlier sample"
        known |= set(here)
    assert held == wanted
    assert known == prefixes([tuple(view.tokens) for view in views])


def seen_paths(row: dict[str, list[int]]) -> list[Path]:
    """Return for each token what it sees, in the order of positions, itself the last."""
    order = [
        sorted(np.flatnonzero(seen).tolist(), key=lambda key: row["position_ids"][key])
        for seen in visible(row)
    ]
    return [tuple(row["input_ids"][key] for key in keys) for keys in order]


@settings(max_examples=60)
@given(st.lists(view_lists(), min_size=2, max_size=3), st.integers(0, 6))
def test_a_conversation_of_a_batch_is_divided_as_alone(
    made: list[list[EncodedView]], room: int
) -> None:
    longest = max(len(view.tokens) for views in made for view in views) + room
    forest = plant(encoded_views(made))
    for number, views in enumerate(made):
        whole = lay_out(forest, number)
        if whole.longest_sample > longest:
            whole = divide(forest, number, whole, longest)
        found = [columns(sample) for sample in write(forest, [("x", whole)])]
        assert found == [columns(sample) for sample in divided(views, longest)[1]]


def test_by_hand() -> None:
    """The history that the second view needs is repeated; each sample holds one view."""
    made, (first, second) = divided(STRIPPED, 8)
    assert first.input_ids.tolist() == [10, 11, 20, 21, 30, 31]
    assert first.labels.tolist() == [-100, -100, 20, 21, 30, 31]
    assert second.input_ids.tolist() == [10, 11, 30, 31, 12, 13, 22, 32]
    assert second.labels.tolist() == [-100] * 6 + [22, 32]
    assert (made.extra_samples, made.extra_tokens) == (1, 2)


def test_a_leaf_of_one_sample_goes_on_in_another() -> None:
    """Two answers, of which the second continues the first, and no room for all."""
    views = [encoded_view([1], [2]), encoded_view([1, 2, 3], [4]), encoded_view([1, 2, 3], [5])]
    made, samples = divided(views, 5)
    assert [sample.input_ids.tolist() for sample in samples] == [[1, 2, 3, 4], [1, 2, 3, 5]]
    assert [sample.labels.tolist() for sample in samples] == [[-100, 2, -100, 4], [-100] * 3 + [5]]
    assert made.npass_tokens == 8


def test_a_branch_goes_on_in_another_sample_behind_where_the_first_leaves_it() -> None:
    """The answer is written before the other view goes on, with tokens that are not trained."""
    made, samples = divided([encoded_view([1, 2, 3], [4]), encoded_view([1], [9])], 4)
    assert [sample.input_ids.tolist() for sample in samples] == [[1, 9], [1, 2, 3, 4]]
    assert [sample.labels.tolist() for sample in samples] == [[-100, 9], [-100] * 3 + [4]]
    assert made.extra_tokens == 1


def test_hundreds_of_views() -> None:
    """A branch for each, and a history that each goes on from."""
    history: list[int] = []
    views = []
    for turn in range(300):
        history = [*history, turn, turn + 1]
        views.append(encoded_view(history, [turn + 7] * 3))
    made, samples = divided(views, 900)
    assert all(sample.length <= 900 for sample in samples)
    assert sum(int((sample.labels != -100).sum()) for sample in samples) == 900
    assert made.extra_samples == len(samples) - 1 > 1


# --- planted faults ------------------------------------------------------------------------------


def greedy(order: split._Order, limit: int) -> list[int]:
    """Fill each sample before the next is begun."""
    bounds, room = [0], 0
    for place, (length, shared) in enumerate(zip(order.length, order.shared, strict=True)):
        room -= length - shared
        if room < 0:
            bounds += [place] if place else []
            room = limit - length
    return [*bounds, len(order.views)]


def without_copies(order: split._Order, limit: int) -> list[int]:
    """Count no copy of a token with several trained children."""
    return division(replace(order, sibling=np.full_like(order.sibling, -1)), limit)


def one_each(order: split._Order, limit: int) -> list[int]:
    return [*range(len(order.views) + 1)]


division = split._division
LONG = encoded_view([1], [*range(20, 30)])
CASES = [
    (SIBLINGS, 9),
    (NESTED, 9),
    ([encoded_view([1, *range(50, 56)], [2]), encoded_view([1], [3]), LONG], 14),
]


def is_best(views: list[EncodedView], max_length: int) -> bool:
    sizes = [sample.length for sample in divided(views, max_length)[1]]
    return max(sizes) <= max_length and (sum(sizes), len(sizes)) == cheapest(views, max_length)


@pytest.mark.parametrize("fault", [greedy, without_copies, one_each])
def test_a_wrong_division_is_caught(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(is_best(*case) for case in CASES)
    monkeypatch.setattr(split, "_division", fault)
    assert not all(is_best(*case) for case in CASES)
