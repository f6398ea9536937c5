"""Rows are judged as the oracle judges them, and fingerprints tell apart what is different."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracle
from encoded import EncodedView, encoded_view, lay_out
from hypothesis import given
from hypothesis import strategies as st
from packed_twice import TOKENIZER, Json

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.rows.sample import Sample
from reasonpack.run.pack import pack_files
from reasonpack.verify.against import _add_samples
from reasonpack.verify.findings import Findings
from reasonpack.verify.join import TRAINED, Join
from reasonpack.verify.manifest import read_dataset
from reasonpack.verify.row import Row
from reasonpack.verify.rows import check_row
from reasonpack.verify.shards import COLUMNS, checked_rows

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
