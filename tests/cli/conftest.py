"""A file of chats."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import chats


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(chats(6, bad=False))
    return path
