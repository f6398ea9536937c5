"""What is no batch of rows, and no mask, is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from forests import Forest, grow, row

from reasonpack.errors import UsageError
from reasonpack.masks import (
    blocks,
    branches,
    dense,
    flashmask,
    flat,
    magi,
    stack,
    varlen,
    visible_until,
)

ROW = row(Forest(grow([0] * 4)))
COLUMNS = {name: [value, value] for name, value in ROW.items()}


@pytest.mark.parametrize("function", [stack, flat])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (ROW, "batch: a dict: one row, or columns of several"),
        (COLUMNS, "batch: a dict: one row, or columns of several"),
        ("packed", "row 0: a str, expected"),
        ([ROW, [ROW]], "row 1: a list, expected"),
        ([{"length": 4}], "row 0: no segment_start, segment_visible_until, expected"),
    ],
)
def test_what_is_no_list_of_rows_is_refused(
    function: Callable[[Any], Any], given: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        function(given)


def test_several_rows_are_no_row() -> None:
    with pytest.raises(UsageError, match="row: a list, expected the columns of a packed dataset"):
        visible_until([ROW])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "function",
    [
        *(blocks.forward, blocks.backward, branches.branches, dense.visible),
        *(flashmask.startend_row_indices, magi.slices, varlen.cu_seqlens),
    ],
)
def test_rows_are_no_mask_and_a_list_is(function: Callable[[Any], Any]) -> None:
    until = stack([ROW, ROW])
    for given in (ROW, [ROW], until[0, 0], until.astype(np.float32)):
        with pytest.raises(UsageError, match=r"pass what masks\.stack or masks\.flat returns"):
            function(given)
    assert repr(function(until.tolist())) == repr(function(until))
