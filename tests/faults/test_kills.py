"""Processes are killed for real, anywhere; then the run goes on, and no byte differs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from crashing import Countdown, die, steps
from runs import SKIPPING, chats, run, tree

from reasonpack.run.pack import Watch, pack_files

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "chats.jsonl"
    path.write_bytes(chats())
    return path


@pytest.fixture(scope="module")
def undisturbed(source: Path) -> dict[str, bytes]:
    pack_files([str(source)], source.parent / "undisturbed", SKIPPING, run=run())
    return tree(source.parent / "undisturbed")


def in_a_fork(action: Callable[[], None]) -> int:
    """Do something in a copy of this process; return how it ended, negative for a signal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about threads, none of which is needed there
        pid = os.fork()
    if pid == 0:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        try:
            action()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def pack(source: Path, out: Path, kept: list[int] | None = None) -> None:
    kept = [] if kept is None else kept
    watch = Watch(on_plan=lambda _, receipts: kept.extend(r.unit.number for r in receipts))
    pack_files([str(source)], out, SKIPPING, run=run(watch=watch))


def kill_at(step: int, source: Path, out: Path) -> int:
    def action() -> None:
        with steps(Countdown(step)):
            pack(source, out)
        os._exit(0)

    return in_a_fork(action)


def count_steps(source: Path, out: Path) -> int:
    counting = Countdown(0)
    with steps(counting):
        pack(source, out)
    return counting.count


def check_kills(seed: int, source: Path, out: Path, expected: dict[str, bytes]) -> int:
    """Kill a run at random steps until it gets through; compare. Return how often it died."""
    draw = random.Random(seed)
    for kills in range(40):
        status = kill_at(draw.randrange(1, 150), source, out)
        assert status in {0, -signal.SIGKILL}
        names = {path.name for path in out.rglob("*") if path.is_file()}
        if status and "manifest.json" in names:
            assert tree(out).items() >= expected.items()
        if status == 0:
            assert tree(out) == expected
            return kills
    raise AssertionError("it never gets through")


@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_is_killed_again_and_again(
    seed: int, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    assert check_kills(seed, source, tmp_path / "out", undisturbed) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 180))
def test_a_run_that_is_killed_hundreds_of_times(
    seed: int, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    check_kills(seed, source, tmp_path / "out", undisturbed)


@pytest.mark.slow
def test_a_run_that_is_killed_at_every_step(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    total = count_steps(source, tmp_path / "counted")
    assert total > 300
    for step in range(1, total + 1):
        out = tmp_path / f"out{step}"
        assert kill_at(step, source, out) == -signal.SIGKILL
        kept: list[int] = []
        pack(source, out, kept)
        assert tree(out) == undisturbed
        assert len(kept) >= (step * 10 // total) - 2  # what was done is not done twice


def test_a_fault_planted_in_publishing_is_caught(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts that are believed without a look at the shard: half a shard passes for whole."""
    out = tmp_path / "out"
    monkeypatch.setattr("reasonpack.run.receipts._file_problem", lambda *_: "")
    pack(source, out)
    path = sorted((out / "data").iterdir())[0]
    path.write_bytes(path.read_bytes()[:100])
    pack(source, out)
    assert tree(out) != undisturbed
    monkeypatch.undo()
    pack(source, out)
    assert tree(out) == undisturbed


def crash_workers(seed: int, source: Path, folder: Path, workers: int) -> list[Path]:
    marks = folder / "marks"
    marks.mkdir()
    command = [sys.executable, HERE / "crashing.py", str(seed), marks, source, folder / "out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(workers)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return list(marks.iterdir())


@pytest.mark.parametrize("seed", [1, 2])
def test_workers_that_are_killed_while_they_write(
    seed: int, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    assert len(crash_workers(seed, source, tmp_path, 2)) > 2
    assert tree(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 40))
def test_many_workers_that_are_killed(
    seed: int, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    crash_workers(seed, source, tmp_path, 3)
    assert tree(tmp_path / "out") == undisturbed


PARENT = """
import os, signal, sys
from pathlib import Path
import runs
from reasonpack.run.pack import Watch, pack_files

def die(receipt):
    print(*[pid for pid in Path("/proc/self/task", str(os.getpid()), "children").read_text().split()])
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    settings = runs.run(num_proc=2, watch=Watch(on_receipt=die))
    pack_files([sys.argv[1]], Path(sys.argv[2]), runs.SKIPPING, run=settings)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_workers_do_not_outlive_a_parent_that_is_killed(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    """An orphan could write into a run that begins after its own."""
    script, out = tmp_path / "parent.py", tmp_path / "out"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HERE.parent)])}
    # Reading to the end of the pipe waits for whoever holds its other end, workers included.
    with subprocess.Popen(
        [sys.executable, script, source, out], stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        assert parent.stdout
        children = parent.stdout.read().split()
    assert parent.returncode == -signal.SIGKILL
    assert len(children) >= 2
    assert not [pid for pid in children if _is_running(pid)]
    pack(source, out)
    assert tree(out) == undisturbed


def _is_running(pid: str) -> bool:
    try:
        state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_the_harness_kills() -> None:
    assert in_a_fork(die) == -signal.SIGKILL
    assert in_a_fork(lambda: None) == 1
