"""Which rows are drawn to be looked at."""

from __future__ import annotations

from reasonpack.show.chosen_rows import draw_rows


def test_the_same_rows_each_time_and_others_with_another_seed() -> None:
    first = draw_rows(10_000, 20, seed="a")
    assert first == draw_rows(10_000, 20, seed="a")
    assert first != draw_rows(10_000, 20, seed="b")
    assert len(set(first)) == 20
    assert first == sorted(first)
    assert all(0 <= number < 10_000 for number in first)


def test_all_rows_where_there_are_no_more() -> None:
    assert draw_rows(0, 20, seed="") == []
    assert draw_rows(20, 20, seed="") == list(range(20))
    assert draw_rows(5, 0, seed="") == []
    assert len(draw_rows(21, 20, seed="")) == 20


def test_every_row_can_be_drawn() -> None:
    drawn = {row for seed in range(200) for row in draw_rows(30, 3, seed=str(seed))}
    assert drawn == set(range(30))
