"""Rows that are asked for by what they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import OPTIONS, ROOT, chats, run
from two_turns import _filled, _manifest

from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.receipt import Shard
from reasonpack.errors import FormatError, UsageError
from reasonpack.rows.schema import schema
from reasonpack.run.pack import pack_files
from reasonpack.show.row import read_rows
from reasonpack.show.row_facts import NAMES, Facts, draw_rows, matching, ranked, row_facts


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facts")
    (folder / "chats.jsonl").write_bytes(chats(bad=False))
    pack_files([str(folder / "chats.jsonl")], folder / "out", OPTIONS, run=run())
    return folder / "out"


@pytest.fixture(scope="module")
def facts(dataset: Path) -> Facts:
    return row_facts(dataset, read_manifest(dataset))


def test_the_numbers_are_those_of_each_row(dataset: Path, facts: Facts) -> None:
    manifest = read_manifest(dataset)
    assert manifest.counts.rows > 5
    for number in range(manifest.counts.rows):
        row = read_rows(dataset, manifest, [number])[0]
        kinds: Counter[str] = Counter()
        for segment in row.segments:
            kinds[segment.kind] += segment.length
        expected = {
            "length": len(row.input_ids),
            "samples": len(row.samples),
            "segments": len(row.segments),
            "branches": sum(s.visible_until == s.start + s.length for s in row.segments),
            **{kind: kinds[kind] for kind in ("h", "t", "r_in", "r_out")},
        }
        assert {name: int(facts[name][number]) for name in NAMES} == expected


def test_conditions_all_hold(facts: Facts) -> None:
    middle = int(np.median(facts["length"]))
    long = matching(facts, [f"length>{middle}"])
    assert 0 < len(long) < len(facts["length"])
    assert (facts["length"][long] > middle).all()
    both = matching(facts, [f"length > {middle}", "branches>=2", "kind=t"])
    assert set(both) <= set(long)
    assert len(matching(facts, [])) == len(facts["length"])
    assert len(matching(facts, ["kind!=t"])) == int((facts["t"] == 0).sum())
    assert not len(matching(facts, ["t=0", "t>0"]))


@pytest.mark.parametrize("wrong", ["length", "length>x", "size>3", "kind>t", "kind=x", "t>1; t>2"])
def test_what_is_no_condition_is_refused(wrong: str, facts: Facts) -> None:
    with pytest.raises(UsageError, match="--where 'length>8000'"):
        matching(facts, [wrong])


def nulls(row: dict[str, Any]) -> None:
    row["labels"][1] = None


def beyond(row: dict[str, Any]) -> None:
    row["segment_start"][-1] = 10_000


def unequal(row: dict[str, Any]) -> None:
    row["segment_visible_until"].pop()


def unknown(row: dict[str, Any]) -> None:
    row["segment_kind"][0] = 9


@pytest.mark.parametrize("damage", [nulls, beyond, unequal, unknown])
def test_damaged_rows_are_refused_by_name(damage: Callable[..., None], tmp_path: Path) -> None:
    vector = json.loads((ROOT / "schemas/vectors/two_turns_stripped.json").read_bytes())
    damage(vector["row"])
    loose = pa.schema([pa.field(each.name, each.type) for each in schema()])
    types = [
        pa.list_(each.type.value_type) if pa.types.is_list(each.type) else each.type
        for each in loose
    ]
    fields = [pa.field(name, type_) for name, type_ in zip(loose.names, types, strict=True)]
    table = pa.Table.from_pylist([vector["row"]], pa.schema(fields, metadata=schema().metadata))
    (tmp_path / "data").mkdir()
    shard = _filled(Shard, path="data/train-00000-of-00001.parquet", rows=1)
    pq.write_table(table, tmp_path / shard.path)
    with pytest.raises(FormatError, match=r"train-00000-of-00001\.parquet: "):
        read_rows(tmp_path, _manifest([shard]), [0])[0]
    if damage is unequal:
        with pytest.raises(FormatError):
            row_facts(tmp_path, _manifest([shard]))


def test_those_with_most_come_first(facts: Facts) -> None:
    order = list(ranked(facts, np.arange(len(facts["length"])), "segments"))
    counts = facts["segments"][order].tolist()
    assert counts == sorted(counts, reverse=True)
    assert sorted(order) == list(range(len(order)))


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
