"""The output directory of a run: its own or nobody's, locked, and swept of what was half-written.

plan.json  data/  receipts/       while it runs
README.md  rejects.jsonl          at the end
manifest.json                     last
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from reasonpack.errors import UsageError
from reasonpack.run.frozen import PLAN
from reasonpack.run.lock import LOCK, locked
from reasonpack.run.manifest import CARD, MANIFEST, REJECTS
from reasonpack.run.plan import Unit
from reasonpack.storage import (
    TEMPORARY,
    Place,
    child_names,
    file_names,
    is_url,
    join,
    public_name,
    remove,
    remove_tree,
    unwritable,
)

__all__ = ["SPOOL", "claimed", "make_directories", "sweep"]

SPOOL = ".spool-"
FILES = (MANIFEST, CARD, REJECTS, PLAN)
"""What a run writes beside its directories, in the order in which it is removed."""
DIRECTORIES = ("data", "receipts")


@contextlib.contextmanager
def claimed(output: Place, *, part: str = "", overwrite: bool = False) -> Iterator[None]:
    """Hold an output directory that is empty, or a run's; make it if there is none.

    Args:
        output: the directory.
        part: as in `locked`.
        overwrite: remove what a run left in it.

    Raises:
        UsageError: there is something else, or another run is at work.
        StorageError: it cannot be made.
    """
    _refuse_foreign(output, overwrite=overwrite)
    if not is_url(output):
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(output, error) from error
    with locked(output, part):
        _refuse_foreign(output, overwrite=overwrite)
        if overwrite:
            for name in FILES:
                remove(join(output, name))
            for name in DIRECTORIES:
                remove_tree(join(output, name))
        if not part:
            sweep(output)
        yield


def _refuse_foreign(output: Place, *, overwrite: bool) -> None:
    if not is_url(output) and Path(output).exists() and not Path(output).is_dir():
        raise UsageError(
            f"{output}: is a file, expected a directory. Fix: choose another --output."
        )
    names = {name for name in child_names(output) if not _is_passing(name)}
    if not names or PLAN in names or (overwrite and names >= set(DIRECTORIES)):
        return
    fix = "choose another --output" + (", or remove it yourself." if overwrite else ".")
    if not overwrite and names >= set(DIRECTORIES):
        fix = "choose another --output, or pass --overwrite."
    raise UsageError(
        f"{public_name(output)}: exists and is not empty, expected a new directory or one with a "
        f"run of reasonpack's ({PLAN}). Fix: {fix}"
    )


def _is_passing(name: str) -> bool:
    return name.startswith((LOCK, SPOOL)) or _is_temporary(name)


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(TEMPORARY)


def make_directories(output: Place) -> None:
    """Make the directories for shards and receipts.

    Raises:
        StorageError: they cannot be made.
    """
    for name in () if is_url(output) else DIRECTORIES:
        try:
            Path(output, name).mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(Path(output, name), error) from error


def sweep(output: Place, units: Sequence[Unit] | None = None) -> None:
    """Remove what processes that were killed had begun to write.

    Args:
        output: the directory.
        units: only what belongs to these; None for everything, by who holds all of it.
    """
    if is_url(output):
        return  # what is on its way there is in this machine's temporary directory
    own = None if units is None else {f"{unit.number:05d}" for unit in units}
    for directory in (output, *(join(output, name) for name in DIRECTORIES)):
        for name in file_names(directory):
            number = name.removeprefix(".train-").removeprefix(".")[:5]
            if _is_temporary(name) and (own is None or number in own):
                remove(join(directory, name))
    if own is None:
        for path in Path(output).glob(SPOOL + "*"):
            shutil.rmtree(path, ignore_errors=True)
