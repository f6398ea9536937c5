"""Datasets to look at, copies of them to damage, and the command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packed_twice import Packed, copied, pack_two

from reasonpack.cli import cli, run


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_two(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def good_npass(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return pack_two(tmp_path_factory.mktemp("npass"), layout="npass")


@pytest.fixture
def packed(good: Packed, tmp_path: Path) -> Packed:
    """A copy of the good dataset, to damage; its source is a copy too."""
    return copied(good, tmp_path)


@pytest.fixture
def packed_npass(good_npass: Packed, tmp_path: Path) -> Packed:
    return copied(good_npass, tmp_path)


@pytest.fixture(params=["onepass", "npass"])
def either(
    good: Packed, good_npass: Packed, tmp_path: Path, request: pytest.FixtureRequest
) -> Packed:
    """A copy in each of the two layouts."""
    return copied(good if request.param == "onepass" else good_npass, tmp_path)


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["reasonpack", "verify", *map(str, arguments)])
        status = run(cli)
        return status, *capsys.readouterr()

    return call
