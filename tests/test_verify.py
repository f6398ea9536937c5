"""`verify` finds what is wrong with a dataset: one thing changed, one code found.

A small dataset of two shards is packed once for each layout. Each test damages a copy of it in one
way and mends sizes, hashes and counts after that, so that nothing but the damage shows:

    good ── copy ── one change ── seal ──▶ verify ──▶ exactly one code
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from encoded import encoded_view
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from reasonpack.cli import cli, run
from reasonpack.errors import RecordError, TokenizerError
from reasonpack.layout import EncodedView, Sample, lay_out
from reasonpack.run.content import combined_hash, content_hash
from reasonpack.run.context import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.findings import CODES, KEPT, Finding, Findings
from reasonpack.verify.manifest import Manifest, read_dataset
from reasonpack.verify.paths import fingerprint, row_paths, together, view_paths
from reasonpack.verify.rows import Row, check_row
from reasonpack.verify.source import Rebuilt, TokenView, why_rejected

Json = dict[str, Any]
FIXTURES = Path(__file__).parent.parent / "fixtures"
TOKENIZER = FIXTURES / "tokenizer"
BROKEN = b'{"id": "broken", "messages": []}'
#: short ones, among them a tool loop; in two files
FIRST = ("bicycle-chain", "umbrella", "small-talk")
SECOND = ("tartib-alaryaf", "dice-at-least-one-six", "root-two")


# --- a good dataset ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packed:
    """A dataset and what it was packed from."""

    directory: Path
    inputs: list[Path]

    def verify(self) -> Findings:
        return verify_dataset(self.directory)

    def compare(self, **options: Any) -> Findings:
        return verify_dataset(self.directory, [str(path) for path in self.inputs], **options)

    def json(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text())

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file; a receipt gets its hash."""
        if name.startswith("receipts/") and "sha256" in value:
            compact = {**value, "sha256": ""}
            text = json.dumps(compact, separators=(",", ":"), ensure_ascii=False)
            value = {**value, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        (self.directory / name).write_text(json.dumps(value))

    @property
    def shards(self) -> list[Path]:
        return sorted((self.directory / "data").iterdir())


def chats() -> dict[str, bytes]:
    lines = (FIXTURES / "chats.jsonl").read_bytes().splitlines()
    return {json.loads(line)["id"]: line for line in lines}


def pack(folder: Path, files: dict[str, list[bytes]], **asked: Any) -> Packed:
    """Pack lines; each file becomes a shard."""
    for name, lines in files.items():
        (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
    inputs = [folder / name for name in files]
    options = {"tokenizer": str(TOKENIZER), "on_error": "skip", "packing": True, "max_length": 4096}
    pack_files(list(map(str, inputs)), folder / "packed", Options(**{**options, **asked}))
    return Packed(folder / "packed", inputs)


def pack_two(folder: Path, **asked: Any) -> Packed:
    """Pack six conversations and a broken one into two shards."""
    known = chats()
    files = {
        "a.jsonl": [BROKEN, *(known[id_] for id_ in FIRST)],
        "b.jsonl": [known[id_] for id_ in SECOND],
    }
    return pack(folder, files, **asked)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_two(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def good_npass(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_two(tmp_path_factory.mktemp("npass"), layout="npass")


def copied(made: Packed, folder: Path) -> Packed:
    shutil.copytree(made.directory, folder / "packed")
    return Packed(folder / "packed", [Path(shutil.copy(path, folder)) for path in made.inputs])


@pytest.fixture
def packed(good: Packed, tmp_path: Path) -> Packed:
    """A copy of the good dataset, to damage; its source is a copy too."""
    return copied(good, tmp_path)


@pytest.fixture
def packed_npass(good_npass: Packed, tmp_path: Path) -> Packed:
    return copied(good_npass, tmp_path)


@pytest.fixture(params=["onepass", "npass"])
def either(
    good: Packed, good_npass: Packed, tmp_path: Path, request: pytest.FixtureRequest
) -> Packed:
    """A copy in each of the two layouts."""
    return copied(good if request.param == "onepass" else good_npass, tmp_path)


# --- changing one thing --------------------------------------------------------------------------

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
            shard.update(content_hash=content_hash(table.to_batches()))
            counts.update(rows=shard["rows"], tokens=shard["tokens"])
            counts.update(measured(rows) if recount else {})
            counts.update(conversations=counts["packed"] + counts["rejected"])
        packed.write(f"receipts/{number:05d}.json", {**receipt, "shard": shard})
        total.update({name: n for name, n in counts.items() if not isinstance(n, dict)})
        total.update(counts["tokens_by_kind"])
    kinds = manifest["counts"]["tokens_by_kind"]
    kinds.update({kind: total[kind] for kind in kinds})
    manifest["counts"].update({name: total[name] for name in total if name not in kinds})
    manifest["content_hash"] = combined_hash(shard["content_hash"] for shard in manifest["shards"])
    packed.write("manifest.json", manifest)


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

    return damage


def reshard(change: Change) -> Damage:
    """Change what manifest and receipt say of the first shard."""

    def damage(packed: Packed) -> None:
        rejson("manifest.json", lambda manifest: change(manifest["shards"][0]))(packed)
        rejson("receipts/00000.json", lambda receipt: change(receipt["shard"]))(packed)

    return damage


def both(one: Damage, two: Damage) -> Damage:
    return lambda packed: (one(packed), two(packed))


def put(name: str, text: str) -> Damage:
    return lambda packed: (packed.directory / name).write_text(text)


def remove(name: str) -> Damage:
    return lambda packed: (packed.directory / name).unlink()


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


def relabelled(table: pa.Table, **metadata: str | None) -> pa.Table:
    changed = dict(table.schema.metadata)
    for name, value in metadata.items():
        changed.pop(f"reasonpack.{name}".encode())
        if value is not None:
            changed[f"reasonpack.{name}".encode()] = value.encode()
    return table.replace_schema_metadata(changed)


SHARD = "data/train-00000-of-00002.parquet"
REJECTS = "receipts/00000.rejects.jsonl"
DAMAGES: dict[str, list[Damage]] = {
    "RP001": [remove("manifest.json"), put("manifest.json", "{")],
    "RP002": [
        rejson("manifest.json", lambda manifest: manifest.update(format_version="2.0")),
        rejson("manifest.json", lambda manifest: manifest.pop("format_version")),
        put("manifest.json", "[]"),
    ],
    "RP003": [
        rejson("manifest.json", lambda manifest: manifest.pop("counts")),
        rejson("manifest.json", lambda manifest: manifest.update(layout="other")),
        rejson("manifest.json", lambda manifest: manifest["shards"][0].update(path="../x.parquet")),
        rejson("manifest.json", lambda manifest: manifest["counts"].update(packed=-1)),
    ],
    "RP004": [remove(SHARD)],
    "RP005": [copy_to(SHARD, "data/train-00002-of-00002.parquet")],
    "RP006": [reshard(lambda shard: add(shard, "bytes"))],
    "RP007": [reshard(lambda shard: shard.update(sha256="0" * 64))],
    "RP008": [truncate],
    "RP009": [
        both(reshard(lambda shard: add(shard, "rows")), recount(lambda counts: add(counts, "rows")))
    ],
    "RP010": [
        both(
            reshard(lambda shard: add(shard, "tokens")),
            recount(lambda counts: add(counts, "tokens")),
        )
    ],
    "RP011": [
        remove("receipts/00001.json"),
        rejson("receipts/00001.json", lambda receipt: receipt.pop("counts")),
        put("receipts/00001.json", "{"),
        copy_to("receipts/00001.json", "receipts/00002.json"),
        lambda packed: put(
            "receipts/00001.json",
            (packed.directory / "receipts/00001.json").read_text().replace("b.jsonl", "c.jsonl"),
        )(packed),
    ],
    "RP012": [
        rejson("receipts/00001.json", lambda receipt: add(receipt["shard"], "bytes")),
        rejson("receipts/00001.json", lambda receipt: receipt.update(plan_sha256="0" * 64)),
    ],
    "RP013": [
        recount(lambda counts: add(counts, "trained_tokens")),
        recount(lambda counts: add(counts, "npass_tokens", -1)),
        recount(lambda counts: add(counts, "samples")),
        recount(lambda counts: add(counts["tokens_by_kind"], "r_in")),
        recount(lambda counts: (add(counts, "packed"), add(counts, "conversations"))),
    ],
    "RP014": [
        rejson("manifest.json", lambda manifest: add(manifest["counts"], "views")),
        rejson("manifest.json", lambda manifest: add(manifest["counts"]["tokens_by_kind"], "t")),
        recount(lambda counts: add(counts, "conversations")),
    ],
    "RP015": [
        put("rejects.jsonl", "{}\n"),
        put("rejects.jsonl", '{"where": "a:1", "reason": "empty", "error": "no record"}\n'),
    ],
    "RP016": [
        remove("rejects.jsonl"),
        lambda packed: put("rejects.jsonl", (packed.directory / "rejects.jsonl").read_text() * 2)(
            packed
        ),
    ],
    "RP017": [
        both(
            reshard(lambda shard: shard.update(content_hash="0" * 64)),
            rejson(
                "manifest.json",
                lambda manifest: manifest.update(
                    content_hash=combined_hash(s["content_hash"] for s in manifest["shards"])
                ),
            ),
        ),
        rejson("manifest.json", lambda manifest: manifest.update(content_hash="0" * 64)),
    ],
    "RP018": [
        remove(REJECTS),
        put(REJECTS, ""),
        rejson("receipts/00000.json", lambda receipt: add(receipt["rejects"], "lines")),
    ],
    "RP101": [
        recast(lambda table: table.select(table.column_names[::-1])),
        recast(lambda table: table.append_column("extra", table.column("length"))),
        recast(
            lambda table: table.set_column(3, "length", table.column("length").cast(pa.int64()))
        ),
        recast(lambda table: table.set_column(7, "segment_message", table.column("length"))),
    ],
    "RP102": [recast(nullable)],
    "RP103": [],  # below: it takes an Arrow stream
    "RP104": [
        recast(lambda table: relabelled(table, layout=None)),
        recast(lambda table: relabelled(table, format_version="1.1")),
        recast(lambda table: relabelled(table, template_sha256="0" * 64)),
    ],
    "RP105": [
        recast(
            lambda table: pa.Table.from_pylist(
                [tiny(-100, -100, 7, -100, -100)] * 1001, schema=table.schema
            )
        )
    ],
    "RP201": [
        edit(lambda row: row["labels"].pop()),
        edit(lambda row: row["position_ids"].append(0)),
        edit(lambda row: add(row, "length")),
        edit(lambda row: row.update({name: [] for name in row if name != "length"}, length=0)),
    ],
    "RP202": [
        edit(lambda row: add(row["segment_start"], 0)),
        edit(lambda row: row["segment_start"].__setitem__(1, row["segment_start"][2])),
        edit(lambda row: row["segment_start"].__setitem__(-1, row["length"])),
    ],
    "RP203": [
        edit(lambda row: row["segment_kind"].append(0)),
        edit(lambda row: row["segment_message"].pop()),
        edit(lambda row: row["segment_visible_until"].pop()),
    ],
    "RP204": [
        edit(lambda row: row["sample_id"].append("one more")),
        edit(lambda row: add(row["sample_start"], 0)),
        edit(lambda row: row["sample_start"].__setitem__(1, row["length"])),
    ],
    "RP205": [edit(lambda row: add(row["sample_start"], 1))],
    "RP206": [
        edit(lambda row: add(row["segment_visible_until"], -1)),
        edit(lambda row: add(row["segment_visible_until"], -1, -1)),
        edit(lambda row: row["segment_visible_until"].__setitem__(0, row["length"])),
    ],
    "RP207": [edit(cross)],
    "RP208": [
        edit(lambda row: add(row["position_ids"], context(row))),
        edit(lambda row: row.update(position_ids=list(range(row["length"])))),
    ],
    "RP209": [
        edit(lambda row: add(row["labels"], trained(row))),
        edit(lambda row: row["labels"].__setitem__(context(row), -1)),
    ],
    "RP210": [
        edit(own("labels", lambda row: 0)),
        edit(own("labels", lambda row: row["sample_start"][1])),
    ],
    "RP211": [edit(own("labels", branch))],
    "RP212": [edit(lambda row: row.update(tiny(-100, -100, 7, -100, 7)))],
    "RP213": [edit(lambda row: row["input_ids"].__setitem__(context(row), -1))],
    "RP214": [edit(lambda row: row["segment_kind"].__setitem__(0, 4))],
    "RP215": [edit(lambda row: row["segment_message"].__setitem__(0, -2))],
}


def numbered(damages: dict[str, list[Damage]]) -> list[Any]:
    return [
        pytest.param(code, damage, id=f"{code}-{number}")
        for code, each in damages.items()
        for number, damage in enumerate(each)
    ]


# --- the dataset by itself -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_a_good_dataset_passes(good: Packed, good_npass: Packed, layout: str) -> None:
    made = good if layout == "onepass" else good_npass
    findings, counts = made.verify(), made.json("manifest.json")["counts"]
    names = ("rows", "samples", "tokens", "trained_tokens")
    assert (findings.total, findings.warnings) == (0, [])
    assert findings.checked == {"shards": 2, **{name: counts[name] for name in names}}
    assert (counts["packed"], counts["rejected"]) == (6, 1)
    assert (counts["samples"] == 6) == (layout == "onepass")


@pytest.mark.parametrize(("code", "damage"), numbered(DAMAGES))
def test_one_damage_one_code(packed: Packed, code: str, damage: Damage) -> None:
    damage(packed)
    findings = packed.verify()
    assert set(findings.counts) == {code}, [str(finding) for finding in findings.listed]
    assert all(finding.file and finding.what for finding in findings.listed)


def test_a_null_is_found(tmp_path: Path) -> None:
    packed = pack_two(tmp_path, format="arrow", compression=None)
    assert packed.verify().total == 0
    table = read(packed.shards[0])
    type_ = table.schema.field("input_ids").type
    lists = table.column("input_ids").to_pylist()
    values = pa.array(
        [None, *itertools.chain.from_iterable(lists)][: sum(map(len, lists))], "int32"
    )
    offsets = pa.array([0, *itertools.accumulate(map(len, lists))], "int32")
    column = pa.ListArray.from_arrays(offsets, values, type=type_)
    write(packed.shards[0], table.set_column(0, table.schema.field("input_ids"), column))
    seal(packed)
    assert set(packed.verify().counts) == {"RP103"}


def test_offsets_out_of_bounds_are_found(tmp_path: Path) -> None:
    """Reading the values of such a batch would end the process."""
    packed = pack_two(tmp_path, format="arrow", compression=None)
    path = packed.shards[0]
    column = read(path).column("segment_start").combine_chunks()
    offsets = np.asarray(column.offsets, np.int32).tobytes()
    data = bytearray(path.read_bytes())
    at = data.index(offsets, data.index(np.asarray(column.values, np.int32).tobytes()) - 200)
    data[at + len(offsets) - 1] = 0x70
    path.write_bytes(data)
    reshard(lambda shard: shard.update(sha256=hashlib.sha256(data).hexdigest()))(packed)
    assert set(packed.verify().counts) == {"RP008"}


def test_every_code_has_a_damage() -> None:
    elsewhere = {"RP301", "RP302", "RP303"}  # the source is not the dataset's at all
    assert sorted(CODES) == sorted({*DAMAGES, *SOURCE_DAMAGES, *elsewhere})


def test_a_newer_minor_version_may_have_more(packed: Packed) -> None:
    rejson("manifest.json", lambda manifest: manifest.update(format_version="1.7", new=1))(packed)
    for path in packed.shards:
        table = relabelled(read(path), format_version="1.7")
        write(path, table.append_column("loss_weights", table.column("length")))
    seal(packed)
    assert packed.verify().total == 0


def test_a_temporary_file_is_only_a_warning(packed: Packed) -> None:
    name = "data/.train-00000-of-00001.parquet.1.tmp"
    (packed.directory / name).write_bytes(b"half")
    findings = packed.verify()
    assert (findings.total, len(findings.warnings)) == (0, 1)
    assert name in findings.warnings[0]


def test_a_finding_says_where_it_is(packed: Packed) -> None:
    table = read(packed.shards[1])
    rows = table.to_pylist()
    token = trained(rows[-1])
    rows[-1]["labels"][token] += 1
    write(packed.shards[1], pa.Table.from_pylist(rows, schema=table.schema))
    seal(packed)
    (finding,) = packed.verify().listed
    first_shard = packed.json("manifest.json")["shards"][0]["rows"]
    assert finding.row == first_shard + len(rows) - 1
    assert (finding.sample, finding.token) == (rows[-1]["sample_id"][0], token)
    assert finding.message is not None
    assert rows[-1]["sample_id"][0] in str(finding)


# --- rows, against the oracle --------------------------------------------------------------------

tokens = st.integers(0, 3)
texts = st.lists(tokens, min_size=1, max_size=5)
conversations = st.lists(st.tuples(texts, texts), min_size=1, max_size=4)


def encoded(prompt: list[int], completion: list[int]) -> EncodedView:
    return encoded_view(
        prompt + completion,
        prompt_length=len(prompt),
        kinds=[0] * len(prompt) + [3] * len(completion),
        messages=[1] * len(prompt + completion),
    )


def table_of(samples: list[Sample]) -> Json:
    """Put samples into a row."""
    row: Json = {name: [] for name in Row.__slots__}
    start = 0
    for sample in samples:
        segments = sample.segments
        row["input_ids"] += sample.input_ids.tolist()
        row["position_ids"] += sample.position_ids.tolist()
        row["labels"] += sample.labels.tolist()
        row["segment_start"] += (segments.start + start).tolist()
        row["segment_visible_until"] += (segments.visible_until + start).tolist()
        row["segment_kind"] += segments.kind.tolist()
        row["segment_message"] += segments.message.tolist()
        row["sample_start"].append(start)
        row["sample_id"].append("")
        start += sample.length
    return {**row, "length": start}


def columns(views: list[tuple[list[int], list[int]]], copies: int) -> Json:
    """Lay out views, and put copies of the sample in one row."""
    return table_of([*lay_out("", [encoded(*view) for view in views]).samples] * copies)


def as_row(table: Json) -> Row:
    kinds = {"segment_kind": np.uint8}
    arrays = {
        name: np.array(value, kinds.get(name, np.int32))
        for name, value in table.items()
        if name not in ("length", "sample_id")
    }
    return Row(**arrays, length=table["length"], sample_id=table["sample_id"])


def sound(table: Json) -> bool:
    """Whether the oracle finds nothing wrong."""
    try:
        pairs = oracle.check_samples(table)
    except AssertionError:
        return False
    return all(count == 1 for sample in pairs for count in sample.values())


@given(views=conversations, copies=st.integers(1, 2), data=st.data())
def test_rows_are_judged_as_the_oracle_judges_them(
    views: list[tuple[list[int], list[int]]], copies: int, data: st.DataObject
) -> None:
    try:
        table = columns(views, copies)
    except RecordError:
        return
    assert sound(table)
    assert check_row(as_row(table))[0] == []
    name = data.draw(
        st.sampled_from(
            [
                "input_ids",
                "position_ids",
                "labels",
                "segment_start",
                "segment_visible_until",
                "sample_start",
            ]
        )
    )
    at = data.draw(st.integers(0, len(table[name]) - 1))
    value = data.draw(st.integers(0, table["length"] + 1) | st.just(-100))
    if name == "input_ids":
        value = abs(value)
    table[name][at] = value
    faults, paths = check_row(as_row(table))
    assert (faults == []) == (paths is not None) == sound(table), (table, faults)


@given(views=conversations, copies=st.integers(1, 2))
def test_equal_paths_are_equal_prefixes(
    views: list[tuple[list[int], list[int]]], copies: int
) -> None:
    try:
        table = columns(views, copies)
    except RecordError:
        return
    row = as_row(table)
    paths = check_row(row)[1]
    assert paths is not None
    visible = oracle.visible(table)
    for token in range(row.length):
        seen = np.flatnonzero(visible[token])
        prefix = row.input_ids[seen[np.argsort(row.position_ids[seen])]]
        assert np.array_equal(paths.seen[token], view_paths(prefix, 0).seen[-1])
        if row.trained[token]:
            assert np.array_equal(paths.predicted[token], paths.seen[token])
        assert paths.leaf[token] == (visible[:, token].sum() == 1)
    by_path = {
        path.tobytes()
        for view in views
        for path in view_paths(np.array([*view[0], *view[1]]), 0).seen
    }
    assert {path.tobytes() for path in paths.seen} == by_path


def test_a_trained_path_is_what_the_token_before_sees() -> None:
    """Rule 8 broken: token 3 follows token 0 in the tree, but is predicted from token 2."""
    ids, positions = np.array([5, 6, 7, 8]), np.array([0, 1, 2, 1])
    paths = row_paths(
        ids,
        positions,
        segments=(np.array([0, 1, 3]), np.array([1, 3, 4]), np.array([4, 3, 4])),
        trained=np.array([False, False, True, True]),
    )
    assert np.array_equal(paths.seen[3], view_paths(np.array([5, 8]), 1).seen[-1])
    assert not np.array_equal(paths.predicted[3], paths.seen[3])


# --- against the source --------------------------------------------------------------------------


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


SOURCE_DAMAGES: dict[str, list[Damage]] = {
    "RP304": [
        resource(1, lambda lines: lines.append(chats()["ab-test"])),
        resource(1, lambda lines: lines.insert(0, chats()["ab-test"])),
        resource(1, lambda lines: lines.append(b'{"messages": 3}')),
        resource(1, lambda lines: lines.append(lines[0])),
        drop_sample,
    ],
    "RP305": [
        resource(0, lambda lines: lines.pop()),
        resource(1, lambda lines: lines.pop(0)),
    ],
    "RP306": [
        resource(0, lambda lines: lines.__setitem__(0, b"")),
    ],
    "RP307": [reject(lambda line: line.update(reason="overlong"))],
    "RP308": [rerecord(0, 1, forget)],
    "RP309": [
        edit(swap),
        edit(lambda row: add(row["input_ids"], context(row))),
        rerecord(0, 1, reply),
        rerecord(1, 0, lambda record: record["messages"].pop()),
        rerecord(0, 1, lambda record: record["messages"][1].update(train=False)),
    ],
    "RP310": [
        edit(untrain, recount=True),
        edit(own("labels", lambda row: branch(row) + 1), recount=True),
    ],
    "RP311": [
        recount(lambda counts: add(counts, "views")),
        recount(lambda counts: add(counts, "naive_tokens", -1)),
        recount(lambda counts: add(counts, "missing_reasoning")),
    ],
}


@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_a_good_dataset_is_its_source(good: Packed, good_npass: Packed, layout: str) -> None:
    made = good if layout == "onepass" else good_npass
    findings, counts = made.compare(), made.json("manifest.json")["counts"]
    assert (findings.total, findings.warnings) == (0, [])
    assert {name: findings.checked[name] for name in ("records", "rejects", "conversations")} == {
        "records": 7,
        "rejects": 1,
        "conversations": 6,
    }
    assert findings.checked["views"] == counts["views"]
    assert findings.checked["naive_tokens"] == counts["naive_tokens"]


@pytest.mark.parametrize(("code", "damage"), numbered(SOURCE_DAMAGES))
def test_one_damage_one_code_against(packed: Packed, code: str, damage: Damage) -> None:
    damage(packed)
    assert packed.verify().total == 0, "the dataset by itself is sound"
    findings = packed.compare()
    assert findings.counts == {code: 1}, [str(finding) for finding in findings.listed]
    if code in {"RP305", "RP308", "RP309", "RP310"}:
        (finding,) = findings.listed
        assert finding.row is not None
        assert finding.sample in {*FIRST, *SECOND}


def test_a_reject_of_another_line_leaves_two_without_a_match(packed: Packed) -> None:
    reject(lambda line: line.update(where=line["where"] + "9"))(packed)
    assert packed.compare().counts == {"RP304": 1, "RP306": 1}


def test_a_reject_of_other_text_leaves_two_without_a_match(packed: Packed) -> None:
    reject(lambda line: line.update(record="{}"))(packed)
    assert packed.compare().counts == {"RP304": 1, "RP306": 1}


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        pytest.param("RP309", edit(swap), id="swapped"),
        pytest.param("RP309", edit(lambda row: add(row["input_ids"], context(row))), id="other"),
        pytest.param("RP309", rerecord(0, 1, reply), id="source changed"),
        pytest.param("RP309", partial(drop_sample, conversation=False), id="leaf dropped"),
        pytest.param("RP310", edit(untrain, recount=True), id="not trained"),
        pytest.param("RP310", edit(own("labels", context), recount=True), id="trained"),
        pytest.param("RP304", resource(1, lambda lines: lines.append(lines[0])), id="twice"),
        pytest.param("RP305", resource(1, lambda lines: lines.pop(0)), id="record gone"),
    ],
)
def test_npass_is_compared_by_conversation(packed_npass: Packed, code: str, damage: Damage) -> None:
    damage(packed_npass)
    assert packed_npass.verify().total == 0
    findings = packed_npass.compare()
    assert set(findings.counts) == {code}, [str(finding) for finding in findings.listed]


def test_a_token_of_two_leaves_is_trained_in_one(tmp_path: Path) -> None:
    """Both leaves go through the first answer, which had no reasoning."""
    messages = [
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "It is one."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "It is two.", "reasoning_content": "Count."},
        {"role": "user", "content": "Three?"},
        {"role": "assistant", "content": "It is three."},
    ]
    line = json.dumps({"id": "count", "messages": messages}).encode()
    template = str(FIXTURES / "templates" / "tool_loop.jinja")
    packed = pack(tmp_path, {"a.jsonl": [line]}, layout="npass", chat_template=template)
    assert packed.compare().total == 0
    edit(train_twice, recount=True)(packed)
    assert packed.verify().total == 0
    (finding,) = packed.compare().listed
    assert finding.code == "RP310"
    assert finding.what.endswith("is trained, expected it trained once")


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("RP209", edit(lambda row: add(row["labels"], trained(row)))),
        ("RP213", edit(lambda row: row["input_ids"].__setitem__(context(row), -1))),
    ],
)
def test_a_faulty_row_is_not_compared_as_well(either: Packed, code: str, damage: Damage) -> None:
    damage(either)
    assert either.compare().counts == {code: 1}


@pytest.mark.parametrize(
    ("code", "damage"), [("RP309", edit(swap)), ("RP310", edit(untrain, recount=True))]
)
def test_what_is_not_described_has_its_code_too(
    either: Packed, monkeypatch: pytest.MonkeyPatch, code: str, damage: Damage
) -> None:
    damage(either)
    described = either.compare()
    monkeypatch.setattr("reasonpack.verify.against.KEPT", 0)
    bare = either.compare()
    assert described.counts == bare.counts == {code: 1}
    assert described.listed[0].sample == bare.listed[0].sample


def test_an_unread_shard_is_one_violation(packed: Packed) -> None:
    remove(SHARD)(packed)
    findings = packed.compare()
    assert findings.counts == {"RP004": 1}
    assert findings.warnings == ["A shard could not be read, so its records were not looked for."]


# --- what the source is --------------------------------------------------------------------------


def test_another_tokenizer_or_template_is_refused(packed: Packed, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(TOKENIZER, tmp_path / "moved"))
    assert packed.compare(tokenizer=str(moved)).total == 0
    template = moved / "chat_template.jinja"
    template.write_text(template.read_text() + "{# #}")
    assert packed.compare(tokenizer=str(moved)).counts == {"RP302": 1}
    shutil.copy(TOKENIZER / template.name, template)
    with (moved / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert packed.compare(tokenizer=str(moved)).counts == {"RP301": 1}


def test_a_tokenizer_that_is_gone_can_be_named(packed: Packed) -> None:
    gone = rejson(
        "manifest.json", lambda manifest: manifest["options"].update(tokenizer="no/such/place")
    )
    gone(packed)
    with pytest.raises(TokenizerError, match="pass --tokenizer"):
        packed.compare()
    assert packed.compare(tokenizer=str(TOKENIZER)).total == 0


def test_another_number_of_inputs_is_refused(packed: Packed) -> None:
    assert Packed(packed.directory, packed.inputs[:1]).compare().counts == {"RP303": 1}


def test_names_of_moved_inputs_are_those_of_then(tmp_path: Path) -> None:
    """Records without an id are named after file and line."""
    lines = [
        json.dumps({**json.loads(chats()[id_]), "id": None}).encode() for id_ in FIRST + SECOND
    ]
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    made = pack(here, {"a.jsonl": lines[:3], "b.jsonl": lines[3:]})
    assert made.compare().total == 0
    assert Packed(made.directory, made.inputs[::-1]).compare().total == 0
    moved = Packed(made.directory, [Path(shutil.move(path, there)) for path in made.inputs])
    assert moved.compare().total == 0
    resource(1, lambda lines: lines.reverse())(moved)
    assert moved.compare().counts == {"RP309": 2}, "the one in the middle is where it was"


def test_a_changed_input_is_a_warning_if_its_records_are_the_same(packed: Packed) -> None:
    resource(0, lambda lines: lines.insert(2, b"   "))(packed)
    findings = packed.compare()
    assert (findings.total, len(findings.warnings)) == (0, 1)
    assert "not the bytes that were packed" in findings.warnings[0]


@pytest.mark.parametrize("kind", ["gzip", "parquet"])
def test_inputs_of_every_kind(tmp_path: Path, kind: str) -> None:
    table = [{"id": id_, **plain(json.loads(chats()[id_]))} for id_ in ("small-talk", "root-two")]
    table.append(json.loads(BROKEN))
    path = tmp_path / ("a.jsonl.gz" if kind == "gzip" else "a.parquet")

    def store() -> None:
        if kind == "gzip":
            path.write_bytes(
                gzip.compress("".join(json.dumps(row) + "\n" for row in table).encode())
            )
        else:
            pq.write_table(pa.Table.from_pylist(table), path)

    store()
    options = Options(tokenizer=str(TOKENIZER), on_error="skip")
    pack_files([str(path)], tmp_path / "packed", options)
    packed = Packed(tmp_path / "packed", [path])
    findings = packed.compare()
    assert (findings.total, findings.checked["rejects"]) == (0, 1)
    reply(table[1])
    store()
    assert packed.compare().counts == {"RP309": 1}


def plain(record: Json) -> Json:
    """Keep what every message has."""
    names = ("role", "content")
    return {"messages": [{name: each[name] for name in names} for each in record["messages"]]}


@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_ids_that_occur_several_times(tmp_path: Path, layout: str) -> None:
    known = [json.loads(chats()[id_]) for id_ in ("root-two", "small-talk", "tartib-alaryaf")]
    same = [json.dumps({**record, "id": "same"}).encode() for record in [*known, known[0]]]
    packed = pack(tmp_path, {"a.jsonl": same, "b.jsonl": same[:2]}, layout=layout)
    assert packed.compare().total == 0
    resource(0, lambda lines: lines.reverse())(packed)
    assert packed.compare().total == 0, "which of them is first does not matter"
    rerecord(0, 1, reply)(packed)
    assert packed.compare().counts == {"RP309": 1}
    resource(0, lambda lines: lines.pop(1))(packed)
    assert packed.compare().counts == {"RP305" if layout == "onepass" else "RP309": 1}


# --- a sample of the conversations ---------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_sample_compares_so_many(either: Packed, number: int) -> None:
    findings = either.compare(sample=number)
    assert (findings.total, findings.checked["conversations"]) == (0, number)
    assert (findings.checked["records"], findings.checked["rejects"]) == (7, 1)
    for at, lines in ((0, (1, 2, 3)), (1, (0, 1, 2))):
        for line in lines:
            rerecord(at, line, reply)(either)
    found = either.compare(sample=number)
    assert found.counts == {"RP309": number}
    assert {finding.sample for finding in found.listed} == {
        finding.sample for finding in either.compare(sample=number).listed
    }
    assert either.compare(sample=70).counts == {"RP309": 6}


def test_a_sample_still_looks_for_every_record(packed: Packed) -> None:
    resource(1, lambda lines: lines.append(chats()["ab-test"]))(packed)
    resource(0, lambda lines: lines.pop())(packed)
    assert packed.compare(sample=1).counts == {"RP304": 1, "RP305": 1}


# --- rejects -------------------------------------------------------------------------------------


def test_rejects_have_the_reason_that_they_give(tmp_path: Path) -> None:
    packed = pack_two(tmp_path, max_length=700, max_position=600, overlong="skip")
    counts = packed.json("manifest.json")["counts"]
    assert counts["rejects"]["overlong"] >= 2
    assert counts["packed"] >= 1
    assert packed.compare().total == 0


def test_a_reject_that_could_be_packed(packed: Packed) -> None:
    line = chats()["ab-test"]
    resource(0, lambda lines: lines.__setitem__(0, line))(packed)
    reject(lambda rejected: rejected.update(record=line.decode()))(packed)
    (finding,) = packed.compare().listed
    assert (finding.code, finding.file.rpartition(":")[2]) == ("RP307", "1")
    assert finding.what.endswith("expected it packed")


@given(views=conversations, limit=st.integers(2, 12), position=st.integers(2, 8))
@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_a_conversation_is_refused_for_the_same_reason_and_fits_what_it_becomes(
    good: Packed,
    layout: Any,
    views: list[tuple[list[int], list[int]]],
    limit: int,
    position: int,
) -> None:
    rebuilt = Rebuilt(tuple(token_view(*view) for view in views))
    manifest = manifest_with(good, layout=layout, max_length=limit, max_position=position)
    reason = ""
    try:
        laid_out = lay_out("", [encoded(*view) for view in views], layout=layout)
        if laid_out.longest_view > position or max(s.length for s in laid_out.samples) > limit:
            reason = "overlong"
    except RecordError as error:
        reason = error.reason
    assert why_rejected(rebuilt, manifest) == reason
    if reason != "layout":
        prints = []
        for sample in laid_out.samples:
            paths = check_row(as_row(table_of([sample])))[1]
            assert paths is not None
            prints.append(fingerprint(paths.seen[paths.leaf], paths.predicted[paths.trained]))
        assert together(*prints) == rebuilt.fingerprint()


def manifest_with(good: Packed, *, layout: Any, max_length: int, max_position: int) -> Manifest:
    dataset = read_dataset(good.directory, Findings())
    assert dataset is not None
    options = replace(dataset.manifest.options, layout=layout, max_length=max_length)
    return replace(dataset.manifest, layout=layout, options=options, max_position=max_position)


def token_view(prompt: list[int], completion: list[int]) -> TokenView:
    ids = np.array(prompt + completion, np.int32)
    return TokenView(1, ids, len(prompt), view_paths(ids, len(prompt)))


@given(views=conversations, others=conversations)
@example(views=[([0], [1, 2]), ([0], [3, 0])], others=[([0], [1, 0]), ([0], [3, 2])])
def test_fingerprints_are_equal_if_and_only_if_leaves_and_pairs_are(
    views: list[tuple[list[int], list[int]]], others: list[tuple[list[int], list[int]]]
) -> None:
    def facts(each: list[tuple[list[int], list[int]]]) -> tuple[set[Any], set[Any]]:
        nodes = {(*p, *c)[:n] for p, c in each for n in range(1, len(p) + len(c) + 1)}
        leaves = {node for node in nodes if all(other[:-1] != node for other in nodes)}
        pairs = {(*p, *c)[:n] for p, c in each for n in range(len(p) + 1, len(p) + len(c) + 1)}
        return leaves, pairs

    one, two = (Rebuilt(tuple(token_view(*v) for v in each)) for each in (views, others))
    (leaves, pairs), (other_leaves, other_pairs) = facts(views), facts(others)
    assert (one.fingerprint()[:2] == two.fingerprint()[:2]) == (leaves == other_leaves)
    assert (one.fingerprint()[2:] == two.fingerprint()[2:]) == (pairs == other_pairs)


# --- the first difference ------------------------------------------------------------------------


def decoded(ids: list[int]) -> str:
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def shown(token: int) -> str:
    """Write a token as a finding does."""
    return f"{decoded([token])!r} ({token})"


def first_difference(one: list[int], two: list[int]) -> int:
    return next(at for at, (a, b) in enumerate(zip(one, two, strict=True)) if a != b)


def test_two_swapped_tokens_are_shown(packed: Packed) -> None:
    before = read(packed.shards[0]).to_pylist()[0]
    edit(swap)(packed)
    after = read(packed.shards[0]).to_pylist()[0]
    at = first_difference(before["labels"], after["labels"])
    (finding,) = packed.compare().listed
    sample = int(np.searchsorted(before["sample_start"], at, "right")) - 1
    segment = int(np.searchsorted(before["segment_start"], at, "right")) - 1
    assert finding == Finding(
        "RP309",
        SHARD,
        finding.what,
        row=0,
        sample=before["sample_id"][sample],
        message=before["segment_message"][segment],
        token=at,
    )
    assert (
        f": {shown(after['input_ids'][at])}, expected {shown(before['input_ids'][at])}"
        in finding.what
    )
    assert f"at position {before['position_ids'][at]}" in finding.what
    assert repr(decoded(before["input_ids"][at - 3 : at]))[1:-1] in finding.what


def test_where_branches_part_only_the_missing_one_is_expected(packed: Packed) -> None:
    before = read(packed.shards[0]).to_pylist()[0]
    at = branch(before)
    edit(lambda row: add(row["input_ids"], at))(packed)
    (finding,) = packed.compare().listed
    wanted = f"expected {shown(before['input_ids'][at])} as in the view of message "
    assert finding.token == at
    assert wanted in finding.what
    assert " or " not in finding.what.partition(wanted)[2]


def test_a_source_that_says_more_is_shown(packed: Packed) -> None:
    rerecord(0, 1, reply)(packed)
    (finding,) = packed.compare().listed
    stop, more = finding.what.split(", expected ")
    assert "<|im_end|>" in stop
    assert more.startswith("' Ind")
    assert finding.sample == FIRST[0]


def test_a_source_that_says_another_turn_is_shown(packed: Packed) -> None:
    """All tokens of the sample are in a view, but not the other way round."""

    def go_on(record: Json) -> None:
        record["messages"] += [
            {"role": "user", "content": "And then?"},
            {"role": "assistant", "content": "Then it ends.", "reasoning_content": "Be short."},
        ]

    rerecord(1, 2, go_on)(packed)
    (finding,) = packed.compare().listed
    assert (finding.code, finding.sample) == ("RP309", SECOND[2])
    assert "expected" in finding.what


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (edit(untrain, recount=True), "is not trained, expected it trained"),
        (edit(own("labels", context), recount=True), "is trained, expected it not trained"),
    ],
)
def test_a_wrong_label_is_shown(packed: Packed, damage: Damage, what: str) -> None:
    before = read(packed.shards[0]).to_pylist()[0]["labels"]
    damage(packed)
    after = read(packed.shards[0]).to_pylist()[0]
    at = first_difference(before, after["labels"])
    (finding,) = packed.compare().listed
    assert (finding.token, finding.what) == (at, f"{shown(after['input_ids'][at])} {what}")


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reasonpack", "verify", *map(str, arguments)])
        status = run(cli)
        return status, *capsys.readouterr()

    return call


Command = Callable[..., tuple[int, str, str]]


def test_the_command_says_what_was_proved(good: Packed, command: Command) -> None:
    status, out, err = command(good.directory)
    assert (status, out, err.count("\n")) == (0, "", 1)
    assert ": sound: " in err
    status, out, err = command(good.directory, "--against", *good.inputs)
    assert (status, out, err.count("\n")) == (0, "", 1)
    assert "6 conversations rebuilt" in err
    assert "7 records of the input, of which 6 packed and 1 rejected" in err
    status, _, err = command(good.directory, "--against", *good.inputs, "--sample", 2)
    assert status == 0
    assert "2 conversations rebuilt" in err


def test_the_command_prints_the_first_violations(packed: Packed, command: Command) -> None:
    table = read(packed.shards[0])
    rows = [tiny(-100, -100, 8, -100, -100)] * 150
    write(packed.shards[0], pa.Table.from_pylist(rows, schema=table.schema))
    seal(packed)
    status, out, err = command(packed.directory)
    assert status == 1
    assert len(out.splitlines()) == 20
    assert all(line.startswith(f"RP209 {SHARD}: row ") for line in out.splitlines())
    assert "violations: 150 (RP209 150); the first 20 are shown" in err
    status, out, _ = command(packed.directory, "--json")
    value = json.loads(out)
    assert (status, value["ok"], value["total"], value["counts"]) == (1, False, 150, {"RP209": 150})
    assert len(value["violations"]) == KEPT
    assert value["violations"][3]["row"] == 3


def test_the_command_steers_no_terminal(tmp_path: Path, command: Command) -> None:
    record = {**json.loads(chats()["small-talk"]), "id": "\x1b[31m\nRP001 forged"}
    record["messages"][0]["content"] = "\x1b]0;title\x07 ?"
    packed = pack(tmp_path, {"a.jsonl": [json.dumps(record).encode()]})
    edit(lambda row: add(row["input_ids"], trained(row) - 2 - 8))(packed)
    status, out, err = command(packed.directory, "--against", *packed.inputs)
    assert status == 1
    assert "\x1b" not in out + err
    assert len(out.splitlines()) == 1
    assert "RP001 forged" in out


@pytest.mark.parametrize("arguments", [["--sample", "3"], ["--tokenizer", "x"], ["a.jsonl"]])
def test_usage(good: Packed, command: Command, arguments: list[str]) -> None:
    status, _, err = command(good.directory, *arguments)
    assert status == 2
    assert "--against" in err


def test_help_lists_every_code(command: Command) -> None:
    status, out, _ = command("--help")
    assert status == 0
    lines = [line.strip() for line in out.splitlines()]
    assert all(f"{code}  {meaning}" in lines for code, meaning in CODES.items())


def test_verifying_needs_nothing_that_lays_out(good: Packed) -> None:
    """In a process of its own, so that no other test has imported it."""
    code = (
        "import sys, reasonpack.cli.verify, reasonpack.verify.check as check;"
        "assert check.verify_dataset(sys.argv[1], sys.argv[2:]).total == 0;"
        "made = {'layout', 'encoding', 'packing', 'shard', 'run.unit', 'run.pack'};"
        "sys.exit(','.join(m for m in sys.modules if m.removeprefix('reasonpack.') in made) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(good.directory), *map(str, good.inputs)],
        capture_output=True,
        text=True,
        check=False,
        cwd=FIXTURES.parent,
    )
    assert (done.returncode, done.stderr) == (0, "")
