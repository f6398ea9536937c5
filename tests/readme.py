"""Print the shell commands of a block of the README: `python3 tests/readme.py 1`.

Blocks that begin with ```sh are commands to copy; blocks that begin with ```console show
commands after `$ ` and what they print.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[str]:
    """Return the contents of all fenced blocks of a kind."""
    return [body for found, body in _BLOCK.findall(README.read_text("utf-8")) if found == kind]


def sessions() -> list[tuple[str, str]]:
    """Return each command that a console block shows, and its output."""
    found = []
    for body in blocks("console"):
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            last = next(n for n, line in enumerate(lines) if not line.endswith("\\\n"))
            command = "".join(lines[: last + 1]).replace("\\\n", " ").strip()
            found.append((" ".join(command.split()), "".join(lines[last + 1 :])))
    return found


if __name__ == "__main__":
    sys.stdout.write(blocks("sh")[int(sys.argv[1]) - 1])
