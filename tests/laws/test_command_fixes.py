"""Every refusal of a command on a dataset says what to do, and doing it makes the refusal go away.

To add one: its arguments, words of the error, and its fix, done.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import FIXTURES, chats

from reasonpack.cli import cli, run
from reasonpack.errors import FormatError, UsageError
from reasonpack.run.lock import locked

pytestmark = pytest.mark.long

Arguments = list[str]
Command = Callable[[Arguments], tuple[int, str]]
Mend = Callable[[Command], Arguments]
"""Does what the error says; returns the arguments of the next try."""
PACK = ["pack", "a.jsonl", "-o", "out", "--tokenizer", str(FIXTURES / "tokenizer")]
PART = ["--shard-count", "2", "--shard-index"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Command:
    """Give a function that runs a command in a directory with chats and no dataset."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_bytes(chats(4, bad=False))

    def call(arguments: Arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["reasonpack", *arguments])
        status = run(cli)
        return status, capsys.readouterr().err.replace("Error: ", "", 1)

    return call


def again(*arguments: str) -> Mend:
    return lambda _: list(arguments)


def first(*runs: Arguments, then: Arguments) -> Mend:
    """Run other commands, and then the refused one again."""

    def mend(command: Command) -> Arguments:
        for each in runs:
            status, error = command(each)
            assert status == 0, error
        return then

    return mend


PACKED, HALF = [PACK], [[*PACK, *PART, "1"]]
UNFINISHED: list[Arguments] = []
ROWS: dict[str, tuple[list[Arguments], Arguments, int, str, Mend]] = {
    "inspect a row that is not there": (
        PACKED, ["inspect", "out", "--row", "99"], 2, "no row 99, expected .*name one of those",
        again("inspect", "out", "--row", "3"),
    ),
    "inspect an id that is not there": (
        PACKED, ["inspect", "out", "--id", "x"], 2,
        "no sample has the id 'x'.*name a row with --row",
        again("inspect", "out", "--row", "0"),
    ),
    "inspect the view of a message that has none": (
        PACKED, ["inspect", "out", "--row", "0", "--view", "0"], 2, "not trained there.*from 0",
        again("inspect", "out", "--row", "0", "--view", "1"),
    ),
    "stats of a model said twice": (
        PACKED, ["stats", "out", "--model-config", "a.jsonl", "--layers", "2"], 2, "leave out",
        first(then=["stats", "out", "--hidden-size", "8", "--layers", "2"]),
    ),
    "verify against a missing file": (
        PACKED, ["verify", "out", "--against", "b.jsonl"], 2, "no such file.*check the spelling",
        again("verify", "out", "--against", "a.jsonl"),
    ),
    "merge parts of which one is missing": (
        HALF, ["merge", "out"], 1, "Fix: ",
        first([*PACK, *PART, "0"], then=["merge", "out"]),
    ),
    "merge what is no run": (
        UNFINISHED, ["merge", "out"], 1, "no plan.json.*pack first",
        first(*HALF, [*PACK, *PART, "0"], then=["merge", "out"]),
    ),
    **{
        f"{name} what is not finished": (
            UNFINISHED, [name, "out"], 1, "expected .*dataset.*run pack to its end",
            first(PACK, then=[name, "out"]),
        )
        for name in ("inspect", "stats")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_what_the_fix_says_helps(name: str, command: Command) -> None:
    before, arguments, wanted, words, mend = ROWS[name]
    for each in before:
        assert command(each)[0] == 0
    status, error = command(arguments)
    assert status == wanted, error
    assert "Traceback" not in error
    assert re.search(words, error), error
    status, after = command(mend(command))
    assert status == 0, f"{error}\nand then\n{after}"


def test_a_directory_that_another_run_holds(command: Command) -> None:
    Path("out").mkdir()
    with locked(Path("out")):
        status, error = command(PACK)
        assert status == 2, error
        assert re.search(r"held by process .*wait for it or stop it", error), error
    assert command(PACK)[0] == 0


@pytest.mark.torch
def test_a_dataset_for_torch(command: Command) -> None:
    pytest.importorskip("torch")
    from reasonpack.torch.dataset import RowDataset

    with pytest.raises(FormatError, match=r"expected a finished dataset.*run pack to its end"):
        RowDataset("out")
    assert command(PACK)[0] == 0
    with pytest.raises(UsageError, match=r"a local directory.*copy it here first"):
        RowDataset(Path("out").resolve().as_uri())
    assert len(RowDataset("out")) == 4
