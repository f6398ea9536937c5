"""The shards of a unit → checked rows, and findings on bytes, schema, rows and counts.

    Dataset ─ unit by unit ─→ bytes, SHA-256 ─→ schema ─→ row groups ─→ CheckedRow …
                                                              └─ counts ─→ receipt, manifest

Memory is bounded by a row group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from msgspec import Struct

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import Shard, place_of, receipt_path
from reasonpack.datasets.shards import open_shard
from reasonpack.errors import FormatError, StorageError
from reasonpack.rows.content_hash import content_hash
from reasonpack.rows.kind import Kind
from reasonpack.storage.place import stamp
from reasonpack.storage.read import digest
from reasonpack.verify.findings import Finding, Findings
from reasonpack.verify.manifest import MINOR, Dataset, parse_version
from reasonpack.verify.paths import Paths
from reasonpack.verify.row import Fault, Row
from reasonpack.verify.rows import check_row
from reasonpack.wording import count

COLUMNS = {
    "input_ids": pa.int32(),
    "position_ids": pa.int32(),
    "labels": pa.int32(),
    "length": pa.int32(),
    "segment_start": pa.int32(),
    "segment_visible_until": pa.int32(),
    "segment_kind": pa.uint8(),
    "segment_message": pa.int32(),
    "sample_start": pa.int32(),
    "sample_id": pa.string(),
}
"""Required columns, in this order; lists of these types, except for length."""
OPTIONAL = {
    "loss_weights": pa.float32(),
    "logprobs": pa.float32(),
    "advantages": pa.float32(),
    "preference_labels": pa.int32(),
    "segment_call": pa.int32(),
    "call_id": pa.string(),
    "call_sample": pa.int32(),
    "call_role": pa.uint8(),
    "call_reward": pa.float32(),
}
"""Optional columns that a manifest may name, in this order."""
NEEDED = {
    "preference_labels": {"call_role"},
    **{name: {"segment_call", "call_id", "call_sample"} for name in OPTIONAL if "call" in name},
}
"""For an optional column, the columns that it needs."""
TO_BE_APPLIED = ("loss_weights", "logprobs", "advantages", "call_role")
TEXTS = ("sample_id", "call_id")
METADATA = ("format_version", "layout", "tokenizer_sha256", "template_sha256")
GROUP_ROWS, GROUP_TOKENS = 1_000, 1 << 22


class CheckedRow(Struct, frozen=True):
    """A row of a shard, and the paths of its tokens; None instead of paths if the row has a fault.

    `number` counts over all shards, by the manifest's numbers of rows.
    """

    shard: str
    number: int
    row: Row
    paths: Paths | None


def checked_rows(dataset: Dataset, number: int, findings: Findings) -> Iterator[CheckedRow]:
    """Check the shards of a unit and yield their rows, then compare the counts of its receipt."""
    violations, total = findings.total, Counter[str]()
    for before, shard in dataset.shards_of(dataset.units[number]):
        total += yield from _checked_shard(dataset, shard, before, findings)
    if findings.total == violations:
        _check_counts(dataset, number, total, findings)


def _checked_shard(
    dataset: Dataset, shard: Shard, before: int, findings: Findings
) -> Generator[CheckedRow, None, Counter[str]]:
    """Check a shard and yield its rows; return their counts."""
    held = Counter({"rows": 0, "tokens": 0})
    place = place_of(dataset.directory, shard.path)
    findings.count("shards")
    violations = findings.total
    try:
        if stamp(place) is None:
            findings.report("RP004", shard.path, "no such file, expected the shard")
            return held
        size, sha256 = digest(place)
        findings.compare("RP006", shard.path, "bytes", size, shard.bytes)
        findings.compare("RP007", shard.path, "SHA-256", sha256, shard.sha256)
        with open_shard(place, unchecked=True) as opened:
            if not _check_schema(dataset.manifest, shard, opened.schema, findings):
                return held
            for group in opened.groups():
                if not _check_group(shard, group, findings):
                    return held
                for row in read_rows(group):
                    faults, paths = check_row(row)
                    checked = CheckedRow(shard.path, before + held["rows"], row, paths)
                    for fault in (*faults, *_limit_faults(dataset.manifest, row)):
                        findings.add(_located(fault, checked))
                    held.update(_held(row, paths))
                    yield checked
    except (FormatError, StorageError) as error:
        findings.report("RP008", shard.path, f"{error.what}, expected a whole shard")
        return held
    for name in ("rows", "samples", "tokens", "trained_tokens"):
        findings.count(name, held[name])
    for code, name in (("RP009", "rows"), ("RP010", "tokens")):
        both = held[name], getattr(shard, name)
        findings.compare(code, shard.path, name, *both, "as in the manifest")
    if findings.total == violations:
        with open_shard(place, unchecked=True) as opened:
            found = content_hash(opened.groups())
        findings.compare("RP017", shard.path, "content hash", found, shard.content_hash)
    return held


def _check_counts(dataset: Dataset, number: int, held: Counter[str], findings: Findings) -> None:
    """Compare a receipt's counts with those of its shards, `held`; these have no faults."""
    receipt = dataset.receipts[number]
    if receipt is None:
        return
    counted, file = receipt.counts.flat(), receipt_path(dataset.units[number])
    names = {"samples", "rows", "tokens", "trained_tokens", "npass_tokens"}
    if counted["pairs"]:  # older datasets do not count them
        names.add("pairs")
    names |= {name for name in {*counted, *held} if name.startswith("tokens_by_kind.")}
    if dataset.manifest.layout == "onepass":
        held = Counter({**held, "packed": held["samples"] - receipt.counts.extra_samples})
        names.add("packed")
    if receipt.counts.extra_samples and counted["npass_tokens"] < held["npass_tokens"]:
        names.discard("npass_tokens")  # another sample of the conversation may extend a leaf
    if dataset.manifest.options.shuffle:  # these count a unit's records, which other shards have
        names -= {"packed", "npass_tokens"}
    for name in sorted(names):
        both = counted[name], held[name]
        findings.compare("RP013", file, f"counts.{name}", *both, "as in its shards")


def _held(row: Row, paths: Paths | None) -> Counter[str]:
    """Return the counts of a row; of a row with a fault, only rows and tokens."""
    held = Counter({"rows": 1, "tokens": len(row.input_ids)})
    if paths is None:
        return held
    lengths = row.segment_stop - row.segment_start
    for kind, name in enumerate(kind.label for kind in Kind):
        if tokens := int(lengths[row.segment_kind == kind].sum()):
            held[f"tokens_by_kind.{name}"] = tokens
    held["samples"] = len(row.sample_id)
    held["trained_tokens"] = int(np.count_nonzero(row.trained))
    held["pairs"] = int((row.position_ids.astype(np.int64) + 1).sum())
    held["npass_tokens"] = int((row.position_ids[paths.leaf].astype(np.int64) + 1).sum())
    return held


def _limit_faults(manifest: Manifest, row: Row) -> Iterator[Fault]:
    """Find a row above the dataset's `max_length` or `max_cost`, or a position above its limit."""
    most, last = manifest.options.max_length, manifest.max_position
    if most is not None and len(row.input_ids) > most:
        yield Fault("RP222", f"{len(row.input_ids):,} tokens, expected at most {most:,}")
    pairs, most = int((row.position_ids.astype(np.int64) + 1).sum()), manifest.options.max_cost
    if most is not None and pairs > most and len(row.sample_id) > 1:
        yield Fault("RP222", f"{pairs:,} pairs of tokens in several samples, expected {most:,}")
    if last is not None and (place := int(row.position_ids.max(initial=0))) >= last:
        yield Fault("RP222", f"position {place:,}, expected less than {last:,}")


def _located(fault: Fault, checked: CheckedRow) -> Finding:
    row, token = checked.row, fault.token
    sample = message = None
    if token is not None:
        sample, message = row.sample_id[row.sample_of(token)], row.message_of(token)
    elif len(row.sample_id) == 1:
        sample = row.sample_id[0]
    return Finding(fault.code, checked.shard, fault.what, checked.number, sample, message, token)


def _check_schema(manifest: Manifest, shard: Shard, schema: pa.Schema, findings: Findings) -> bool:
    """Check columns, nullability and metadata; return False if the rows cannot be read."""
    metadata = schema.metadata or {}
    for name in METADATA:
        value = metadata.get(f"reasonpack.{name}".encode())
        found = None if value is None else value.decode(errors="replace")
        both = found, getattr(manifest, name)
        findings.compare("RP104", shard.path, f"reasonpack.{name}", *both, "as in the manifest")
    requires = (metadata.get(b"reasonpack.requires") or b"").decode(errors="replace")
    if unknown := sorted({*filter(None, requires.split(","))} - {*TO_BE_APPLIED}):
        what = f"requires {', '.join(unknown)}, expected some of {', '.join(TO_BE_APPLIED)}"
        findings.report("RP106", shard.path, what)
        return False
    expected = ",".join(name for name in TO_BE_APPLIED if name in manifest.columns)
    both = requires, expected
    findings.compare("RP104", shard.path, "reasonpack.requires", *both, "by the columns")
    newer = parse_version(manifest.format_version)[1] > MINOR
    if what := _columns_fault(schema, manifest.columns, known_only=newer):
        findings.report("RP101", shard.path, what)
        return False
    for name in _known(schema):
        field = schema.field(name)
        inner = field if name == "length" else field.type.value_field
        if field.nullable or inner.nullable:
            what = f"{name} may be null, expected a column and elements that may not"
            findings.report("RP102", shard.path, what)
    return True


def _known(schema: pa.Schema) -> list[str]:
    return [name for name in schema.names if name in COLUMNS or name in OPTIONAL]


def _columns_fault(schema: pa.Schema, optional: Sequence[str], *, known_only: bool) -> str:
    """Describe a fault of the columns; empty without one. `known_only` ignores unknown columns."""
    names = _known(schema) if known_only else schema.names
    chosen = [name for name in OPTIONAL if name in optional]
    expected = [*COLUMNS, *chosen]
    if names != expected or (not known_only and chosen != optional):
        named = ", ".join([*COLUMNS, *optional])
        return f"columns {', '.join(schema.names)}, expected {named}"
    for name in chosen:
        if lacking := sorted(NEEDED.get(name, set()) - {*chosen}):
            return f"{name} without {', '.join(lacking)}, expected them together"
    for name in expected:
        found, wanted = schema.field(name).type, (COLUMNS | OPTIONAL)[name]
        of = found.value_type if pa.types.is_list(found) else found
        if of != wanted or pa.types.is_list(found) == (name == "length"):
            return f"{name} is {found}, expected {'a list of ' * (name != 'length')}{wanted}"
    return ""


def _check_group(shard: Shard, group: pa.RecordBatch, findings: Findings) -> bool:
    """Check size and nulls of a row group; return False if its rows cannot be read."""
    tokens = len(group.column("input_ids").flatten())
    if group.num_rows > GROUP_ROWS or (group.num_rows > 1 and tokens > GROUP_TOKENS):
        what = f"a row group of {count(group.num_rows, 'row')} and {count(tokens, 'token')}"
        what += f", expected at most {GROUP_ROWS:,} and {GROUP_TOKENS:,}"
        findings.report("RP105", shard.path, what)
    for name in _known(group.schema):
        column = group.column(name)
        if column.null_count or (name != "length" and column.flatten().null_count):
            findings.report("RP103", shard.path, f"a null in {name}, expected none")
            return False
    return True


def read_rows(group: pa.RecordBatch) -> Iterator[Row]:
    """Yield the rows of a batch, which must have all columns and no nulls."""
    names = _known(group.schema)
    for number in range(group.num_rows):
        cells = ((name, group.column(name)[number]) for name in names)
        yield Row(
            **{
                name: cell.as_py() if name in (*TEXTS, "length") else cell.values.to_numpy()
                for name, cell in cells
            }
        )
