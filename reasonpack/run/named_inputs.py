"""The inputs of a run → files, each with its place, name and share; standard input as a file.

--temp-dir/reasonpack-unpacked-…/.lock      a folder for files that a run unpacks; the lock is held
                                            while the run is alive
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from reasonpack.datasets.manifest import Share
from reasonpack.datasets.shares import STDIN, read_share
from reasonpack.errors import StorageError, UsageError
from reasonpack.run.lock import locked
from reasonpack.run.output_directory import SPOOL, STDIN_COPY
from reasonpack.storage.inputs import expand_inputs
from reasonpack.storage.place import Place, is_url, public_name, reading, writing

PREFIX = "reasonpack-unpacked-"


def named_inputs(
    inputs: Sequence[str],
    *,
    without: Place | None = None,
    on_note: Callable[[str], object] = lambda _: None,
) -> tuple[list[tuple[Place, str]], list[Share]]:
    """Return the place and the name of each input file; standard input still has the place `-`.

    `inputs` are as for `pack_files`; the output directory `without` may be in one of them.

    Returns:
        The files, and the share of each input; no shares if each conversation is packed once.

    Raises:
        UsageError: an input does not exist.
    """
    shares = [read_share(each) for each in inputs]
    if [share.path for share in shares].count(STDIN) > 1:
        raise UsageError("-", "standard input twice", "it once", "name it once")
    if without is not None and is_url(without):
        without = None
    named: list[tuple[Place, str]] = []
    blend: list[Share] = []
    for share in shares:
        files: list[tuple[Place, str]] = [(STDIN, STDIN_COPY)]
        if share.path != STDIN:
            places = expand_inputs([share.path], without=without, on_note=on_note)
            files = [(place, public_name(place)) for place in places]
        named += files
        blend.append(replace(share, path=public_name(share.path), files=len(files)))
    return named, [] if all(share.is_whole for share in blend) else blend


@contextmanager
def spooled(named: Sequence[tuple[Place, str]], folder: Place) -> Iterator[list[tuple[Place, str]]]:
    """Yield the input files, with a temporary file below `folder` in place of standard input."""
    if all(place != STDIN for place, _ in named):
        yield list(named)
        return
    with TemporaryDirectory(prefix=SPOOL, dir=folder) as spool:
        copy = Path(spool) / STDIN_COPY
        with writing(copy), copy.open("wb") as file:
            file.writelines(_blocks())
        try:
            yield [(copy if place == STDIN else place, name) for place, name in named]
        except StorageError as error:
            if error.where == str(copy):
                error.where = STDIN_COPY
            raise


def _blocks() -> Iterator[bytes]:
    with reading(STDIN_COPY):
        yield from iter(partial(sys.stdin.buffer.read, 1 << 20), b"")


@contextmanager
def unpacked(directory: str | None) -> Iterator[Path]:
    """Yield a new folder, which is removed at the end; remove folders that killed runs left.

    They are in `directory`; None stands for the system's temporary directory.

    Raises:
        StorageError: the directory cannot be written.
    """
    with ExitStack() as held:
        while not (folder := _locked_folder(directory, held)):
            pass
        for other in folder.parent.glob(f"{PREFIX}*"):
            if other.is_symlink():
                continue
            with suppress(StorageError, UsageError, OSError), locked(other):
                # Its run may be about to lock it: without the old name, it makes another folder.
                shutil.rmtree(other.rename(f"{other}-left"), ignore_errors=True)
        yield folder


def _locked_folder(directory: str | None, held: ExitStack) -> Path | None:
    """Make a folder and lock it; return None if another run removed it before it was locked."""
    try:
        # Another run may lock it while it is removed; such a run, or a later one, removes the rest.
        made = TemporaryDirectory(prefix=PREFIX, dir=directory, ignore_cleanup_errors=True)
        folder = Path(held.enter_context(made))
    except OSError as error:
        fix = "make it, or name another one by TMPDIR or --temp-dir"
        where = directory or "temporary files"
        raise StorageError(where, error.strerror, "a folder to write to", fix) from error
    try:
        held.enter_context(locked(folder))
    except UsageError:
        return None
    except StorageError:
        if folder.exists():
            raise
        return None
    return folder
