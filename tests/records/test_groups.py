"""Groups: every record once, those of a group together and in the order of the inputs.

    files ── plan_groups() ──▶ entries, units ── Groups ──▶ the groups of a dictionary

The reference reads whole files, and puts the records of a group in a dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from grouped import Json, planned, read, sources, written
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack.errors import StorageError
from reasonpack.records import group_index, repeated_items
from reasonpack.records.groups import Groups, read_entries
from reasonpack.records.record_places import ENTRY


def by_hand(files: Sequence[tuple[Path, Sequence[Json], bool]]) -> list[tuple[str, list[str]]]:
    groups: dict[object, tuple[str, list[str]]] = {}
    for path, records, as_list in files:
        for number, record in enumerate(records):
            where = f"{path.name}[{number}]" if as_list else f"{path.name}:{number * 2 + 1}"
            key = record.get("trace_id")
            group = groups.setdefault(str(key) if key else (where,), (str(key or ""), []))
            group[1].append(where)
    return list(groups.values())


some_records = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.sampled_from(["", "x"]) | st.text(max_size=9),
            "messages": st.integers(0, 3).map(lambda size: [{"n": n} for n in range(size)]),
        },
        optional={"trace_id": st.sampled_from(["a", "b", "c", 7, "7", None, ""])},
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(
    made=st.lists(st.tuples(some_records, st.booleans()), min_size=1, max_size=3),
    unit_bytes=st.integers(1, 400),
)
def test_groups_are_those_of_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    made: list[tuple[list[Json], bool]],
    unit_bytes: int,
) -> None:
    folder = tmp_path_factory.mktemp("calls")
    files = [
        (written(folder / f"calls{number}.json", records, as_list=as_list), records, as_list)
        for number, (records, as_list) in enumerate(made)
    ]
    paths = [path for path, _, _ in files]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(repeated_items, "HEAD", 5)  # more lines are taken for one that goes on
        grouped = planned(paths, field="trace_id", unit_bytes=unit_bytes)
    units = read(grouped, paths)
    expected = by_hand(files)
    assert [group for unit in units for group in unit] == expected
    assert grouped.grouping.groups == len(expected)
    bounds = [0, *(unit.stop for unit in grouped.units)]
    assert [unit.start for unit in grouped.units] == bounds[:-1]
    assert bounds[-1] == grouped.grouping.records == sum(len(where) for _, where in expected)
    assert sum(unit.input_bytes for unit in grouped.units) == grouped.entries["length"].sum()
    names = [path.name for path in paths]
    assert all(names[unit.input] == unit.name for unit in grouped.units)


def test_a_group_that_nobody_takes_is_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": each} for each in "aabb"])
    grouped = planned([path])
    groups = list(Groups(grouped.entries, sources(grouped, [path]), "group"))
    assert [(each.id, each.start) for each in groups] == [("a", 0), ("b", 2)]


def test_the_index_is_read_by_parts(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": each} for each in "aabb"])
    grouped, index = planned([path]), tmp_path / "groups.index"
    index.write_bytes(grouped.entries.tobytes())
    part = read_entries(index, 2, 4)
    assert part.tobytes() == grouped.entries[2:].tobytes()
    index.write_bytes(index.read_bytes()[: 3 * ENTRY.itemsize])
    with pytest.raises(StorageError, match="ends too early"):
        read_entries(index, 2, 4)


@pytest.mark.parametrize("together", [True, False])
def test_what_small_files_repeat_of_each_other_is_no_new_text(
    together: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_index, "TOGETHER", 10_000 if together else 1)
    history: list[Json] = []
    paths: list[Path] = []
    for number in range(3):
        history.append({"role": "user", "content": f"{number}" * 1_000})
        record = {"group": "a", "messages": history}
        paths.append(written(tmp_path / f"{number}.jsonl", [record]))
    assert (planned(paths).text_bytes < 4_000) == together
