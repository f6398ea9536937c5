"""Processes of a run: their errors, their deaths, and what they share."""

from __future__ import annotations

import contextlib
import functools
import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crashing import ENVIRONMENT
from runs import ROOT, SKIPPING, UNIT_BYTES, chats, run, tree

from reasonpack.errors import ReasonpackError, RecordError, StorageError, UsageError
from reasonpack.records import group_index
from reasonpack.records.group_index import plan_groups
from reasonpack.records.plan import plan
from reasonpack.records.unit import Unit
from reasonpack.run import engine, parts
from reasonpack.run.check.records import check_records
from reasonpack.run.context import Loaded
from reasonpack.run.engine import Run, do_units, processes
from reasonpack.run.pack import pack_files
from reasonpack.run.pool import run_pool
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
        raise RecordError("late", "messages", "unit 1", "whole", "none", where="a:1")
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
    assert str(caught.value) == "a:1: messages: unit 1, expected whole. Fix: none."
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
    found = {unit.number: number for unit, number in run_pool(units(6), process, workers=2)}
    assert found == {number: number for number in range(6)}
    assert (tmp_path / "died-0").exists()


def test_a_unit_that_kills_two_workers_is_reported_by_name(tmp_path: Path) -> None:
    process = functools.partial(die, number=2, directory=str(tmp_path), times=9)
    found: list[int] = []
    with pytest.raises(ReasonpackError, match=r"chats, bytes 20 to 30 \(unit 2\): .* died 2 times"):
        found.extend(number for _, number in run_pool(units(6), process, workers=2))
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
        found += [number for _, number in run_pool(units(3), interrupt, workers=2)]
    assert sorted(found) == [0, 1, 2]


def environment(unit: Unit) -> dict[str, str]:
    return dict(os.environ)


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAYON_NUM_THREADS", raising=False)
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    monkeypatch.setattr("reasonpack.run.pool.usable_cores", lambda: 6)
    for _, found in run_pool(units(2), environment, workers=2):
        assert (found["RAYON_NUM_THREADS"], found["TOKENIZERS_PARALLELISM"]) == ("3", "true")
    monkeypatch.setenv("RAYON_NUM_THREADS", "5")
    ((_, found),) = run_pool(units(1), environment, workers=1)
    assert found["RAYON_NUM_THREADS"] == "5"


LOADING = """
import functools, gc, os, sys, threading
from reasonpack.records.unit import Unit
from reasonpack.run.pool import run_pool

class Loaded:
    where = None

    def __reduce__(self):
        return Loaded, ()

def where_loaded(unit, loaded):
    return loaded.where, gc.get_threshold()[0]

if __name__ == "__main__":
    gc.set_threshold(12_345)
    if sys.argv[1] == "spawn":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    units = [Unit(n, 0, "chats", "plain", n, n + 1, 1, 1) for n in range(6)]
    loaded = Loaded()
    loaded.where = os.getpid()
    do = functools.partial(where_loaded, loaded=loaded)
    where, collected = zip(*(found for _, found in run_pool(units, do, workers=2)))
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
    spread: Any = functools.partial(engine.each_files, run=Run(num_proc=2))
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


@pytest.mark.parametrize("packed", [False, True])
def test_the_calls_of_files_are_grouped_by_several_processes_as_by_one(
    packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if records are copied, and whichever file's value is the first that groups nothing."""
    records: list[Any] = [{"group": f"g{n % 3}", "id": [n]} for n in range(8)]
    records.append({"reward": 1, "id": [8]})
    files: list[tuple[Place, str]] = []
    for number in range(4):
        lines = "".join(json.dumps(each) + "\n" for each in records[number * 2 : number * 2 + 3])
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(gzip.compress(lines.encode()) if packed else lines.encode())
        files.append((path, path.name))
    monkeypatch.setattr(engine, "worthwhile_workers", lambda _: 9)
    monkeypatch.setattr(group_index, "TOGETHER", 1)
    spread: Any = functools.partial(engine.each_files, run=Run(num_proc=3))
    found = []
    for folder, each in (("one", map), ("several", spread)):
        (tmp_path / folder).mkdir()
        grouped = plan_groups(files, unit_bytes=200, folder=tmp_path / folder, each=each)
        copies = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        found.append((grouped.grouping, grouped.units, grouped.columns, grouped.text_bytes, copies))
        with pytest.raises(UsageError, match=r"0.jsonl:1: --group-by: id is list in a record"):
            plan_groups(files, field="id", unit_bytes=200, folder=tmp_path / folder, each=each)
    assert found[0] == found[1]
    grouping, _, columns, text_bytes, copies = found[0]
    assert (grouping.records, grouping.alone, columns) == (12, 1, {"call_reward"})
    assert text_bytes > 12 * len(json.dumps(records[-1]))
    assert len(copies) == (4 if packed else 0)


def test_something_is_done_beside_the_processes(tmp_path: Path) -> None:
    """An error of it is ignored, because whoever needs its result meets the error again."""
    os.mkfifo(tmp_path / "pipe")
    wait = functools.partial(read_all, pipe=str(tmp_path / "pipe"))

    def beside() -> None:
        (tmp_path / "pipe").write_bytes(b"x")  # blocks until the process reads
        raise StorageError("nobody", "hears", "this", "one")

    assert [*run_pool(units(1), wait, workers=1, beside=beside)] == [(units(1)[0], b"x")]


def read_all(unit: Unit, *, pipe: str) -> bytes:
    return Path(pipe).read_bytes()


ANSWERED = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
HELD: dict[str, Any] = {
    "chats": {"messages": ANSWERED},
    "calls": {"messages": ANSWERED[:1], "choices": [{"message": ANSWERED[1]}]},
    "ids": {"prompt_ids": [5], "completion_ids": [7]},
}


@pytest.mark.parametrize("num_proc", [None, 1])
@pytest.mark.parametrize("holds", HELD)
def test_the_tokenizer_is_loaded_while_another_process_plans(
    holds: str, num_proc: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(HELD[holds]))
    beside: list[bool] = []

    def pool(*given: Any, **more: Any) -> Any:
        beside.append(bool(more.get("beside")))
        return run_pool(*given, **more)

    monkeypatch.setattr(engine, "WORTH_BESIDE", 1)
    monkeypatch.setattr(engine, "usable_cores", lambda: 2)
    monkeypatch.setattr(engine, "start_method", lambda: "fork")
    monkeypatch.setattr(engine, "run_pool", pool)
    pack_files([str(path)], tmp_path / "out", SKIPPING, run=run(num_proc=num_proc))
    assert beside == [True] * (num_proc is None and holds != "ids")


@pytest.mark.parametrize(("num_proc", "most"), [(1, 9), (2, 9), (3, 1)])
def test_what_processes_share_is_loaded_once_before_they_are_forked(
    num_proc: int,
    most: int,
    source: Path,
    tmp_path: Path,
    expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if a unit is divided among them, and not if there is nothing to do."""
    loaded: list[int] = []

    def load(_: Loaded, input_bytes: int) -> None:
        loaded.append(input_bytes)
        raise StorageError("nobody", "hears", "this", "one")

    monkeypatch.setattr(parts, "start_method", lambda: "fork")
    monkeypatch.setattr(Loaded, "load", load)
    size = source.stat().st_size
    settings = run(num_proc=num_proc, unit_bytes=size if most == 1 else UNIT_BYTES)
    for _ in range(2):
        manifest = pack_files([str(source)], tmp_path / "out", SKIPPING, run=settings)
    assert loaded == [size] * (num_proc > 1)
    assert (len(manifest.shards) == 1) == (most == 1)
    if most > 1:
        assert tree(tmp_path / "out") == expected


def test_so_it_is_for_a_check(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[int] = []
    monkeypatch.setattr(parts, "start_method", lambda: "fork")
    monkeypatch.setattr(Loaded, "load", lambda _, input_bytes: loaded.append(input_bytes))
    found = [
        check_records([str(source)], SKIPPING, run(num_proc=number, unit_bytes=UNIT_BYTES)).counts
        for number in (1, 2)
    ]
    assert loaded == [source.stat().st_size]
    assert found[0] == found[1]


PLANNING = """
import sys
from reasonpack.datasets.options import Options
from reasonpack.run.context import Loaded
from reasonpack.run.engine import Run
from reasonpack.run.pack import opened
from reasonpack.run.pool import start_method

tokenizer, output, source = sys.argv[1:]
with opened([source], output, Loaded(Options(tokenizer=tokenizer)), run=Run()):
    print(start_method())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="they are spawned elsewhere")
@pytest.mark.parametrize("kind", ["jsonl", "json", "gz", "parquet", "arrow"])
def test_a_plan_leaves_no_thread_that_forbids_to_fork(kind: str, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in chats(bad=False).splitlines()]
    path, table = tmp_path / f"chats.{kind}", pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind == "arrow":
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table)
    else:
        content = json.dumps(rows).encode() if kind == "json" else chats(bad=False)
        path.write_bytes(gzip.compress(content) if kind == "gz" else content)
    command = [sys.executable, "-c", PLANNING, SKIPPING.tokenizer, tmp_path / "out", path]
    environment = {**ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # as the command sets it
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "fork\n"


SPAWNING = """
import signal
from reasonpack.records.unit import Unit
from reasonpack.run import pool

blocked_at_start = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())

def whether_blocked(unit):
    return blocked_at_start

if __name__ == "__main__":
    pool.start_method = lambda: "spawn"
    units = [Unit(n, 0, "chats", "plain", n * 10, n * 10 + 10, n + 1, 10) for n in range(2)]
    print(*[blocked for _, blocked in pool.run_pool(units, whether_blocked, workers=2)])
"""


def test_ctrl_c_is_blocked_while_a_spawned_process_starts(tmp_path: Path) -> None:
    """Also in the first, with which Python starts a process of its own."""
    (tmp_path / "script.py").write_text(SPAWNING)
    command = [sys.executable, tmp_path / "script.py"]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "True True\n"


def test_this_process_does_units_in_order() -> None:
    found: list[tuple[Unit, int]] = []
    do_units(units(3), lambda _: os.getpid(), lambda *each: found.append(each), Run())
    assert found == [(unit, os.getpid()) for unit in units(3)]
