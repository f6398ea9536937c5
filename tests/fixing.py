"""Rows of tests that do what an error says: bad input, words of the error, and its fix, done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

Arguments = list[str]
Pack = Callable[[Arguments], tuple[int, str]]
"""Packs in a directory of its own; returns status and messages."""
Mend = Callable[[Arguments, str], Arguments]
"""Does what the error says, in the current directory; returns the arguments of the next try."""


@dataclass(frozen=True)
class Row:
    """Files and arguments of pack that are refused, words of the error, and its fix, done."""

    files: dict[str, bytes]
    arguments: Arguments
    words: str
    mend: Mend
    status: int = 1
    needs: tuple[str, ...] = field(default=())


def instead(*arguments: str) -> Mend:
    return lambda given, error: list(arguments)


def also(*arguments: str) -> Mend:
    return lambda given, error: [*given, *arguments]


def write(name: str, content: bytes, *more: str) -> Mend:
    def mend(given: Arguments, error: str) -> Arguments:
        Path(name).write_bytes(content)
        return [*given, *more]

    return mend


def command(given: Arguments, error: str) -> Arguments:
    """Run what stands in backticks, and take the file that it makes, or unpacks."""
    before = set(Path().iterdir())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    steps = re.findall(r"`([^`]+)`", error.partition("Fix: ")[2])
    assert steps, error
    for step in steps:
        subprocess.run(step, shell=True, check=True, env=environment)
    made = sorted(set(Path().iterdir()) - before)
    assert made, error
    return [made[-1].name]


def check(row: Row, pack_here: Pack) -> None:
    """Raise AssertionError unless a row is refused in its words, and no more once it is mended."""
    if missing := [program for program in row.needs if not shutil.which(program)]:
        pytest.skip(f"no {missing[0]} here")
    for name, content in row.files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    status, error = pack_here(row.arguments)
    assert status == row.status, error
    assert re.search(row.words, error), error
    assert "Traceback" not in error
    status, after = pack_here(row.mend(row.arguments, error))
    assert status == 0, f"{error}\nand then\n{after}"
