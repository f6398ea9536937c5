"""Rows that are asked for by what they are."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from runs import OPTIONS, chats, run

from reasonpack.datasets.manifest import read_manifest
from reasonpack.errors import UsageError
from reasonpack.run.pack import pack_files
from reasonpack.show.row import read_row
from reasonpack.show.row_facts import NAMES, Facts, matching, ranked, row_facts


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
        row = read_row(dataset, manifest, number)
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


def test_those_with_most_come_first(facts: Facts) -> None:
    order = list(ranked(facts, np.arange(len(facts["length"])), "segments"))
    counts = facts["segments"][order].tolist()
    assert counts == sorted(counts, reverse=True)
    assert sorted(order) == list(range(len(order)))
