"""Rows of tests that do what the error of a command says: what is done before, and its fix.

As in fixing.py, for commands other than pack and on datasets.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from fixing import Arguments, Command
from runs import FIXTURES

Mend = Callable[[Command], Arguments]
"""Does what the error says; returns the arguments of the next try."""
Damage = Callable[[], object]
"""Done before the command that is refused."""
CommandRow = tuple[Sequence[Arguments | Damage], Arguments, int, str, Mend]
"""What is done before, the refused command and its status, words of the error, and its fix."""
PACK = ["pack", "a.jsonl", "-o", "out", "--tokenizer", str(FIXTURES / "tokenizer")]
REPACK = ["repack", "out", "-o", "new"]


def again(*arguments: str) -> Mend:
    return lambda _: list(arguments)


def first(*runs: Arguments, then: Arguments) -> Mend:
    """Run other commands, and then the refused one again."""

    def mend(command: Command) -> Arguments:
        for each in runs:
            status, error = command(each)
            assert status in {0, 3}, error
        return then

    return mend


def model() -> list[str]:
    """Give the command that packs with a copy of the tokenizer; see `copied`."""
    return [*PACK[:-1], "model"]


def copied(name: str = "model") -> Damage:
    return lambda: shutil.copytree(FIXTURES / "tokenizer", name)


def moved(source: str, target: str) -> Damage:
    return lambda: Path(source).rename(target)


def written(pattern: str, change: Callable[[bytes], bytes]) -> Damage:
    """Change the content of the only file of a pattern."""

    def damage() -> None:
        (path,) = Path().glob(pattern)
        path.write_bytes(change(path.read_bytes()))

    return damage


def more(*options: str, out: str = "out") -> Arguments:
    return [*PACK[:2], "-o", out, *PACK[4:], *options]


def check_command(row: CommandRow, command: Command) -> None:
    """Raise AssertionError unless a command is refused, and no more once its fix is done."""
    before, arguments, wanted, words, mend = row
    for each in before:
        if callable(each):
            each()
        else:
            assert command(each)[0] in {0, 3}
    status, error = command(arguments)
    assert status == wanted, error
    assert "Traceback" not in error
    assert re.search(words, error), error
    status, after = command(mend(command))
    assert status == 0, f"{error}\nand then\n{after}"
