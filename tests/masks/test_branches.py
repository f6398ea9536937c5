"""Gathered keys show each query exactly its visible tokens, in the order of their positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from forests import Forest, batches, chats, grow, join, path, positions, row
from hypothesis import example, given
from hypothesis import strategies as st
from kernels import bottom_right, end_to_end

from reasonpack.errors import UsageError
from reasonpack.masks import Window, dense, flat, stack, varlen
from reasonpack.masks.branches import Branches, branches, sum_order
from tests.changed import replace


def laid_out(batch: Sequence[Forest], padding: int) -> tuple[np.ndarray, np.ndarray]:
    """`visible_until` of a flat batch, and its positions."""
    forest = join(batch)
    until = flat([row(each) for each in batch], len(forest) + padding)
    return until, np.array([*positions(forest), *range(padding)])


@given(batches(), st.integers(0, 5))
@example([Forest(grow([0, 1000, 1000, 0]))], 0)
@example([Forest((None, 0, 0, 0))], 3)
def test_the_keys_of_a_query_are_its_visible_tokens(batch: list[Forest], padding: int) -> None:
    until, _ = laid_out(batch, padding)
    found = branches(until)
    np.testing.assert_array_equal(bottom_right(found), dense.visible(until[0]))


@pytest.mark.long
@given(batches(), st.integers(0, 5))
def test_paths_are_found_by_walking_up(batch: list[Forest], padding: int) -> None:
    forest = join([*batch, *([Forest(grow([0] * padding))] if padding else [])])
    until, position = laid_out(batch, padding)
    found = branches(until)
    bounds = [t for t, parent in enumerate(forest.parents) if t == 0 or parent != t - 1]
    assert found.cu_seqlens_q.tolist() == [*bounds, len(forest)]
    ends = [*bounds[1:], len(forest)]
    paths = [path(forest, end - 1)[::-1] for end in ends]
    assert found.k_index.tolist() == [token for each in paths for token in each]
    assert np.diff(found.cu_seqlens_k).tolist() == [len(each) for each in paths]
    assert found.max_seqlen_k == max(map(len, paths))
    assert found.max_seqlen_q == np.diff([*bounds, len(forest)]).max()
    places = np.concatenate([np.arange(len(each)) for each in paths])
    np.testing.assert_array_equal(position[found.k_index], places)
    dtypes = [found.k_index.dtype, found.cu_seqlens_q.dtype, found.cu_seqlens_k.dtype]
    assert dtypes == [np.int64, np.int32, np.int32]


@given(batches(), st.integers(0, 5), st.integers(1, 12))
def test_a_window_of_the_kernel_counts_positions(
    batch: list[Forest], padding: int, size: int
) -> None:
    until, position = laid_out(batch, padding)
    expected = dense.visible(until[0], window=Window(position, size))
    np.testing.assert_array_equal(bottom_right(branches(until), window=size), expected)


@given(batches(), st.integers(0, 5))
def test_lines_of_a_padded_batch_do_not_see_each_other(batch: list[Forest], padding: int) -> None:
    until = stack([row(each) for each in batch], max(map(len, batch)) + padding)
    np.testing.assert_array_equal(bottom_right(branches(until)), end_to_end(dense.visible(until)))


@given(batches(), st.integers(0, 5))
def test_plain_rows_have_the_bounds_of_varlen(batch: list[Forest], padding: int) -> None:
    plain = [Forest(grow([0] * len(each))) for each in batch]
    until, _ = laid_out(plain, padding)
    found, bounds = branches(until), varlen.cu_seqlens(until)
    assert found.cu_seqlens_q.tolist() == found.cu_seqlens_k.tolist() == bounds.tolist()
    assert found.k_index.tolist() == list(range(until.size))


@given(batches(), st.integers(0, 5))
def test_copies_are_summed_token_by_token_in_the_order_of_paths(
    batch: list[Forest], padding: int
) -> None:
    until, _ = laid_out(batch, padding)
    k_index = branches(until).k_index
    order, offsets = sum_order(k_index, until.size)
    for token in range(until.size):
        copies = order[offsets[token] : offsets[token + 1]].tolist()
        assert copies == np.flatnonzero(k_index == token).tolist() != []


def test_many_samples_make_no_grid_of_branches_and_segments() -> None:
    until = np.arange(1, 65537, dtype=np.int32)[None]  # a matrix of both would take 4 GiB
    found = branches(until)
    assert len(found.cu_seqlens_q) == 65537
    assert found.max_seqlen_k == 1


def test_end_padding_of_a_flat_batch_is_one_sequence() -> None:
    chat = row(chats([3], seed=1))
    size = chat["length"]
    until = flat([chat, chat], 2 * size + 100)
    assert branches(until).cu_seqlens_q[-2:].tolist() == [2 * size, 2 * size + 100]
    plain = row(Forest(grow([0] * 4)))
    assert varlen.cu_seqlens(flat([plain, plain], 11)).tolist() == [0, 4, 8, 11]


def test_a_flat_batch_must_have_rows_that_fit() -> None:
    chain = row(Forest(grow([0] * 4)))
    with pytest.raises(UsageError, match="8 tokens, expected at most padded_length=7"):
        flat([chain, chain], 7)
    with pytest.raises(UsageError, match="no rows"):
        flat([])


# --- planted faults -------------------------------------------------------------------------------


def swapped(found: Branches) -> Branches:
    """The paths of the first two branches in the wrong order."""
    first, second, end = found.cu_seqlens_k[:3]
    index = found.k_index
    mixed = [index[first:second], index[second:end]][::-1]
    size = end - second
    return replace(
        found,
        k_index=np.concatenate([*mixed, index[end:]]),
        cu_seqlens_k=np.array([first, size, *found.cu_seqlens_k[2:]], np.int32),
    )


FAULTS: dict[str, Callable[[Branches], np.ndarray]] = {
    "an index shifted by one": lambda found: bottom_right(
        replace(found, k_index=np.maximum(found.k_index - 1, 0))
    ),
    "a branch in the wrong order": lambda found: bottom_right(swapped(found)),
    "top left for bottom right": lambda found: bottom_right(found, top_left=True),
    "the row itself for its paths": lambda found: bottom_right(
        replace(found, k_index=np.arange(found.cu_seqlens_q[-1]), cu_seqlens_k=found.cu_seqlens_q)
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(fault: str) -> None:
    until, _ = laid_out([chats([3], seed=5)], 0)
    found = branches(until)
    expected = dense.visible(until[0])
    np.testing.assert_array_equal(bottom_right(found), expected)
    assert (FAULTS[fault](found) != expected).any()


def test_a_forgotten_window_is_seen() -> None:
    until, position = laid_out([chats([3], seed=5)], 0)
    expected = dense.visible(until[0], window=Window(position, 4))
    assert (bottom_right(branches(until)) != expected).any()
