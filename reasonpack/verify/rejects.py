"""Lines of rejects.jsonl → what becomes of each: its record is in the source, for a true reason."""

from __future__ import annotations

import base64
import hashlib

from reasonpack.records.unit import Record
from reasonpack.verify.findings import Findings
from reasonpack.verify.length import LeftOut
from reasonpack.verify.manifest import Dataset, RejectLine, read_rejects
from reasonpack.verify.match import Join, Reject
from reasonpack.verify.rebuilt import Rebuilt

TESTED = ("json", "encoding", "duplicate-key", "overlong")
"""Reasons of rejects that are wrong where a record can be decoded, and its views fit."""


def read_all(dataset: Dataset) -> tuple[dict[str, list[Reject]], dict[str, list[LeftOut]]]:
    """Read the records that were rejected, and the messages that were left out, by `where`."""
    by_place: dict[str, list[Reject]] = {}
    left_out: dict[str, list[LeftOut]] = {}
    try:
        for reject in read_rejects(dataset.directory):
            if reject.kind == "message":
                left_out.setdefault(reject.where, []).append(reject.left_out)
            else:
                by_place.setdefault(reject.where, []).append(_reject(reject))
    except ValueError:
        pass  # said when the dataset was read
    return by_place, left_out


def _reject(reject: RejectLine) -> Reject:
    if reject.kind == "conversation":
        return Reject(reject.reason, None)
    line = base64.b64decode(reject.record_base64 or "")
    if reject.record is not None:
        line = reject.record.encode("utf-8", "backslashreplace")
    return Reject(reject.reason, _digest(line))


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


def take_reject(join: Join, record: Record, id_: str | None = None) -> Reject | None:
    """Take the reject of this record: of the same place and line, or of its id without any line."""
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
    """Compare a reject with what this check makes of its record, and with its own reason.

    It may refuse what could be had, for pack has more rules than this check knows. Only a reason
    that can be tested by itself is held against it.
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
    """Compare the messages of a record that were left out with those that are too long.

    They are known by the place of the record, or by its id in a dataset that was packed again.
    """
    if rebuilt is None or rebuilt.unknown or rebuilt.reason:
        for where in (record.where, id_):
            join.left_out.pop(where, None)
        return
    both = [join.left_out.get(where, []) for where in dict.fromkeys((record.where, id_))]
    for expected in rebuilt.left_out:
        of_message = [
            (line != expected, number, line)
            for number, lines in enumerate(both)
            for line in lines
            if line.message == expected.message
        ]
        _, number, found = min(of_message, default=(False, 0, None), key=lambda each: each[:2])
        if found is not None:
            both[number].remove(found)
        elif join.as_context:  # for what it says, it may be
            join.findings.count("kept as context")
            continue
        join.findings.count("left out")
        if found != expected:
            what = f"{found or 'no line in rejects.jsonl'}, expected {expected}"
            join.findings.report("RP314", record.where, what, message=expected.message)
