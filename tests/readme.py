"""The code blocks of the README and of the READMEs of folders: print one, run the sessions.

    python3 tests/readme.py 1         print the first block of commands of the README
    python3 tests/readme.py update    run every session and write its output into its page

A block that begins with ```sh holds commands to copy. One that begins with ```console holds
commands after `$ ` and what they print; an output that ends in a line `…` is shown in part. The
sessions of a page run in order, in a directory that holds fixtures/ and `packed`, which the first
session of the README makes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FOLDERS = ("fixtures", "reasonpack", "schemas", "tests")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REASONPACK = 'reasonpack() { "$PYTHON" -m reasonpack "$@"; }\n'


def pages() -> list[Path]:
    """List the README, and every page in the folders beside it."""
    below = [page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")]
    return [README, ROOT / "CHANGELOG.md", *sorted(below)]


def blocks(kind: str, page: Path = README) -> list[str]:
    """Return the contents of all fenced blocks of a kind; '' is that of blocks without one."""
    return [body for found, body in _BLOCK.findall(page.read_text("utf-8")) if found == kind]


def sessions(page: Path = README) -> list[tuple[str, str]]:
    """Return each command that the console blocks of a page show, and its output."""
    bodies = blocks("console", page)
    parts = [part for body in bodies for part in re.split(r"^\$ ", body, flags=re.M)[1:]]
    return [_split(part) for part in parts]


def _split(part: str) -> tuple[str, str]:
    lines = part.splitlines(keepends=True)
    last = next(n for n, line in enumerate(lines) if not line.endswith("\\\n"))
    return "".join(lines[: last + 1]).removesuffix("\n"), "".join(lines[last + 1 :])


@contextmanager
def place_for(page: Path) -> Iterator[Path]:
    """Make the directory in which the sessions of a page run."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        shutil.copytree(ROOT / "fixtures", place / "fixtures")
        if page != README:
            shutil.copytree(Path(_packed().name) / "packed", place / "packed")
        yield place


@cache
def _packed() -> tempfile.TemporaryDirectory[str]:
    """Run the first session of the README, once for all pages."""
    place = tempfile.TemporaryDirectory()
    (Path(place.name) / "fixtures").symlink_to(ROOT / "fixtures")
    run(sessions()[0][0], Path(place.name))
    return place


def run(command: str, cwd: Path) -> str:
    """Run a session's command in a shell, and return all that it prints."""
    plain = {"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    done = subprocess.run(
        ["bash", "-c", _REASONPACK + command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        env={**os.environ, **plain, "PYTHON": sys.executable},
    )
    return done.stdout


def masked(output: str) -> str:
    """Replace what depends on the version of pyarrow: sizes and hashes of compressed files."""
    return re.sub(r"[\d,]+ bytes|\b[0-9a-f]{64}\b", "…", output)


def update(page: Path) -> None:
    """Run the sessions of a page, and write what they print into it."""
    text, done = page.read_text("utf-8"), ""
    with place_for(page) as place:
        for command, shown in sessions(page):
            printed = run(command, place)
            if shown.endswith("…\n"):
                printed = "".join(printed.splitlines(True)[: shown.count("\n") - 1]) + "…\n"
            before, _, text = text.partition(f"$ {command}\n{shown}")
            done += f"{before}$ {command}\n{printed}"
    page.write_text(done + text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "update":
        for each in pages():
            if sessions(each):
                update(each)
    else:
        sys.stdout.write(blocks("sh")[int(sys.argv[1]) - 1])
