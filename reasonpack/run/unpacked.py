"""A folder for what a run unpacks, and those that killed runs left.

--temp-dir/reasonpack-unpacked-…/.lock      held as long as the run lives, however it ends
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reasonpack.run.lock import LOCK, is_held, locked

PREFIX = "reasonpack-unpacked-"


@contextmanager
def unpacked(directory: str | None) -> Iterator[Path]:
    """Make a folder that is removed at the end; remove those that killed runs left beside it.

    It is in `directory`, or in the system's temporary directory.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=directory) as folder, locked(folder):
        for other in Path(folder).parent.glob(f"{PREFIX}*"):
            if _is_left(other / LOCK):
                shutil.rmtree(other, ignore_errors=True)
        yield Path(folder)


def _is_left(lock: Path) -> bool:
    """Tell whether a lock was held by a run that has ended; who holds it has written in it."""
    with suppress(OSError):
        return lock.stat().st_size > 0 and not is_held(lock)
    return False
