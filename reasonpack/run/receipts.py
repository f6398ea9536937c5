"""The receipts of a stopped run → units that are done, and units that are still to be done.

receipts/00003.json ──→ its own hash, the plan's, the unit ──→ shards: bytes, SHA-256 ──→ done
                                                    any of them wrong ──→ to do, and why
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import msgspec

from reasonpack.datasets.manifest import MANIFEST
from reasonpack.datasets.receipt import (
    Receipt,
    RejectFile,
    Shard,
    as_json,
    place_of,
    receipt_path,
    reject_path,
    sealed,
)
from reasonpack.errors import StorageError
from reasonpack.records.unit import Unit
from reasonpack.run.engine import Run, Watch, do_units
from reasonpack.run.plan_file import Plan
from reasonpack.storage.place import Place, file_names, join, remove, stamp
from reasonpack.storage.read import digest, read_bytes

Finding = Receipt | str | None
"""A receipt that is right; what is wrong with one; or None if there is none."""
_decode = msgspec.json.Decoder(Receipt).decode
"""Made before any thread: msgspec crashes if two threads use a type for the first time at once."""


def check_units(output: Place, plan: Plan, units: Sequence[Unit]) -> list[Finding]:
    """Check the receipts of some units of a plan, and their shards byte by byte."""
    if not file_names(join(output, "receipts")):
        return [None] * len(units)
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 (not for new runs)

    # Hashing releases the interpreter's lock, so that threads use several cores.
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        return list(pool.map(lambda unit: _check(output, plan, unit), units))
    finally:
        pool.shutdown(cancel_futures=True)


def done_before(
    output: Place, plan: Plan, units: Sequence[Unit], watch: Watch
) -> tuple[dict[int, Receipt], list[Unit]]:
    """Return the receipts of units that are done, by their numbers, and the units that are not.

    If any is not, the manifest is removed.
    """
    findings = check_units(output, plan, units)
    done: dict[int, Receipt] = {}
    todo: list[Unit] = []
    for unit, finding in zip(units, findings, strict=True):
        if isinstance(finding, Receipt):
            done[unit.number] = finding
            continue
        todo.append(unit)
        if finding:
            watch.on_note(f"{unit}: {finding}; it is packed again")
    watch.on_plan(units, list(done.values()))
    if todo:
        remove(join(output, MANIFEST))
    return done, todo


def do_others(
    done: Mapping[int, Receipt],
    todo: Sequence[Unit],
    do: Callable[[Unit], Receipt],
    run: Run,
) -> list[Receipt]:
    """Do the units that are not done; return the receipts of all, by number. See `do_units`."""
    found = dict(done)

    def add(unit: Unit, receipt: Receipt) -> None:
        found[unit.number] = receipt
        run.watch.on_receipt(receipt)

    do_units(todo, do, add, run)
    return [found[number] for number in sorted(found)]


def _check(output: Place, plan: Plan, unit: Unit) -> Finding:
    content = read_bytes(place_of(output, receipt_path(unit.number)))
    if content is None:
        return None
    try:
        receipt = _decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "its receipt is damaged"
    if sealed(receipt) != receipt or content != as_json(receipt).encode():
        return "its receipt was altered"
    rejects = reject_path(unit.number)
    named = [*(each.path for each in receipt.shards), rejects]
    known = [*(path for path in plan.shard_paths(unit) if path in named), rejects]
    if receipt.rejects is not None:
        named[-1] = receipt.rejects.path
    if (receipt.plan_sha256, receipt.unit, named) != (plan.sha256, unit, known):
        return "its receipt is of another plan"
    files: list[tuple[str, Shard | RejectFile]] = [("shard", each) for each in receipt.shards]
    files += [("file of rejects", receipt.rejects)] if receipt.rejects else []
    for what, file in files:
        if problem := _file_problem(output, file):
            return f"its {what} {problem}"
    return receipt


def _file_problem(output: Place, file: Shard | RejectFile) -> str:
    place = place_of(output, file.path)
    try:
        there = stamp(place)
        if there is None:
            return "is missing"
        if there.bytes != file.bytes:
            return f"has {there.bytes:,} bytes instead of {file.bytes:,}"
        return "" if digest(place)[1] == file.sha256 else "was altered"
    except StorageError as error:
        return f"cannot be read ({error.__cause__})"
