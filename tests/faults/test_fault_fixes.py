"""Refusals that come of what surrounds a run: its processes, Ray, disks, the hub.

As in tests/laws/test_fixes.py, what each says is done, and then it is gone.
"""

from __future__ import annotations

import errno
import functools
import importlib
import logging
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fixing import Arguments, Mend, Pack, Row, also, check
from hub import hub
from runs import FIXTURES, OPTIONS, ROOT, SKIPPING, chats

from reasonpack.errors import UsageError
from reasonpack.records.unit import Unit
from reasonpack.run import parts
from reasonpack.run.ray import pack_table, run_ray
from reasonpack.run.unit import process
from reasonpack.storage import publish

pytestmark = pytest.mark.faults
GOOD = chats(8, bad=False)
CHATS = {"a.jsonl": GOOD}
TWO = ["a.jsonl", "--unit-size", str(len(GOOD) // 2), "--num-proc", "2"]
THE_SAME: Mend = also()


def one_less(given: Arguments, error: str) -> Arguments:
    return [*given[:-1], "1"]


# --- processes -----------------------------------------------------------------------------------


def killed_beside_another(*given: Any, **named: Any) -> Any:
    """Do a unit where only one process does; as if there were no memory for two."""
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return process(*given, **named)


def killed_at_first(*given: Any, marks: str, times: int, **named: Any) -> Any:
    """Die so many times, whichever unit it is."""
    died = len(list(Path(marks).iterdir()))
    if died < times:
        Path(marks, f"{died}-{os.getpid()}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return process(*given, **named)


class StubbornError(Exception):
    """Cannot be made anew from its arguments, so that it cannot be sent."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("what it says")


def fail_stubbornly(*given: Any, **named: Any) -> Any:
    raise StubbornError(1, 2)


def test_a_worker_that_is_killed_as_memory_runs_out(
    pack_here: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "process", killed_beside_another)
    words = r"its worker died 2 times.*-9.*if memory ran out \(-9\), use fewer workers \(--num-proc"
    check(Row(CHATS, TWO, words, one_less), pack_here)


def test_a_worker_that_was_killed_by_chance(
    pack_here: Pack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    dying = functools.partial(killed_at_first, marks=str(marks), times=4)
    monkeypatch.setattr(parts, "process", dying)
    check(
        Row(CHATS, TWO, "the same command keeps what is done and tries again", THE_SAME), pack_here
    )


def test_an_error_that_cannot_be_sent_shows_where_it_comes_from(
    pack_here: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "process", fail_stubbornly)
    Path("a.jsonl").write_bytes(GOOD)
    status, error = pack_here(TWO)
    assert status == 1
    assert "StubbornError: what it says" in error
    assert "pass --num-proc 1 to see where it comes from" in error
    with pytest.raises(StubbornError, match="what it says"):
        pack_here(one_less(TWO, error))


SCRIPT = """
import threading
threading.Thread(target=threading.Event().wait, daemon=True).start()  # or workers are forked
from reasonpack import Options, pack_files
from reasonpack.run.engine import Run
{guard}pack_files(["a.jsonl"], "out", Options(tokenizer={tokenizer!r}), run=Run(num_proc={workers},
    unit_bytes={size}))
"""


def test_a_script_that_starts_itself_again(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    tokenizer, size = str(FIXTURES / "tokenizer"), len(GOOD) // 2
    tries = [("", 2), ("if __name__ == '__main__': ", 2), ("", 1)]
    for guard, workers in tries:
        text = SCRIPT.format(guard=guard, tokenizer=tokenizer, workers=workers, size=size)
        (tmp_path / "script.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "script.py"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        if (guard, workers) == tries[0]:
            assert done.returncode == 1
            words = "under `if __name__ == '__main__':`, or use one process."
            assert done.stderr.splitlines()[-1].endswith(words)
        else:
            assert done.returncode == 0, done.stderr


# --- Ray -----------------------------------------------------------------------------------------


def ray_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(logging, "raiseExceptions", False)  # it logs to streams of other tests
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests"), *sys.path]))
    return ray


RAY = ["a.jsonl", "--engine", "ray", "--num-proc", "2"]


@pytest.mark.filterwarnings("default")
def test_a_ray_task_whose_worker_is_killed(
    pack_here: Pack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray = ray_of_this_machine(monkeypatch)
    marks = tmp_path / "marks"
    marks.mkdir()
    dying = functools.partial(killed_at_first, marks=str(marks), times=3)
    monkeypatch.setattr(parts, "process", dying)
    words = "its worker died again.*let fewer run at once.*keeps what is done and tries again"
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        check(Row(CHATS, RAY, words, THE_SAME), pack_here)
    finally:
        ray.shutdown()


@pytest.mark.filterwarnings("default")
def test_no_cluster_at_the_address(pack_here: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    ray_of_this_machine(monkeypatch)
    words = "RAY_ADDRESS: no cluster answers at {}.*or unset it to use this machine"
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(UsageError, match=words.format("nowhere")):
        list(run_ray([Unit(0, 0, "a", "plain", 0, 1, 1, 1)], fail_stubbornly))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")

    def unset(given: Arguments, error: str) -> Arguments:
        monkeypatch.delenv("RAY_ADDRESS")
        return given

    check(Row(CHATS, RAY, words.format("127.0.0.1:9"), unset, 2), pack_here)


def test_ray_that_is_not_installed(pack_here: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        Path("a.jsonl").write_bytes(GOOD)
        status, error = pack_here(RAY)
    assert status == 2
    assert "Ray is not installed" in error
    assert "pip install 'reasonpack[ray]'" in error  # which the tests of Ray need too


def test_a_table_from_which_records_would_be_left_out(tmp_path: Path) -> None:
    asked, answer = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
    table = pa.Table.from_pylist([{"messages": [asked, answer]}])
    with pytest.raises(UsageError, match="leave on_error and overlong at their defaults"):
        pack_table(table, SKIPPING)
    assert pack_table(table, OPTIONS).num_rows == 1


# --- disks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("output", ["out", "url"])
def test_a_disk_that_is_full(
    code: int, output: str, pack_here: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From some byte on; in the temporary directory too, from where URLs are written."""
    whole, left = publish.HashingFile.write, [1500]

    def write(self: Any, data: Any) -> int:
        left[0] -= memoryview(data).nbytes
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        return whole(self, data)

    monkeypatch.setattr(publish.HashingFile, "write", write)

    def free_some_space(given: Arguments, error: str) -> Arguments:
        left[0] = 1 << 30
        return given

    url = [*TWO[:-1], "1", "--output", Path("other").resolve().as_uri()]
    arguments = url if output == "url" else [*TWO[:-1], "1"]
    fix = "free some space .* TMPDIR" if output == "url" else r"free about \d[\d.]* MB on the disk"
    words = f"{re.escape(os.strerror(code))}, expected to write it. Fix: {fix}"
    check(Row(CHATS, arguments, words, free_some_space), pack_here)


def test_a_limit_of_the_size_of_files(pack_here: Pack) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    mask = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def raise_the_limit(given: Arguments, error: str) -> Arguments:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return given

    Path("a.jsonl").write_bytes(GOOD)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, before[1]))
    try:
        words = r"File too large.*raise the limit of a file's size \(ulimit -f\)"
        check(Row({}, ["a.jsonl"], words, raise_the_limit), pack_here)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, mask)


# --- the hub -------------------------------------------------------------------------------------

MODEL = {path.name: path.read_bytes() for path in (FIXTURES / "tokenizer").iterdir()}
OURS = {f"someone/{name}/{file}": data for name in ("model", "private", "gated")
        for file, data in MODEL.items()}  # fmt: skip


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve models from a hub of this machine, to a client that has kept nothing yet."""
    pytest.importorskip("huggingface_hub")
    constants = importlib.import_module("huggingface_hub.constants")
    with hub() as (address, files):
        files.update(OURS)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield


def model(name: str, *more: str) -> Arguments:
    return ["a.jsonl", "--tokenizer", f"someone/{name}", *more]


Patch = Callable[[pytest.MonkeyPatch], Any]
"""Changes the settings of the hub's client."""


def nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave them as they are."""


def setting(name: str, value: Any) -> Patch:
    return lambda patch: patch.setattr(f"huggingface_hub.constants.{name}", value)


def log_in(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("HF_TOKEN", "hf_token")


def not_installed(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "huggingface_hub", None)


LOCAL = ["a.jsonl", "--tokenizer", str(FIXTURES / "tokenizer")]
HUB: dict[str, tuple[Arguments, Patch, str, Patch, Arguments]] = {
    "a misspelt name": (
        model("modle"), nothing, "RepositoryNotFoundError.*Fix: check the name; if", nothing,
        model("model"),
    ),
    "a private model": (
        model("private"), nothing, "RepositoryNotFoundError.*if the model is private, log in",
        log_in, model("private"),
    ),
    "a gated model": (
        model("gated"), nothing, "GatedRepoError.*Fix: ask for access.*or set HF_TOKEN", log_in,
        model("gated"),
    ),
    "a revision that is not there": (
        model("model", "--revision", "v9"), nothing,
        "RevisionNotFoundError.*Fix: check the revision, or leave it out", nothing, model("model"),
    ),
    "no connection": (
        model("model"), setting("ENDPOINT", "http://127.0.0.1:9"),
        r"LocalEntryNotFoundError.*Fix: check the connection \(HF_ENDPOINT", nothing,
        model("model"),
    ),
    "no hub wanted": (
        model("model"), setting("HF_HUB_OFFLINE", True),
        "LocalEntryNotFoundError.*HF_HUB_OFFLINE.*or give a directory that holds the tokenizer",
        setting("HF_HUB_OFFLINE", True), LOCAL,
    ),
    "no client": (
        model("model"), not_installed, r"client is not installed.*reasonpack\[hub\]", nothing,
        model("model"),
    ),
    "no client, and a path was meant": (
        ["a.jsonl", "--tokenizer", "tokeniser"], not_installed, "Fix: check the path",
        not_installed, LOCAL,
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("name", HUB)
def test_what_the_fix_of_the_hub_says_helps(
    name: str, pack_here: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, fault, words, mended, then = HUB[name]
    with pytest.MonkeyPatch.context() as patch:
        fault(patch)

        def mend(given: Arguments, error: str) -> Arguments:
            patch.undo()
            mended(patch)
            return then

        check(Row(CHATS, given, words, mend), pack_here)
