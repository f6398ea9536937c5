"""Processes are killed for real, anywhere; then the run goes on, and no byte differs."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from crashing import ENVIRONMENT, HERE, Countdown, steps
from runs import FIXTURES, ROOT, SKIPPING, UNIT_BYTES, run, tree

from reasonpack.run.engine import Watch
from reasonpack.run.pack import pack_files
from reasonpack.run.plan_file import read_plan
from tests.changed import replace

pytestmark = pytest.mark.faults

Pack = Callable[..., int]
Tree = dict[str, bytes]


def pack(source: Path, out: Path) -> list[int]:
    """Pack undisturbed; return which units were done already."""
    kept: list[int] = []
    watch = Watch(on_plan=lambda _, receipts: kept.extend(r.unit.number for r in receipts))
    pack_files([str(source)], out, SKIPPING, run=run(watch=watch))
    return kept


def check_whole(out: Path, expected: Tree) -> None:
    """See that what a killed run left under a final name is whole, and under a manifest all."""
    found = tree(out)
    named = {name for name in found if not Path(name).name.startswith(".")}
    assert [name for name in named if found[name] != expected.get(name)] == []
    if (out / "plan.json").exists():
        assert read_plan(out)
    if "manifest.json" in found:
        assert found.items() >= expected.items()


def check_kills(seed: int, source: Path, out: Path, expected: Tree, pack_in_fork: Pack) -> int:
    """Kill a run at random steps until it gets through; compare. Return how often it died."""
    draw = random.Random(seed)
    for kills in range(200):
        status = pack_in_fork(draw.randrange(1, 150), source, out)
        if status == 0:
            assert tree(out) == expected
            return kills
        assert status == -signal.SIGKILL
        check_whole(out, expected)
    raise AssertionError("it never gets through")


@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_killed_again_and_again(
    seed: int, source: Path, tmp_path: Path, undisturbed: Tree, pack_in_fork: Pack
) -> None:
    assert check_kills(seed, source, tmp_path / "out", undisturbed, pack_in_fork) > 0


def test_a_shuffle_that_is_killed_again_and_again(
    source: Path, tmp_path: Path, pack_in_fork: Pack
) -> None:
    options = replace(SKIPPING, shuffle=True)
    pack_files([str(source)], tmp_path / "whole", options, run=run())
    expected, out, draw = tree(tmp_path / "whole"), tmp_path / "out", random.Random(5)
    died: set[str] = set()
    while (status := pack_in_fork(draw.randrange(1, 200), source, out, None, 1)) != 0:
        assert status == -signal.SIGKILL
        died |= {path.parent.parent.name for path in out.glob("**/receipts/*.json")}
    assert tree(out) == expected
    assert died == {"out", "unshuffled"}  # in both stages


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 132))
def test_a_run_that_is_killed_hundreds_of_times(
    seed: int, source: Path, tmp_path: Path, undisturbed: Tree, pack_in_fork: Pack
) -> None:
    check_kills(seed, source, tmp_path / "out", undisturbed, pack_in_fork)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 17))
def test_a_run_that_is_killed_at_every_step(
    first: int, source: Path, tmp_path: Path, undisturbed: Tree, pack_in_fork: Pack
) -> None:
    """At each sixteenth from the first of them in one test."""
    for name in ("first", "counted"):  # the first in a process takes some steps more
        counting = Countdown(0)
        with steps(counting):
            pack(source, tmp_path / name)
    assert counting.count > 200
    most = 0
    for step in range(first, counting.count + 1, 16):
        out = tmp_path / f"out{step}"
        assert pack_in_fork(step, source, out) == -signal.SIGKILL
        check_whole(out, undisturbed)
        receipts = len(list(out.glob("receipts/?????.json")))
        assert len(pack(source, out)) == receipts  # what was done is not done twice
        assert tree(out) == undisturbed
        most = max(most, receipts)
    assert most > 0


def test_a_fault_planted_in_the_check_of_receipts_is_caught(
    source: Path, tmp_path: Path, undisturbed: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts that are believed without a look at the shard: half a shard passes for whole."""
    out = tmp_path / "out"
    monkeypatch.setattr("reasonpack.run.receipts._file_problem", lambda *_: "")
    pack(source, out)
    path = min((out / "data").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    pack(source, out)
    assert tree(out) != undisturbed
    monkeypatch.undo()
    pack(source, out)
    assert tree(out) == undisturbed


FIRST_LOOK = """
import sys
from pathlib import Path
from reasonpack.run.plan_file import read_plan
from reasonpack.records.unit import Unit
from reasonpack.run.receipts import check_units
from reasonpack.datasets.receipt import Counts, Receipt, RejectFile, Shard

sys.setswitchinterval(1e-6)
out = Path(sys.argv[1])
plan = read_plan(out)
for _ in range(40):
    for known in (Counts, Receipt, RejectFile, Shard, Unit):  # as in a process that has just begun
        if hasattr(known, "__msgspec_cache__"):
            del known.__msgspec_cache__
    assert None not in check_units(out, plan, plan.units)
"""


def test_threads_that_look_at_receipts_do_not_crash(source: Path, tmp_path: Path) -> None:
    """msgspec did, where several of them were the first to read a receipt."""
    pack(source, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LOOK, tmp_path / "out"],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def crash_workers(seed: int, source: Path, folder: Path, *, workers: int) -> int:
    """Pack with workers that die; return how many did."""
    marks = folder / "marks"
    marks.mkdir()
    command = ["workers", seed, marks, source, folder / "out", workers]
    done = subprocess.run(
        [sys.executable, HERE / "crashing.py", *map(str, command)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return len(list(marks.iterdir()))


def test_workers_that_are_killed_while_they_write(
    source: Path, tmp_path: Path, undisturbed: Tree
) -> None:
    assert crash_workers(1, source, tmp_path, workers=2) > 2
    assert tree(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 26))
def test_many_workers_that_are_killed(
    seed: int, source: Path, tmp_path: Path, undisturbed: Tree
) -> None:
    crash_workers(seed, source, tmp_path, workers=3)
    assert tree(tmp_path / "out") == undisturbed


PARENT = """
import multiprocessing, os, signal, sys
from pathlib import Path
import runs
from reasonpack.run.plan_file import read_plan
from reasonpack.run.engine import Watch
from reasonpack.run.pack import pack_files

def die(receipt):
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    settings = runs.run(num_proc=2, watch=Watch(on_receipt=die))
    pack_files([sys.argv[1]], Path(sys.argv[2]), runs.SKIPPING, run=settings)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_workers_do_not_outlive_a_parent_that_is_killed(
    source: Path, tmp_path: Path, undisturbed: Tree
) -> None:
    """An orphan could write into a run that begins after its own."""
    script, out = tmp_path / "parent.py", tmp_path / "out"
    script.write_text(PARENT)
    command = [sys.executable, script, source, out]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT, text=True
    ) as parent:
        assert parent.stdout
        # Workers hold the other end of the pipe too, so that this waits until they end.
        workers = parent.stdout.read().split()
    assert parent.returncode == -signal.SIGKILL
    assert len(workers) == 2
    soon = time.monotonic() + 10  # a process closes its files before it is gone
    while any(map(_is_running, workers)) and time.monotonic() < soon:
        time.sleep(0.01)
    assert not [pid for pid in workers if _is_running(pid)]
    assert not (out / "manifest.json").exists()
    pack(source, out)
    assert tree(out) == undisturbed


def _is_running(pid: str) -> bool:
    try:
        state = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def kill_at_times(seed: int, source: Path, out: Path, expected: Tree, *, least: int) -> None:
    """Kill the command at random times until it got through, so often at least."""
    draw, kills, whole = random.Random(seed), 0, 0.0
    options = ["--tokenizer", FIXTURES / "tokenizer", "--on-error", "skip", "-o", out]
    command = [sys.executable, "-m", "reasonpack", "pack", source, *options]
    command += ["--unit-size", UNIT_BYTES, "--no-samples"]
    while True:
        workers = ["--num-proc", draw.choice([1, 2, 3])]
        began = time.monotonic()
        # Within the time of an undisturbed run, and later each time, lest the machine gets slower.
        patience = draw.uniform(whole / 4, whole) * (1 + kills / 20) if whole else None
        with subprocess.Popen(
            [str(part) for part in (*command, *workers)],
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd=ROOT,
        ) as running:
            try:
                status = running.wait(patience)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
                kills += 1
                check_whole(out, expected)
                continue
        assert status == 3
        assert tree(out) == expected
        if kills >= least:
            return
        whole = whole or time.monotonic() - began
        shutil.rmtree(out)


@pytest.mark.faults
@pytest.mark.parametrize(
    "seed", [0, *[pytest.param(n, marks=pytest.mark.slow) for n in range(1, 17)]]
)
def test_a_command_that_is_killed_at_random_times(
    seed: int, source: Path, tmp_path: Path, undisturbed: Tree
) -> None:
    """With other numbers of workers each time."""
    kill_at_times(seed, source, tmp_path / "out", undisturbed, least=5)
