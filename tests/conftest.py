"""What all tests share. The folders that tests import from are named in pyproject.toml."""

from __future__ import annotations

import io
import sys
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fixing import Arguments, Pack
from runs import FIXTURES, chats

from reasonpack.cli import cli, run

# No test is of the time, and one commit passes always or never. `--hypothesis-profile=search` draws
# other examples each time.
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.register_profile("reasonpack", deadline=None, derandomize=True)
hypothesis.settings.load_profile("reasonpack")

_MARKERS = ("faults", "long", "network", "torch")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test whose file does not name its marker: `.ci/run` finds files by that."""
    source = cache(Path.read_text)
    for item in items:
        for marker in _MARKERS:
            if item.get_closest_marker(marker) and f"mark.{marker}" not in source(item.path):
                raise pytest.UsageError(f"{item.nodeid} is marked {marker} in another file")


@pytest.fixture
def pack_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Pack:
    """Give a function that packs in a directory of its own; standard input has two chats."""
    monkeypatch.chdir(tmp_path)

    def call(arguments: Arguments) -> tuple[int, str]:
        output = () if "--output" in arguments else ("--output", "out")
        named = "--tokenizer" in arguments
        tokenizer = () if named else ("--tokenizer", str(FIXTURES / "tokenizer"))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(chats(2, bad=False))))
        monkeypatch.setattr(sys, "argv", ["reasonpack", "pack", *arguments, *output, *tokenizer])
        status = run(cli)
        return status, capsys.readouterr().err.replace("Error: ", "", 1)

    return call
