"""A dataset of format 1.0 from before optional columns and splits is read by everything.

It was packed once by the code of that time; nothing here writes it again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from runs import FIXTURES, ROOT

from reasonpack.cli import cli
from reasonpack.datasets.manifest import read_manifest
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset

DATASETS = ROOT / "tests" / "older"
BEFORE = DATASETS / "format_1_0_before"
INPUTS = [str(DATASETS / "inputs" / name) for name in ("first.jsonl", "second.jsonl")]
TOKENIZER = str(FIXTURES / "tokenizer")


def command(*arguments: str) -> str:
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_it_is_of_the_older_form() -> None:
    """Else it would prove nothing."""
    assert "shard" in json.loads((BEFORE / "receipts/00000.json").read_bytes())
    assert "columns" not in json.loads((BEFORE / "manifest.json").read_bytes())
    assert "path: data/*.parquet" in (BEFORE / "README.md").read_text("utf-8")


def test_verify_reads_it() -> None:
    findings = verify_dataset(BEFORE)
    assert (findings.total, findings.warnings) == (0, [])
    assert findings.checked["rows"] == 5


def test_verify_compares_it_with_its_source() -> None:
    findings = verify_dataset(BEFORE, INPUTS, tokenizer=TOKENIZER)
    assert (findings.total, findings.unchecked, findings.warnings) == (0, {}, [])
    assert (findings.checked["conversations"], findings.checked["views"]) == (6, 18)


def test_inspect_shows_a_row_of_it() -> None:
    shown = command("inspect", str(BEFORE), "--row", "4", "--tokenizer", TOKENIZER)
    assert shown.startswith("data/train-00001-of-00002.parquet, row 4: 1,826 tokens")


def test_stats_counts_it() -> None:
    found = json.loads(command("stats", str(BEFORE), "--json"))
    assert found["distributions"]["row_length"]["count"] == 5
    assert found["manifest"]["columns"] == []


def test_repack_packs_it_again(tmp_path: Path) -> None:
    made = repack([BEFORE], tmp_path / "new", {"max_length": 1_900})
    assert (len(made.sources), made.counts.pairs > 0) == (1, True)
    findings = verify_dataset(tmp_path / "new", INPUTS, tokenizer=TOKENIZER)
    assert (findings.total, findings.warnings) == (0, [])


def test_its_manifest_holds_to_the_schema() -> None:
    schema = json.loads((ROOT / "schemas" / "manifest.schema.json").read_bytes())
    Draft202012Validator(schema).validate(json.loads((BEFORE / "manifest.json").read_bytes()))
    assert {shard.split for shard in read_manifest(BEFORE).shards} == {"train"}


@pytest.mark.torch
def test_the_datasets_for_torch_read_it() -> None:
    pytest.importorskip("torch")
    from reasonpack.torch.collator import Collator
    from reasonpack.torch.dataset import RowDataset, RowStream

    rows = RowDataset(BEFORE)
    assert len(rows) == 5
    lengths = sorted(int(row["length"]) for row in RowStream(rows, rank=0, world_size=1))
    assert sum(lengths) == 6_687
    assert Collator(mask="sdpa")([rows[0], rows[1]])["input_ids"].shape[0] == 2


def test_datasets_of_huggingface_load_it(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset(str(BEFORE), cache_dir=str(tmp_path))
    assert {name: len(split) for name, split in loaded.items()} == {"train": 5}
