"""Input arguments → the chat files that they name."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, field

from reasonpack.errors import UsageError
from reasonpack.storage.place import (
    Place,
    file_system,
    infos_below,
    is_url,
    join,
    public_name,
    reading,
    stamp,
    unreadable,
)
from reasonpack.storage.read import HEAD, container, is_list, open_bytes, read_bytes
from reasonpack.wording import listed

SUFFIXES = (
    *(".jsonl", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst"),
    *(".parquet", ".arrow"),
)
"""Endings of the files that are read from an input directory."""
LIST_SUFFIXES = (".json", ".json.gz", ".json.zst")
"""Endings of files that are read too if they hold a JSON list; many other files end so."""
_PLAN = "plan.json"
"""A packed dataset has this file next to its folder `receipts`."""
STATE = "state.json"
"""The file that `datasets` writes next to the Arrow files of a dataset; it names them."""


def expand_inputs(
    places: Sequence[Place],
    *,
    without: Place | None = None,
    on_note: Callable[[str], object] = lambda _: None,
) -> list[Place]:
    """List the files that the input arguments name; for a directory, its chat files.

    The directory `without` is left out; `on_note` gets a note on the files of a directory that are
    not read.

    Raises:
        UsageError: a path does not exist, or a directory has no chat file.
        StorageError: a URL cannot be listed.
    """
    files: list[Place] = []
    for given in places:
        place = given if is_url(given) else Path(given)
        below = _url_files(str(place)) if is_url(place) else _path_files(Path(place), without)
        if below is None or not str(given):  # "" does not name the current directory
            name = public_name(given) or "''"
            raise UsageError(name, "no such file", "a file of chats", "check the spelling")
        packed = _dataset_prefixes(below)
        found = [file for file in below if not str(file).startswith(packed)]
        for dataset in packed:
            on_note(f"{public_name(dataset or place)}: not read: a packed dataset, use repack")
        if left := _not_of_saved_dataset(found):
            on_note(f"{listed(map(public_name, left))}: not read: not part of the saved dataset")
            found = [file for file in found if file not in left]
        chats = [file for file in found if file == place or _is_chat_file(file)]
        if not chats:
            raise UsageError(
                public_name(place),
                "no chat file in this directory",
                f"{', '.join(SUFFIXES)}, or {LIST_SUFFIXES[0]} with a list",
                "pack it again with repack, or name files of chats" if packed else "name the files",
            )
        files += chats
        read = {*chats}
        if note := _unread_note(place, [file for file in found if file not in read]):
            on_note(note)
    for file in files:
        check_name(file)
    return files


def _dataset_prefixes(files: Sequence[Place]) -> tuple[str, ...]:
    """Return the prefix of each packed dataset among the files; its rows are not chats."""
    names = [str(file) for file in files]
    tops = [name.removesuffix(_PLAN) for name in names if f"/{name}".endswith(f"/{_PLAN}")]
    return tuple(top for top in tops if any(each.startswith(f"{top}receipts/") for each in names))


class _State(Struct):
    data_files: list[dict[str, str]] = field(name="_data_files")


def _not_of_saved_dataset(files: Sequence[Place]) -> list[Place]:
    """Return the Arrow files that lie next to a dataset saved by `datasets` but are not part of it.

    Such files are caches of `map` and `filter`, and shards of an earlier save.

    Raises:
        UsageError: a part of the dataset is missing.
    """
    left: list[Place] = []
    names = {file: public_name(file).rpartition("/") for file in files}
    for state in (file for file, (_, _, name) in names.items() if name == STATE):
        try:
            parts = msgspec.json.decode(read_bytes(state) or b"", type=_State).data_files
        except msgspec.DecodeError:
            continue  # a `state.json` of another program
        whole = {each.get("filename") for each in parts}
        beside = [file for file in files if names[file][:2] == names[state][:2]]
        if missing := sorted(map(str, whole - {names[file][2] for file in beside})):
            what, fix = f"{listed(missing)} not there", "copy it again, or name the files to pack"
            raise UsageError(public_name(state), what, "all files that it names", fix)
        left += [f for f in beside if str(f).endswith(".arrow") and names[f][2] not in whole]
    return left


def exists(place: Place) -> bool:
    """Return whether a place is a file or a directory; False if nothing is there.

    Raises:
        UsageError: it is a pipe or a device.
        StorageError: the file system does not answer.
    """
    if is_url(place):
        return _url_files(str(place)) is not None
    return _mode(Path(place)) is not None


def _unread_note(directory: Place, files: Sequence[Place]) -> str:
    """Return a note on the unhidden files of a directory that are not read; empty without any."""
    top = public_name(directory).rstrip("/") + "/"  # names in the current directory lack it
    names = [public_name(file).removeprefix(top) for file in files]
    names = [name for name in names if not any(part[0] == "." for part in name.split("/") if part)]
    if not names:
        return ""
    return (
        f"{public_name(directory)}: {listed(names)}: not read: names of chat files end in "
        f"{', '.join(SUFFIXES)}; name such a file itself to have it read"
    )


def _is_chat_file(place: Place) -> bool:
    name = public_name(place)
    if not name.endswith(LIST_SUFFIXES):
        return name.endswith(SUFFIXES)
    if not is_url(place) and not Path(place).is_file():
        return False
    kind = container(place)
    if kind not in {"gzip", "zstd"}:
        return kind == "array"
    with open_bytes(place, kind) as file:
        return is_list(file.read(HEAD))


def check_name(place: Place) -> None:
    """Refuse a name that is not text: it becomes part of ids and of the manifest.

    Raises:
        UsageError: it is not UTF-8.
    """
    try:
        str(place).encode()
    except UnicodeEncodeError:
        what = "its name is not UTF-8"
        expected = "one that can be written in the manifest"
        raise UsageError(public_name(place), what, expected, "rename it") from None


def _path_files(path: Path, without: Place | None) -> list[Place] | None:
    """List the file at a path, or the files below it; None if nothing is there."""
    mode = _mode(path)
    if mode is None or not stat.S_ISDIR(mode):
        return None if mode is None else [path]
    files = _below(path, "" if without is None else os.path.realpath(without))
    chats = [file for file in files if file.name.endswith(SUFFIXES)]
    modes = dict(zip(chats, map(_mode, chats), strict=True))
    if None in modes.values():
        broken = next(file for file, mode in modes.items() if mode is None)
        raise UsageError(broken, "is a link to nothing", "a file of chats", "mend or remove it")
    return [file for file in files if stat.S_ISREG(modes.get(file) or stat.S_IFREG)]


def _below(directory: Path, without: str) -> list[Path]:
    """List files and links below a directory; `Path.rglob` would skip folders it may not read."""

    def refuse(error: OSError) -> None:
        raise unreadable(error.filename or directory, error) from error

    found: list[Path] = []
    for folder, folders, names in os.walk(directory, onerror=refuse):
        # Links are not followed; a folder that may not be read is refused when it is walked.
        links = [name for name in folders if os.path.islink(Path(folder, name))]  # noqa: PTH114
        found += [Path(folder, name) for name in (*names, *links)]
        folders[:] = [name for name in folders if os.path.realpath(Path(folder, name)) != without]
    return sorted(found)


def _mode(path: Path) -> int | None:
    """Return the mode of a file or a directory; None if nothing is there."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last for a NUL in a name
        return None
    except OSError as error:
        raise unreadable(path, error) from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        fix = "send it to standard input and name -, or write it to a file"
        raise UsageError(path, "is a pipe or a device", "a file, which can be read twice", fix)
    return mode


def _url_files(url: str) -> list[Place] | None:
    """List the file at a URL, or the files below it; None if nothing is there."""
    with reading(url):
        if stamp(url):
            return [url]
        files = [info.path for info in infos_below(url, recursive=True) if info.is_file]
    _, top = file_system(url)
    names = sorted(path[len(top.rstrip("/")) + 1 :] for path in files)
    return [join(url, name) for name in names] or None
