"""A shard → its bytes, schema and counts, checked, and its rows, each of them checked.

    Dataset ─ shard by shard ─→ bytes, SHA-256 ─→ schema ─→ row groups ─→ CheckedRow …
                                                                └─ counts ─→ receipt, manifest

Memory is bounded by a row group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import Shard, place_of, receipt_path
from reasonpack.datasets.shards import open_shard
from reasonpack.errors import FormatError, StorageError
from reasonpack.rows.content_hash import content_hash
from reasonpack.rows.kind import Kind
from reasonpack.storage.place import Place, stamp
from reasonpack.storage.read import digest
from reasonpack.verify.findings import Finding, Findings
from reasonpack.verify.manifest import MINOR, Dataset, parse_version
from reasonpack.verify.paths import Paths
from reasonpack.verify.rows import Fault, Row, check_row

LIST_COLUMNS = {
    "input_ids": pa.int32(),
    "position_ids": pa.int32(),
    "labels": pa.int32(),
    "segment_start": pa.int32(),
    "segment_visible_until": pa.int32(),
    "segment_kind": pa.uint8(),
    "segment_message": pa.int32(),
    "sample_start": pa.int32(),
    "sample_id": pa.string(),
}
COLUMNS = list(LIST_COLUMNS)
COLUMNS.insert(3, "length")
METADATA = ("format_version", "layout", "tokenizer_sha256", "template_sha256")
GROUP_ROWS, GROUP_TOKENS = 1_000, 1 << 22


@dataclass(frozen=True, slots=True)
class CheckedRow:
    """A row of a shard, and the paths of its tokens; None where the row is at fault.

    `number` counts over all shards, as the manifest gives their rows.
    """

    shard: str
    number: int
    row: Row
    paths: Paths | None


def checked_rows(dataset: Dataset, number: int, findings: Findings) -> Iterator[CheckedRow]:
    """Check one shard and yield its rows; at the end its counts are compared too."""
    shard = dataset.manifest.shards[number]
    place = place_of(dataset.directory, shard.path)
    findings.count("shards")
    before = sum(each.rows for each in dataset.manifest.shards[:number])
    violations, held = findings.total, Counter({"rows": 0, "tokens": 0})
    try:
        if stamp(place) is None:
            findings.add(Finding("RP004", shard.path, "no such file, expected the shard"))
            return
        _check_file(shard, place, findings)
        with open_shard(place) as opened:
            if not _check_schema(dataset.manifest, shard, opened.schema, findings):
                return
            for group in opened.groups():
                if not _check_group(shard, group, findings):
                    return
                for row in read_rows(group):
                    faults, paths = check_row(row)
                    checked = CheckedRow(shard.path, before + held["rows"], row, paths)
                    for fault in faults:
                        findings.add(_located(fault, checked))
                    held.update(_held(row, paths))
                    yield checked
    except (FormatError, StorageError) as error:
        findings.add(Finding("RP008", shard.path, f"{error.what}, expected a whole shard"))
        return
    for name in ("rows", "samples", "tokens", "trained_tokens"):
        findings.count(name, held[name])
    for code, name in (("RP009", "rows"), ("RP010", "tokens")):
        if held[name] != (expected := getattr(shard, name)):
            what = f"{held[name]:,} {name}, expected {expected:,} as in the manifest"
            findings.add(Finding(code, shard.path, what))
    if findings.total == violations:
        _check_counts(dataset, number, held, findings)
        _check_content(shard, place, findings)


def _check_file(shard: Shard, place: Place, findings: Findings) -> None:
    size, sha256 = digest(place)
    if size != shard.bytes:
        findings.add(Finding("RP006", shard.path, f"{size:,} bytes, expected {shard.bytes:,}"))
    if sha256 != shard.sha256:
        findings.add(Finding("RP007", shard.path, f"SHA-256 {sha256}, expected {shard.sha256}"))


def _check_counts(dataset: Dataset, number: int, held: Counter[str], findings: Findings) -> None:
    """Compare a receipt's counts with what a sound shard was found to hold."""
    receipt = dataset.receipts[number]
    if receipt is None:
        return
    counted = receipt.counts.flat()
    names = {"samples", "rows", "tokens", "trained_tokens", "npass_tokens"}
    names |= {name for name in {*counted, *held} if name.startswith("tokens_by_kind.")}
    if dataset.manifest.layout == "onepass":
        held["packed"] = held["samples"]
        names.add("packed")
    for name in sorted(names):
        if counted[name] != held[name]:
            what = f"counts.{name} {counted[name]:,}, expected {held[name]:,} as in the shard"
            findings.add(Finding("RP013", receipt_path(number), what))


def _check_content(shard: Shard, place: Place, findings: Findings) -> None:
    with open_shard(place) as opened:
        found = content_hash(opened.groups())
    if found != shard.content_hash:
        what = f"content hash {found}, expected {shard.content_hash}"
        findings.add(Finding("RP017", shard.path, what))


def _held(row: Row, paths: Paths | None) -> Counter[str]:
    """Count what a row holds; only rows and tokens of one that is at fault."""
    held = Counter({"rows": 1, "tokens": len(row.input_ids)})
    if paths is None:
        return held
    lengths = row.segment_stop - row.segment_start
    for kind, name in enumerate(kind.label for kind in Kind):
        if tokens := int(lengths[row.segment_kind == kind].sum()):
            held[f"tokens_by_kind.{name}"] = tokens
    held["samples"] = len(row.sample_id)
    held["trained_tokens"] = int(np.count_nonzero(paths.trained))
    held["npass_tokens"] = int((row.position_ids[paths.leaf].astype(np.int64) + 1).sum())
    return held


def _located(fault: Fault, checked: CheckedRow) -> Finding:
    row, token = checked.row, fault.token
    sample = message = None
    if token is not None:
        sample, message = row.sample_id[row.sample_of(token)], row.message_of(token)
    elif len(row.sample_id) == 1:
        sample = row.sample_id[0]
    return Finding(fault.code, checked.shard, fault.what, checked.number, sample, message, token)


def _check_schema(manifest: Manifest, shard: Shard, schema: pa.Schema, findings: Findings) -> bool:
    """Check columns, nullability and metadata; False if the rows cannot be read."""
    metadata = schema.metadata or {}
    for name in METADATA:
        value = metadata.get(f"reasonpack.{name}".encode())
        found = None if value is None else value.decode(errors="replace")
        if found != (expected := getattr(manifest, name)):
            what = f"reasonpack.{name} {found!r}, expected {expected!r} as in the manifest"
            findings.add(Finding("RP104", shard.path, what))
    newer = parse_version(manifest.format_version)[1] > MINOR
    if what := _columns_fault(schema, known_only=newer):
        findings.add(Finding("RP101", shard.path, what))
        return False
    for name in COLUMNS:
        field = schema.field(name)
        inner = field.type.value_field if name in LIST_COLUMNS else field
        if field.nullable or inner.nullable:
            what = f"{name} may be null, expected a column and elements that may not"
            findings.add(Finding("RP102", shard.path, what))
    return True


def _columns_fault(schema: pa.Schema, *, known_only: bool) -> str:
    """Say what is wrong with the columns; a newer minor version may have more of them."""
    names = [name for name in schema.names if name in COLUMNS or not known_only]
    if names != COLUMNS:
        return f"columns {', '.join(schema.names)}, expected {', '.join(COLUMNS)}"
    for name in COLUMNS:
        found, element = schema.field(name).type, LIST_COLUMNS.get(name)
        if element is None and found != pa.int32():
            return f"{name} is {found}, expected int32"
        if element is not None and (not pa.types.is_list(found) or found.value_type != element):
            return f"{name} is {found}, expected a list of {element}"
    return ""


def _check_group(shard: Shard, group: pa.RecordBatch, findings: Findings) -> bool:
    """Check size and nulls of a row group; False if its rows cannot be read."""
    tokens = len(group.column("input_ids").flatten())
    if group.num_rows > GROUP_ROWS or (group.num_rows > 1 and tokens > GROUP_TOKENS):
        what = (
            f"a row group of {group.num_rows:,} rows and {tokens:,} tokens, "
            f"expected at most {GROUP_ROWS:,} and {GROUP_TOKENS:,}"
        )
        findings.add(Finding("RP105", shard.path, what))
    for name in COLUMNS:
        column = group.column(name)
        if column.null_count or (name in LIST_COLUMNS and column.flatten().null_count):
            findings.add(Finding("RP103", shard.path, f"a null in {name}, expected none"))
            return False
    return True


def read_rows(group: pa.RecordBatch) -> Iterator[Row]:
    """Read the rows of a batch that has all columns and no nulls."""
    lists = {name: group.column(name) for name in LIST_COLUMNS}
    offsets = {name: column.offsets.to_pylist() for name, column in lists.items()}
    values = {
        name: column.values if name == "sample_id" else column.values.to_numpy()
        for name, column in lists.items()
    }
    for number, length in enumerate(group.column("length").to_pylist()):
        columns = {
            name: values[name][offsets[name][number] : offsets[name][number + 1]]
            for name in LIST_COLUMNS
        }
        columns["sample_id"] = columns["sample_id"].to_pylist()
        yield Row(length=length, **columns)
