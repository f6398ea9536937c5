"""Calls in token ids, and what a run packs of calls."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from runs import FIXTURES, ROOT

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

LOGS = ROOT / "tests" / "records" / "call_logs"
Json = dict[str, Any]
OPTIONS = Options(tokenizer=str(FIXTURES / "tokenizer"))
SKIPPING = replace(OPTIONS, on_error="skip")


def with_ids(prompt: list[int], completion: list[int], **more: Any) -> Json:
    return {"trace_id": "t", "prompt_ids": prompt, "completion_ids": completion, **more}


def written(path: Path, records: Sequence[Json]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def packed(folder: Path, records: Sequence[Json], **changes: Any) -> tuple[Manifest, list[Json]]:
    """Pack calls; return the rows too, after verify has found nothing wrong with them."""
    options = replace(OPTIONS, **changes)
    manifest = pack_files([written(folder / "calls.jsonl", records)], folder / "out", options)
    findings = verify_dataset(folder / "out")
    assert (findings.total, findings.warnings) == (0, [])
    return manifest, rows_of(folder / "out", manifest)


def rows_of(directory: Path, manifest: Manifest) -> list[Json]:
    shards = [pq.read_table(directory / shard.path) for shard in manifest.shards]
    return [row for shard in shards for row in shard.to_pylist()]
