"""The inputs of a run: each with its place, its name and its share, standard input as a file.

a.jsonl       a.jsonl:2.0    twice       b/#5000    5,000 conversations of a directory
{"path": "a.jsonl", "repeat": 2.0}       the same as fields, as in a file of options
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from reasonpack.datasets.manifest import Part
from reasonpack.errors import UsageError
from reasonpack.run.output_directory import SPOOL, STDIN_COPY
from reasonpack.storage.inputs import exists, expand_inputs
from reasonpack.storage.place import Place, is_url, public_name, unwritable

STDIN = "-"
_SHARE = re.compile(r"(.+?)(?::(\d+(?:\.\d+)?)|#(\d+))", re.DOTALL)


def read_part(text: str) -> Part:
    """Read an argument that names inputs; a share behind it only where no file is called so.

    Raises:
        UsageError: the share is none, or the fields are not those of an input.
    """
    if text == STDIN:
        return Part(path=text)
    fields = text.startswith("{") and text.endswith("}")
    match = None if fields else _SHARE.fullmatch(text)
    if (not fields and match is None) or exists(text):
        return Part(path=text)
    if match is not None:
        path, repeat, number = match.groups()
        conversations = int(number) if number else None
        part = Part(path=path, repeat=float(repeat or 1), conversations=conversations)
    else:
        part = _from_fields(text)
    sound = math.isfinite(part.repeat) and part.repeat > 0 and part.conversations != 0
    if not sound or (part.conversations is not None and part.repeat != 1):
        raise _wrong(text, "a share above 0, or a number of conversations from 1 on")
    return part


def _from_fields(text: str) -> Part:
    try:
        found = json.loads(text)
        if not {*found} <= {"path", "repeat", "conversations"}:
            raise ValueError(f"unknown fields among {', '.join(map(str, found))}")
        return msgspec.convert(found, Part)
    except (ValueError, TypeError, RecursionError, msgspec.ValidationError) as error:
        raise _wrong(text, f"path, and repeat or conversations ({error})") from error


def _wrong(found: str, expected: str) -> UsageError:
    fix = "write a.jsonl:2.0, b.jsonl#5000, or an object with these fields"
    return UsageError("INPUT", found, expected, fix)


def named_inputs(
    inputs: Sequence[str],
    *,
    without: Place | None = None,
    on_note: Callable[[str], object] = lambda _: None,
) -> tuple[list[tuple[Place, str]], list[Part]]:
    """Name the input files, each with its place; standard input is `-` still.

    Args:
        inputs: as for `pack_files`.
        without: an output directory, which may lie in one of them.
        on_note: is told which files of directories are not read.

    Returns:
        The files, and how much of them is packed; empty if all of them is, once.

    Raises:
        UsageError: there is no such input.
    """
    parts = [read_part(each) for each in inputs]
    if [part.path for part in parts].count(STDIN) > 1:
        raise UsageError("-", "standard input twice", "it once", "name it once")
    if without is not None and is_url(without):
        without = None
    named: list[tuple[Place, str]] = []
    blend: list[Part] = []
    for part in parts:
        files: list[tuple[Place, str]] = [(STDIN, "stdin")]
        if part.path != STDIN:
            places = expand_inputs([part.path], without=without, on_note=on_note)
            files = [(place, public_name(place)) for place in places]
        named += files
        blend.append(replace(part, path=public_name(part.path), files=len(files)))
    return named, [] if all(part.is_whole for part in blend) else blend


@contextmanager
def spooled(named: Sequence[tuple[Place, str]], output: Place) -> Iterator[list[tuple[Place, str]]]:
    """Yield the input files, with a temporary file in place of standard input."""
    if all(place != STDIN for place, _ in named):
        yield list(named)
        return
    directory = None if is_url(output) else output
    with tempfile.TemporaryDirectory(prefix=SPOOL, dir=directory) as spool:
        copy = Path(spool) / STDIN_COPY
        try:
            with copy.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)
        except OSError as error:
            raise unwritable(copy, error) from error
        yield [(copy if place == STDIN else place, name) for place, name in named]
