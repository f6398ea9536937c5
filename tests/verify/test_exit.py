"""`verify` ends as it should every time: Arrow's threads hold no Python object when it does.

A thread that lets go of a Python file while the interpreter ends aborts the process, now and then:
after "sound" was printed, with status −6. On one core it is seen most often.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.storage.read import open_arrow
from reasonpack.verify.check import verify_dataset

pytestmark = pytest.mark.faults

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that was packed from a Parquet file beside it."""
    folder = tmp_path_factory.mktemp("exit")
    lines = (FIXTURES / "chats.jsonl").read_text(encoding="utf-8").splitlines()[:3]
    pq.write_table(
        pa.table({"messages": [_messages(line) for line in lines]}), folder / "a.parquet"
    )
    options = Options(tokenizer=str(FIXTURES / "tokenizer"))
    pack_files([str(folder / "a.parquet")], folder / "packed", options)
    return folder / "packed"


def _messages(line: str) -> Any:
    kept = ("role", "content", "reasoning_content")
    return [
        {name: message.get(name) for name in kept} for message in json.loads(line)["messages"][:4]
    ]


@pytest.fixture
def one_core() -> Iterator[None]:
    """Run what is started here on one core, where that can be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.usefixtures("one_core")
@pytest.mark.parametrize("runs", [10, pytest.param(20, marks=pytest.mark.slow)])
def test_the_command_ends_with_its_status_every_time(packed: Path, runs: int) -> None:
    command = [sys.executable, "-m", "reasonpack", "verify", str(packed)]
    command += ["--against", str(packed.parent / "a.parquet")] if runs > 10 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    statuses = [
        subprocess.run(command, check=False, capture_output=True, env=environment).returncode
        for _ in range(runs)
    ]
    assert statuses == [0] * runs


def test_arrow_reads_parquet_from_no_python_file(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources: list[object] = []

    class Recorded(pq.ParquetFile):  # type: ignore[misc]
        def __init__(self, source: object, *args: Any, **kwargs: Any) -> None:
            sources.append(source)
            super().__init__(source, *args, **kwargs)

    monkeypatch.setattr(pq, "ParquetFile", Recorded)
    assert not verify_dataset(packed, [str(packed.parent / "a.parquet")]).total
    assert sources
    assert {type(source) for source in sources} <= {str, pa.OSFile, type(packed)}


def test_a_local_file_is_opened_by_arrow(packed: Path) -> None:
    with open_arrow(packed / "manifest.json") as file:
        assert isinstance(file, pa.OSFile)
