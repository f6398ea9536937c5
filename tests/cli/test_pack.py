"""The command pack: rows of even cost, and what a run loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from runs import FIXTURES

from reasonpack.verify.check import verify_dataset
from tests.cli.called import TOKENIZER, call


def test_costs_are_kept_even(source: Path, tmp_path: Path) -> None:
    rows = []
    for number, more in enumerate(([], ["--max-cost", "20k"], ["--packing", "sequential"])):
        given = ["--max-length", "1000", "--packing", *more]
        out = tmp_path / str(number)
        made = call(source, "--tokenizer", TOKENIZER, "-o", out, *given)
        assert made.exit_code == 0, made.output
        rows.append(json.loads((out / "manifest.json").read_text())["counts"]["rows"])
        assert ("row cost" in made.output) == ("--max-cost" in more)
        assert verify_dataset(out, [str(source)]).total == 0
    assert rows[1] > rows[0]
    without = call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "b", "--max-cost", "20k")
    assert without.exit_code == 2
    assert "pass --packing best-fit" in " ".join(without.output.split())


# --- what a run loads, and how it ends ------------------------------------------------------------

UNUSED = {"concurrent.futures", "pandas", "pyarrow.compute", "tqdm"}
UNUSED |= {"numpy.ma"} if np.__version__ >= "2" else set()  # numpy 1 loads it itself


def test_a_run_loads_nothing_that_takes_long_and_is_not_used(tmp_path: Path) -> None:
    log = FIXTURES.parent / "tests" / "records" / "call_logs" / "openai.jsonl"
    out, again = str(tmp_path / "out"), str(tmp_path / "again")
    commands = [
        ["pack", str(log), "--tokenizer", TOKENIZER, "-o", out],
        ["stats", out],
        ["repack", out, "--packing", "--max-length", "4096", "-o", again],
    ]
    code = (
        "import sys; from reasonpack.cli import cli, run\n"
        f"for command in {commands}:\n"
        "    sys.argv = ['reasonpack', *command]\n"
        f"    found = run(cli) or ' '.join({UNUSED} & sys.modules.keys())\n"
        "    if found: sys.exit(f'{command[0]}: {found}')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_profiler_can_write_what_it_found() -> None:
    command = [sys.executable, "-m", "cProfile", "-m", "reasonpack", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "function calls" in done.stdout
