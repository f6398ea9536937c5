"""Ways to change one thing in a dataset, its rows, its records or what is said of them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from packed_twice import Json, Packed

from reasonpack.datasets.manifest import plan_hash, read_manifest
from reasonpack.rows.content_hash import combined_hash, content_hash
from reasonpack.run.finish import _card

Damage = Callable[[Packed], object]
Change = Callable[[Json], object]


def read(path: Path) -> pa.Table:
    if path.suffix == ".arrow":
        with path.open("rb") as file:
            return pa.ipc.open_stream(file).read_all()
    return pq.ParquetFile(path).read()


def write(path: Path, table: pa.Table, *, rows_per_group: int = 1000) -> None:
    if path.suffix == ".arrow":
        with path.open("wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    else:
        pq.write_table(table, path, row_group_size=rows_per_group)


def seal(packed: Packed, *, recount: bool = False) -> None:
    """Make manifest and receipts agree with the shards; `recount` what these hold, too."""
    manifest = packed.json("manifest.json")
    total: Counter[str] = Counter()
    for number, (path, shard) in enumerate(zip(packed.shards, manifest["shards"], strict=True)):
        content = path.read_bytes()
        shard.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        receipt = packed.json(f"receipts/{number:05d}.json")
        counts = receipt["counts"]
        if content.endswith(b"PAR1") or path.suffix == ".arrow":
            table = read(path)
            rows = table.to_pylist()
            shard.update(rows=len(rows), tokens=sum(len(row["input_ids"]) for row in rows))
            with contextlib.suppress(ValueError):  # nulls have no hash
                shard.update(content_hash=content_hash(table.to_batches()))
            counts.update(rows=shard["rows"], tokens=shard["tokens"])
            counts.update(measured(rows) if recount else {})
            counts.update(conversations=counts["packed"] + counts["rejected"])
        packed.write(f"receipts/{number:05d}.json", {**receipt, "shards": [shard]})
        total.update({name: n for name, n in counts.items() if not isinstance(n, dict)})
        total.update(counts["tokens_by_kind"])
    kinds = manifest["counts"]["tokens_by_kind"]
    kinds.update({kind: total[kind] for kind in kinds})
    manifest["counts"].update({name: total[name] for name in total if name not in kinds})
    manifest["content_hash"] = combined_hash(shard["content_hash"] for shard in manifest["shards"])
    packed.write("manifest.json", manifest)
    recard(packed)


def reseal(packed: Packed) -> None:
    """Give the plan, and what names it, the hash of its content."""
    known = {"plan_sha256": plan_hash(packed.json("plan.json"))}
    packed.write("plan.json", packed.json("plan.json") | {"sha256": known["plan_sha256"]})
    receipts = [f"receipts/{number:05d}.json" for number in range(len(packed.shards))]
    for name in ("manifest.json", *receipts):
        packed.write(name, packed.json(name) | known)


def recard(packed: Packed) -> None:
    """Make the card agree with the manifest."""
    (packed.directory / "README.md").write_text(_card(read_manifest(str(packed.directory))))


def measured(rows: list[Json]) -> Json:
    """Count what rows hold, token by token; here no two conversations of a shard share an id."""
    kinds: Counter[str] = Counter()
    leaves = trained = 0
    for row in rows:
        until = oracle.visible_until(row)
        for token, position in enumerate(row["position_ids"]):
            segment = int(np.searchsorted(row["segment_start"], token, "right")) - 1
            kinds[["h", "t", "r_in", "r_out"][row["segment_kind"][segment]]] += 1
            trained += row["labels"][token] != -100
            leaves += position + 1 if until[token] == token + 1 else 0
    ids = [id_ for row in rows for id_ in row["sample_id"]]
    return {
        "packed": len(set(ids)),
        "samples": len(ids),
        "trained_tokens": trained,
        "npass_tokens": leaves,
        "pairs": sum(position + 1 for row in rows for position in row["position_ids"]),
        "tokens_by_kind": dict(kinds),
    }


def edit(change: Change, *, recount: bool = False) -> Damage:
    """Change the first row of the first shard."""

    def damage(packed: Packed) -> None:
        table = read(packed.shards[0])
        rows = table.to_pylist()
        change(rows[0])
        assert rows != table.to_pylist(), "the change changed nothing"
        write(packed.shards[0], pa.Table.from_pylist(rows, schema=table.schema))
        seal(packed, recount=recount)

    return damage


def recast(change: Callable[[pa.Table], pa.Table]) -> Damage:
    """Change the table of the first shard."""

    def damage(packed: Packed) -> None:
        write(packed.shards[0], change(read(packed.shards[0])), rows_per_group=5000)
        seal(packed)

    return damage


def rejson(name: str, change: Change) -> Damage:
    """Change a JSON file."""

    def damage(packed: Packed) -> None:
        value = packed.json(name)
        change(value)
        packed.write(name, value)

    return damage


def recount(change: Change) -> Damage:
    """Change the counts of the first receipt and of the manifest alike."""

    def damage(packed: Packed) -> None:
        for name in ("manifest.json", "receipts/00000.json"):
            rejson(name, lambda value: change(value["counts"]))(packed)
        recard(packed)

    return damage


def reshard(change: Change) -> Damage:
    """Change what manifest and receipt say of the first shard."""

    def damage(packed: Packed) -> None:
        rejson("manifest.json", lambda manifest: change(manifest["shards"][0]))(packed)
        rejson("receipts/00000.json", lambda receipt: change(receipt["shards"][0]))(packed)

    return damage


def both(one: Damage, two: Damage) -> Damage:
    return lambda packed: (one(packed), two(packed))


def put(name: str, text: str) -> Damage:
    return lambda packed: (packed.directory / name).write_text(text)


def remove(name: str) -> Damage:
    return lambda packed: (packed.directory / name).unlink()


def move_out(name: str) -> Damage:
    """Move a file out of the dataset, and leave a link to it."""

    def damage(packed: Packed) -> None:
        target = packed.directory.parent / name.replace("/", "-")
        path = (packed.directory / name).rename(target)
        (packed.directory / name).symlink_to(path)

    return damage


def copy_to(name: str, to: str) -> Damage:
    return lambda packed: shutil.copy(packed.directory / name, packed.directory / to)


def truncate(packed: Packed) -> None:
    path = packed.shards[0]
    path.write_bytes(path.read_bytes()[:-100])
    seal(packed)


def add(table: Any, name: Any, number: int = 1) -> None:
    table[name] += number


def own(name: str, place: Callable[[Json], int]) -> Change:
    """Set a label to the token at its place."""

    def change(row: Json) -> None:
        at = place(row)
        row[name][at] = row["input_ids"][at]

    return change


def branch(row: Json) -> int:
    """Find the first token of a branch that is not a sample's first."""
    pairs = itertools.pairwise(row["position_ids"])
    jumps = [at for at, (before, here) in enumerate(pairs, 1) if here != before + 1]
    return next(at for at in jumps if at not in row["sample_start"])


def context(row: Json) -> int:
    """Find an untrained token inside a prompt."""
    return next(at for at in range(3, row["length"]) if row["labels"][at : at + 2] == [-100] * 2)


def trained(row: Json) -> int:
    """Find a trained token inside a branch."""
    return 2 + next(at for at, label in enumerate(row["labels"]) if label != -100)


def untrain(row: Json) -> None:
    row["labels"][trained(row)] = -100


def train_twice(row: Json) -> None:
    """Train a token in an npass sample that another sample of its conversation trains too."""
    bounds = itertools.pairwise([*row["sample_start"], row["length"]])
    paths: list[tuple[int, int]] = []
    for id_, (start, stop) in zip(row["sample_id"], bounds, strict=True):
        path = hash(id_)
        for token in range(start, stop):
            path = hash((path, row["input_ids"][token]))
            paths.append((token, path))
    known = {path for token, path in paths if row["labels"][token] != -100}
    at = next(token for token, path in paths if row["labels"][token] == -100 and path in known)
    row["labels"][at] = row["input_ids"][at]


def swap(row: Json) -> None:
    """Swap two different tokens that follow each other, trained both."""
    at = next(
        at
        for at in range(trained(row), row["length"])
        if row["labels"][at] != -100 != row["labels"][at + 1]
        and row["labels"][at] != row["labels"][at + 1]
    )
    for name in ("input_ids", "labels"):
        row[name][at], row[name][at + 1] = row[name][at + 1], row[name][at]


def cross(row: Json) -> None:
    """Let a segment's interval end within the next segment, which lies inside it."""
    until, starts = row["segment_visible_until"], [*row["segment_start"], row["length"]]
    at = next(
        at
        for at in range(len(until) - 1)
        if until[at + 1] <= until[at] and starts[at + 2] > starts[at + 1] + 1
    )
    until[at] = starts[at + 1] + 1


def tiny(*labels: int) -> Json:
    """Make a row by hand: after one token two branches of the same two tokens."""
    return {
        "input_ids": [5, 6, 7, 6, 7],
        "position_ids": [0, 1, 2, 1, 2],
        "labels": list(labels),
        "length": 5,
        "segment_start": [0, 1, 3],
        "segment_visible_until": [5, 3, 5],
        "segment_kind": [0, 3, 2],
        "segment_message": [0, 1, 1],
        "sample_start": [0],
        "sample_id": ["tiny"],
    }


def nullable(table: pa.Table) -> pa.Table:
    fields = [field.with_nullable(True) for field in table.schema]
    schema = pa.schema(fields, metadata=table.schema.metadata)
    return pa.Table.from_arrays(table.columns, schema=schema)


def nullable_elements(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("labels")
    kind = pa.list_(pa.field("element", pa.int32(), nullable=True))
    field = pa.field("labels", kind, nullable=False)
    return table.set_column(at, field, table.column("labels").cast(kind))


def relabelled(table: pa.Table, **metadata: str | None) -> pa.Table:
    changed = dict(table.schema.metadata)
    for name, value in metadata.items():
        changed.pop(f"reasonpack.{name}".encode(), None)
        if value is not None:
            changed[f"reasonpack.{name}".encode()] = value.encode()
    return table.replace_schema_metadata(changed)


SHARD = "data/train-00000-of-00002.parquet"
REJECTS = "receipts/00000.rejects.jsonl"


def numbered(damages: dict[str, list[Damage]]) -> list[Any]:
    return [
        pytest.param(code, damage, id=f"{code}-{number}")
        for code, each in damages.items()
        for number, damage in enumerate(each)
    ]


def resource(at: int, change: Callable[[list[bytes]], None]) -> Damage:
    """Change the lines of an input."""

    def damage(packed: Packed) -> None:
        lines = packed.inputs[at].read_bytes().splitlines()
        change(lines)
        packed.inputs[at].write_bytes(b"".join(line + b"\n" for line in lines))

    return damage


def rerecord(at: int, line: int, change: Change) -> Damage:
    """Change a record of an input."""

    def change_line(lines: list[bytes]) -> None:
        record = json.loads(lines[line])
        change(record)
        lines[line] = json.dumps(record).encode()

    return resource(at, change_line)


def reject(change: Change) -> Damage:
    """Change the reject, and what its receipt and the manifest say of it."""

    def damage(packed: Packed) -> None:
        line = json.loads((packed.directory / "rejects.jsonl").read_text())
        change(line)
        content = json.dumps(line).encode() + b"\n"
        for name in ("rejects.jsonl", REJECTS):
            (packed.directory / name).write_bytes(content)
        recount(lambda counts: counts.update(rejects={line["reason"]: 1}))(packed)
        known = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        rejson("receipts/00000.json", lambda receipt: receipt["rejects"].update(known))(packed)

    return damage


def drop_sample(packed: Packed, *, conversation: bool = True) -> None:
    """Drop a sample from the second shard: a whole conversation, or one leaf of several."""
    table = read(packed.shards[1])
    row, *rest = table.to_pylist()
    assert not rest
    times = Counter(row["sample_id"])
    at = next(n for n, id_ in enumerate(row["sample_id"]) if (times[id_] == 1) == conversation)
    start, stop = [*row["sample_start"], row["length"]][at : at + 2]
    gone = [n for n, segment in enumerate(row["segment_start"]) if start <= segment < stop]
    for name in ("input_ids", "position_ids", "labels"):
        del row[name][start:stop]
    for name in ("segment_start", "segment_visible_until", "segment_kind", "segment_message"):
        del row[name][gone[0] : gone[-1] + 1]
    for name in ("sample_start", "sample_id"):
        del row[name][at]
    for name in ("segment_start", "segment_visible_until", "sample_start"):
        row[name] = [value - (stop - start) * (value > start) for value in row[name]]
    row["length"] -= stop - start
    write(packed.shards[1], pa.Table.from_pylist([row], schema=table.schema))
    seal(packed, recount=True)


def forget(record: Json) -> None:
    for message in record["messages"]:
        message["train"] = False


def reply(record: Json) -> None:
    record["messages"][-1]["content"] += " Indeed."
