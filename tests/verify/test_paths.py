"""Tokens have equal paths if and only if what they see is equal."""

from __future__ import annotations

import numpy as np
import oracle
from hypothesis import given
from hypothesis import strategies as st
from packed_twice import Json

from reasonpack.errors import RecordError
from reasonpack.verify.paths import row_paths, view_paths
from reasonpack.verify.rows import check_row
from reasonpack.verify.shards import COLUMNS
from tests.verify.test_rows import as_row, columns, conversations


@given(views=conversations, copies=st.integers(1, 2))
def test_equal_paths_are_equal_prefixes(
    views: list[tuple[list[int], list[int]]], copies: int
) -> None:
    try:
        table = columns(views, copies)
    except RecordError:
        return
    row = as_row(table)
    paths = check_row(row)[1]
    assert paths is not None
    visible = oracle.visible(table)
    for token in range(row.length):
        seen = np.flatnonzero(visible[token])
        prefix = row.input_ids[seen[np.argsort(row.position_ids[seen])]]
        assert np.array_equal(paths.seen[token], view_paths(prefix)[-1])
        if row.trained[token]:
            assert np.array_equal(paths.predicted[token], paths.seen[token])
        assert paths.leaf[token] == (visible[:, token].sum() == 1)
    by_path = {
        path.tobytes() for view in views for path in view_paths(np.array([*view[0], *view[1]]))
    }
    assert {path.tobytes() for path in paths.seen} == by_path


def test_a_trained_path_is_what_the_token_before_sees() -> None:
    """Rule 8 broken: token 3 follows token 0 in the tree, but is predicted from token 2."""
    table: Json = {name: [] for name in COLUMNS} | {"length": 4}
    table |= {"input_ids": [5, 6, 7, 8], "position_ids": [0, 1, 2, 1]}
    table |= {"segment_start": [0, 1, 3], "segment_visible_until": [4, 3, 4]}
    paths = row_paths(as_row(table))
    assert np.array_equal(paths.seen[3], view_paths(np.array([5, 8]))[-1])
    assert not np.array_equal(paths.predicted[3], paths.seen[3])
