"""A run is started again over what another left: on the fixtures, watched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runs import SKIPPING, run

from reasonpack.run.engine import Run, Watch
from reasonpack.run.pack import pack_files


@contextlib.contextmanager
def chdir(folder: Path) -> Iterator[None]:  # until Python 3.10 is no longer supported
    before = Path.cwd()
    os.chdir(folder)
    yield
    os.chdir(before)


def age(path: Path) -> None:
    """Make a file an hour old, so that its time of writing vouches for it."""
    hour_ago = path.stat().st_mtime - 3600
    os.utime(path, (hour_ago, hour_ago))


class Watching:
    """Records what a run tells."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.packed: list[int] = []
        self.notes: list[str] = []
        watch = Watch(
            on_plan=lambda _, receipts: self.kept.extend(r.unit.number for r in receipts),
            on_receipt=lambda receipt: self.packed.append(receipt.unit.number),
            on_note=self.notes.append,
        )
        self.run: Run = run(watch=watch)


def again(output: Path = Path("out"), **more: Any) -> Watching:
    watching = Watching()
    pack_files(["chats.jsonl"], output, SKIPPING, run=watching.run, **more)
    return watching


def flip(data: bytearray, at: int) -> None:
    data[at % len(data)] ^= 1 << at % 8


def cut(data: bytearray, at: int) -> None:
    del data[at % len(data) :]
