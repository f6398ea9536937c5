"""Forks of one process, to be killed; and what an undisturbed run writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashing import ENVIRONMENT, forks
from runs import SKIPPING, chats, run, tree

from reasonpack.run.pack import pack_files


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("in") / "chats.jsonl"
    path.write_bytes(chats())
    return path


@pytest.fixture(scope="session")
def undisturbed(source: Path) -> dict[str, bytes]:
    pack_files([str(source)], source.parent / "undisturbed", SKIPPING, run=run())
    return tree(source.parent / "undisturbed")


@pytest.fixture(scope="session")
def pack_in_fork() -> Iterator[Callable[..., int]]:
    """Give a function that packs in another process, up to a step; see crashing.py."""
    with forks(ENVIRONMENT) as pack:
        yield pack
