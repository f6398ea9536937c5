"""A unit may have a shard for each split: all are checked, and each row is where it belongs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from damages import Damage, read, rejson, remove, write
from packed_twice import Packed, copied, pack_two
from runs import OPTIONS, ROOT, chats, run

from reasonpack.datasets.manifest import read_manifest
from reasonpack.records.conversation import parse_line
from reasonpack.records.strict_json import decode
from reasonpack.rows.content_hash import combined_hash, content_hash
from reasonpack.run import splits as packing
from reasonpack.run.context import Context
from reasonpack.run.pack import pack_files
from reasonpack.verify.chat import Reading
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.reader import read_chat
from reasonpack.verify.source import split_of
from tests.changed import replace

GIVEN = ("validation=0.3", "test=0.2")
TRAIN, VALIDATION = (f"data/{split}-00000-of-00002.parquet" for split in ("train", "validation"))


@pytest.fixture(scope="module")
def unsplit(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Three rows of each of two units."""
    return pack_two(tmp_path_factory.mktemp("unsplit"), packing=False)


@pytest.fixture
def split(unsplit: Packed, tmp_path: Path) -> Packed:
    """The same, of whose first unit the last row is for validation."""
    packed = copied(unsplit, tmp_path)
    table = read(packed.directory / TRAIN)
    rows = table.to_pylist()
    shards = []
    for path, part in ((TRAIN, rows[:-1]), (VALIDATION, rows[-1:])):
        own = pa.Table.from_pylist(part, schema=table.schema)
        write(packed.directory / path, own)
        content = (packed.directory / path).read_bytes()
        shards.append(
            {
                "path": path,
                "rows": len(part),
                "tokens": sum(row["length"] for row in part),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "content_hash": content_hash(own.to_batches()),
            }
        )
    manifest = packed.json("manifest.json")
    whole = [*shards, *manifest["shards"][1:]]
    hashes = combined_hash(shard["content_hash"] for shard in whole)
    packed.write("manifest.json", {**manifest, "shards": whole, "content_hash": hashes})
    rejson("receipts/00000.json", lambda receipt: receipt.update(shards=shards))(packed)
    card = packed.directory / "README.md"
    named = "  - split: train\n    path: data/train-*.parquet\n"
    assert named in card.read_text()
    card.write_text(card.read_text().replace(named, named + named.replace("train", "validation")))
    return packed


def test_both_shards_of_a_unit_are_checked(split: Packed, unsplit: Packed) -> None:
    findings = split.verify()
    assert (findings.total, findings.warnings) == (0, [])
    assert findings.checked == {**unsplit.verify().checked, "shards": 3}
    assert split.compare().counts == {"RP315": 1}, "the run set nothing apart"
    assert [shard.split for shard in read_manifest(split.directory).shards] == [
        "train",
        "validation",
        "train",
    ]


def compared(path: Path) -> dict[str, int]:
    source = path / "a.jsonl"
    source.write_bytes(chats(bad=False))
    options = replace(OPTIONS, split=GIVEN)
    pack_files([str(source)], path / "out", options, run=run())
    return dict(verify_dataset(path / "out", [str(source)]).counts)


def test_conversations_where_they_belong(tmp_path: Path) -> None:
    assert compared(tmp_path) == {}


@pytest.mark.parametrize("all_in", ["train", "test"])
def test_conversations_in_another_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, all_in: str
) -> None:
    monkeypatch.setattr(Context, "split", lambda *_: all_in)
    found = compared(tmp_path)
    assert found.keys() == {"RP315"}
    assert 10 < found["RP315"] < 40


@pytest.mark.parametrize("line", (ROOT / "fixtures/chats.jsonl").read_bytes().splitlines())
def test_the_same_split_as_in_packing(line: bytes) -> None:
    shares = packing.read_splits(GIVEN)
    conversation, chat = parse_line(line, "x"), read_chat(decode(line), Reading())
    for suffix in "abcdefgh":  # of the last message, for further keys
        last = chat.messages[-1]
        more = f"{last.content} {suffix}"
        chat = replace(chat, messages=(*chat.messages[:-1], replace(last, content=more)))
        own = replace(conversation.messages[-1], content=more)
        conversation = replace(conversation, messages=(*conversation.messages[:-1], own))
        expected = packing.split_of(packing.key(conversation), shares)
        assert split_of(chat.canonical, GIVEN) == expected


def unnamed(packed: Packed) -> None:
    card = packed.directory / "README.md"
    card.write_text(card.read_text().replace("data/validation-*", "data/nothing-*"))


def mixed(packed: Packed) -> None:
    card = packed.directory / "README.md"
    card.write_text(card.read_text().replace("data/train-*", "data/*"))


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("RP021", unnamed),
        ("RP021", mixed),
        ("RP004", remove(VALIDATION)),
        ("RP012", rejson("receipts/00000.json", lambda receipt: receipt["shards"].pop())),
        ("RP012", rejson("receipts/00000.json", lambda receipt: receipt["shards"].reverse())),
        ("RP013", rejson("receipts/00000.json", lambda r: r["counts"].update(rows=2))),
    ],
)
def test_one_damage_one_code(split: Packed, code: str, damage: Damage) -> None:
    damage(split)
    counts = split.verify().counts
    assert code in counts
    assert set(counts) <= {code, "RP014"}
