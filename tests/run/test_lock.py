"""One run at a time in one output directory."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
from again import again
from runs import SKIPPING, run, tree

from reasonpack.errors import UsageError
from reasonpack.run import lock
from reasonpack.run.lock import locked
from reasonpack.run.pack import merge_parts, pack_part
from tests.changed import replace


def test_a_second_run_is_refused_and_told_who_is_first(copy: Path, done: Path) -> None:
    with locked(copy):
        for attempt in (again, lambda: merge_parts(copy)):
            with pytest.raises(UsageError) as caught:
                attempt()
            assert f"held by process {os.getpid()} on {socket.gethostname()} since" in str(
                caught.value
            )
        with pytest.raises(UsageError, match="held by process"):
            pack_part(["chats.jsonl"], copy, SKIPPING, index=0, count=2, run=run())
    assert tree(copy) == tree(done / "out")


def test_parts_do_not_shut_each_other_out(copy: Path) -> None:
    with locked(copy, "-00000-of-00002"):
        pack_part(["chats.jsonl"], copy, SKIPPING, index=1, count=2, run=run())
        with pytest.raises(UsageError, match="held by process"):
            again()
        with pytest.raises(UsageError, match="held by process"):
            pack_part(["chats.jsonl"], copy, SKIPPING, index=0, count=2, run=run())


def test_a_part_leaves_alone_what_another_is_writing(copy: Path) -> None:
    for number in (2, 3):
        (copy / "data" / f".train-{number:05d}-of-00012.parquet.1-ab.tmp").touch()
    pack_part(["chats.jsonl"], copy, SKIPPING, index=1, count=2, run=run())
    assert [path.name[:12] for path in copy.glob("data/.*.tmp")] == [".train-00002"]


def holder(**change: Any) -> bytes:
    return msgspec.json.encode(replace(lock._me(), **change))


DEAD = 2**22 + 1
"""No process has it: Linux gives numbers up to 2**22."""


@pytest.mark.parametrize("url", [False, True])
def test_the_lock_of_a_dead_process_is_taken_over(url: bool, tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(holder(pid=DEAD))
    with locked(tmp_path.as_uri() if url else tmp_path):
        found = json.loads((tmp_path / ".lock").read_bytes())
        assert found["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_where_only_the_file_is_the_lock_another_machine_s_is_respected(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(holder(host="elsewhere", pid=DEAD))
    with pytest.raises(UsageError, match=f"held by process {DEAD} on elsewhere"):
        locked(tmp_path.as_uri()).__enter__()
    (tmp_path / ".lock").write_bytes(holder(pid=os.getppid()))
    with pytest.raises(UsageError, match=f"held by process {os.getppid()} on"):
        locked(tmp_path.as_uri()).__enter__()


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path):
        (tmp_path / ".lock").write_bytes(holder(host="elsewhere"))
        with pytest.raises(UsageError, match="on elsewhere"):
            locked(tmp_path).__enter__()
