"""What a terminal shows: by width, with colour and without, and by a pager where it is too much.

`REASONPACK_WRITE_SNAPSHOTS=1 pytest tests/show/test_terminal.py` writes the snapshots anew; read
the difference.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
import readme
from runs import FIXTURES, ROOT

SNAPSHOTS = Path(__file__).parent / "terminal"
CHATS = ("bicycle-chain", "river-crossing", "twenty-questions")
SIZES = [(40, False), (80, False), (200, False)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a directory with three chats and one that cannot be packed, and with their rows."""
    folder = tmp_path_factory.mktemp("terminal")
    lines = (FIXTURES / "chats.jsonl").read_text("utf-8").splitlines()
    chosen = [line for line in lines if json.loads(line).get("id") in CHATS]
    chosen.append('{"messages": [{"role": "nobody", "content": "Hi"}]}')
    (folder / "chats.jsonl").write_text("\n".join(chosen) + "\n", "utf-8")
    pack = ["pack", "chats.jsonl", "--on-error", "skip", "--no-samples", "-o", "packed"]
    tokenizer = ["--tokenizer", str(FIXTURES / "tokenizer")]
    done = subprocess.run([*COMMAND, *pack, *tokenizer], cwd=folder, env=ENVIRONMENT, check=False)
    assert done.returncode == 3
    return folder


COMMAND = [sys.executable, "-m", "reasonpack"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}},
    "PYTHONPATH": str(ROOT),
    "PYTHONIOENCODING": "utf-8",
    "NO_COLOR": "",
}


def on_terminal(
    arguments: list[str], cwd: Path, columns: int, *, lines: int = 10_000, **environment: str
) -> str:
    """Run a command on a terminal of a size; give what the terminal got."""
    keeper, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=cwd,
        env={**ENVIRONMENT, "TERM": "xterm-256color", **environment},
        start_new_session=True,
    )
    os.close(end)
    got = b""
    while block := _read(keeper):
        got += block
    os.close(keeper)
    process.wait()
    lines = got.decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r")[2] for line in lines)  # a bar is written over


def _read(keeper: int) -> bytes:
    try:
        return os.read(keeper, 1 << 16)
    except OSError:  # nobody is at the other end
        return b""


def _pack(cwd: Path) -> list[str]:
    options = ["--on-error", "skip", "--no-samples", "--overwrite", "-o", "again"]
    return ["pack", "chats.jsonl", *options, "--tokenizer", str(FIXTURES / "tokenizer")]


CALLS: dict[str, Callable[[Path], list[str]]] = {
    "pack": _pack,
    "inspect": lambda _: ["inspect", "packed", "--id", "twenty-questions"],
    "stats": lambda _: ["stats", "packed"],
}


@pytest.mark.long
@pytest.mark.parametrize("name", CALLS)
def test_snapshots(name: str, place: Path) -> None:
    for columns, colour in [*SIZES, *([(80, True)] if name == "inspect" else [])]:
        shown = on_terminal(CALLS[name](place), place, columns, NO_COLOR="" if colour else "1")
        shown = readme.masked(shown.replace(str(FIXTURES), "fixtures"))
        path = SNAPSHOTS / f"{name}-{columns}{'-colour' * colour}.txt"
        if os.environ.get("REASONPACK_WRITE_SNAPSHOTS"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(shown, "utf-8")
        assert shown == path.read_text("utf-8"), path.name
        assert ("\x1b[" in shown) == colour, "colour only where asked for"


def test_tables_fit_the_terminal() -> None:
    """Texts of rows are as long as they are; all else keeps to the width."""
    for path in SNAPSHOTS.glob("*.txt"):
        columns = int(path.stem.split("-")[1])
        lines = path.read_text("utf-8").splitlines()
        if path.stem.startswith("inspect"):
            if "colour" in path.stem:
                continue
            lines = [line for line in lines[4:] if line.partition(" ")[0].isdecimal()]
        assert lines
        assert not [line for line in lines if len(line) > columns and " " in line.strip()], path


@pytest.mark.long
def test_what_does_not_fit_goes_to_the_pager(place: Path) -> None:
    call, pager = ["inspect", "packed", "--id", "twenty-questions"], "sed s/^/>/"
    paged = on_terminal(call, place, 80, lines=24, PAGER=pager)
    assert sum(line.startswith(">") for line in paged.splitlines()) > 24
    assert not on_terminal(call, place, 80, PAGER=pager).count("\n>"), "it fits"


@pytest.mark.long
def test_nothing_is_paged_in_a_pipe(place: Path) -> None:
    call = [*COMMAND, "inspect", "packed", "--tokens"]
    done = subprocess.run(
        call, cwd=place, env={**ENVIRONMENT, "PAGER": "false"}, capture_output=True, check=True
    )
    assert done.stdout.count(b"\n") > 500
    with subprocess.Popen(
        call, cwd=place, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as early:
        assert early.stdout
        assert early.stderr
        early.stdout.readline()
        early.stdout.close()
        assert early.stderr.read() in (b"", b"Error: standard output: Broken pipe\n")
