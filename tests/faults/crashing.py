"""Runs that kill themselves at the nth step of what they do to the file system.

    open  write  (half of a write)  fsync  rename  unlink       each is a step

As a script:

    crashing.py workers SEED MARKS INPUT OUTPUT WORKERS   packs with workers that die
    crashing.py forks                           reads lines STEP INPUT OUTPUT [LIMIT [SHUFFLE]],
        packs in a copy of itself that dies at that step, and answers how it ended

The copies are of a process that has a single thread, so that they are sound: what another
thread holds at that moment (a lock, half a list of free memory) stays so in the copy.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import runs

from reasonpack.datasets.receipt import Receipt
from reasonpack.errors import StorageError
from reasonpack.records.unit import Unit
from reasonpack.run import pack as pack_module
from reasonpack.run import parts
from reasonpack.run.context import Loaded, load_context
from reasonpack.run.unit import Job, process
from reasonpack.storage import publish as storage
from tests.changed import replace

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *sys.path]),
    "TOKENIZERS_PARALLELISM": "false",
    # No threads that begin with an import: NumPy's, and that of Arrow's allocator.
    "OPENBLAS_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}
"""For processes that run something of this directory."""


def die() -> None:
    """Leave as by a power cut: nothing is tidied up."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def steps(on_step: Callable[[], None]) -> Iterator[None]:
    """Call `on_step` before each thing done to the file system, and in the middle of writes."""
    saved: list[tuple[Any, str, Any]] = []

    def wrap(owner: Any, name: str) -> None:
        whole = getattr(owner, name)
        saved.append((owner, name, whole))

        def stepping(*arguments: Any, **more: Any) -> Any:
            on_step()
            return whole(*arguments, **more)

        setattr(owner, name, stepping)

    def write(self: storage.HashingFile, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = view.nbytes // 2
        on_step()
        write_whole(self, view[:half])
        self.flush()
        on_step()
        return half + write_whole(self, view[half:])

    write_whole = storage.HashingFile.write
    saved.append((storage.HashingFile, "write", write_whole))
    storage.HashingFile.write = write  # type: ignore[method-assign]
    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (Path, "open")):
        wrap(owner, name)
    try:
        yield
    finally:
        for owner, name, whole in saved:
            setattr(owner, name, whole)


class Countdown:
    """Counts steps and dies at one of them; 0 is never reached."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.left:
            die()


def crashing_process(unit: Unit, loaded: Loaded, job: Job, *, seed: int, directory: str) -> Receipt:
    """Pack a unit, and die once at some step of it if the seed says so."""
    draw = random.Random(seed * 1000 + unit.number)
    mark = Path(directory, f"died-{unit.number}")
    at = draw.randrange(1, 40)
    if draw.random() < 0.5 or mark.exists():
        return process(unit, loaded, job)
    mark.touch()
    with steps(Countdown(at)):
        return process(unit, loaded, job)


def pack_with_dying_workers(seed: str, marks: str, source: str, out: str, workers: str) -> None:
    """Pack with workers that die."""
    planted: Any = partial(crashing_process, seed=int(seed), directory=marks)
    parts.process = planted
    settings = runs.run(num_proc=int(workers))
    pack_module.pack_files([source], Path(out), runs.SKIPPING, run=settings)


@contextlib.contextmanager
def forks(environment: Mapping[str, str]) -> Iterator[Callable[..., int]]:
    """Begin the process whose copies pack."""
    with subprocess.Popen(
        [sys.executable, HERE / "crashing.py", "forks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as server:
        assert server.stdin
        assert server.stdout

        def pack(step: int, source: Path, out: Path, *more: int | None) -> int:
            assert server.stdin
            assert server.stdout
            print(json.dumps([step, str(source), str(out), *more]), file=server.stdin, flush=True)
            return int(server.stdout.readline())

        yield pack
        server.stdin.close()


def pack_in_forks() -> None:
    """Answer each line of standard input with an exit code; negative for a signal."""
    faulthandler.enable()  # should a copy die of anything but a kill, this says where
    load_context(runs.SKIPPING)
    for line in sys.stdin:
        step, source, out, *more = json.loads(line)
        threads = _threads()
        assert len(threads) == 1, f"a copy of {threads} would not be sound"
        pid = os.fork()
        if pid == 0:
            pack_until(step, source, out, *more)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _threads() -> list[str]:
    """Name the threads of this process, those of libraries too, where the system tells."""
    tasks = Path("/proc/self/task")
    if not tasks.exists():
        return [thread.name for thread in threading.enumerate()]
    return [(task / "comm").read_text().strip() for task in tasks.iterdir()]


def pack_until(
    step: int, source: str, out: str, limit: int | None = None, shuffle: int = 0
) -> None:
    """Pack, die at a step, and never return; 0 says that all went well, 4 that a disk was full."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    code = 1
    try:
        with steps(Countdown(step)):
            options = replace(runs.SKIPPING, shuffle=bool(shuffle))
            pack_module.pack_files([source], Path(out), options, run=runs.run())
        code = 0
    except StorageError as error:
        told = "File too large, expected to write it. Fix: raise the limit of a file's size"
        code = 4 if told in str(error) else 5
    finally:
        os._exit(code)


if __name__ == "__main__":
    pack_with_dying_workers(*sys.argv[2:]) if sys.argv[1] == "workers" else pack_in_forks()
