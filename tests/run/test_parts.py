"""A unit that is laid out in parts gives the same files, and the same error, as in one process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from runs import OPTIONS, Json, chats, run, tree

from reasonpack.errors import RecordError
from reasonpack.records.unit import Unit
from reasonpack.run import parts
from reasonpack.run.engine import Run
from reasonpack.run.estimate import estimate
from reasonpack.run.pack import pack_files
from tests.changed import replace

MANY = 1 << 20
"""Bytes of a unit, so that there is one."""


@pytest.fixture
def divided(monkeypatch: pytest.MonkeyPatch) -> list[Unit]:
    """Do parts in this process, the last one first; return them."""
    given: list[Unit] = []

    def backwards(
        units: Sequence[Unit],
        do: Callable[[Unit], Any],
        then: Callable[[Unit, Any], object],
        run: Run,
    ) -> None:
        given.extend(units)
        failed: list[RecordError] = []
        for unit in reversed(units):
            try:
                then(unit, do(unit))
            except RecordError as error:
                failed.append(error)
        if failed:
            raise failed[-1]  # as processes do: that of the first unit

    monkeypatch.setattr(parts, "do_units", backwards)
    return given


def write(path: Path, lines: Sequence[Json | str]) -> Path:
    path.write_text("".join(f"{x if type(x) is str else json.dumps(x)}\n" for x in lines))
    return path


def source(path: Path, *, noted: int = 0) -> Path:
    """Write chats of which some are refused, for reasons whose order is another in the second part.

    Some have so many fields that nobody reads, and that are counted.
    """
    lines: list[Json] = [json.loads(line) for line in chats(bad=False).splitlines()]
    for number in 3, 30:
        lines[number]["messages"][0]["content"] *= 400  # too long
    lines[35]["messages"] = 5
    for number in range(noted):
        lines[39 - number % 30][f"other {number}"] = 1
    return write(path, [*lines[:36], "{", *lines[36:]])


@pytest.mark.parametrize(("packing", "noted"), [(True, 9), (False, 120)])
def test_files_are_those_of_one_process(
    divided: list[Unit], tmp_path: Path, packing: bool, noted: int
) -> None:
    path = source(tmp_path / "a.jsonl", noted=noted)
    options = replace(OPTIONS, packing=packing, on_error="skip", overlong="skip")
    options = replace(options, split=("held=0.3",))
    pack_files([str(path)], tmp_path / "one", options, run=run(unit_bytes=MANY, num_proc=1))
    assert len(divided) == 1
    manifest = pack_files(
        [str(path)], tmp_path / "many", options, run=run(unit_bytes=MANY, num_proc=3)
    )
    assert len(divided) == 4
    guess = estimate([str(path)], options, run=run(unit_bytes=MANY, num_proc=3))
    assert (guess.units, guess.workers) == (1, 3)
    assert manifest.counts.rejects.keys() == {"json", "overlong", "type"}
    assert tree(tmp_path / "many") == tree(tmp_path / "one")


@pytest.mark.usefixtures("divided")
def test_the_error_is_that_of_one_process(tmp_path: Path) -> None:
    """What is too long is found behind what is broken, in a unit as in each of its parts."""
    path = source(tmp_path / "a.jsonl")
    options = replace(OPTIONS, overlong="error")
    said = set()
    for name, num_proc in ("one", 1), ("many", 3):
        with pytest.raises(RecordError) as caught:
            pack_files(
                [str(path)],
                tmp_path / name,
                options,
                run=run(unit_bytes=MANY, num_proc=num_proc),
            )
        said.add(str(caught.value))
    assert len(said) == 1
    assert "a.jsonl:36" in said.pop()
