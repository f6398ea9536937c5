"""Some views are left out of several: the others are as if only they existed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from encoded import EncodedView, encoded_view, encoded_views
from hypothesis import given, settings
from hypothesis import strategies as st
from made_views import (
    STRIPPED,
    per_token,
    shared_beginnings,
    view_lists,
)

from reasonpack.rows import forest
from reasonpack.rows.encoded_views import without
from reasonpack.rows.sample import Sample, write
from tests.changed import replace


@pytest.mark.parametrize("layout", ["onepass", "npass"])
@settings(max_examples=100)
@given(made=st.lists(view_lists(), min_size=1, max_size=3), data=st.data())
def test_without_some_views_the_others_are_as_if_only_they_existed(
    layout: forest.Layout, made: list[list[EncodedView]], data: st.DataObject
) -> None:
    every = [view for views in made for view in views]
    weights = [1.0 + number for number in range(len(every))]
    left = data.draw(st.sets(st.integers(0, len(every) - 1)))
    shared = shared_beginnings(made, data)
    every_view = encoded_views(made, shared, extra={"loss_weights": weights})
    planted = forest.plant(without(every_view, left))
    first = 0
    for number, views in enumerate(made):
        own = [place for place in range(len(views)) if first + place not in left]
        if own:
            kept = [[views[place] for place in own]]
            values = {"loss_weights": [weights[first + place] for place in own]}
            alone = forest.plant(encoded_views(kept, extra=values))
            found = forest.lay_out(planted, number, layout=layout)
            expected = forest.lay_out(alone, layout=layout)
            assert replace(found, samples=[]) == replace(expected, samples=[])
            assert facts(write(planted, [("x", found)])) == facts(write(alone, [("x", expected)]))
        first += len(views)


def facts(samples: Sequence[Sample]) -> list[list[Any]]:
    """What is trained; but not kinds, which made views that share tokens do not agree on."""
    return [
        [
            *(each.input_ids.tolist(), each.position_ids.tolist(), each.labels.tolist()),
            *([until for *_, until in per_token(each)], each.extra["loss_weights"].tolist()),
        ]
        for each in samples
    ]


def test_without_a_view_its_message_is_that_of_a_view_that_has_it() -> None:
    """The answers begin alike; the first of them is left out."""
    views = [
        encoded_view([1], [2, 3, 4], kinds=[0, 1, 1, 3], messages=[0, 1, 1, 1]),
        encoded_view([1], [2, 5], kinds=[0, 1, 3], messages=[0, 7, 7]),
    ]
    planted = forest.plant(without(encoded_views([views]), {0}))
    (sample,) = write(planted, [("x", forest.lay_out(planted))])
    assert sample.labels.tolist() == [-100, 2, 5]
    assert [spread[:2] for spread in per_token(sample)] == [(0, 0), (1, 7), (3, 7)]


def test_without_any_view_nothing_is_written() -> None:
    assert forest.plant(without(encoded_views([STRIPPED]), {0, 1})).trained.size == 0
