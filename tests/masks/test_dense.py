"""The rows' integers give the mask that the forest itself defines."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from forests import Forest, batches, forests, grow, positions, row, visible
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import paper_visibility

from reasonpack.errors import FormatError, ReasonpackError, UsageError
from reasonpack.masks import Window, dense, stack, visible_until


@given(forests(), st.integers(0, 5))
def test_dense_equals_ancestor_relation(forest: Forest, padding: int) -> None:
    total = len(forest) + padding
    until = visible_until(row(forest), total)
    assert until.dtype == np.int32
    np.testing.assert_array_equal(dense.visible(until), visible(forest, total))


@given(batches())
def test_batch_equals_its_rows_padded(batch: list[Forest]) -> None:
    total = max(map(len, batch))
    expected = np.stack([visible(forest, total) for forest in batch])
    np.testing.assert_array_equal(dense.visible(stack([row(f) for f in batch])), expected)


@given(st.lists(st.tuples(*[st.integers(1, 4)] * 4), min_size=1, max_size=5))
def test_dense_equals_the_papers_sets(turns: list[tuple[int, int, int, int]]) -> None:
    kinds = ("h", "t", "r_out", "r_in")  # in the order of the row
    paper = paper_visibility(**dict(zip(kinds, zip(*turns, strict=True), strict=True)))
    tokens = [
        ((kind, turn), offset)
        for turn, lengths in enumerate(turns, start=1)
        for kind, length in zip(kinds, lengths, strict=True)
        for offset in range(length)
    ]
    start = [place for place, (_, offset) in enumerate(tokens) if offset == 0]
    ends = [*start[1:], len(tokens)]

    def visible_to(segment: int) -> int:
        (kind, _), _ = tokens[start[segment]]
        if kind == "t":
            return ends[segment + 1]  # that of its r_out
        return ends[segment] if kind == "r_out" else len(tokens)

    until = [visible_to(segment) for segment in range(len(start))]
    line = {"length": len(tokens), "segment_start": start, "segment_visible_until": until}
    seen = dense.visible(visible_until(line))
    for token, keys in zip(tokens, seen, strict=True):
        assert {tokens[key] for key in np.flatnonzero(keys)} == paper.visible[token]


@given(forests(), st.integers(1, 6))
def test_window_counts_positions(forest: Forest, size: int) -> None:
    depth = positions(forest)
    expected = visible(forest)
    for q, k in np.argwhere(expected):
        expected[q, k] = depth[q] - depth[k] < size
    window = Window(np.array(depth), size)
    np.testing.assert_array_equal(
        dense.visible(visible_until(row(forest)), window=window), expected
    )


def test_window_in_row_indices_would_be_wrong() -> None:
    # h t t t r_in: r_in stands 4 behind h in the row and 1 behind it in position.
    forest = Forest(grow([0, 0, 0, 0, 3]))
    until = visible_until(row(forest))
    by_position = dense.visible(until, window=Window(np.array(positions(forest)), 2))
    by_index = dense.visible(until, window=Window(np.arange(5), 2))
    assert by_position[4].tolist() == [True, False, False, False, True]
    assert by_index[4].tolist() == [False, False, False, False, True]


@given(batches(), st.integers(0, 5))
def test_every_token_sees_itself(batch: list[Forest], padding: int) -> None:
    until = stack([row(f) for f in batch], max(map(len, batch)) + padding)
    assert dense.visible(until).diagonal(axis1=1, axis2=2).all()


@given(forests())
def test_additive_is_zero_where_visible_and_lowest_elsewhere(forest: Forest) -> None:
    seen = dense.visible(visible_until(row(forest)))[None]
    bias = dense.additive(seen, np.float32)
    assert bias.dtype == np.float32
    assert bias.shape == (1, 1, len(forest), len(forest))
    np.testing.assert_array_equal(bias[0, 0] == 0, seen[0])
    assert (bias[0, 0][~seen[0]] == np.finfo(np.float32).min).all()


@given(forests(), st.data())
def test_planted_off_by_one_changes_one_cell(forest: Forest, data: st.DataObject) -> None:
    until = visible_until(row(forest))
    faults = [
        (token, step)
        for token, end in enumerate(until.tolist())
        for step in (-1, 1)
        if token < end + step <= len(forest)
    ]
    assume(faults)
    token, step = data.draw(st.sampled_from(faults))
    until[token] += step
    assert (dense.visible(until) != visible(forest)).sum() == 1


@given(forests())
def test_planted_closed_interval_is_seen(forest: Forest) -> None:
    until = visible_until(row(forest))
    assume((until < len(forest)).any())
    q, k = np.indices((len(forest), len(forest)))
    assert (((k <= q) & (q <= until)) != visible(forest)).any()


DAMAGED = {
    "does not start at 0": ([1], [4], "segment_start [1]"),
    "sizes differ": ([0, 1], [4], "with 1 segment_visible_until"),
    "no segments": ([], [], "segment_start []"),
    "does not rise": ([0, 2, 2], [4, 4, 4], "segment_start [0, 2, 2]"),
    "starts past the row": ([0, 4], [4, 4], "segment_start [0, 4]"),
    "hides its own tokens": ([0, 2], [1, 4], "segment_visible_until[0] is 1, expected 2"),
    "ends past the row": ([0, 2], [5, 4], "segment_visible_until[0] is 5, expected 2"),
    "outlives its parent": ([0, 1, 3], [2, 4, 4], "segment_visible_until[1] is 4, expected 3"),
    "outlives its grandparent": (
        [0, 1, 2, 3],
        [3, 2, 4, 4],
        "segment_visible_until[2] is 4, expected 3 (the segment's end) to 3 (its parent's",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_rows_are_refused(case: str) -> None:
    start, until, message = DAMAGED[case]
    damaged = {"length": 4, "segment_start": start, "segment_visible_until": until}
    with pytest.raises(FormatError, match=re.escape(message)):
        visible_until(damaged)


def test_error_names_the_row_of_the_batch() -> None:
    good = {"length": 1, "segment_start": [0], "segment_visible_until": [1]}
    with pytest.raises(FormatError, match=r"^row 1: .* Fix: "):
        stack([good, {**good, "segment_start": [1]}])


@pytest.mark.parametrize(
    "call",
    [
        lambda: stack([]),
        lambda: visible_until(row(Forest((None, 0))), 1),
        lambda: Window(np.zeros(1), 0),
    ],
)
def test_misuse_is_refused(call: object) -> None:
    with pytest.raises(UsageError, match=r"expected .* Fix: ") as caught:
        call()  # type: ignore[operator]
    assert isinstance(caught.value, ReasonpackError)


def test_import_does_not_import_torch() -> None:
    names = "blocks, dense, flashmask, flex, magi, varlen"
    code = f"import sys; from reasonpack.masks import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
