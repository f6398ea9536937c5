"""What is written for a laid-out tree: types, labels, and weights that add up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from encoded import encoded_view, encoded_views
from hypothesis import given, settings
from hypothesis import strategies as st
from made_views import (
    per_token,
)

from reasonpack.rows import forest
from reasonpack.rows.sample import write
from tests.changed import replace
from tests.rows.test_forest import onepass


def test_dtypes() -> None:
    sample = onepass([encoded_view([1, 2], [3]), encoded_view([1, 4], [5])])
    table = sample.segments
    assert [
        array.dtype for array in (sample.input_ids, sample.position_ids, sample.labels, table.start)
    ] == [np.int32] * 4
    assert [array.dtype for array in (table.visible_until, table.message)] == [np.int32] * 2
    assert table.kind.dtype == np.uint8


WEIGHTS = st.sampled_from([0.25, 0.5, 1.0, 2.0])


@settings(max_examples=200)
@given(data=st.data(), layout=st.sampled_from(["onepass", "npass"]))
def test_weights_of_equal_pairs_add_up(data: st.DataObject, layout: Any) -> None:
    """The weighed pairs are those of the views one by one."""
    token = st.integers(0, 2)
    views = data.draw(
        st.lists(
            st.tuples(st.lists(token, min_size=1, max_size=4), st.lists(token, max_size=4)),
            min_size=1,
            max_size=5,
        )
    )
    weights = data.draw(st.lists(WEIGHTS, min_size=len(views), max_size=len(views)))
    encoded = [encoded_view(*view) for view in views]
    expected: Counter[tuple[int, ...]] = Counter()
    for (prompt, completion), weight in zip(views, weights, strict=True):
        for end in range(len(completion)):
            expected[(*prompt, *completion[: end + 1])] += weight  # type: ignore[assignment]
    planted_ = forest.plant(encoded_views([encoded], extra={"loss_weights": weights}))
    found: Counter[tuple[int, ...]] = Counter()
    for sample in write(planted_, [("x", forest.lay_out(planted_, layout=layout))]):
        until = np.array([until for *_, until in per_token(sample)])
        for at in range(sample.length):
            path = tuple(sample.input_ids[: at + 1][until[: at + 1] > at].tolist())
            is_trained = sample.labels[at] != -100
            assert (sample.extra["loss_weights"][at] > 0) == is_trained
            if is_trained:
                found[path] += sample.extra["loss_weights"][at].item()
    assert found == expected


def test_what_is_rejected_has_no_label() -> None:
    views = [encoded_view([1], [2, 3]), encoded_view([1], [4, 3])]
    given_ = encoded_views([views], extra={"logprobs": [-0.5, -2.0]})
    targets = np.array([-100, -100, -100, -100, 4, 3], np.int32)
    planted_ = forest.plant(replace(given_, extra={**given_.extra, "preference_labels": targets}))
    (sample,) = write(planted_, [("x", forest.lay_out(planted_))])
    assert sample.input_ids.tolist() == [1, 2, 3, 1, 4, 3]
    assert sample.labels.tolist() == [-100, 2, 3, -100, -100, -100]
    assert sample.extra["preference_labels"].tolist() == [-100] * 4 + [4, 3]
    assert sample.extra["logprobs"].tolist() == [0, -0.5, -0.5, 0, -2, -2]
