"""A dataset directory → its manifest, receipts and rejects, checked against each other.

    manifest.json ────────┐
    receipts/*.json ──────┼─→ Dataset
    rejects.jsonl, data/ ─┘

What is read here is declared here, apart from the classes that wrote it.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Literal

import msgspec

from reasonpack.errors import StorageError
from reasonpack.run.content import combined_hash
from reasonpack.storage import Place, digest, file_names, join, open_file, read_bytes, stamp
from reasonpack.verify.findings import Finding, Findings

__all__ = [
    "MINOR",
    "Counts",
    "Dataset",
    "Input",
    "Manifest",
    "Options",
    "Receipt",
    "Reject",
    "RejectFile",
    "Shard",
    "parse_version",
    "place_of",
    "read_dataset",
    "read_rejects",
    "receipt_path",
]

MAJOR, MINOR = 1, 0
"""The newest version of the format that is known here."""
SHARD_SUFFIXES = (".parquet", ".arrow")
LONGEST = 2 << 30
"""Bytes that a line of rejects.jsonl may have."""

Natural = Annotated[int, msgspec.Meta(ge=0)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Layout = Literal["onepass", "npass"]
ShardPath = Annotated[str, msgspec.Meta(pattern=r"^data/train-\d{5,}-of-\d{5,}\.(parquet|arrow)$")]
RejectPath = Annotated[str, msgspec.Meta(pattern=r"^receipts/\d{5,}\.rejects\.jsonl$")]


@dataclass(frozen=True, slots=True)
class Input:
    """An input file, as it was called when it was packed."""

    path: str
    bytes: Natural
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for, as far as views and samples depend on it."""

    tokenizer: str
    revision: str | None
    chat_template: str | None
    chat_template_kwargs: str
    template_behaviour: str
    date: str | None
    layout: Layout
    train_on: Literal["all", "last-turn"]
    missing_reasoning: Literal["skip-loss", "empty-think", "error"]
    train_empty_think: bool
    max_length: int | None
    ignore_fields: tuple[str, ...] = ()
    field: tuple[str, ...] = ()
    stray_closing_tag: Literal["refuse", "text", "reasoning"] = "refuse"
    null_arguments: Literal["refuse", "drop", "keep"] = "refuse"


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard, as the manifest and its receipt name it."""

    path: ShardPath
    rows: Natural
    tokens: Natural
    bytes: Natural
    sha256: Sha256
    content_hash: Sha256


@dataclass(frozen=True, slots=True)
class Counts:
    """What a shard or the dataset holds."""

    conversations: Natural
    packed: Natural
    rejected: Natural
    samples: Natural
    views: Natural
    missing_reasoning: Natural
    rows: Natural
    tokens: Natural
    trained_tokens: Natural
    npass_tokens: Natural
    naive_tokens: Natural
    tokens_by_kind: dict[Literal["h", "t", "r_in", "r_out"], Natural]
    rejects: dict[str, Natural]

    def flat(self) -> Counter[str]:
        """Write the counts in one table, where `tokens_by_kind.h` is one of the names."""
        table: Counter[str] = Counter()
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            entries = value if isinstance(value, dict) else {"": value}
            for key, number in entries.items():
                table[f"{name}.{key}" if key else name] = number
        return table


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest, as far as what it says can be checked."""

    format_version: str
    library_version: str
    layout: Layout
    options: Options
    max_position: int | None
    tokenizer_sha256: Sha256
    template_sha256: Sha256
    plan_sha256: Sha256
    content_hash: Sha256
    inputs: Annotated[list[Input], msgspec.Meta(min_length=1)]
    shards: list[Shard]
    counts: Counts


@dataclass(frozen=True, slots=True)
class RejectFile:
    """The rejects of one stretch of input."""

    path: RejectPath
    lines: Natural
    bytes: Natural
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one stretch of input."""

    plan_sha256: Sha256
    shard: Shard
    rejects: RejectFile | None
    counts: Counts
    sha256: Sha256


@dataclass(frozen=True, slots=True)
class Reject:
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


def receipt_path(number: int) -> str:
    """Return where the receipt of a shard lies in the dataset."""
    return f"receipts/{number:05d}.json"


def place_of(directory: Place, path: str) -> Place:
    """Return where a file of a dataset is."""
    return join(directory, *path.split("/"))


def read_dataset(directory: Place, findings: Findings) -> Dataset | None:
    """Read what stands beside the shards, and check that it agrees; None without a manifest.

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
    dataset = Dataset(directory, manifest, receipts)
    _check_names(dataset, findings)
    _check_sums(dataset, findings)
    _check_rejects(dataset, findings)
    return dataset


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
        findings.add(Finding("RP001", name, f"{error}, expected JSON"))
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
        if content is None:
            raise ValueError("no such file")
        receipt = msgspec.json.decode(content, type=Receipt)
        unsealed = {**msgspec.json.decode(content), "sha256": ""}
        sha256 = hashlib.sha256(msgspec.json.encode(unsealed)).hexdigest()
        if sha256 != receipt.sha256:
            raise ValueError(f"has the hash {receipt.sha256} in it and is of {sha256}")
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        findings.add(Finding("RP011", name, f"{error}, expected the receipt of {shard.path}"))
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


def _check_names(dataset: Dataset, findings: Findings) -> None:
    """Look for shards and receipts that the manifest does not know, and temporary files."""
    directory, shards = dataset.directory, dataset.manifest.shards
    known = {shard.path for shard in shards}
    known |= {receipt_path(number) for number in range(len(shards))}
    names = {folder: file_names(join(directory, folder)) for folder in ("data", "receipts")}
    for code, folder, suffixes in (
        ("RP005", "data", SHARD_SUFFIXES),
        ("RP011", "receipts", (".json",)),
    ):
        for name in names[folder]:
            published = name.endswith(suffixes) and not name.startswith(".")
            if published and f"{folder}/{name}" not in known:
                what = "is of no shard in the manifest, expected no such file"
                findings.add(Finding(code, f"{folder}/{name}", what))
    everything = file_names(directory) + [
        f"{folder}/{n}" for folder in names for n in names[folder]
    ]
    for name in everything:
        if name.endswith(".tmp") and name.rpartition("/")[2].startswith("."):
            findings.warnings.append(f"{name}: left by a run that was stopped. Fix: remove it.")


def _check_sums(dataset: Dataset, findings: Findings) -> None:
    manifest, sums = dataset.manifest, Counter[str]()
    found = manifest.counts.flat()
    receipts = [receipt for receipt in dataset.receipts if receipt is not None]
    if len(receipts) == len(manifest.shards):
        for receipt in receipts:
            sums.update(receipt.counts.flat())
        names = {*sums, *found}
    else:
        sums["rows"] = sum(shard.rows for shard in manifest.shards)
        sums["tokens"] = sum(shard.tokens for shard in manifest.shards)
        names = {"rows", "tokens"}
    for name in sorted(names):
        if found[name] != sums[name]:
            what = f"counts.{name} {found[name]:,}, expected {sums[name]:,} as in the shards"
            findings.add(Finding("RP014", "manifest.json", what))
    if found["conversations"] != found["packed"] + found["rejected"]:
        what = "counts.conversations is not the sum of packed and rejected, expected that"
        findings.add(Finding("RP014", "manifest.json", what))
    expected = combined_hash(shard.content_hash for shard in manifest.shards)
    if manifest.content_hash != expected:
        what = f"content_hash {manifest.content_hash}, expected {expected}, that of the shards'"
        findings.add(Finding("RP017", "manifest.json", what))


# --- rejects ---------------------------------------------------------------------------


def read_rejects(directory: Place) -> Iterator[Reject]:
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
                yield msgspec.json.decode(line, type=Reject)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ValueError(f"rejects.jsonl:{number}: {error}") from error


def _check_rejects(dataset: Dataset, findings: Findings) -> None:
    for number, receipt in enumerate(dataset.receipts):
        if receipt is not None:
            _check_reject_file(dataset, number, receipt, findings)
    reasons: Counter[str] = Counter()
    try:
        for reject in read_rejects(dataset.directory):
            reasons[reject.reason] += 1
    except ValueError as error:
        where, _, what = str(error).partition(": ")
        findings.add(Finding("RP015", where, f"{what}, expected a rejected record"))
        return
    counted = Counter(dataset.manifest.counts.rejects)
    for reason in sorted({*reasons, *counted}):
        if reasons[reason] != counted[reason]:
            what = f"{reasons[reason]:,} lines of reason {reason!r}, expected {counted[reason]:,}"
            findings.add(Finding("RP016", "rejects.jsonl", what))
    if len(reasons) and dataset.manifest.counts.rejected != sum(reasons.values()):
        what = f"{sum(reasons.values()):,} lines, expected {dataset.manifest.counts.rejected:,}"
        findings.add(Finding("RP016", "rejects.jsonl", what))


def _check_reject_file(dataset: Dataset, number: int, receipt: Receipt, findings: Findings) -> None:
    named = receipt.rejects
    if named is None:
        return
    try:
        size, sha256 = digest(place_of(dataset.directory, named.path))
    except StorageError as error:
        findings.add(Finding("RP018", named.path, f"{error.__cause__}, expected the rejects"))
        return
    for what, found, expected in (
        ("bytes", size, named.bytes),
        ("SHA-256", sha256, named.sha256),
        ("lines", receipt.counts.rejected, named.lines),
    ):
        if found != expected:
            said = f"{what} {found}, expected {expected} as in {receipt_path(number)}"
            findings.add(Finding("RP018", named.path, said))
