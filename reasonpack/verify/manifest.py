"""A dataset directory → its manifest and receipts, read and compared, and its rejects.

    manifest.json ────────┐
    receipts/*.json ──────┼─→ Dataset
    rejects.jsonl, data/ ─┘

Manifest and receipts have the types of `datasets`; damage to them is reported as findings.
"""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import Receipt, Shard, place_of, receipt_path
from reasonpack.storage.place import Place, join, stamp
from reasonpack.storage.read import open_file, read_bytes
from reasonpack.verify.findings import Findings

MAJOR, MINOR = 1, 0
"""The newest version of the format that this check knows."""
LONGEST = 2 << 30
"""Most bytes that a line of rejects.jsonl may have."""


class LeftOut(Struct, frozen=True):
    """A message whose view is too long, as found in the source or as a line of rejects.jsonl.

    `length` is in `unit`: tokens or characters. `message` is −1 for any, of a call with ids.
    """

    message: int
    reason: str
    length: int
    unit: str = "tokens"

    def __str__(self) -> str:
        """Describe it for a message."""
        return f"message {self.message}: {self.reason}, {self.length:,} {self.unit}"


class RejectLine(Struct, frozen=True):
    """A line of rejects.jsonl.

    Its kind is `record`, with one of `record` and `record_base64`; `message`, left out of its
    sample, with its index and one of `tokens` and `characters`; or `conversation`, of a dataset
    that was packed again without its records, where `where` is the conversation's id.
    """

    where: str
    reason: str
    error: str
    kind: Literal["record", "message", "conversation"] = "record"
    record: str | None = None
    record_base64: str | None = None
    message: int | None = None
    tokens: int | None = None
    characters: int | None = None

    def __post_init__(self) -> None:
        """Refuse a line that lacks a field of its kind, or has two where one is expected."""
        if self.kind == "record" and (self.record is None) == (self.record_base64 is None):
            raise ValueError("expected one of record and record_base64")
        if self.kind == "message" and self.message is None:
            raise ValueError("expected a message")
        if self.kind == "message" and (self.tokens is None) == (self.characters is None):
            raise ValueError("expected one of tokens and characters")

    @property
    def left_out(self) -> LeftOut:
        """The message of a line of the kind `message`."""
        assert self.message is not None
        unit = "characters" if self.tokens is None else "tokens"
        return LeftOut(self.message, self.reason, getattr(self, unit), unit)


class Dataset(Struct, frozen=True):
    """A dataset whose manifest could be read.

    Attributes:
        units: numbers of the units that have shards.
        receipts: one for each of `units`; None if it cannot be read.
    """

    directory: Place
    manifest: Manifest
    units: list[int]
    receipts: list[Receipt | None]

    def shards_of(self, unit: int) -> list[tuple[int, Shard]]:
        """List the shards of a unit, each with the number of rows in all shards before it."""
        rows = itertools.accumulate((each.rows for each in self.manifest.shards), initial=0)
        both = zip(rows, self.manifest.shards, strict=False)
        return [(before, each) for before, each in both if each.unit == unit]


def read_dataset(directory: Place, findings: Findings) -> Dataset | None:
    """Read manifest and receipts, and check that they agree; None without a manifest."""
    manifest = _read_manifest(directory, findings)
    if manifest is None:
        return None
    _check_repeated(manifest, findings)
    dataset = Dataset(directory, manifest, sorted({each.unit for each in manifest.shards}), [])
    dataset.receipts.extend(_read_receipt(dataset, unit, findings) for unit in dataset.units)
    return dataset


# --- manifest and receipts -------------------------------------------------------------


def _read_manifest(directory: Place, findings: Findings) -> Manifest | None:
    name = "manifest.json"
    content = read_bytes(join(directory, name))
    if content is None:
        findings.report("RP001", name, "no such file, expected that of a finished dataset")
        return None
    try:
        head = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        findings.report("RP001", name, unreadable(content, error, "JSON"))
        return None
    version = head.get("format_version") if isinstance(head, dict) else None
    if parse_version(version)[0] != MAJOR:
        findings.report("RP002", name, f"format version {version!r}, expected {MAJOR}.x")
        return None
    try:
        return msgspec.convert(head, Manifest)
    except msgspec.ValidationError as error:
        findings.report("RP003", name, f"{error}, expected a manifest")
        return None


def _check_repeated(manifest: Manifest, findings: Findings) -> None:
    """Check what the manifest says twice: the format of shards, and the limit asked for."""
    options = manifest.options
    found = {each.path.rpartition(".")[2] for each in manifest.shards}
    if found != {options.format}:
        what = f"options.format {options.format!r}, expected that of the shards"
        findings.report("RP003", "manifest.json", what)
    if options.max_position not in (None, manifest.max_position):
        what = f"options.max_position {options.max_position:,}"
        what += f", expected max_position, {manifest.max_position or 0:,}"
        findings.report("RP003", "manifest.json", what)


def unreadable(content: bytes | None, error: Exception, expected: str) -> str:
    """Describe why a file, or a line of one, cannot be read, and how to mend it."""
    found = str(error)
    if content is None:
        found = "no such file"
    elif not content.strip():
        found = "an empty file"
    elif "truncated" in found:
        found = f"{len(content):,} bytes that end within their JSON"
    return f"{found}, expected {expected}. Fix: copy it again from where it was packed."


def parse_version(version: object) -> tuple[int, int]:
    """Return major and minor version; (−1, −1) if `version` is no version.

    >>> parse_version("1.10"), parse_version("1"), parse_version(1.0)
    ((1, 10), (-1, -1), (-1, -1))
    """
    major, dot, minor = version.partition(".") if isinstance(version, str) else ("", "", "")
    return (int(major), int(minor)) if dot and f"{major}{minor}".isdecimal() else (-1, -1)


def _read_receipt(dataset: Dataset, unit: int, findings: Findings) -> Receipt | None:
    name, manifest = receipt_path(unit), dataset.manifest
    shards = [shard for _, shard in dataset.shards_of(unit)]
    content = read_bytes(place_of(dataset.directory, name))
    try:
        found = msgspec.json.decode(content or b"")
        receipt = msgspec.convert(_of_one_shard(found), Receipt)
        unsealed = {**found, "sha256": ""}
        sha256 = hashlib.sha256(msgspec.json.encode(unsealed)).hexdigest()
        if sha256 != receipt.sha256:
            raise ValueError(f"has the hash {receipt.sha256} in it and is of {sha256}")
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        what = unreadable(content, error, f"the receipt of {shards[0].path}")
        findings.report("RP011", name, what)
        return None
    by = "as in the manifest"
    findings.compare("RP012", name, "plan_sha256", receipt.plan_sha256, manifest.plan_sha256, by)
    findings.compare("RP012", name, "number of shards", len(receipt.shards), len(shards), by)
    for own, shard in zip(receipt.shards, shards, strict=False):
        for field in fields(shard):
            both = getattr(own, field.name), getattr(shard, field.name)
            findings.compare("RP012", name, field.name, *both, by)
    return receipt


def _of_one_shard(receipt: Any) -> Any:
    """Convert a receipt from before a unit could have several shards; others stay unchanged."""
    if isinstance(receipt, dict) and "shard" in receipt and "shards" not in receipt:
        return {**{k: v for k, v in receipt.items() if k != "shard"}, "shards": [receipt["shard"]]}
    return receipt


# --- rejects ---------------------------------------------------------------------------


def read_rejects(directory: Place) -> Iterator[RejectLine]:
    """Yield the lines of rejects.jsonl, none without that file.

    Raises:
        ValueError: a line is not a reject; the text names the line.
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
