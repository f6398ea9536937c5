"""Input arguments → the chat files that they name."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from reasonpack.errors import UsageError
from reasonpack.storage.place import (
    Place,
    file_system,
    is_url,
    join,
    listed_files,
    public_name,
    stamp,
    unreadable,
)

SUFFIXES = (".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".parquet")
"""What is taken from a directory that is given as input."""


def expand_inputs(places: Sequence[Place]) -> list[Place]:
    """List the files that the input arguments name; directories give their chat files.

    Raises:
        UsageError: a path that does not exist, or a directory without any chat file.
        StorageError: a URL that cannot be listed.
    """
    files: list[Place] = []
    for place in places:
        found = _chat_files(place)
        if found == []:
            raise UsageError(
                f"{public_name(place)}: no chat file in this directory, expected "
                f"{', '.join(SUFFIXES)}. Fix: name the files."
            )
        if found is None:
            raise UsageError(
                f"{public_name(place)}: no such file, expected a file of chats. "
                "Fix: check the spelling."
            )
        files += found
    for file in files:
        check_name(file)
    return files


def check_name(place: Place) -> None:
    """Refuse a name that cannot be written down: ids and the manifest are made of it.

    Raises:
        UsageError: it is not UTF-8.
    """
    try:
        str(place).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{public_name(place)}: its name is not UTF-8, expected one that can be written in the "
            "manifest. Fix: rename it."
        ) from None


def _chat_files(place: Place) -> Sequence[Place] | None:
    """List the chat files at a place: itself, or what a directory holds; None if nothing is."""
    if is_url(place):
        return _chat_objects(str(place))
    mode = _mode(Path(place))
    if mode is None or not stat.S_ISDIR(mode):
        return None if mode is None else [Path(place)]
    files = [path for path in _below(Path(place)) if path.name.endswith(SUFFIXES)]
    modes = [_mode(path) for path in files]
    if None in modes:
        raise UsageError(
            f"{files[modes.index(None)]}: is a link to nothing, expected a file of chats. "
            "Fix: mend or remove it."
        )
    return [path for path, mode in zip(files, modes, strict=True) if mode and stat.S_ISREG(mode)]


def _below(directory: Path) -> list[Path]:
    """List what is below a directory; `Path.rglob` would pass over what it may not read."""

    def refuse(error: OSError) -> None:
        raise unreadable(error.filename or directory, error) from error

    found = os.walk(directory, onerror=refuse)
    return sorted(Path(folder, name) for folder, _, names in found for name in names)


def _mode(path: Path) -> int | None:
    """Return the mode of a file or a directory; None if nothing is there."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a NUL in a name
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise UsageError(
            f"{path}: is a pipe or a device, expected a file, which can be read twice. "
            "Fix: send it to standard input and name -."
        )
    return mode


def _chat_objects(url: str) -> list[str] | None:
    try:
        if stamp(url):
            return [url]
        found = listed_files(url, recursive=True)
    except OSError as error:
        raise unreadable(url, error) from error
    _, top = file_system(url)
    names = sorted(info.path[len(top.rstrip("/")) + 1 :] for info in found)
    if not names:
        return None
    return [str(join(url, name)) for name in names if name.endswith(SUFFIXES)]
