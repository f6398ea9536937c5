"""Names of fields in the summary of a run: so many, and escaped."""

from __future__ import annotations

from pathlib import Path

from runs import run

from reasonpack.run.pack import pack_files
from reasonpack.show.summary import summary
from tests.run.test_unit import OPTIONS, write


def test_names_without_end_are_counted_together(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.jsonl",
        record_1={f"field {n}": 1 for n in range(150)},
        record_39={f"other {n}": 1 for n in range(150)},
    )
    manifest = pack_files([str(source)], tmp_path / "out", OPTIONS, run=run())
    notes = manifest.counts.notes
    assert len(notes) == 100
    assert sum(notes.values()) == 300
    assert notes["more"] == 201
    assert "and 87 more" in summary(manifest)


def test_names_that_cannot_be_shown_are_escaped(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", record_1={"\x1b[2J": 1, "long" * 50: 1})
    notes = pack_files([str(source)], tmp_path / "out", OPTIONS, run=run()).counts.notes
    assert notes == {"unread '" + ("long" * 50)[:60] + "'…": 1, "unread '\\x1b[2J'": 1}
