"""Any line is packed or rejected, any file read or refused: a few rounds of fuzz.py, and more.

`python tests/faults/fuzz.py --minutes 30 --seed 1` does many.
"""

from __future__ import annotations

import functools
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz
import pytest
from crashing import ENVIRONMENT, HERE
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import SKIPPING
from strategies import conversations

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import RecordError
from reasonpack.records.unit import Record
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.rows.schema import schema
from reasonpack.rows.table import rows_to_table
from reasonpack.run import unit, work
from reasonpack.run.context import load_context as load_context_anew
from reasonpack.run.conversations import Chats, parse
from reasonpack.run.work import Laid
from tests.changed import replace

load_context = functools.cache(load_context_anew)

pytestmark = pytest.mark.faults


def fuzzed(*arguments: str) -> str:
    """Run fuzz.py, which bounds its own memory; return what it says."""
    done = subprocess.run(
        [sys.executable, HERE / "fuzz.py", *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_few_rounds() -> None:
    assert fuzzed("--rounds", "8", "--workers-every", "8") == "8 rounds went well\n"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1_000, 17_000, 1_000))
def test_many_rounds(seed: int) -> None:
    assert fuzzed("--rounds", "40", "--seed", str(seed)) == "40 rounds went well\n"


def test_rounds_are_not_of_one_kind() -> None:
    """Lines are packed, rejected for many reasons, blank, and not UTF-8."""
    draw = random.Random(0)
    data = b"\n".join(fuzz.draw_file(draw) for _ in range(60))
    lines = fuzz.expected_lines(data)
    assert data.count(b"\n") > len(lines) + 10
    records = [Record(f"x:{number}", line) for number, line in lines.items()]
    options = ignoring(records)
    laid = Chats(options, load_context(options)).lay_out(records)
    counts, rejects = laid.counts, laid.rejects
    assert counts.packed > 200
    assert len(counts.rejects) > 9
    assert counts.rejects["json"] + counts.rejects["encoding"] < counts.rejected
    assert any("record_base64" in reject for reject in rejects)


def ignoring(records: list[Record]) -> Options:
    """Ignore the fields for which records would stop a run, whatever it skips."""
    names: set[str] = set()
    for record in records:
        try:
            parse(record, load_context(SKIPPING).reading)
        except UnknownFieldError as error:
            names |= {each.name for each in error.fields}
        except RecordError:
            continue
    return replace(SKIPPING, ignore_fields=tuple(sorted(names)))


def packed(
    records: list[Record], options: Options
) -> tuple[list[dict[str, Any]], list[dict[str, str]], Counts]:
    laid = Chats(options, load_context(options)).lay_out(records)
    rows: list[dict[str, Any]] = rows_to_table(
        laid.samples, laid.rows["train"], schema()
    ).to_pylist()
    return rows, laid.rejects, laid.counts


@settings(deadline=None, max_examples=40)
@given(
    records=st.lists(conversations(wild=True, max_messages=8), min_size=1, max_size=4),
    seed=st.integers(0, 999),
)
def test_a_record_is_packed_or_rejected_whatever_is_packed_with_it(
    records: list[dict[str, Any]], seed: int
) -> None:
    draw = random.Random(seed)
    changed = [fuzz.change_value(draw, record) for record in records]
    lines = [Record(f"x:{at}", json.dumps(each).encode()) for at, each in enumerate(changed)]
    options = ignoring(lines)
    rows, rejects, together = packed(lines, options)
    alone, apart, said = Counts(), [], []
    for line in lines:
        row, why, one = packed([line], options)
        apart += row
        assert (one.packed, one.rejected) in {(1, 0), (0, 1)}
        assert [each["record"].encode() for each in why] == [line.line] * one.rejected
        alone.add(one)
        said += why
    assert rows == apart
    assert sorted(rejects, key=str) == sorted(said, key=str)
    together.add(Counts())  # which sorts its tables
    assert together == alone


def forget(records: Any) -> Any:
    """Read no third record: a line that is neither packed nor rejected."""
    return [record for at, record in enumerate(records) if at % 3 != 2]


def shorten(reject: dict[str, str]) -> dict[str, str]:
    return {**reject, "record": reject.get("record", "")[:-1]}


def turn_rejects(laid: Laid) -> Laid:
    laid.rejects.reverse()
    return laid


FAULTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "a line is lost": (unit, "read_records", forget),
    "a reject is not whole": (work, "_reject_line", shorten),
    "rejects are in another order": (Chats, "lay_out", turn_rejects),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, where, change = FAULTS[name]
    sound = getattr(module, where)
    monkeypatch.setattr(module, where, lambda *given, **named: change(sound(*given, **named)))
    with pytest.raises(AssertionError):
        lines_rounds(20, tmp_path)


def lines_rounds(count: int, folder: Path) -> None:
    for seed in range(count):
        fuzz.lines_round(random.Random(seed), folder)
