"""Parts that were packed alone become one dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from reasonpack.cli import cli
from tests.run.test_pack import invoke


@pytest.mark.long
def test_parts_from_the_command_line(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = (source, "-o", out, "--unit-size", "4K", "--on-error", "skip", "--shard-count", 2)
    first = invoke(*common, "--shard-index", 0)
    assert first.exit_code == 3  # a reject is in it
    assert CliRunner().invoke(cli, ["merge", str(out)]).exit_code == 1
    assert invoke(*common, "--shard-index", 1).exit_code == 3
    merged = CliRunner().invoke(cli, ["merge", str(out), "--json"])
    assert merged.exit_code == 3
    assert json.loads(merged.stdout) == json.loads((out / "manifest.json").read_bytes())
    assert invoke(*common).exit_code == 2
    assert invoke(*common, "--shard-index", 1, "--overwrite").exit_code == 2
