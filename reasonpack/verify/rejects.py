"""Lines of rejects.jsonl → findings where the source has no such record, or no such reason."""

from __future__ import annotations

import base64
import hashlib

from msgspec.structs import replace

from reasonpack.records.unit import Record
from reasonpack.verify.findings import Finding, Findings
from reasonpack.verify.join import Join, Reject
from reasonpack.verify.manifest import Dataset, LeftOut, read_rejects
from reasonpack.verify.rebuilt import Rebuilt

TESTED = ("json", "encoding", "duplicate-key", "overlong")
"""Reasons that this check can test: they are wrong if a record can be decoded and its views fit."""


def read_all(dataset: Dataset) -> tuple[dict[str, list[Reject]], dict[str, list[LeftOut]]]:
    """Return the rejected records and the left-out messages of rejects.jsonl, by their `where`."""
    by_place: dict[str, list[Reject]] = {}
    left_out: dict[str, list[LeftOut]] = {}
    try:
        for reject in read_rejects(dataset.directory):
            if reject.kind == "message":
                left_out.setdefault(reject.where, []).append(reject.left_out)
                continue
            line = base64.b64decode(reject.record_base64 or "")
            if reject.record is not None:
                line = reject.record.encode("utf-8", "backslashreplace")
            digest = None if reject.kind == "conversation" else _digest(line)
            by_place.setdefault(reject.where, []).append(Reject(reject.reason, digest))
    except ValueError:
        pass  # reported by `check_other_files`
    return by_place, left_out


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def take_reject(join: Join, record: Record, id_: str | None = None) -> Reject | None:
    """Remove and return the reject of a record from `join`; None without one.

    It has the place and the line of the record; with `id_`, it has the id and no line.
    """
    waiting = join.rejects.get(record.where if id_ is None else id_, [])
    for reject in waiting:
        same_line = record.row is not None or reject.digest == _digest(record.line)
        if reject.digest is None or (id_ is None and same_line):
            waiting.remove(reject)
            return reject
    return None


def check_reason(
    rejected: Reject, record: Record, rebuilt: Rebuilt | None, reason: str, findings: Findings
) -> None:
    """Count a reject, and report it if its reason is one of `TESTED` and is wrong.

    `reason` is what this check would reject the record for, empty for nothing. Other reasons are
    not reported, because pack has more rules than this check.
    """
    findings.count("rejects")
    if rebuilt is None or rebuilt.unknown:
        return
    if reason == rejected.reason or (rebuilt.reason and rejected.reason not in TESTED):
        findings.count("rejects confirmed")
    elif rejected.reason in TESTED:
        expected = f"expected {reason!r}" if reason else "expected it packed"
        findings.report("RP307", record.where, f"rejected for {rejected.reason!r}, {expected}")


def check_left_out(join: Join, record: Record, id_: str, rebuilt: Rebuilt | None) -> None:
    """Compare the messages of a record in rejects.jsonl with those that are too long.

    Their `where` is the record's place, or its id in a dataset that was packed again.
    """
    if rebuilt is None or rebuilt.unknown or rebuilt.reason:
        for where in (record.where, id_):
            join.left_out.pop(where, None)
        return
    both = [join.left_out.get(where, []) for where in dict.fromkeys((record.where, id_))]
    for expected in rebuilt.left_out:
        same = [line for lines in both for line in lines if _is_of(expected, line)]
        found = expected if expected in same else next(iter(same), None)
        if found is not None:
            next(lines for lines in both if found in lines).remove(found)
        elif join.as_context:  # pack may have kept it as context for another reason
            join.findings.count("kept as context")
            join.not_left_out.setdefault(record.where, set()).add(expected.message)
            continue
        join.findings.count("left out")
        if found is None or replace(found, message=expected.message) != expected:
            what = f"{found or 'no line in rejects.jsonl'}, expected {expected}"
            join.findings.add(Finding("RP314", record.where, what, message=expected.message))


def _is_of(expected: LeftOut, line: LeftOut) -> bool:
    """Return whether a line is of the same message, or for any, of as long a view."""
    return line.message == expected.message or replace(line, message=-1) == expected
