"""Both formats of a shard, and groups of few rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_samples import FORMATS

from reasonpack.choices import ShardFormat
from reasonpack.rows import table as table_module


@pytest.fixture(params=FORMATS)
def format_(request: pytest.FixtureRequest) -> ShardFormat:
    chosen: ShardFormat = request.param
    return chosen


@pytest.fixture
def path(format_: ShardFormat, tmp_path: Path) -> Path:
    return tmp_path / f"shard.{format_}"


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(table_module, "TOKENS_PER_GROUP", 10)
