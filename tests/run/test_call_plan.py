"""What inputs of calls hold, what groups them, and which columns they need."""

from __future__ import annotations

from pathlib import Path

import pytest
from packed_calls import LOGS, OPTIONS, SKIPPING, packed, rows_of, with_ids, written
from runs import run, said

from reasonpack.errors import UsageError
from reasonpack.run import parts
from reasonpack.run.context import Loaded
from reasonpack.run.engine import Watch
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from tests.changed import replace


def test_a_session_file_is_a_group(tmp_path: Path) -> None:
    source = LOGS / "pi.jsonl"
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(source.read_bytes())
    notes: list[str] = []
    watch = Watch(on_note=notes.append)
    inputs = [str(source), str(copy)]
    manifest = pack_files(inputs, tmp_path / "out", SKIPPING, run=run(watch=watch))
    assert notes[0] == "24 records in 2 sessions, each a file"
    rows = rows_of(tmp_path / "out", manifest)
    assert [row["sample_id"] for row in rows] == [[name] for name in inputs]
    assert verify_dataset(tmp_path / "out").total == 0
    options = replace(SKIPPING, dedup="exact")
    assert pack_files(inputs, tmp_path / "once", options, run=run()).counts.duplicates == 1
    assert verify_dataset(tmp_path / "once").total == 0
    options = replace(SKIPPING, group_by="id")
    with pytest.raises(UsageError, match="session files, of which each is a group"):
        pack_files(inputs, tmp_path / "other", options)


GROUPS = {
    "atif": ["s1", str(LOGS / "atif.jsonl:2")],
    "litellm": ["trace-1"],
    "nemo_gym_entries": ["0-0"],
    "verifiers": ["group-1"],
}


@pytest.mark.parametrize("name", sorted(path.stem for path in LOGS.iterdir()))
def test_a_format_is_packed_and_grouped_without_an_option(name: str, tmp_path: Path) -> None:
    manifest = pack_files([str(LOGS / f"{name}.jsonl")], tmp_path / "out", OPTIONS)
    assert verify_dataset(tmp_path / "out").total == 0
    found = [id_ for row in rows_of(tmp_path / "out", manifest) for id_ in row["sample_id"]]
    assert found == GROUPS.get(name, found)


@pytest.mark.parametrize("has_text", [False, True])
def test_nothing_is_loaded_for_all_processes_if_only_ids_are_packed(
    has_text: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = (
        {"messages": [said("user", "2+2?")], "response": "4"} if has_text else with_ids([5], [7])
    )
    path = written(tmp_path / "calls.jsonl", [record, record])
    loaded: list[int] = []
    monkeypatch.setattr(Loaded, "load", lambda _, size: loaded.append(size))
    monkeypatch.setattr(parts, "start_method", lambda: "fork")
    monkeypatch.setattr(parts, "processes", lambda *_: 2)
    pack_files([path], tmp_path / "out", OPTIONS, run=run())
    assert bool(loaded) == has_text


def test_chats_and_calls_are_not_mixed_unseen(tmp_path: Path) -> None:
    chat = {"messages": [said("user", "2+2?"), said("assistant", "4")]}
    paths = [written(tmp_path / "a.jsonl", [with_ids([5], [7])]), written(tmp_path / "b", [chat])]
    with pytest.raises(UsageError, match=r"calls in .*a.jsonl and chats in .*b, expected one"):
        pack_files(paths, tmp_path / "out", OPTIONS)


def test_fields_that_are_renamed_say_what_an_input_holds(tmp_path: Path) -> None:
    ask, answer = said("user", "2+2?"), said("assistant", "4")
    record = {
        "request_body": {"messages": [ask]},
        "response_body": {"choices": [{"message": answer}]},
    }
    names = ("request_body=request", "response_body=response")
    manifest, _ = packed(tmp_path, [record], field=names)
    assert manifest.counts.packed == 1
