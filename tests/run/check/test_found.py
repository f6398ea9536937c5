"""How what was found is shown: an example of each fault, marked or in colours."""

from __future__ import annotations

import re
from pathlib import Path

from click.testing import CliRunner
from runs import FIXTURES

from reasonpack.cli import cli
from reasonpack.run.check.found import Findings, Group, finding_lines
from reasonpack.run.check.written import FAULTS
from tests.run.check.checked import (
    TOKENIZER,
    Rows,
    saved,
    stop_untrained,
)


def test_the_example_is_marked(right: Rows, tmp_path: Path) -> None:
    rows = saved(tmp_path, [stop_untrained(*right[0])])
    call = ["check", str(rows), "--tokenizer", TOKENIZER]
    shown = CliRunner().invoke(cli, call).stdout.splitlines()
    assert shown[1].startswith("suspect        stop-untrained: the stop token after")
    assert shown[2].endswith("data-00000-of-00001.arrow, row 0, token 542")
    assert shown[3].endswith("and on every cog.»[[<|im_end|>]]")
    assert len(shown) == 4


def test_colours_take_the_place_of_marks() -> None:
    group = Group(2, 3, "rows.parquet, row 0", 7, [("a", True, False), ("b", True, True)])
    found = Findings(suspects={"cut": group})
    lines = [text for _, text in finding_lines(found, colour=True)]
    assert lines[-1] == "\x1b[32m\x1b[4ma\x1b[0m\x1b[31m\x1b[1m\x1b[4mb\x1b[0m"
    assert [text for _, text in finding_lines(found, colour=False)][-1] == "«a»[[«b»]]"


def test_every_fault_is_in_the_readme() -> None:
    page = (FIXTURES.parent / "reasonpack" / "run" / "check" / "README.md").read_text("utf-8")
    table = page.partition("| fault |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([\w-]+)`", table)) - {"input_ids"} == FAULTS.keys()
