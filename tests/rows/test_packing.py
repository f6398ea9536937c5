"""Rows are those of best-fit decreasing, and hold every sample once."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack.rows.packing import best_fit, in_sequence

Rows = list[list[int]]


def scanned(
    lengths: Sequence[int], max_length: int, costs: Sequence[int] = (), max_cost: int = 1
) -> Rows:
    """Scan all rows for the fullest with room; of equally full ones the one used last.

    With costs: of equally full ones the one where the least is left.
    """
    rows: Rows = []  # the row used last stands last
    costs = costs or [0] * len(lengths)

    def room(row: list[int]) -> int:
        return max_length - sum(lengths[index] for index in row)

    def left(row: list[int]) -> int:
        return max_cost - sum(costs[index] for index in row)

    def size(index: int) -> Fraction:
        return max(Fraction(lengths[index], max_length), Fraction(costs[index], max_cost))

    for index in sorted(range(len(lengths)), key=lambda index: -size(index)):
        length, cost = lengths[index], costs[index]
        fits = [row for row in reversed(rows) if room(row) >= length and left(row) >= cost]
        row = min(fits, key=lambda row: (room(row), left(row)), default=[])
        rows = [other for other in rows if other is not row]
        row.append(index)
        rows.append(row)
    return sorted(sorted(row) for row in rows)


def first_fit(lengths: Sequence[int], max_length: int) -> Rows:
    """The first row with room, in the order of the input: a fault to be caught."""
    rows: Rows = []
    for index, length in enumerate(lengths):
        fits = (row for row in rows if sum(lengths[i] for i in row) + length <= max_length)
        row = next(fits, None)
        if row is None:
            rows.append(row := [])
        row.append(index)
    return sorted(rows)


def check(rows: Rows, lengths: Sequence[int], max_length: int) -> None:
    """Raise AssertionError where the promises of `pack` do not hold."""
    assert Counter(index for row in rows for index in row) == Counter(range(len(lengths)))
    assert all(rows), "an empty row"
    assert all(sum(lengths[index] for index in row) <= max_length for row in rows)
    assert all(row == sorted(row) for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)


@st.composite
def packings(draw: st.DrawFn, *, samples: int = 40) -> tuple[list[int], int]:
    max_length = draw(st.integers(1, 40))
    return draw(st.lists(st.integers(1, max_length), max_size=samples)), max_length


@given(packings())
def test_each_sample_once_in_rows_that_hold_it_in_order(case: tuple[list[int], int]) -> None:
    check(best_fit(*case), *case)


@given(packings())
def test_equals_scanning_all_rows(case: tuple[list[int], int]) -> None:
    assert best_fit(*case) == scanned(*case)


@pytest.mark.parametrize("max_length", [1, 2, 3, 4, 7, 8, 9, 255, 256, 257])
def test_row_lengths_around_powers_of_two(max_length: int) -> None:
    lengths = [1 + index % max_length for index in range(3 * max_length)]
    rows = best_fit(lengths, max_length)
    check(rows, lengths, max_length)
    assert rows == scanned(lengths, max_length)


def test_row_order_is_that_of_the_first_samples() -> None:
    # 9 + 2 fill a row. 3 joins 7, then 1 the same row, as 5 leaves more room.
    assert best_fit([2, 5, 9, 7, 1, 3], 11) == [[0, 2], [1], [3, 4, 5]]


def test_fill_of_real_looking_lengths() -> None:
    random = np.random.default_rng(20250424)
    drawn = random.lognormal(7.0, 1.0, 5_000).astype(int)
    lengths = np.clip(drawn, 1, 8192).tolist()
    rows = best_fit(lengths, 8192)
    check(rows, lengths, 8192)
    assert sum(lengths) / (len(rows) * 8192) >= 0.995


def test_hundred_thousand_samples() -> None:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 8193, 100_000).tolist()
    check(best_fit(lengths, 8192), lengths, 8192)


def test_a_row_length_that_means_no_limit() -> None:
    """Memory goes by what there is to pack."""
    assert best_fit([5, 3, 4], 10**18) == [[0, 1, 2]]


def test_nothing_gives_no_rows() -> None:
    assert best_fit([], 10) == []


@pytest.mark.parametrize("lengths", [[11], [3, 11, 2]])
def test_a_sample_longer_than_a_row_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="a sample of 11 tokens, expected at most 10"):
        best_fit(lengths, 10)


def test_a_sample_as_long_as_a_row_has_it_alone() -> None:
    assert best_fit([10, 1, 10], 10) == [[0], [1], [2]]


# --- costs, and the order of the input -----------------------------------------------------------


@st.composite
def priced(draw: st.DrawFn) -> tuple[list[int], int, list[int], int]:
    """Lengths and row length, costs and row cost; some samples cost more than a row may."""
    lengths, max_length = draw(packings(samples=25))
    costs = draw(st.lists(st.integers(1, 60), min_size=len(lengths), max_size=len(lengths)))
    return lengths, max_length, costs, draw(st.integers(1, 80))


def check_costs(rows: Rows, costs: Sequence[int], max_cost: int) -> None:
    for row in rows:
        assert len(row) == 1 or sum(costs[index] for index in row) <= max_cost


PACK = [best_fit, in_sequence]


@pytest.mark.parametrize("pack", PACK)
@settings(max_examples=150)
@given(case=priced())
def test_rows_hold_each_sample_once_within_both_limits(pack: Any, case: Any) -> None:
    lengths, max_length, costs, max_cost = case
    rows = pack(lengths, max_length, costs=costs, max_cost=max_cost)
    check(rows, lengths, max_length)
    check_costs(rows, costs, max_cost)
    assert rows == pack(tuple(lengths), max_length, costs=tuple(costs), max_cost=max_cost)


@settings(max_examples=150)
@given(case=priced())
def test_costs_are_looked_at_as_a_scan_of_all_rows_does(case: Any) -> None:
    lengths, max_length, costs, max_cost = case
    max_length = max(1, min(max_length, sum(lengths)))
    found = best_fit(lengths, max_length, costs=costs, max_cost=max_cost)
    assert found == scanned(lengths, max_length, costs, max_cost)


@pytest.mark.parametrize("pack", PACK)
@given(case=priced())
def test_a_limit_that_no_row_reaches_changes_nothing(pack: Any, case: Any) -> None:
    lengths, max_length, costs, _ = case
    assert pack(lengths, max_length, costs=costs) == pack(lengths, max_length)
    # best fit takes the samples in the order of their lengths then
    free = pack(lengths, max_length, costs=[0] * len(lengths), max_cost=1)
    assert free == pack(lengths, max_length)


@settings(max_examples=150)
@given(case=priced())
def test_best_fit_opens_a_row_only_where_no_other_has_room(case: Any) -> None:
    """No two rows of which one was opened while the other had room for all that it holds."""
    lengths, max_length, costs, max_cost = case
    rows = best_fit(lengths, max_length, costs=costs, max_cost=max_cost)
    for row in rows:
        for other in rows:
            if row is other:
                continue
            both = [*row, *other]
            fits = sum(lengths[i] for i in both) <= max_length
            cheap = sum(costs[i] for i in both) <= max_cost
            assert not (fits and cheap), (row, other)


@given(case=priced())
def test_a_sequence_begins_a_row_only_where_the_last_has_no_room(case: Any) -> None:
    lengths, max_length, costs, max_cost = case
    rows = in_sequence(lengths, max_length, costs=costs, max_cost=max_cost)
    assert [index for row in rows for index in row] == list(range(len(lengths)))
    for row, following in itertools.pairwise(rows):
        both = [*row, following[0]]
        too_long = sum(lengths[index] for index in both) > max_length
        assert too_long or sum(costs[index] for index in both) > max_cost


def test_costs_even_out_rows() -> None:
    """Long samples cost the square of their length; they share rows with short ones."""
    random = np.random.default_rng(1)
    lengths = np.minimum(random.lognormal(6.5, 1.2, 3_000).astype(int) + 1, 8192).tolist()
    costs = [length * (length + 1) // 2 for length in lengths]
    spread = []
    for max_cost in (None, 6_000_000):
        rows = best_fit(lengths, 8192, costs=costs, max_cost=max_cost)
        sums = np.array([sum(costs[index] for index in row) for row in rows if len(row) > 1])
        spread.append(sums.std() / sums.mean())
    assert spread[1] < spread[0] / 2


@pytest.mark.parametrize("pack", PACK)
def test_a_sample_that_costs_too_much_has_a_row_to_itself(pack: Any) -> None:
    assert pack([1, 1, 1], 8, costs=[5, 90, 5], max_cost=10)[1] in ([1], [2])
    assert [1] in pack([1, 1, 1], 8, costs=[5, 90, 5], max_cost=10)


FAULTS: dict[str, Callable[[Rows], Rows]] = {
    "lost": lambda rows: rows[1:],
    "lost in a row": lambda rows: [rows[0][1:], *rows[1:]],
    "twice": lambda rows: [*rows, rows[-1]],
    "too full": lambda rows: [[0, 1, 2, 3]],
    "rows in another order": lambda rows: rows[::-1],
    "samples in another order": lambda rows: [row[::-1] for row in rows],
    "empty row": lambda rows: [*rows, []],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_catches(fault: str) -> None:
    lengths, max_length = [5, 3, 2, 4], 8
    rows = best_fit(lengths, max_length)
    check(rows, lengths, max_length)
    with pytest.raises(AssertionError):
        check(FAULTS[fault](rows), lengths, max_length)


def test_the_reference_is_not_first_fit() -> None:
    lengths = [2, 5, 4, 7, 1, 3, 8]
    check(first_fit(lengths, 10), lengths, 10)
    assert first_fit(lengths, 10) != scanned(lengths, 10) == best_fit(lengths, 10)
