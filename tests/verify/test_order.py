"""Shuffled rows that are in another order than that of the seed are found, by the source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runs import OPTIONS, agents, chats, run

from reasonpack.datasets.options import Options
from reasonpack.run import buckets, unit
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.findings import Findings
from reasonpack.verify.order import UNKNOWN, Order
from reasonpack.verify.shards import CheckedRow
from tests.changed import replace

pytestmark = pytest.mark.long

SHUFFLED = replace(
    OPTIONS, shuffle=True, seed=3, max_length=150, on_error="skip", split=("validation=0.3",)
)
KINDS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "packed": (["chats.jsonl"], {}),
    "in sequence, a blend": (["chats.jsonl:1.5"], {"packing": "sequential"}),
    "alone, npass": (["chats.jsonl"], {"packing": "none", "layout": "npass"}),
    "calls": (["calls.jsonl"], {"max_length": 600, "split": ()}),
}


def compared(folder: Path, kind: str, *, inputs: int = 14) -> Findings:
    (folder / "chats.jsonl").write_bytes(chats(inputs))
    lines = (json.dumps(each) + "\n" for each in agents(inputs))
    (folder / "calls.jsonl").write_text("".join(lines))
    names, changes = KINDS[kind]
    given = [str(folder / name) for name in names]
    pack_files(given, folder / "out", replace(SHUFFLED, **changes), run=run())
    return verify_dataset(folder / "out", given)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_seed_is_taken_for_it(kind: str, tmp_path: Path) -> None:
    findings = compared(tmp_path, kind)
    assert (findings.listed, findings.unchecked) == ([], {})
    assert "the order of shuffled rows" not in findings.taken


def another_seed(seed: int, *arguments: Any) -> Any:
    return drawn(seed + 1, *arguments)


def same_units_in_the_order_of_the_input(*arguments: Any) -> Any:
    return sorted(drawn(*arguments))


def shards_one_after_another(*arguments: Any) -> Any:
    return drawn(*arguments) >> 1  # the same order, and all in the first half of the shards


drawn = buckets.row_keys


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (another_seed, "packed"),
        (same_units_in_the_order_of_the_input, "alone, npass"),
        (shards_one_after_another, "calls"),
    ],
)
def test_another_order_is_found(
    fault: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit, "row_keys", lambda *a: buckets.np.array(fault(*a), "u8"))
    findings = compared(tmp_path, kind)
    assert set(findings.counts) == {"RP318"}


def test_what_the_source_does_not_tell_is_taken(tmp_path: Path) -> None:
    source = tmp_path / "chats.jsonl"
    source.write_bytes(chats(12))
    plain: Options = replace(SHUFFLED, shuffle=False)
    pack_files([str(source)], tmp_path / "plain", plain, run=run())
    repack([tmp_path / "plain"], tmp_path / "again", {"shuffle": True})
    findings = verify_dataset(tmp_path / "again", [str(source)])
    assert not findings.total
    assert "the order of shuffled rows" in findings.taken


def found_in(rows: Sequence[Sequence[str]], units: Sequence[str]) -> Findings:
    """Check rows of these samples, of conversations that stand in these units."""
    order, findings = Order(), Findings()
    for number, ids in enumerate(units):
        order.unit = number
        for id_ in ids:
            order.add_conversation(id_)
    for number, samples in enumerate(rows):
        row: Any = SimpleNamespace(sample_id=samples)
        order.add_row(CheckedRow("data/train-00000-of-00001.parquet", number, row, None))
    order.check(SimpleNamespace(sources=[], options=SHUFFLED), findings)  # type: ignore[arg-type]
    return findings


def test_rows_without_samples_have_no_order() -> None:
    findings = found_in([["a"], []], ["a"])
    assert (findings.total, findings.taken) == (0, [UNKNOWN])


def test_an_id_that_occurs_twice_has_no_place() -> None:
    findings = found_in(["a", "a"], ["aa"])
    assert (findings.total, findings.taken) == (0, [UNKNOWN])


def test_rows_of_two_units_have_one_order() -> None:
    found = [found_in(rows, ["a", "b"]).counts for rows in ("ab", "ba")]
    assert sorted(map(dict, found), key=len) == [{}, {"RP318": 1}]
