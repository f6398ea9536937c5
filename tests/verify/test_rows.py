"""Rows are judged as the oracle judges them, and fingerprints tell apart what is different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from encoded import EncodedView, encoded_view, lay_out
from hypothesis import example, given
from hypothesis import strategies as st
from packed_twice import TOKENIZER, Json, Packed

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.rows.sample import Sample
from reasonpack.run.pack import pack_files
from reasonpack.verify.against import _add_samples
from reasonpack.verify.call_values import of_row
from reasonpack.verify.encoding import TokenView
from reasonpack.verify.findings import Findings
from reasonpack.verify.manifest import read_dataset
from reasonpack.verify.match import TRAINED, Join
from reasonpack.verify.paths import fingerprint, row_paths, together, view_paths
from reasonpack.verify.rebuilt import Rebuilt, expected_of, why_rejected
from reasonpack.verify.row import Row
from reasonpack.verify.rows import check_row
from reasonpack.verify.shards import COLUMNS, checked_rows
from tests.changed import replace

# --- rows, against the oracle --------------------------------------------------------------------

tokens = st.integers(0, 3)
texts = st.lists(tokens, min_size=1, max_size=5)
conversations = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)


def encoded(prompt: list[int], completion: list[int]) -> EncodedView:
    return encoded_view(
        prompt,
        completion,
        kinds=[0] * len(prompt) + [3] * len(completion),
        messages=[1] * len(prompt + completion),
    )


def table_of(samples: list[Sample]) -> Json:
    """Put samples into a row."""
    row: Json = {name: [] for name in COLUMNS}
    start = 0
    for sample in samples:
        segments = sample.segments
        row["input_ids"] += sample.input_ids.tolist()
        row["position_ids"] += sample.position_ids.tolist()
        row["labels"] += sample.labels.tolist()
        row["segment_start"] += (segments.start + start).tolist()
        row["segment_visible_until"] += (segments.visible_until + start).tolist()
        row["segment_kind"] += segments.kind.tolist()
        row["segment_message"] += segments.message.tolist()
        row["sample_start"].append(start)
        row["sample_id"].append("")
        start += sample.length
    return {**row, "length": start}


def columns(views: list[tuple[list[int], list[int]]], copies: int) -> Json:
    """Lay out views, and put copies of the sample in one row."""
    return table_of([*lay_out("", [encoded(*view) for view in views]).samples] * copies)


def as_row(table: Json) -> Row:
    kinds = {"segment_kind": np.uint8}
    arrays = {
        name: np.array(value, kinds.get(name, np.int32))
        for name, value in table.items()
        if name not in ("length", "sample_id", "call_id")
    }
    texts = {name: table[name] for name in ("length", "sample_id", "call_id") if name in table}
    return Row(**arrays, **texts)


def sound(table: Json) -> bool:
    """Whether the oracle finds nothing wrong."""
    try:
        pairs = oracle.check_samples(table)
    except AssertionError:
        return False
    return all(count == 1 for sample in pairs for count in sample.values())


@given(views=conversations, copies=st.integers(1, 2), data=st.data())
def test_rows_are_judged_as_the_oracle_judges_them(
    views: list[tuple[list[int], list[int]]], copies: int, data: st.DataObject
) -> None:
    try:
        table = columns(views, copies)
    except RecordError:
        return
    assert sound(table)
    assert check_row(as_row(table))[0] == []
    name = data.draw(
        st.sampled_from(
            [
                "input_ids",
                "position_ids",
                "labels",
                "segment_start",
                "segment_visible_until",
                "sample_start",
            ]
        )
    )
    at = data.draw(st.integers(0, len(table[name]) - 1))
    value = data.draw(st.integers(0, table["length"] + 1) | st.just(-100))
    if name == "input_ids":
        value = abs(value)
    table[name][at] = value
    faults, paths = check_row(as_row(table))
    assert (faults == []) == (paths is not None) == sound(table), (table, faults)


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


def test_a_sample_is_the_same_in_a_row_with_others(tmp_path: Path) -> None:
    calls = [
        {
            "trace_id": name,
            "id": name + last,
            "prompt_ids": [5, 6],
            "completion_ids": [7, int(last)],
        }
        for name in "ab"
        for last in "89"
    ]
    source = tmp_path / "calls.jsonl"
    source.write_text("".join(json.dumps(call) + "\n" for call in calls))
    samples = {}
    for packing in ("best-fit", "none"):
        options = Options(tokenizer=str(TOKENIZER), packing=packing, max_length=100)
        pack_files([str(source)], tmp_path / packing, options)
        dataset = read_dataset(str(tmp_path / packing), Findings())
        assert dataset is not None
        join = Join(dataset.manifest, Findings(), None, {}, {})
        for row in checked_rows(dataset, 0, join.findings):
            _add_samples(join, row)
        samples[packing] = {
            id_: (one.fingerprint, one.kinds, one.ends.tolist(), one.calls)
            for id_, (one,) in join.packed.items()
        }
    assert samples["best-fit"] == samples["none"]
    trained = [
        {id_: kinds[id_, -1, TRAINED] for id_, *_ in kinds}
        for _, kinds, *_ in samples["none"].values()
    ]
    assert trained == [{"": 0, f"{name}8": 2, f"{name}9": 1} for name in "ab"]
