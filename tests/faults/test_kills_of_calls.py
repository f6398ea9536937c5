"""Runs of calls are killed for real, anywhere; then they go on, and no byte differs.

calls.jsonl        looked up in place       groups.index  ┐
calls.jsonl.gz     unpacked to --temp-dir   shards …      ┴─ the same after any crash
"""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashing import ENVIRONMENT, forks
from runs import FIXTURES, ROOT, SKIPPING, UNIT_BYTES, agents, run, tree
from test_kills import check_kills, check_whole, crash_workers

from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset

pytestmark = pytest.mark.faults

Tree = dict[str, bytes]
FORMS = ["plain", "gzip"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same calls of some agents, plain and compressed."""
    folder = tmp_path_factory.mktemp("calls")
    lines = "".join(json.dumps(call) + "\n" for call in agents()).encode()
    made = {"plain": folder / "calls.jsonl", "gzip": folder / "calls.jsonl.gz"}
    made["plain"].write_bytes(lines)
    made["gzip"].write_bytes(gzip.compress(lines, mtime=0))
    return made


@pytest.fixture(scope="module")
def expected(sources: dict[str, Path]) -> dict[str, Tree]:
    """What undisturbed runs write, which is what was logged."""
    found = {}
    for form, source in sources.items():
        out = source.parent / f"undisturbed-{form}"
        pack_files([str(source)], out, SKIPPING, run=run())
        assert verify_dataset(out, [str(source)]).total == 0
        found[form] = tree(out)
        assert "groups.index" in found[form]
        assert len([name for name in found[form] if name.startswith("data/")]) > 3
    return found


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The temporary directory of the runs that are killed."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def pack_in_fork(temporary: Path) -> Iterator[Callable[..., int]]:
    with forks({**ENVIRONMENT, "TMPDIR": str(temporary)}) as pack:
        yield pack


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(2))
def test_a_run_that_is_killed_again_and_again(
    form: str,
    seed: int,
    sources: dict[str, Path],
    expected: dict[str, Tree],
    tmp_path: Path,
    temporary: Path,
    pack_in_fork: Callable[..., int],
) -> None:
    out = tmp_path / "out"
    assert check_kills(seed, sources[form], out, expected[form], pack_in_fork) > 0
    assert list(temporary.iterdir()) == []


def test_workers_that_are_killed_while_they_write(
    sources: dict[str, Path], expected: dict[str, Tree], tmp_path: Path
) -> None:
    assert crash_workers(3, sources["gzip"], tmp_path, workers=2) > 1
    assert tree(tmp_path / "out") == expected["gzip"]


@pytest.mark.parametrize("form", ["gzip", "stdin"])
def test_a_command_that_is_killed_at_random_times(
    form: str, sources: dict[str, Path], expected: dict[str, Tree], tmp_path: Path
) -> None:
    """With another number of workers each time; nothing is left in --temp-dir."""
    draw, out, temporary = random.Random(form), tmp_path / "out", tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "reasonpack", "pack", "--on-error", "skip", "--no-samples"]
    command += ["--tokenizer", str(FIXTURES / "tokenizer"), "--unit-size", str(UNIT_BYTES)]
    command += ["-o", str(out), "--temp-dir", str(temporary)]
    command.append("-" if form == "stdin" else str(sources["gzip"]))
    wanted = expected["gzip"] if form == "gzip" else None
    kills, longest = 0, 1.6
    while kills < 3 or not (out / "manifest.json").exists():
        if (out / "manifest.json").exists():  # it was too fast
            shutil.rmtree(out)
        workers = ["--num-proc", str(draw.choice([1, 2, 3]))]
        seconds = draw.uniform(longest / 4, longest) if kills < 3 else None
        began = time.monotonic()
        status = run_for(seconds, [*command, *workers], sources["plain"])
        kills += status is None
        if status is not None:  # on a quick machine they would all be too late
            longest = min(longest, time.monotonic() - began)
        assert status in (None, 3)
        if wanted is not None:
            check_whole(out, wanted)
    assert list(temporary.iterdir()) == []
    again = tree(out)
    shutil.rmtree(out)
    assert run_for(None, command, sources["plain"]) == 3
    assert again == tree(out) == (wanted or again)
    assert list(temporary.iterdir()) == []


def run_for(seconds: float | None, command: list[str], calls: Path) -> int | None:
    """Run a command with calls as its input; return its status, None where it was killed."""
    with (
        calls.open("rb") as lines,
        subprocess.Popen(
            command, stdin=lines, stderr=subprocess.DEVNULL, env=ENVIRONMENT, cwd=ROOT
        ) as running,
    ):
        try:
            return running.wait(seconds)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
            return None
