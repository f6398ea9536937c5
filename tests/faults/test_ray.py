"""Ray tasks: the same bytes for any number of cores, and when workers and nodes die."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from crashing import ENVIRONMENT, crashing_process, steps
from runs import OPTIONS, SKIPPING, chats, run, tree

from reasonpack.datasets.receipt import Receipt
from reasonpack.errors import ReasonpackError, RecordError, UsageError
from reasonpack.records.conversation import parse_line
from reasonpack.records.unit import Record, Unit
from reasonpack.run.context import Loaded, load_context
from reasonpack.run.pack import pack_files
from reasonpack.run.ray import pack_table, run_ray
from reasonpack.run.unit import Job, pack_records, process

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("default")]
ray: Any = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A Ray of this machine, whose workers know the modules of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


def units(count: int) -> list[Unit]:
    return [Unit(n, 0, "chats", "plain", n * 10, n * 10 + 10, n + 1, 10) for n in range(count)]


@pytest.mark.parametrize("cores", [2, *[pytest.param(n, marks=pytest.mark.slow) for n in (1, 4)]])
def test_cores_do_not_change_a_byte(
    cores: int,
    source: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    settings = run(engine="ray", num_proc=cores)
    pack_files([str(source)], tmp_path / "out", SKIPPING, run=settings)
    assert tree(tmp_path / "out") == undisturbed


def process_and_lose_node(
    unit: Unit, loaded: Loaded, job: Job, *, folder: str, step: int
) -> Receipt:
    """Kill the raylet and the worker of one node, once, at a step of its work."""
    node = ray.get_runtime_context().get_node_id()
    doomed, mark = Path(folder, node), Path(folder, "mark")
    if not doomed.exists() or mark.exists():
        return process(unit, loaded, job)
    raylet, left = int(doomed.read_text()), itertools.count(step, -1)

    def lose_node() -> None:
        if next(left) == 0:
            os.close(os.open(mark, os.O_CREAT))  # not by what counts as a step
            os.kill(raylet, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    with steps(lose_node):
        return process(unit, loaded, job)


@pytest.mark.parametrize(
    "step", [9, *[pytest.param(step, marks=pytest.mark.slow) for step in (0, 4, 14, 19)]]
)
def test_a_node_that_dies(
    step: int,
    source: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    nodes = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    doomed = nodes.add_node(num_cpus=1)
    raylet = doomed.all_processes["raylet"][0].process.pid
    (tmp_path / doomed.node_id).write_text(str(raylet))
    planted: Any = partial(process_and_lose_node, folder=str(tmp_path), step=step)
    monkeypatch.setattr("reasonpack.run.parts.process", planted)
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    try:
        settings = run(engine="ray")
        pack_files([str(source)], tmp_path / "out", SKIPPING, run=settings)
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert (tmp_path / "mark").exists()
    assert tree(tmp_path / "out") == undisturbed


def test_a_table_is_packed_as_a_file_is() -> None:
    lines = chats(6, bad=False).splitlines()
    rows = [{"messages": parse(line)["messages"], "id": parse(line)["id"]} for line in lines]
    table = pa.Table.from_pylist(rows)
    found = pack_table(table, OPTIONS)
    records = [Record(f"a:{number}", line) for number, line in enumerate(lines)]
    assert found == pack_records(records, OPTIONS, load_context(OPTIONS))
    with pytest.raises(UsageError, match="skips records"):
        pack_table(table, SKIPPING)
    bad = pa.array([b"\xff"] * len(rows), pa.binary()).view(pa.string())
    with pytest.raises(RecordError, match="batch:1: id: not UTF-8: byte 0xff"):
        pack_table(table.set_column(1, "id", bad), OPTIONS)


def parse(line: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(line)
    assert parse_line(line, "a:1").id == parsed["id"]
    return parsed


# --- in one cluster, from here on ----------------------------------------------------------------


def fail(unit: Unit) -> int:
    if unit.number in {2, 5}:
        raise RecordError("x", "messages", f"unit {unit.number}", "whole", "none")
    return unit.number


@pytest.mark.usefixtures("cluster")
def test_the_error_of_the_first_unit_is_raised() -> None:
    with pytest.raises(RecordError, match="unit 2"):
        list(run_ray(units(8), fail))


def die(unit: Unit, *, directory: str, times: int) -> int:
    marks = len(list(Path(directory).glob("died-*")))
    if unit.number == 1 and marks < times:
        Path(directory, f"died-{marks}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return unit.number


@pytest.mark.usefixtures("cluster")
def test_workers_that_die(tmp_path: Path) -> None:
    once = partial(die, directory=str(tmp_path), times=1)
    assert sorted(number for _, number in run_ray(units(4), once)) == [0, 1, 2, 3]
    always = partial(die, directory=str(tmp_path), times=99)
    with pytest.raises(ReasonpackError, match=r"bytes 10 to 20 \(unit 1\): its worker died"):
        list(run_ray(units(4), always))
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    "seed", [1, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 30)]]
)
def test_workers_that_are_killed_while_they_write(
    seed: int,
    source: Path,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a random step of what they do to the file system, some in the middle of a write."""
    marks = tmp_path / "marks"
    marks.mkdir()
    planted: Any = partial(crashing_process, seed=seed, directory=str(marks))
    monkeypatch.setattr("reasonpack.run.parts.process", planted)
    pack_files([str(source)], tmp_path / "out", SKIPPING, run=run(engine="ray"))
    assert list(marks.iterdir())
    assert tree(tmp_path / "out") == undisturbed


@pytest.mark.usefixtures("cluster")
def test_a_pipeline_of_ray_data() -> None:
    data = pytest.importorskip("ray.data")
    rows = [parse(line) for line in chats(8, bad=False).splitlines()]
    packed = data.from_items(rows, override_num_blocks=2).map_batches(
        pack_table, batch_format="pyarrow", batch_size=4, fn_kwargs={"options": OPTIONS}
    )
    found = packed.take_all()
    assert sorted(id_ for row in found for id_ in row["sample_id"]) == sorted(
        row["id"] for row in rows
    )
