"""`reasonpack explain`: every code and every reason has a meaning and a fix."""

from __future__ import annotations

import json
from functools import partial

import pytest
from click.testing import CliRunner

from reasonpack.cli import cli, run
from reasonpack.run.check.written import FAULTS
from reasonpack.show.rejects import WORDS
from reasonpack.verify.findings import CODES, FIXES


def explain(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["explain", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_code_has_its_meaning_and_a_fix() -> None:
    lines = explain("RP206", "overlong", "rp005").splitlines()
    assert lines[0] == f"RP206     {CODES['RP206']}"
    assert lines[1].startswith("          Fix: do not train on these rows;")
    assert lines[2] == f"overlong  {WORDS['overlong']}"
    assert lines[4] == f"RP005     {CODES['RP005']}"
    assert lines[5] == f"          Fix: {FIXES['RP005']}."


def test_all_are_listed_without_one() -> None:
    listed = [line.split()[0] for line in explain().splitlines()]
    assert listed == [*CODES, *WORDS, *FAULTS]
    told = json.loads(explain("--json"))
    assert all(each["meaning"] and each["fix"] for each in told.values())
    assert list(told) == listed


def test_every_fix_is_of_a_code() -> None:
    assert all(any(code.startswith(each) for code in CODES) for each in FIXES)


def test_an_unknown_code_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(partial(cli, ["explain", "RP999"])) == 2
    assert "no code 'RP999'" in capsys.readouterr().err
