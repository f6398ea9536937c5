"""What the tests of commands share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixing import Arguments, Command, Seen, noted
from runs import chats

from reasonpack.cli import cli, run


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Command:
    """Give a function that runs a command in a directory with chats and no dataset."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_bytes(chats(4, bad=False))
    Path("a.json").write_text("{}")

    def call(arguments: Arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["reasonpack", *arguments])
        status = run(cli)
        return status, capsys.readouterr().err.replace("Error: ", "", 1)

    return call


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Note where a module of tests has errors made."""
    with noted() as found:
        yield found


_ran: set[str] = set()


@pytest.fixture
def whole(request: pytest.FixtureRequest, seen: Seen) -> Seen:
    """Give what all tests of a module have seen; skip if some of them did not run."""
    mine = {each.nodeid for each in request.session.items if each.path == request.path}
    chosen = request.config.option.keyword or any("::" in each for each in request.config.args)
    if chosen or mine - _ran != {request.node.nodeid}:
        pytest.skip("not all of the tests above ran")
    return seen


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Note which tests ran."""
    _ran.add(item.nodeid)
