"""What is rebuilt of a conversation has one fingerprint, and is refused for one reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from encoded import lay_out
from hypothesis import example, given
from hypothesis import strategies as st
from packed_twice import Packed

from reasonpack.datasets.manifest import Manifest
from reasonpack.verify.call_values import of_row
from reasonpack.verify.encoding import TokenView
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import read_dataset
from reasonpack.verify.paths import fingerprint, together
from reasonpack.verify.rebuilt import Rebuilt, expected_of, why_rejected
from reasonpack.verify.rows import check_row
from tests.changed import replace
from tests.verify.test_rows import as_row, conversations, encoded, table_of


@given(views=conversations, limit=st.integers(2, 12), position=st.integers(2, 8))
@example(views=[([1], [2]), ([1], [3])], limit=3, position=8)  # 1 2 1' 3, one copy too long
@example(views=[([1], [2]), ([1], [3])], limit=4, position=8)
@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_a_conversation_is_refused_for_the_same_reason_and_fits_what_it_becomes(
    good: Packed,
    layout: Any,
    views: list[tuple[list[int], list[int]]],
    limit: int,
    position: int,
) -> None:
    rebuilt = Rebuilt(tuple(token_view(*view) for view in views))
    manifest = manifest_with(good, layout=layout, max_length=limit, max_position=position)
    laid_out = lay_out("", [encoded(*view) for view in views], layout=layout)
    counts = laid_out.counts
    overlong = counts.longest_view > position or counts.longest_sample > limit
    assert why_rejected(rebuilt, manifest) == ("overlong" if overlong else "")
    prints = []
    for sample in laid_out.samples:
        row = as_row(table_of([sample]))
        paths = check_row(row)[1]
        assert paths is not None
        beside = (column[row.trained] for column in of_row(row))
        prints.append(fingerprint(paths.seen[paths.leaf], paths.predicted[row.trained], *beside))
    assert together(*prints) == print_of(views)


def manifest_with(good: Packed, *, layout: Any, max_length: int, max_position: int) -> Manifest:
    dataset = read_dataset(good.directory, Findings())
    assert dataset is not None
    options = replace(
        dataset.manifest.options, layout=layout, max_length=max_length, overlong="skip"
    )
    return replace(dataset.manifest, layout=layout, options=options, max_position=max_position)


def print_of(views: list[tuple[list[int], list[int]]]) -> Any:
    made = [token_view(*view) for view in views]
    return expected_of(made, "", "", weighs=False, divided=False).fingerprint


def token_view(prompt: list[int], completion: list[int]) -> TokenView:
    ids = np.array(prompt + completion, np.int32)
    return TokenView(1, ids, np.ones(len(completion), bool))


@given(views=conversations, others=conversations)
@example(views=[([0], [1, 2]), ([0], [3, 0])], others=[([0], [1, 0]), ([0], [3, 2])])
def test_fingerprints_are_equal_if_and_only_if_leaves_and_pairs_are(
    views: list[tuple[list[int], list[int]]], others: list[tuple[list[int], list[int]]]
) -> None:
    def facts(each: list[tuple[list[int], list[int]]]) -> tuple[set[Any], set[Any]]:
        nodes = {(*p, *c)[:n] for p, c in each for n in range(1, len(p) + len(c) + 1)}
        leaves = {node for node in nodes if all(other[:-1] != node for other in nodes)}
        pairs = {(*p, *c)[:n] for p, c in each for n in range(len(p) + 1, len(p) + len(c) + 1)}
        return leaves, pairs

    one, two = print_of(views), print_of(others)
    (leaves, pairs), (other_leaves, other_pairs) = facts(views), facts(others)
    assert (one[:2] == two[:2]) == (leaves == other_leaves)
    assert (one[2:] == two[2:]) == (pairs == other_pairs)
