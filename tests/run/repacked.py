"""Datasets that are packed again, and what is in them."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from runs import FIXTURES, run

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import FormatError, ReasonpackError, UsageError
from reasonpack.rows.cut_rows import cut_rows
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

TOKENIZER = str(FIXTURES / "tokenizer")
PLAIN = Options(tokenizer=TOKENIZER)
CHATS = [json.loads(line) for line in (FIXTURES / "chats.jsonl").read_bytes().splitlines()]
Json = dict[str, Any]


def samples(dataset: Path, manifest: Manifest) -> Counter[tuple[Any, ...]]:
    """All samples of a dataset, each with its split and all that its arrays hold."""
    found: Counter[tuple[Any, ...]] = Counter()
    for shard in manifest.shards:
        for batch in read_shard(dataset / shard.path):
            for sample in (sample for row in cut_rows(batch) for sample in row):
                columns = (sample.input_ids, sample.position_ids, sample.labels)
                table = sample.segments
                parts = (table.start, table.visible_until, table.kind, table.message)
                extra = (sample.extra[name] for name in sorted(sample.extra))
                arrays = (each.tobytes() for each in (*columns, *parts, *extra))
                found[(shard.split, sample.id, *arrays)] += 1
    return found


def left_out(dataset: Path) -> Counter[tuple[Any, ...]]:
    """What rejects.jsonl says, but for where, which may be a place or an id."""
    place = dataset / "rejects.jsonl"
    lines = place.read_bytes().splitlines() if place.exists() else []
    found: Counter[tuple[Any, ...]] = Counter()
    for line in map(json.loads, lines):
        said = line["error"].removeprefix(line["where"])
        found[(line["reason"], line.get("message"), line.get("tokens"), said)] += 1
    return found


def shards(dataset: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((dataset / "data").iterdir())]


def write(records: Sequence[Json], name: str = "a.jsonl") -> None:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))


def compare(old: Options, given: Json, *, inputs: Sequence[str] = ("a.jsonl",)) -> Manifest:
    """Pack, pack again, and pack afresh; return the manifest of what was packed again."""
    for name in ("old", "new", "fresh"):
        shutil.rmtree(name, ignore_errors=True)
    pack_files(inputs, Path("old"), old, run=run(unit_bytes=30_000))
    new = repack([Path("old")], Path("new"), given)
    fresh = pack_files(inputs, Path("fresh"), replace(old, **given), run=run(unit_bytes=30_000))
    assert samples(Path("new"), new) == samples(Path("fresh"), fresh)
    assert left_out(Path("new")) == left_out(Path("fresh"))
    assert replace(new.counts, rows=0, notes={}) == replace(fresh.counts, rows=0, notes={})
    assert (new.options, new.unit_bytes) == (fresh.options, fresh.unit_bytes)
    assert new.max_position == fresh.max_position
    assert new.columns == fresh.columns
    if not old.packed:
        assert shards(Path("new")) == shards(Path("fresh"))
        assert new.content_hash == fresh.content_hash
        assert new.counts.rows == fresh.counts.rows
    findings = verify_dataset(Path("new"), list(inputs))
    assert (findings.total, findings.warnings) == (0, []), findings.listed
    return new


def packed(name: str, records: Sequence[Json], **options: Any) -> Path:
    write(records, f"{name}.jsonl")
    pack_files([f"{name}.jsonl"], Path(name), replace(PLAIN, **options), run=run())
    return Path(name)


def refused(directories: Sequence[Path], given_: Json) -> ReasonpackError:
    with pytest.raises((UsageError, FormatError)) as caught:
        repack(directories, Path("refused"), given_)
    assert not Path("refused/manifest.json").exists()
    return caught.value
