"""The output directory of a run: without foreign files, locked, and cleared of half-written files.

plan.json  data/  receipts/       while it runs
README.md  rejects.jsonl  samples.html   at the end
manifest.json                     last
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from reasonpack.datasets.manifest import MANIFEST, REJECTS, SAMPLES
from reasonpack.datasets.receipt import place_of
from reasonpack.errors import DiskFullError, UsageError
from reasonpack.records.unit import Unit
from reasonpack.run import call_plan, copies
from reasonpack.run.buckets import UNSHUFFLED
from reasonpack.run.disk import when_full
from reasonpack.run.finish import CARD, HEADING, refuse_foreign_files
from reasonpack.run.lock import LOCK, locked
from reasonpack.run.plan_file import PLAN, Plan, differences, write_plan
from reasonpack.show.report.report import MARK
from reasonpack.storage.place import (
    Place,
    file_names,
    is_url,
    join,
    public_name,
    remove,
    remove_tree,
    shows_half,
    writing,
)
from reasonpack.storage.publish import TEMPORARY, publish_once
from reasonpack.storage.read import read_bytes

SPOOL = ".spool-"
STDIN_COPY = "stdin"
"""The directory of a copy of standard input, whose name begins so, and the file in it."""
FILES = (MANIFEST, CARD, REJECTS, SAMPLES, call_plan.INDEX, copies.INDEX, PLAN)
"""The files that a run writes besides its directories, in the order in which they are removed."""
DIRECTORIES = ("data", "receipts")
SHUFFLED_FROM = tuple(f"{UNSHUFFLED}/{name}" for name in DIRECTORIES)
"""The directories in which a run keeps rows until they are shuffled."""
OURS = {
    "": "|".join(re.escape(name) for name in FILES) + rf"|{re.escape(LOCK)}(-\d+-of-\d+)?",
    "data": r"[a-z0-9_]+-\d+-of-\d+\.(parquet|arrow)",
    "receipts": r"\d+(\.rejects\.jsonl|\.json)",
}
OURS |= {f"{UNSHUFFLED}/{name}": OURS[name] for name in DIRECTORIES}
"""Patterns of the names that a run gives to files, by directory; no other file is ever removed."""


@contextlib.contextmanager
def claimed(output: Place, *, part: str = "", overwrite: bool = False) -> Iterator[None]:
    """Lock an output directory that is empty or a run's; make it if it does not exist.

    `part` is as in `locked`; with `overwrite` the files that a run left in it are removed.

    Raises:
        UsageError: it contains anything else, or another run is at work in it.
    """
    _refuse_foreign(output, overwrite=overwrite)
    if not is_url(output):
        with writing(output):
            for folder in (*reversed(Path(output).parents), Path(output)):
                folder.mkdir(exist_ok=True)  # `parents=True` would recurse once per folder
    with locked(output, part):
        _refuse_foreign(output, overwrite=overwrite)
        if overwrite:
            clear(output)
        if not part:
            sweep(output)
        yield


def _refuse_foreign(output: Place, *, overwrite: bool) -> None:
    if not str(output):  # to pathlib the current directory, to other functions nothing
        raise UsageError("--output", "an empty name", "a directory", "name one")
    local = () if is_url(output) else (Path(output), *Path(output).parents)
    there = next((each for each in local if each.exists()), None)
    if there and not there.is_dir():
        raise UsageError(there, "is a file", "a directory", "choose another --output")
    names = {
        name
        for name in file_names(output, folders=True)
        if not (name.startswith((LOCK, SPOOL)) or _temporary_for(name, ""))
    }
    if not names or (PLAN in names and not overwrite):
        return
    fix = "choose another --output"
    if _wrote_a_run(output):
        if overwrite:
            return
        fix += ", or pass --overwrite"
    elif overwrite:
        fix += ", or remove it yourself"
    expected = f"a new directory or one with a run of reasonpack's ({PLAN})"
    raise UsageError(public_name(output), "exists and is not empty", expected, fix)


def _wrote_a_run(output: Place) -> bool:
    """Return whether plan or manifest are reasonpack's, even if damaged or of another version."""
    contents = (read_bytes(join(output, name)) or b"" for name in (PLAN, MANIFEST))
    return any(b'"library_version"' in content for content in contents)


def _temporary_for(name: str, directory: str) -> re.Match[str] | None:
    """Match the temporary name of a file; the first group is its final name."""
    return re.fullmatch(rf"\.({OURS[directory]})\.\d+-[0-9a-f]+{re.escape(TEMPORARY)}", name)


def _is_ours(name: str, directory: str) -> bool:
    return bool(re.fullmatch(OURS[directory], name) or _temporary_for(name, directory))


def clear(output: Place) -> None:
    """Remove the files of a run, the plan last: until then the directory is known as a run's.

    Raises:
        UsageError: there are files among them that no run wrote.
    """
    for path in _foreign(output):
        what = "reasonpack did not write it"
        expected = "only files of a run, because --overwrite removes all"
        fix = "move it away, or choose another --output"
        raise UsageError(public_name(place_of(output, path)), what, expected, fix)
    remove(join(output, MANIFEST))
    clear_unshuffled(output)
    for directory in DIRECTORIES:
        _empty(output, directory)
    for name in FILES:
        remove(join(output, name))


def clear_unshuffled(output: Place) -> None:
    """Remove rows that were kept to be shuffled, receipts first; foreign files stay."""
    if is_url(output):
        remove_tree(join(output, UNSHUFFLED))
        return
    for directory in reversed(SHUFFLED_FROM):
        _empty(output, directory)
    with contextlib.suppress(OSError):
        Path(output, UNSHUFFLED).rmdir()


def _empty(output: Place, directory: str) -> None:
    """Remove a run's files from one of its directories, and that if nothing else is in it."""
    place = place_of(output, directory)
    if is_url(place):
        remove_tree(place)  # in one request for many files
        return
    for name in file_names(place):
        if _is_ours(name, directory):
            remove(join(place, name))
    with contextlib.suppress(OSError):
        Path(place).rmdir()


def _foreign(output: Place) -> Iterator[str]:
    """Yield paths where `clear` removes files that no run wrote; linked directories count."""
    for name, mark in ((CARD, HEADING), (SAMPLES, MARK)):
        content = read_bytes(join(output, name))
        if content is not None and mark.encode() not in content:
            yield name
    for directory in (*DIRECTORIES, *SHUFFLED_FROM):
        if not is_url(output) and Path(output, directory).is_symlink():
            yield directory
        for name in file_names(place_of(output, directory), folders=True):
            if not _is_ours(name, directory):
                yield f"{directory}/{name}"


@contextlib.contextmanager
def at_work(
    output: Place,
    plan: Plan,
    known: Plan | None,
    indexes: Mapping[str, bytes | memoryview | None],
    *,
    own: Sequence[Unit] | None = None,
) -> Iterator[Plan]:
    """Make a locked directory ready for a run; yield its plan: `known` if equal, else `plan`.

    `known` is the plan that is there; `indexes` are files to write next to the plan, by name; `own`
    are the units of a part, if other parts may be at work at the same time.

    Raises:
        UsageError: the plan that is there is that of another run, which has begun.
    """
    if known and (differing := differences(known, plan)):
        begun = ("receipts", SHUFFLED_FROM[1])
        if own is not None or any(file_names(place_of(output, name)) for name in begun):
            what = f"holds another run ({'; '.join(differing)})"
            fix = "repeat the command that began it, choose another --output, or pass --overwrite"
            raise UsageError(public_name(output), what, "the same", fix)
        clear(output)  # stopped before its first unit was done: nothing is lost
        known = None
    try:
        begin(output, plan, known)  # first: by its plan the directory is known as a run's
        for name, content in indexes.items():
            if content is not None:
                publish_once(join(output, name), content)
        yield known or plan
    except DiskFullError as error:
        raise when_full(error, output, plan.options, own or plan.units) from error
    finally:
        sweep(output, own)


def begin(output: Place, plan: Plan, known: Plan | None) -> None:
    """Write a plan, unless `known` is there already, and make the directories of its units.

    Raises:
        FormatError: `data` contains a file that is no shard of the plan.
    """
    if known is None:
        write_plan(output, plan)
    names = (*DIRECTORIES, *(SHUFFLED_FROM if plan.options.shuffle else ()))
    for name in () if is_url(output) else names:
        with writing(folder := Path(output, name)):
            folder.mkdir(parents=True, exist_ok=True)
    refuse_foreign_files(output, {path for unit in plan.units for path in plan.shard_paths(unit)})


def sweep(output: Place, units: Sequence[Unit] | None = None) -> None:
    """Remove temporary files that killed processes left.

    Only files of `units` are removed; all for None, which needs a lock of the whole directory.
    """
    if not shows_half(output):
        return  # half-written files have no name there
    own = None if units is None else {unit.number for unit in units}
    for directory in OURS:
        place = place_of(output, directory)
        for name in file_names(place):
            half = _temporary_for(name, directory)
            if half and (own is None or _number(half[1]) in own):
                remove(join(place, name))
    if own is None and not is_url(output):
        for path in Path(output).glob(SPOOL + "*"):
            with contextlib.suppress(OSError):  # a directory with anything else in it stays
                (path / STDIN_COPY).unlink(missing_ok=True)
                path.rmdir()


def _number(name: str) -> int | None:
    """Return the number of the unit in a file's name; None without one."""
    found = re.match(r"(?:[a-z0-9_]+-)?(\d+)", name)
    return int(found[1]) if found else None
