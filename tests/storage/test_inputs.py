"""Arguments name files, directories and URLs: which files are read."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import Any

import pytest

from reasonpack.errors import UsageError
from reasonpack.storage.inputs import expand_inputs


def test_a_directory_gives_its_chat_files_sorted(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.parquet", "c/d.jsonl.gz", "c/a.ndjson", "z.jsonl.zst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("notes.txt", "b.json", "c/.a.jsonl.tmp", "jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "directory.jsonl").mkdir()
    found = [Path(path).relative_to(tmp_path).as_posix() for path in expand_inputs([str(tmp_path)])]
    assert found == ["a.parquet", "b.jsonl", "c/a.ndjson", "c/d.jsonl.gz", "z.jsonl.zst"]


def test_links_to_directories_are_named_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "loop").symlink_to(".")
    notes: list[str] = []
    assert expand_inputs([str(tmp_path)], on_note=notes.append) == [tmp_path / "a.jsonl"]
    assert len(notes) == 1
    assert ": loop: not read" in notes[0]


def test_arguments_keep_their_order_and_files_any_name(tmp_path: Path) -> None:
    for name in ("z.txt", "a.jsonl"):
        (tmp_path / name).touch()
    given = [str(tmp_path / "z.txt"), str(tmp_path / "a.jsonl")]
    assert [str(path) for path in expand_inputs(given)] == given


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        expand_inputs([str(tmp_path / "missing.jsonl")])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="no chat file in this directory"):
        expand_inputs([str(tmp_path)])


def test_files_of_the_current_directory_are_named_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    notes: list[str] = []
    for place in (".", str(tmp_path)):
        expand_inputs([place], on_note=notes.append)
    assert [note.split(": ")[1] for note in notes] == ["notes.txt"] * 2


@pytest.mark.parametrize("url", [False, True])
def test_the_shards_of_a_dataset_are_no_chats(url: bool, tmp_path: Path) -> None:
    for name in ("a.jsonl", "old/plan.json", "old/receipts/00000.json", "old/data/train.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "plan.json").touch()  # alone it makes no dataset
    notes: list[str] = []
    place = tmp_path.as_uri() if url else str(tmp_path)
    assert [str(file) for file in expand_inputs([place], on_note=notes.append)] == [
        f"{place}/a.jsonl"
    ]
    assert f"{place}/old/: not read: a packed dataset, use repack" in notes
    with pytest.raises(UsageError, match="pack it again with repack"):
        expand_inputs([f"{place}/old"])


@pytest.mark.parametrize("url", [False, True])
def test_what_datasets_leaves_beside_a_saved_dataset_is_no_part_of_it(
    url: bool, tmp_path: Path
) -> None:
    saved = ("data-00000-of-00002.arrow", "data-00001-of-00002.arrow")
    for name in (*saved, "cache-2a.arrow", "data-00000-of-00001.arrow", "a.jsonl", "b/state.json"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "b" / "cache-1.arrow").touch()  # beside no dataset
    state = {"_data_files": [{"filename": name} for name in saved], "_split": None}
    (tmp_path / "in" / "state.json").write_text(json.dumps(state), "utf-8")
    place, notes = f"{tmp_path.as_uri() if url else tmp_path}/in", list[str]()
    found = [str(file)[len(place) + 1 :] for file in expand_inputs([place], on_note=notes.append)]
    assert found == ["a.jsonl", "b/cache-1.arrow", *saved]
    assert notes[0] == (
        f"{place}/cache-2a.arrow, {place}/data-00000-of-00001.arrow: not read: not part of the "
        "saved dataset"
    )
    (tmp_path / "in" / saved[0]).unlink()
    with pytest.raises(UsageError, match=f"{saved[0]} not there"):
        expand_inputs([place])


def test_many_files_are_listed_in_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: how often a path is compared or looked up."""
    looked_up: list[str] = []

    def counted(name: str, real: Any) -> Any:
        return lambda *paths: looked_up.append(name) or real(*paths)

    for name in ("__hash__", "__eq__"):
        monkeypatch.setattr(PurePath, name, counted(name, getattr(PurePath, name)))
    for number in range(100):
        (tmp_path / f"{number}.jsonl").touch()
    assert len(expand_inputs([tmp_path])) == 100
    assert len(looked_up) < 20 * 100
