"""The inputs of a run: each with its place and its name, standard input copied to a file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from reasonpack.errors import UsageError
from reasonpack.run.output_directory import SPOOL, STDIN_COPY
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, is_url, public_name, unwritable

STDIN = "-"


def named_inputs(
    inputs: Sequence[str],
    *,
    without: Place | None = None,
    on_note: Callable[[str], object] = lambda _: None,
) -> list[tuple[Place, str]]:
    """Name the input files, each with its place; standard input is `-` still.

    Args:
        inputs: as for `pack_files`.
        without: an output directory, which may lie in one of them.
        on_note: is told which files of directories are not read.

    Raises:
        UsageError: there is no such input.
    """
    if list(inputs).count(STDIN) > 1:
        raise UsageError("-", "standard input twice", "it once", "name it once")
    if without is not None and is_url(without):
        without = None
    named: list[tuple[Place, str]] = []
    for text in inputs:
        if text == STDIN:
            named.append((STDIN, "stdin"))
        else:
            files = expand_inputs([text], without=without, on_note=on_note)
            named += [(place, public_name(place)) for place in files]
    return named


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
