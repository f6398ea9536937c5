"""Groups become units, in whole groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from grouped import planned, read, written

from reasonpack.errors import UsageError


def test_units_do_not_divide_groups_and_are_about_as_large(tmp_path: Path) -> None:
    records = [{"group": number // 5, "text": "x" * 80} for number in range(200)]
    path = written(tmp_path / "calls.jsonl", records)
    grouped = planned([path], unit_bytes=2_500)
    sizes = [unit.input_bytes for unit in grouped.units]
    largest = 5 * 120
    assert len(sizes) == -(-sum(sizes) // 2_500)
    assert max(sizes) <= 2_500 + largest
    ids = [id_ for unit in read(grouped, [path]) for id_, _ in unit]
    assert ids == [str(number) for number in range(40)]


def test_a_group_that_is_too_large_names_the_field(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": 1}, {"group": 2}, {"group": 2}])
    with pytest.raises(UsageError, match=r"--group-by group: the group of calls.jsonl:3 has 26"):
        planned([path], max_group_bytes=20)
