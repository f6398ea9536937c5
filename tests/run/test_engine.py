"""Processes of a run, and what is said of its units."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import OPTIONS, chats, run

from reasonpack.records.unit import Unit
from reasonpack.run import engine
from reasonpack.run.engine import shard_advice
from reasonpack.run.pack import pack_files


def test_a_single_unit_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(engine, "run_pool", refuse)
    (tmp_path / "one.jsonl").write_bytes(chats(3))
    pack_files([str(tmp_path / "one.jsonl")], tmp_path / "out", OPTIONS, run=run(num_proc=None))
    (tmp_path / "many.jsonl").write_bytes(chats(bad=False))
    with pytest.raises(AssertionError):
        pack_files([str(tmp_path / "many.jsonl")], tmp_path / "o", OPTIONS, run=run(num_proc=2))


@pytest.mark.parametrize(
    ("count", "size", "said"), [(1_001, 999, True), (1_001, 10**6, False), (1_000, 1, False)]
)
def test_many_small_units_are_noticed(count: int, size: int, said: bool) -> None:
    units = [Unit(n, n, "chats", "plain", 0, size, 1, size) for n in range(count)]
    advice = shard_advice(units)
    assert bool(advice) == said
    assert not advice or "1,001 units of 999 bytes on average" in advice


def test_small_units_of_one_input_are_as_they_were_asked_for() -> None:
    units = [Unit(n, 0, "chats", "plain", n, n + 1, n, 1) for n in range(1_001)]
    assert shard_advice(units) is None
