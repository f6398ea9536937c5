"""Two processes and one output directory; clocks that jump."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crashing import ENVIRONMENT
from runs import FIXTURES, ROOT, SKIPPING, UNIT_BYTES, run, tree

from reasonpack.run import lock
from reasonpack.run.engine import Run, Watch
from reasonpack.run.pack import pack_files

HOLDING = """
import sys
import runs
from reasonpack.run.engine import Watch
from reasonpack.run.pack import pack_files

def wait(*_):
    print("at work", flush=True)
    sys.stdin.read()

pack_files([sys.argv[1]], sys.argv[2], runs.SKIPPING, run=runs.run(watch=Watch(on_plan=wait)))
"""


@pytest.fixture(params=["path", "url"])
def holder(
    request: pytest.FixtureRequest, source: Path, tmp_path: Path
) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of its run; it goes on when its input ends."""
    out = tmp_path / "out"
    place = out.as_uri() if request.param == "url" else str(out)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(source), place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "at work\n"
        yield process


def pack(source: Path, place: str, *more: str) -> subprocess.CompletedProcess[str]:
    options = ["--tokenizer", FIXTURES / "tokenizer", "--on-error", "skip", "-o", place]
    command = ["pack", source, *options, "--unit-size", UNIT_BYTES, "--no-samples", *more]
    return subprocess.run(
        [sys.executable, "-m", "reasonpack", *map(str, command)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        check=False,
    )


@pytest.mark.faults
def test_the_second_of_two_processes_is_refused_and_told_who_is_the_first(
    holder: subprocess.Popen[str], source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    place = str(holder.args[-1])  # type: ignore[index]
    who = f"held by process {holder.pid} on {socket.gethostname()} since 2"
    for more in ([], ["--overwrite"], ["--shard-index", "0", "--shard-count", "2"]):
        refused = pack(source, place, *more)
        assert refused.returncode == 2
        assert who in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    holder.communicate("")
    assert holder.returncode == 0
    if place == str(tmp_path / "out"):
        assert tree(tmp_path / "out") == undisturbed


@pytest.mark.faults
def test_the_second_takes_over_when_the_first_is_killed(
    holder: subprocess.Popen[str], source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    place = str(holder.args[-1])  # type: ignore[index]
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert pack(source, place).returncode == 3
    shards = {name: data for name, data in undisturbed.items() if name.startswith("data/")}
    assert tree(tmp_path / "out").items() >= shards.items()


# --- clocks --------------------------------------------------------------------------------------

YEAR = 365 * 86_400


class JumpingClock:
    """Goes years forth and back each time that it is asked."""

    def __init__(self) -> None:
        self.jumps = itertools.cycle([9 * YEAR, -9 * YEAR, 0, 40 * YEAR, -30 * YEAR])

    def time(self) -> float:
        return NOW + next(self.jumps)

    def time_ns(self) -> int:
        return int(self.time() * 1e9)


NOW = time.time()


def jump(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = JumpingClock()
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, getattr(clock, name))


def packed(source: Path, out: Path) -> tuple[list[int], list[str]]:
    """Pack; return which units were packed, and what was told."""
    units: list[int] = []
    notes: list[str] = []
    watch = Watch(on_receipt=lambda done: units.append(done.unit.number), on_note=notes.append)
    settings: Run = run(watch=watch)
    pack_files([str(source)], out, SKIPPING, run=settings)
    return units, notes


def test_a_clock_that_jumps_during_a_run_and_between_runs(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    jump(monkeypatch)
    out = tmp_path / "out"
    packed(source, out)
    assert tree(out) == undisturbed
    (out / "receipts" / "00002.json").unlink()
    assert packed(source, out) == ([2], [])
    assert tree(out) == undisturbed


@pytest.mark.parametrize("first", [0, 1, 2])
def test_times_of_files_decide_nothing(
    first: int, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """A shard is not older than its input, or younger than its receipt; it has its bytes."""
    out = tmp_path / "out"
    packed(source, out)
    for number, path in enumerate(sorted(out.rglob("*")), first):
        os.utime(path, (NOW, (NOW, NOW - 9 * YEAR, NOW + 9 * YEAR)[number % 3]))
    assert packed(source, out) == ([], [])
    assert tree(out) == undisturbed


@pytest.mark.parametrize("started", ["1970-01-01T00:00:00", "2999-01-01T00:00:00", "never"])
def test_a_lock_is_as_old_as_its_process_whatever_it_says(
    started: str, source: Path, tmp_path: Path
) -> None:
    """No age makes a lock stale: only that its process is gone does."""
    out = tmp_path / "out"
    out.mkdir()
    me = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": started}
    (out / ".lock").write_text(json.dumps(me))
    os.utime(out / ".lock", (0, 0))
    packed(source, out)
    assert not (out / ".lock").exists()
    alive: dict[str, Any] = {**me, "pid": os.getppid()}
    (out / ".lock").write_text(json.dumps(alive))
    os.utime(out / ".lock", (0, 0))
    assert lock._is_held_by_file(out / ".lock")
