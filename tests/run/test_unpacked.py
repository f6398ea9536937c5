"""What killed runs left in the temporary directory is removed, and nothing else."""

from __future__ import annotations

from pathlib import Path

from reasonpack.run.lock import LOCK, locked
from reasonpack.run.unpacked import PREFIX, unpacked


def made(path: Path, lock: str | None = None) -> Path:
    """Make a folder of a run, with what it unpacked."""
    path.mkdir()
    (path / "0").write_text("calls")
    if lock is not None:
        (path / LOCK).write_text(lock)
    return path


def test_a_folder_is_there_as_long_as_the_run(tmp_path: Path) -> None:
    with unpacked(str(tmp_path)) as folder:
        (folder / "0").write_text("calls")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_what_killed_runs_left_is_removed(tmp_path: Path) -> None:
    at_work, new, foreign = (tmp_path / name for name in (f"{PREFIX}a", f"{PREFIX}b", "other"))
    for each in (at_work, new, foreign):
        made(each)
    made(tmp_path / f"{PREFIX}c", lock='{"host": "here", "pid": 1, "started": ""}')
    (new / LOCK).touch()  # by a run that is about to hold it
    with locked(at_work):
        with unpacked(str(tmp_path)):
            pass
        assert sorted(tmp_path.iterdir()) == [foreign, at_work, new]
        assert (at_work / "0").exists()
