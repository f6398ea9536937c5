"""What the schemas and FORMAT.md say is what the code writes.

dataclasses, COLUMNS, Kind ── the same names, in order, and types ── schemas/*.json, FORMAT.md
fixtures ── reasonpack pack ─→ rows, manifest, receipts, rejects ── hold to them
"""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import json
import re
import typing
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from described import FIXTURES, FORMAT, SCHEMAS, Json, schema
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from reasonpack.cli import cli
from reasonpack.datasets.shards import read_shard
from reasonpack.rows.kind import Kind
from reasonpack.rows.optional_columns import APPLIED
from reasonpack.rows.schema import COLUMNS, FORMAT_VERSION, METADATA_PREFIX, OPTIONAL

Row = dict[str, Any]


# --- schemas and dataclasses ---------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.schema.json")), ids=lambda path: path.name)
def test_every_schema_is_one(path: Path) -> None:
    found = json.loads(path.read_bytes())
    assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(found)


def test_columns_are_described() -> None:
    found = schema("row")
    assert [(name, each["x-arrow-type"]) for name, each in found["properties"].items()] == [
        (name, str(type_)) for name, type_ in (*COLUMNS, *OPTIONAL)
    ]
    assert found["required"] == [name for name, _ in COLUMNS]
    assert found["additionalProperties"] is False
    for name, type_ in (*COLUMNS, *OPTIONAL):
        each, is_list = found["properties"][name], pa.types.is_list(type_)
        assert each["type"] == ("array" if is_list else "integer")
    columns = schema("manifest")["properties"]["columns"]
    assert columns["items"]["enum"] == [name for name, _ in OPTIONAL]


TYPES = {"float": "float32"}
"""What Arrow calls otherwise in a list."""


def test_columns_in_the_prose() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", FORMAT, re.MULTILINE)
    assert [(name, html.unescape(type_)) for name, type_ in table] == [
        (name, f"list<{TYPES.get(str(type_.value_type), type_.value_type)}>")
        if pa.types.is_list(type_)
        else (name, str(type_))
        for name, type_ in (*COLUMNS, *OPTIONAL)
    ]
    applied = ", ".join(f"`{name}`" for name in APPLIED[:-1]) + f" and `{APPLIED[-1]}`"
    assert f"A trainer MUST apply {applied}, or refuse the rows." in FORMAT


def test_the_version_in_schemas_and_prose() -> None:
    assert FORMAT.startswith(f"# The format, version {FORMAT_VERSION}\n")
    assert re.search(schema("manifest")["properties"]["format_version"]["pattern"], FORMAT_VERSION)


# --- the rules of FORMAT.md ----------------------------------------------------------------------


def broken_rules(row: Row) -> set[int]:
    """Name the rules of FORMAT.md, "What holds in every row", that a row breaks; brute force.

    Rule 4 says what the columns mean and cannot be broken.
    """
    length, ids = row["length"], row["input_ids"]
    positions, labels = row["position_ids"], row["labels"]
    starts, until, samples = row["segment_start"], row["segment_visible_until"], row["sample_start"]

    broken = set()
    if not len(ids) == len(positions) == len(labels) == length > 0:
        broken.add(1)
    columns = [row[name] for name in row if name.startswith("segment_")]
    if not rises_from_0(starts, length) or {len(column) for column in columns} != {len(starts)}:
        broken.add(2)
    if not rises_from_0(samples, length) or not set(samples) <= set(starts):
        broken.add(3)
    if broken:
        return broken  # the other rules go by these

    sample_end = [min(end for end in [*samples, length] if end > start) for start in starts]
    segment_end = [*starts[1:], length]
    if not all(
        a <= b <= c for a, b, c in zip(segment_end, until, sample_end, strict=True)
    ) or not nest(list(zip(starts, until, strict=True))):
        broken.add(5)
    seen = visible(row)
    depth = seen.sum(axis=1) - 1
    if positions != depth.tolist() or any(positions[start] for start in samples):
        broken.add(6)
    trained = [place for place, label in enumerate(labels) if label != -100]
    if any(labels[place] != ids[place] or place in samples for place in trained):
        broken.add(7)
    if any(place == 0 or positions[place] != positions[place - 1] + 1 for place in trained):
        broken.add(8)
    if max(pairs(row, seen, trained).values(), default=1) > 1:
        broken.add(9)
    return broken


def rises_from_0(values: list[int], length: int) -> bool:
    return values[:1] == [0] and all(a < b for a, b in itertools.pairwise([*values, length]))


def nest(intervals: list[tuple[int, int]]) -> bool:
    """Whether of two intervals one holds the other, or none meets the other."""
    return all(
        b <= c or d <= a or (a <= c and d <= b) or (c <= a and b <= d)
        for (a, b), (c, d) in itertools.combinations(intervals, 2)
    )


def visible(row: Row) -> np.ndarray:
    """bool[T, T] by rule 4: `[q, k]` is whether q may attend to k."""
    token = np.arange(row["length"])
    sizes = np.diff([*row["segment_start"], row["length"]])
    until = np.repeat(row["segment_visible_until"], sizes)
    return (token[None] <= token[:, None]) & (token[:, None] < until[None])


def pairs(row: Row, seen: np.ndarray, trained: list[int]) -> Counter[tuple[int, bytes, int]]:
    """Count each sample's pairs of a prefix and a trained token."""
    ids = np.array(row["input_ids"])
    return Counter(
        (
            sum(start <= place for start in row["sample_start"]),
            ids[:place][seen[place, :place]].tobytes(),
            int(ids[place]),
        )
        for place in trained
    )


def good_row() -> Row:
    """Two samples: `1 2` branches into `3 4`, trained, and `4 5 6`, of which 6 is; then `7 8`."""
    return {
        "input_ids": [1, 2, 3, 4, 4, 5, 6, 7, 8],
        "position_ids": [0, 1, 2, 3, 2, 3, 4, 0, 1],
        "labels": [-100, -100, 3, 4, -100, -100, 6, -100, 8],
        "length": 9,
        "segment_start": [0, 2, 4, 5, 7],
        "segment_visible_until": [7, 4, 7, 7, 9],
        "segment_kind": [0, 1, 2, 1, 3],
        "segment_message": [0, 1, 1, 3, 0],
        "sample_start": [0, 7],
        "sample_id": ["a", "b"],
    }


FAULTS: list[tuple[int, Row]] = [
    (1, {"labels": [-100, -100, 3, 4, -100, -100, 6, -100]}),
    (1, {"position_ids": [0, 1, 2, 3, 2, 3, 4, 0]}),
    (1, {"length": 8}),
    (2, {"segment_start": [1, 2, 4, 5, 7]}),
    (2, {"segment_start": [0, 4, 2, 5, 7]}),
    (2, {"segment_start": [0, 2, 2, 5, 7]}),
    (2, {"segment_kind": [0, 1, 2, 1]}),
    (3, {"sample_start": [7]}),
    (3, {"sample_start": [0, 6]}),
    (3, {"sample_start": [0, 7, 7]}),
    (5, {"segment_visible_until": [9, 4, 7, 7, 9]}),  # seen from the next sample
    (5, {"segment_visible_until": [1, 4, 7, 7, 9]}),  # not by all of its own tokens
    (5, {"segment_visible_until": [6, 4, 7, 7, 9]}),  # crosses
    (6, {"segment_visible_until": [7, 5, 7, 7, 9]}),
    (6, {"position_ids": [0, 1, 2, 3, 4, 5, 6, 0, 1]}),
    (6, {"position_ids": [0, 1, 2, 3, 2, 3, 4, 5, 6]}),
    (6, {"position_ids": list(range(9))}),
    (7, {"labels": [-100, -100, -100, 3, 4, -100, -100, 6, -100]}),  # shifted
    (7, {"labels": [1, -100, 3, 4, -100, -100, 6, -100, 8]}),
    (7, {"labels": [-100, -100, 3, 4, -100, -100, 6, 7, 8]}),
    (8, {"labels": [-100, -100, 3, 4, 4, -100, 6, -100, 8]}),  # the first of the second branch
    (
        9,
        {
            "input_ids": [1, 2, 3, 4, 3, 4, 6, 7, 8],
            "labels": [-100, -100, 3, 4, -100, 4, 6, -100, 8],
        },
    ),
]


def test_a_good_row_breaks_no_rule() -> None:
    assert broken_rules(good_row()) == set()
    Draft202012Validator(schema("row")).validate(good_row())


@pytest.mark.parametrize(("rule", "fault"), FAULTS)
def test_each_rule_is_checked(rule: int, fault: Row) -> None:
    assert rule in broken_rules({**good_row(), **fault})


def test_all_rules_of_the_prose_are_checked() -> None:
    _, _, section = FORMAT.partition("## What holds in every row\n")
    numbers = re.findall(r"^(\d+)\. ", section.partition("\n## ")[0], re.MULTILINE)
    assert [int(number) for number in numbers] == sorted({rule for rule, _ in FAULTS} | {4})


@pytest.mark.parametrize("path", sorted((SCHEMAS / "vectors").glob("*.json")), ids=lambda p: p.stem)
def test_vectors_hold_to_schema_and_rules(path: Path) -> None:
    vector = json.loads(path.read_bytes())
    rows = vector.get("rows") or [vector["row"]]
    for row in rows:
        Draft202012Validator(schema("row")).validate(row)
        assert broken_rules(row) == set()


# --- the fixtures, packed ------------------------------------------------------------------------

BROKEN = [b'{"messages": [', b'{"messages": "\xff"}']
RUNS = {
    "packed": ["--packing", "--max-length", "4096"],
    "arrow": ["--format", "arrow"],
    "npass": ["--layout", "npass"],
}


@pytest.fixture(scope="module", params=RUNS)
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture chats and two lines that are no records, packed from two files."""
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "broken.jsonl").write_bytes(b"\n".join(BROKEN))
    inputs = [str(FIXTURES / "chats.jsonl"), str(folder / "broken.jsonl")]
    options = ["--tokenizer", str(FIXTURES / "tokenizer"), "--on-error", "skip"]
    arguments = [*inputs, *options, "--output", str(folder / "out"), *RUNS[request.param]]
    done = CliRunner().invoke(cli, ["pack", *arguments], catch_exceptions=False)
    assert done.exit_code == 3, done.output
    return folder / "out"


def manifest_of(dataset: Path) -> Json:
    read: Json = json.loads((dataset / "manifest.json").read_bytes())
    return read


def rows_of(dataset: Path) -> Iterator[Row]:
    for shard in manifest_of(dataset)["shards"]:
        for batch in read_shard(dataset / shard["path"]):
            yield from batch.to_pylist()


@pytest.mark.long
def test_every_row_holds_to_schema_and_rules(dataset: Path) -> None:
    validator = Draft202012Validator(schema("row"))
    rows = list(rows_of(dataset))
    assert rows
    for row in rows:
        validator.validate(row)
        assert broken_rules(row) == set()


def test_the_manifest_holds_to_its_schema(dataset: Path) -> None:
    Draft202012Validator(schema("manifest")).validate(manifest_of(dataset))


def test_receipts_hold_to_their_schema_and_add_up(dataset: Path) -> None:
    manifest = manifest_of(dataset)
    paths = sorted((dataset / "receipts").glob("?????.json"))
    receipts = [json.loads(path.read_bytes()) for path in paths]
    for number, receipt in enumerate(receipts):
        Draft202012Validator(schema("receipt")).validate(receipt)
        assert receipt["unit"]["number"] == number
        assert paths[number].name == f"{number:05d}.json"
    assert [each for receipt in receipts for each in receipt["shards"]] == manifest["shards"]
    assert added(receipt["counts"] for receipt in receipts) == added([manifest["counts"]])


def added(counts: typing.Iterable[Json]) -> Counter[tuple[str, ...]]:
    """Add numbers up, also those one level down."""
    total: Counter[tuple[str, ...]] = Counter()
    for each in counts:
        for name, value in each.items():
            inner = value if isinstance(value, Mapping) else {"": value}
            total.update({(name, key): number for key, number in inner.items()})
    return total


def test_the_manifest_names_the_shards_as_they_are(dataset: Path) -> None:
    manifest = manifest_of(dataset)
    assert {path.relative_to(dataset).as_posix() for path in (dataset / "data").iterdir()} == {
        shard["path"] for shard in manifest["shards"]
    }
    for shard in manifest["shards"]:
        content = (dataset / shard["path"]).read_bytes()
        batches = list(read_shard(dataset / shard["path"]))
        lengths = [length for batch in batches for length in batch.column("length").to_pylist()]
        assert shard["bytes"] == len(content)
        assert shard["sha256"] == hashlib.sha256(content).hexdigest()
        assert (shard["rows"], shard["tokens"]) == (len(lengths), sum(lengths))


def test_the_manifest_counts_what_is_in_the_rows(dataset: Path) -> None:
    counts = manifest_of(dataset)["counts"]
    rows = list(rows_of(dataset))
    kinds: Counter[str] = Counter()
    for row in rows:
        ends = [*row["segment_start"][1:], row["length"]]
        for kind, start, end in zip(row["segment_kind"], row["segment_start"], ends, strict=True):
            kinds[Kind(kind).label] += end - start
    chats = (FIXTURES / "chats.jsonl").read_bytes().splitlines()
    ids = {each for row in rows for each in row["sample_id"]}
    assert counts["conversations"] == len(chats) + len(BROKEN)
    assert counts["packed"] == len(ids) == len(chats)
    assert (counts["rejected"], sum(counts["rejects"].values())) == (len(BROKEN), len(BROKEN))
    assert counts["rows"] == len(rows)
    assert counts["tokens"] == sum(row["length"] for row in rows)
    assert {kind: number for kind, number in counts["tokens_by_kind"].items() if number} == kinds
    assert counts["trained_tokens"] == sum(label != -100 for row in rows for label in row["labels"])


def test_shards_hold_the_metadata_of_the_manifest(dataset: Path) -> None:
    manifest = manifest_of(dataset)
    expected = {
        (METADATA_PREFIX + name).encode(): manifest[name].encode()
        for name in ("format_version", "layout", "tokenizer_sha256", "template_sha256")
    }
    names = {name.decode() for name in expected}
    assert names <= set(re.findall(r"`(reasonpack\.\w+)`", FORMAT))
    for shard in manifest["shards"]:
        for batch in read_shard(dataset / shard["path"]):
            assert expected.items() <= batch.schema.metadata.items()


def test_rejects_are_whole(dataset: Path) -> None:
    lines = (dataset / "rejects.jsonl").read_bytes().splitlines()
    rejects = [json.loads(line) for line in lines]
    for reject in rejects:
        Draft202012Validator(schema("reject")).validate(reject)
    assert [reject["where"].rpartition(":")[2] for reject in rejects] == ["1", "2"]
    for reject, line in zip(rejects, BROKEN, strict=True):
        assert reject["error"].startswith(reject["where"])
        assert reject["reason"] in manifest_of(dataset)["counts"]["rejects"]
        if "record" in reject:
            assert reject["record"].encode() == line
        else:
            assert base64.b64decode(reject["record_base64"]) == line


def test_a_dataset_holds_what_the_prose_names_and_no_more(dataset: Path) -> None:
    _, _, tree = FORMAT.partition("```\npacked/\n")
    named = set(re.findall(r"^  ([\w.]+)", tree.partition("```")[0], re.MULTILINE))
    found = {path.relative_to(dataset).as_posix() for path in dataset.iterdir()}
    assert found == named - {"groups.index", "copies.index"}  # of calls, and of blends
    assert not [path for path in dataset.rglob("*") if path.name.startswith(".")]
