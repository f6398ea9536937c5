"""Runs that kill themselves at the nth step of what they do to the file system.

    open  write  (half of a write)  fsync  rename  unlink       each is a step

As a script: crashing.py NUMBER FROM_SEED INPUT OUTPUT packs with workers, each of which dies
at a step that the seed gives, once.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import runs

from reasonpack import storage
from reasonpack.run import pack as pack_module
from reasonpack.run.plan import Unit
from reasonpack.run.unit import Job, Receipt, process


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


def crashing_process(unit: Unit, job: Job, *, seed: int, directory: str) -> Receipt:
    """Pack a unit, and die once at some step of it if the seed says so."""
    draw = random.Random(seed * 1000 + unit.number)
    mark = Path(directory, f"died-{unit.number}")
    at = draw.randrange(1, 40)
    if draw.random() < 0.5 or mark.exists():
        return process(unit, job)
    mark.touch()
    with steps(Countdown(at)):
        return process(unit, job)


def main() -> None:
    """Pack with workers that die."""
    seed, marks, source, output, workers = sys.argv[1:]
    planted: Any = partial(crashing_process, seed=int(seed), directory=marks)
    pack_module.process = planted
    settings = runs.run(num_proc=int(workers))
    pack_module.pack_files([source], Path(output), runs.SKIPPING, run=settings)


if __name__ == "__main__":
    main()
