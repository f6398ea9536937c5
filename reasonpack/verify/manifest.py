"""A dataset directory → its manifest, receipts and rejects, read and compared.

    manifest.json ────────┐
    receipts/*.json ──────┼─→ Dataset
    rejects.jsonl, data/ ─┘

Manifest and receipts have the types of `datasets`; what is wrong with them becomes findings.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial

import msgspec

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import Receipt, place_of, receipt_path
from reasonpack.storage.place import Place, join, stamp
from reasonpack.storage.read import open_file, read_bytes
from reasonpack.verify.findings import Finding, Findings

MAJOR, MINOR = 1, 0
"""The newest version of the format that is known here."""
LONGEST = 2 << 30
"""Bytes that a line of rejects.jsonl may have."""


@dataclass(frozen=True, slots=True)
class RejectLine:
    """A line of rejects.jsonl; one of `record` and `record_base64` is there."""

    where: str
    reason: str
    error: str
    record: str | None = None
    record_base64: str | None = None

    def __post_init__(self) -> None:
        """Refuse a line with no record, or with two."""
        if (self.record is None) == (self.record_base64 is None):
            raise ValueError("expected one of record and record_base64")


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset whose manifest could be read; a receipt that could not be is None."""

    directory: Place
    manifest: Manifest
    receipts: list[Receipt | None]


def read_dataset(directory: Place, findings: Findings) -> Dataset | None:
    """Read manifest and receipts, and check that they agree; None without a manifest.

    Raises:
        StorageError: something is there and cannot be read.
    """
    manifest = _read_manifest(directory, findings)
    if manifest is None:
        return None
    receipts = [
        _read_receipt(directory, number, manifest, findings)
        for number in range(len(manifest.shards))
    ]
    return Dataset(directory, manifest, receipts)


# --- manifest and receipts -------------------------------------------------------------


def _read_manifest(directory: Place, findings: Findings) -> Manifest | None:
    name = "manifest.json"
    content = read_bytes(join(directory, name))
    if content is None:
        findings.add(Finding("RP001", name, "no such file, expected that of a finished dataset"))
        return None
    try:
        head = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        findings.add(Finding("RP001", name, unreadable(content, error, "JSON")))
        return None
    version = head.get("format_version") if isinstance(head, dict) else None
    if parse_version(version)[0] != MAJOR:
        what = f"format version {version!r}, expected {MAJOR}.x"
        findings.add(Finding("RP002", name, what))
        return None
    try:
        return msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        findings.add(Finding("RP003", name, f"{error}, expected a manifest"))
        return None


def unreadable(content: bytes | None, error: Exception, expected: str) -> str:
    """Say why a file, or a line of one, could not be read, and what helps."""
    found = str(error)
    if content is None:
        found = "no such file"
    elif not content.strip():
        found = "an empty file"
    elif "truncated" in found:
        found = f"{len(content):,} bytes that end within their JSON"
    return f"{found}, expected {expected}. Fix: copy it again from where it was packed."


def parse_version(version: object) -> tuple[int, int]:
    """Read major and minor version; (−1, −1) if it is none.

    >>> parse_version("1.10"), parse_version("1"), parse_version(1.0)
    ((1, 10), (-1, -1), (-1, -1))
    """
    major, dot, minor = version.partition(".") if isinstance(version, str) else ("", "", "")
    return (int(major), int(minor)) if dot and f"{major}{minor}".isdecimal() else (-1, -1)


def _read_receipt(
    directory: Place, number: int, manifest: Manifest, findings: Findings
) -> Receipt | None:
    name, shard = receipt_path(number), manifest.shards[number]
    content = read_bytes(place_of(directory, name))
    try:
        receipt = msgspec.json.decode(content or b"", type=Receipt)
        unsealed = {**msgspec.json.decode(content or b""), "sha256": ""}
        sha256 = hashlib.sha256(msgspec.json.encode(unsealed)).hexdigest()
        if sha256 != receipt.sha256:
            raise ValueError(f"has the hash {receipt.sha256} in it and is of {sha256}")
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        what = unreadable(content, error, f"the receipt of {shard.path}")
        findings.add(Finding("RP011", name, what))
        return None
    pairs = {
        field.name: (getattr(receipt.shard, field.name), getattr(shard, field.name))
        for field in fields(shard)
    }
    pairs["plan_sha256"] = (receipt.plan_sha256, manifest.plan_sha256)
    for field_name, (found, expected) in pairs.items():
        if found != expected:
            what = f"{field_name} {found!r}, expected {expected!r} as in the manifest"
            findings.add(Finding("RP012", name, what))
    return receipt


# --- rejects ---------------------------------------------------------------------------


def read_rejects(directory: Place) -> Iterator[RejectLine]:
    """Read rejects.jsonl; none if it is not there.

    Raises:
        ValueError: a line that is no reject; it names the line.
        StorageError: it cannot be read.
    """
    place = join(directory, "rejects.jsonl")
    if stamp(place) is None:
        return
    with open_file(place) as file, io.BufferedReader(file) as lines:
        for number, line in enumerate(iter(partial(lines.readline, LONGEST), b""), 1):
            try:
                yield msgspec.json.decode(line, type=RejectLine)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                what = unreadable(line, error, "a rejected record")
                raise ValueError(f"rejects.jsonl:{number}: {what}") from error
