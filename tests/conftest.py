"""What all tests share. The folders that tests import from are named in pyproject.toml."""

from __future__ import annotations

import io
import sys
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from commanded import Call
from fixing import Arguments, Pack
from runs import FIXTURES, chats

from reasonpack.cli import cli, run

# No test is of the time, and one commit passes always or never. `--hypothesis-profile=search` draws
# other examples each time.
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.register_profile("reasonpack", deadline=None, derandomize=True)
hypothesis.settings.load_profile("reasonpack")

_MARKERS = ("faults", "long", "network", "slow", "torch")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--part K/N`."""
    said = "of the tests marked slow every Nth, from the Kth: those of each function in turn"
    parser.addoption("--part", metavar="K/N", default="0/1", help=said)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the part of the slow tests; refuse a test whose file does not name its marker.

    `.ci/run` finds files by that.
    """
    first, each = map(int, config.getoption("part").split("/"))
    slow = sorted(item.nodeid for item in items if item.get_closest_marker("slow"))
    left_out = {*slow} - {*slow[first % each :: each]}
    items[:] = [item for item in items if item.nodeid not in left_out]
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


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Call:
    """Give a function that runs a command in a directory, and returns status and messages."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str) -> tuple[int, str]:
        more = ["-o", "out", "--tokenizer", str(FIXTURES / "tokenizer")]
        if arguments[0] != "pack":
            more = ["out"]
        monkeypatch.setattr(sys, "argv", ["reasonpack", *arguments, *more])
        status = run(cli)
        return status, capsys.readouterr().err

    return command
