"""The README's code blocks: print one, run the sessions, write what they print.

    python3 tests/readme.py 1         print the first block of commands to copy
    python3 tests/readme.py update    run every session and put its output into the README

Blocks that begin with ```sh are commands to copy; blocks that begin with ```console show
commands after `$ ` and what they print. An output that ends in a line `…` is shown in part.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    """Return the contents of all fenced blocks of a kind."""
    return [body for found, body in _BLOCK.findall(README.read_text("utf-8")) if found == kind]


def sessions() -> list[tuple[str, str]]:
    """Return each command that a console block shows, and its output."""
    parts = [part for body in blocks("console") for part in re.split(r"^\$ ", body, flags=re.M)[1:]]
    return [_split(part) for part in parts]


def _split(part: str) -> tuple[str, str]:
    lines = part.splitlines(keepends=True)
    last = next(n for n, line in enumerate(lines) if not line.endswith("\\\n"))
    command = "".join(lines[: last + 1]).replace("\\\n", " ")
    return " ".join(command.split()), "".join(lines[last + 1 :])


def run(command: str, cwd: Path) -> str:
    """Run a session's command and return all that it prints, with its byte counts masked.

    Sizes of compressed files depend on the version of pyarrow.
    """
    program, *arguments = shlex.split(command)
    assert program == "reasonpack", command
    plain = {"NO_COLOR": "1", "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "reasonpack", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        encoding="utf-8",
        env={**os.environ, **plain},
    )
    return done.stdout


def masked(output: str) -> str:
    """Replace sizes of compressed files, which depend on the version of pyarrow."""
    return re.sub(r"[\d,]+ bytes", "… bytes", output)


def update() -> None:
    """Run every session, in order, and write what it prints into the README."""
    text = README.read_text("utf-8")
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(ROOT / "fixtures", Path(place) / "fixtures")
        for command, shown in sessions():
            printed = run(command, Path(place))
            if shown.endswith("…\n"):
                printed = "".join(printed.splitlines(True)[: shown.count("\n") - 1]) + "…\n"
            text = text.replace(f"$ {command}\n{shown}", f"$ {command}\n{printed}", 1)
    README.write_text(text, "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "update":
        update()
    else:
        sys.stdout.write(blocks("sh")[int(sys.argv[1]) - 1])
