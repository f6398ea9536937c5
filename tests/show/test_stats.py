"""What `stats` says is what a slow reading of every row says, and a lie is found."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from runs import OPTIONS, run

from reasonpack.cli import cli
from reasonpack.datasets.receipt import as_json
from reasonpack.errors import FormatError
from reasonpack.run.finish import finish
from reasonpack.run.pack import pack_files
from reasonpack.show.stats import gather


def test_the_command(dataset: Path) -> None:
    drawn = CliRunner().invoke(cli, ["stats", str(dataset)])
    assert drawn.exit_code == 0, drawn.output
    assert "tokens in a row" in drawn.stdout
    assert "█" in drawn.stdout
    told = json.loads(CliRunner().invoke(cli, ["stats", str(dataset), "--json"]).stdout)
    assert told["manifest"] == json.loads((dataset / "manifest.json").read_bytes())
    rows = told["distributions"]["row_length"]
    assert rows["count"] == sum(each["count"] for each in rows["histogram"])
    assert rows["min"] <= rows["percentiles"]["50"] <= rows["max"]
    costs, counts = told["costs"], told["manifest"]["counts"]
    assert costs["block_size"] == 128
    assert costs["block_sparse"]["tokens"] == costs["dense"]["tokens"] == counts["tokens"]
    assert costs["npass"]["tokens"] == counts["npass_tokens"]
    assert costs["branches"]["pairs"] == costs["block_sparse"]["pairs"]
    for work in costs["block_sparse"], costs["dense"], costs["npass"], costs["branches"]:
        assert f" {work['tokens']:>13,} {work['pairs']:>17,} {work['blocks']:>16,}" in drawn.stdout
    operations = told["model"]["operations"]
    assert operations["branches"] <= operations["npass"]


def test_the_model_to_train_is_named(dataset: Path, tmp_path: Path) -> None:
    def told(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(cli, ["stats", str(dataset), "--json", *arguments])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["model"]

    config = {"hidden_size": 2048, "num_hidden_layers": 4, "num_attention_heads": 32}
    (tmp_path / "config.json").write_text(json.dumps({**config, "head_dim": 128}))
    named = told("--model-config", str(tmp_path))
    assert named == told("--model-config", str(tmp_path / "config.json"))
    assert named == told("--hidden-size", "2048", "--layers", "4", "--heads", "32")
    assert named["layers"] == 4
    assert told()["hidden_size"] == told("--layers", "2")["hidden_size"] == 1024
    drawn = CliRunner().invoke(cli, ["stats", str(dataset), "--layers", "4"]).stdout
    assert "An epoch takes about" in " ".join(drawn.split())
    both = CliRunner().invoke(
        cli, ["stats", str(dataset), "--layers", "2", "--model-config", str(tmp_path)]
    )
    assert both.exit_code == 2
    assert "gives --hidden-size" in both.output
    (tmp_path / "config.json").unlink()
    none = CliRunner().invoke(cli, ["stats", str(dataset), "--model-config", str(tmp_path)])
    assert (none.exit_code, "holds no config.json" in none.output) == (2, True)


@pytest.mark.parametrize("name", ["rows", "trained_tokens", "samples", "npass_tokens"])
def test_a_manifest_that_lies_is_found(name: str, dataset: Path) -> None:
    manifest = json.loads((dataset / "manifest.json").read_bytes())
    true = json.dumps(manifest)
    manifest["counts"][name] += 1
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match="as the manifest says"):
        gather(dataset)
    (dataset / "manifest.json").write_text(true)


def test_leaves_of_parts_may_be_more_than_those_of_whole_conversations(dataset: Path) -> None:
    manifest = json.loads((dataset / "manifest.json").read_bytes())
    true = json.dumps(manifest)
    for change, extra, sound in ((-1, 0, False), (-1, 1, True), (1, 1, False)):
        changed = json.loads(true)
        changed["counts"]["npass_tokens"] += change
        changed["counts"]["extra_samples"] += extra
        (dataset / "manifest.json").write_text(json.dumps(changed))
        with nullcontext() if sound else pytest.raises(FormatError, match="tokens of N-pass"):
            gather(dataset)
    (dataset / "manifest.json").write_text(true)


def test_an_empty_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that pack would not end; others may."""
    monkeypatch.setattr("reasonpack.run.pack.end", lambda *given: finish(*given[:3]))
    (tmp_path / "chats.jsonl").write_bytes(b"\n")
    manifest = pack_files([str(tmp_path / "chats.jsonl")], tmp_path / "out", OPTIONS, run=run())
    assert manifest.counts.rows == 0
    drawn = CliRunner().invoke(cli, ["stats", str(tmp_path / "out")])
    assert drawn.exit_code == 0, drawn.output
    assert "tokens in a row  none" in drawn.stdout
    assert json.loads(as_json(manifest))["counts"]["rows"] == 0
    assert pq.read_table(tmp_path / "out" / manifest.shards[0].path).num_rows == 0
