"""A dataset directory → its manifest, receipts and rejects, as they are declared here.

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
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Annotated, Literal

import msgspec

from reasonpack.storage import Place, join, open_file, read_bytes, stamp
from reasonpack.verify.findings import Finding, Findings

__all__ = [
    "MINOR",
    "Counts",
    "Dataset",
    "Input",
    "Learned",
    "Manifest",
    "Options",
    "Receipt",
    "Reject",
    "RejectFile",
    "Shard",
    "Stop",
    "parse_version",
    "place_of",
    "read_dataset",
    "read_rejects",
    "receipt_path",
    "unreadable",
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
    on_message_error: Literal["reject", "context"] = "reject"


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
class Stop:
    """A stop token, and where it comes from."""

    token: str
    source: str


@dataclass(frozen=True, slots=True)
class Learned:
    """What packing learned of a chat template."""

    template: str
    template_sha256: Sha256
    thinking: str
    not_thinking: str
    prompt_opener: str
    opener: str
    closer: str
    answer_stop: Stop
    call_stop: Stop


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
    templates: list[Learned] = field(default_factory=list)


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
                what = unreadable(line, error, "a rejected record")
                raise ValueError(f"rejects.jsonl:{number}: {what}") from error
