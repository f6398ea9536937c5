"""What `template` prints of a chat template can be stated as an option, and is then the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import FIXTURES

from reasonpack.cli import cli

TEMPLATES = sorted((FIXTURES / "templates").glob("*.jinja"))


def template(path: Path, *more: object) -> str:
    given = ["--tokenizer", FIXTURES / "tokenizer", "--chat-template", path, *more]
    done = CliRunner().invoke(cli, ["template", *map(str, given)])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_what_is_printed_can_be_stated(path: Path, tmp_path: Path) -> None:
    printed = json.loads(template(path, "--json"))
    stated = tmp_path / "stated.json"
    stated.write_text(json.dumps(printed["behaviour"]))
    assert json.loads(template(path, "--json", "--template-behaviour", stated)) == printed
    shown = template(path)
    assert all(f"{name.ljust(30)}  {said}" in shown for name, said in printed["shapes"].items())
