"""Processes of a run: none for a single unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import OPTIONS, chats, run

from reasonpack.run import engine
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
