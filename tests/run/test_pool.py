"""Processes of a run: their errors, their deaths, and those started early."""

from __future__ import annotations

import contextlib
import functools
import gzip
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crashing import ENVIRONMENT
from runs import ROOT, SKIPPING, run, tree

from reasonpack.errors import ReasonpackError, RecordError, StorageError
from reasonpack.records.plan import plan
from reasonpack.records.unit import Unit
from reasonpack.run import engine
from reasonpack.run.engine import Run, do_units, processes
from reasonpack.run.pack import merge_parts, pack_files, pack_part
from reasonpack.run.pool import Given, early_workers, run_pool
from reasonpack.storage.place import Place
from tests.changed import replace

pytestmark = pytest.mark.faults


def units(count: int) -> list[Unit]:
    return [Unit(n, 0, "chats", "plain", n * 10, n * 10 + 10, n + 1, 10) for n in range(count)]


def fail_second(unit: Unit, *, pipe: str) -> int:
    """Unit 3 fails at once, and only then unit 1, which began before it."""
    if unit.first_line == 4:
        Path(pipe).write_bytes(b"x")
        raise StorageError("unit 3", "broken", "whole", "none")
    if unit.first_line == 2:
        Path(pipe).read_bytes()
        raise RecordError(reason="late", path="messages", what="unit 1", fix="none", where="a:1")
    return unit.number


@pytest.mark.parametrize("parts", [False, True])
def test_the_error_of_the_first_unit_is_raised_whatever_the_timing(
    tmp_path: Path, parts: bool
) -> None:
    todo = [replace(unit, number=0) if parts else unit for unit in units(50)]
    os.mkfifo(tmp_path / "pipe")
    process = functools.partial(fail_second, pipe=str(tmp_path / "pipe"))
    found = []
    with pytest.raises(RecordError) as caught:
        found += run_pool(todo, process, workers=2)
    assert str(caught.value) == "a:1: messages: unit 1. Fix: none"
    assert caught.value.reason == "late"


class StubbornError(Exception):
    """Cannot be made anew from its arguments, so that it cannot be sent."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("what it says")


def fail_stubbornly(unit: Unit) -> int:
    raise StubbornError(1, 2)


def test_an_error_that_cannot_be_sent_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReasonpackError, match="StubbornError: what it says"):
        list(run_pool(units(2), fail_stubbornly, workers=1))


def die(unit: Unit, *, number: int, directory: str, times: int) -> int:
    """Kill this process at one unit, so many times."""
    if unit.number == number:
        marks = len(list(Path(directory).glob("died-*")))
        if marks < times:
            Path(directory, f"died-{marks}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return unit.number


def test_a_worker_that_dies_is_replaced_and_its_unit_done_again(tmp_path: Path) -> None:
    process = functools.partial(die, number=2, directory=str(tmp_path), times=1)
    assert sorted(run_pool(units(6), process, workers=2)) == list(range(6))
    assert (tmp_path / "died-0").exists()


def test_a_unit_that_kills_two_workers_is_reported_by_name(tmp_path: Path) -> None:
    process = functools.partial(die, number=2, directory=str(tmp_path), times=9)
    found: list[int] = []
    with pytest.raises(ReasonpackError, match=r"chats, bytes 20 to 30 \(unit 2\): .* died 2 times"):
        found.extend(run_pool(units(6), process, workers=2))
    assert {0, 1} <= set(found)
    assert len(list(tmp_path.glob("died-*"))) == 2


def test_processes_that_cannot_start_are_no_unit_s_fault(tmp_path: Path) -> None:
    """A script without a guard starts itself again in every worker that is not forked."""
    script = tmp_path / "script.py"
    script.write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "from reasonpack.run.pool import run_pool\n"
        "from reasonpack.records.plan import Unit\n"
        "print(list(run_pool([Unit(0, 0, 'a', 'plain', 0, 1, 1, 1)], str, workers=1)))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 1
    assert "under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]


def interrupt(unit: Unit) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return unit.number


def test_workers_leave_ctrl_c_to_their_parent() -> None:
    found: list[int] = []
    with contextlib.suppress(KeyboardInterrupt):  # which would end the tests, not fail this one
        found += run_pool(units(3), interrupt, workers=2)
    assert sorted(found) == [0, 1, 2]


def environment(unit: Unit) -> dict[str, str]:
    return dict(os.environ)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setattr("reasonpack.run.pool.usable_cores", lambda: 6)
    for found in run_pool(units(2), environment, workers=2):
        assert (found["RAYON_NUM_THREADS"], found["TOKENIZERS_PARALLELISM"]) == ("3", "true")
    monkeypatch.setenv("RAYON_NUM_THREADS", "5")
    (found,) = run_pool(units(1), environment, workers=1)
    assert found["RAYON_NUM_THREADS"] == "5"


class Noting:
    """Notes the process that loads it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def load(self) -> None:
        Path(self.directory, str(os.getpid())).touch()


def which_process(unit: Unit, *given: object) -> int:
    return os.getpid()


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_started_early_do_the_work_and_end(tmp_path: Path) -> None:
    with early_workers(3, Noting(str(tmp_path))) as started:
        processes = {worker.process.pid for worker in started}
        used = set(run_pool(units(20), which_process, workers=2, started=started))
        assert used <= processes
        assert {str(process) for process in used} <= {path.name for path in tmp_path.iterdir()}
    assert not any(is_alive(process) for process in processes if process)


LOADING = """
import gc, os, sys, threading
from reasonpack.records.unit import Unit
from reasonpack.run.pool import early_workers, run_pool

class Loaded:
    where = None

    def __reduce__(self):
        return Loaded, ()

    def load(self):
        self.where = self.where or os.getpid()

def where_loaded(unit, loaded):
    return loaded.where, gc.get_threshold()[0]

if __name__ == "__main__":
    gc.set_threshold(12_345)
    if sys.argv[1] == "spawn":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    units = [Unit(n, 0, "chats", "plain", n, n + 1, 1, 1) for n in range(6)]
    loaded = Loaded()
    with early_workers(2, loaded) as started:
        more = {"given": loaded, "started": started}
        where, collected = zip(*run_pool(units, where_loaded, workers=2, **more))
        print({*where} == {os.getpid()}, {*collected})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="they are spawned elsewhere")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_have_what_was_loaded_if_no_thread_forbids_it(method: str, tmp_path: Path) -> None:
    (tmp_path / "loading.py").write_text(LOADING)
    done = subprocess.run(
        [sys.executable, tmp_path / "loading.py", method],
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == f"{method == 'fork'} {{12345}}"


def test_the_command_seldom_searches_for_garbage() -> None:
    code = "import atexit, gc, sys; from reasonpack.cli import main; sys.argv[1:] = ['--version'];"
    code += "atexit.register(lambda: print(gc.get_threshold()[0])); main()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split()[-1] == "300000"


def test_no_more_processes_are_started_than_the_input_repays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("reasonpack.run.engine.usable_cores", lambda: 8)
    small, large = units(100), [replace(unit, input_bytes=10**9) for unit in units(5)]
    packed = [replace(unit, container="gzip", input_bytes=10**7) for unit in units(9)]
    whole = Run(num_proc=None)
    assert [processes(whole, each) for each in (small, large, packed, [])] == [1, 5, 8, 1]
    assert processes(Run(num_proc=3), small) == 3


def test_files_are_cut_into_units_by_several_processes_as_by_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[tuple[Place, str]] = [(source, "a"), (source, "b"), (tmp_path / "none", "c")]
    spread: Any = functools.partial(engine.each_file, run=Run(num_proc=2))
    used = []
    monkeypatch.setattr(engine, "run_pool", lambda *a, **m: used.append(m) or run_pool(*a, **m))

    def planned(files: list[tuple[Place, str]], **more: Any) -> tuple[list[Any], list[Unit]]:
        inputs, found = plan(files, unit_bytes=4_000, **more)
        # Whether a file is too young for its stamp depends on when it is planned.
        return [replace(each, stamp=None) for each in inputs], found

    assert planned(files[:2], each=spread) == planned(files[:2])
    assert used == []  # too little for it
    monkeypatch.setattr(engine, "worthwhile_workers", lambda _: 9)
    assert planned(files[:2], each=spread) == planned(files[:2])
    assert [each["workers"] for each in used] == [2]
    with pytest.raises(StorageError, match="none: No such file"):
        plan([files[2], *files], each=spread)


class Failing:
    def load(self) -> None:
        raise StorageError("nobody", "hears", "this", "one")


class Dying:
    def load(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("given", [Failing(), Dying()])
def test_what_goes_wrong_early_stops_nothing(given: Given) -> None:
    with early_workers(2, given) as started:
        assert len(set(run_pool(units(6), which_process, workers=2, started=started))) <= 4


def test_an_early_start_does_not_change_a_byte(
    source: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []

    @contextlib.contextmanager
    def counted(count: int, given: Given) -> Iterator[Any]:
        counts.append(count)
        with early_workers(count, given) as started:
            yield started

    monkeypatch.setattr(engine, "early_workers", counted)
    pack_files([str(source)], tmp_path / "short", SKIPPING, run=run(num_proc=2))
    assert counts == []
    monkeypatch.setattr(engine, "WORTH_STARTING", 1)
    for workers in (1, 2, 2):  # the last time there is nothing to do
        pack_files([str(source)], tmp_path / "out", SKIPPING, run=run(num_proc=workers))
    packed = source.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(source.read_bytes()))
    pack_files([str(packed)], tmp_path / "one", SKIPPING, run=run(num_proc=2))
    assert counts == []
    pack_files([str(source)], tmp_path / "out", SKIPPING, overwrite=True, run=run(num_proc=2))
    for index in (0, 1):
        settings = run(num_proc=2)
        pack_part([str(source)], tmp_path / "parts", SKIPPING, index=index, count=2, run=settings)
    merge_parts(tmp_path / "parts")
    assert counts == [2, 2]
    assert tree(tmp_path / "out") == tree(tmp_path / "parts") == expected
    bad = replace(SKIPPING, tokenizer=str(tmp_path / "none"))
    with pytest.raises(ReasonpackError, match="none: does not exist"):
        pack_files([str(source)], tmp_path / "bad", bad, run=run(num_proc=2))


def test_this_process_does_units_in_order() -> None:
    found: list[tuple[int, int]] = []
    do_units(units(3), lambda unit: (unit.number, os.getpid()), found.append, Run())
    assert found == [(number, os.getpid()) for number in range(3)]
