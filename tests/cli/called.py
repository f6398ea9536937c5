"""The command pack, called; and a file of options for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from runs import FIXTURES

from reasonpack.cli import run
from reasonpack.cli.pack import command

TOKENIZER = str(FIXTURES / "tokenizer")


def call(*arguments: object) -> Result:
    def entry(**more: Any) -> int | None:
        return command.main(list(map(str, arguments)), **more)

    class Called:
        name = "reasonpack"

        def main(self, **_: Any) -> None:
            raise SystemExit(run(entry))

    return CliRunner().invoke(Called(), [])  # type: ignore[arg-type]


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pack.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def options_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "manifest.json").read_text())["options"]
    return found
