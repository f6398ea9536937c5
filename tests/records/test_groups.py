"""Groups: every record once, those of a group together and in the order of the inputs.

    files ── plan_groups() ──▶ entries, units ── read_groups() ──▶ the groups of a dictionary

The reference reads whole files, and puts the records of a group in a dictionary.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reasonpack.errors import StorageError, UsageError
from reasonpack.records import repeated_items
from reasonpack.records.group_field import GroupFields, group_name
from reasonpack.records.group_index import Grouped, plan_groups
from reasonpack.records.groups import read_entries, read_groups
from reasonpack.records.record_places import ENTRY, Source

Json = dict[str, Any]


def sources(grouped: Grouped, paths: Sequence[Path]) -> list[Source]:
    kinds = grouped.grouping.containers
    return [Source(path, path.name, kind) for path, kind in zip(paths, kinds, strict=True)]


def planned(paths: Sequence[Path], *, field: str = "auto", **sizes: int) -> Grouped:
    sizes = {"unit_bytes": 1 << 20, **sizes}
    return plan_groups([(path, path.name) for path in paths], field=field, **sizes)


def read(grouped: Grouped, paths: Sequence[Path]) -> list[list[tuple[str, list[str]]]]:
    """Read the groups of each unit: their ids, and where their records are."""
    found = []
    for unit in grouped.units:
        part = grouped.entries[unit.start : unit.stop]
        groups = read_groups(part, sources(grouped, paths), grouped.grouping.field)
        found.append([(each.id, [record.where for record in each.records]) for each in groups])
    return found


def written(path: Path, records: Sequence[Json], *, as_list: bool = False) -> Path:
    lines = [json.dumps(record) for record in records]
    path.write_text("[" + ",\n ".join(lines) + "]" if as_list else "\n\n".join(lines) + "\n")
    return path


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


def test_records_are_as_they_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"trace_id": 1}\r\n\n{"trace_id": 2}\n  {"trace_id": 1} \nbroken'
    )
    grouped = planned([path])
    groups = read_groups(grouped.entries, sources(grouped, [path]), grouped.grouping.field)
    assert [[record.line for record in group.records] for group in groups] == [
        [b'{"trace_id": 1}', b'  {"trace_id": 1} '],
        [b'{"trace_id": 2}'],
        [b"broken"],
    ]
    assert (grouped.grouping.field, grouped.grouping.alone) == ("trace_id", 1)


def test_a_group_that_nobody_takes_is_passed_over(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": each} for each in "aabb"])
    grouped = planned([path])
    groups = list(read_groups(grouped.entries, sources(grouped, [path]), "group"))
    assert [(each.id, each.start, each.stop) for each in groups] == [("a", 0, 2), ("b", 2, 4)]


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


def test_nested_fields(tmp_path: Path) -> None:
    records: list[Json] = [{"metadata": {"run": 3}}, {"metadata": None}, {"metadata": {"run": "3"}}]
    path = written(tmp_path / "calls.jsonl", records)
    (unit,) = read(planned([path], field="metadata.run"), [path])
    assert unit == [("3", ["calls.jsonl:1", "calls.jsonl:5"]), ("", ["calls.jsonl:3"])]


def test_a_key_may_have_dots_in_it(tmp_path: Path) -> None:
    records: list[Json] = [{"session.id": 3}, {"session": {"id": "3"}}, {"session": {"id": 4}}]
    path = written(tmp_path / "calls.jsonl", records)
    (unit,) = read(planned([path], field="session.id"), [path])
    assert [(id_, len(where)) for id_, where in unit] == [("3", 2), ("4", 1)]


def test_no_field_puts_nothing_together(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"text": "a"}, {"text": "a"}])
    grouped = planned([path])
    assert (grouped.grouping.field, grouped.grouping.groups, grouped.grouping.alone) == ("", 2, 2)
    assert len(read(grouped, [path])[0]) == 2


def test_auto_takes_one_field_or_says_which_there_are(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"trace_id": 1}, {"trace_id": 2, "session_id": 3}])
    with pytest.raises(UsageError, match="trace_id in 2 and session_id in 1, expected one"):
        planned([path])


def test_a_field_that_names_no_group_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": [1]}])
    with pytest.raises(UsageError, match=r"calls.jsonl:1: --group-by: group is list in a record"):
        planned([path])


def test_auto_passes_over_what_names_no_group(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": {"id": 1}, "trace_id": "a"}] * 2)
    assert (planned([path]).grouping.field, planned([path]).grouping.groups) == ("trace_id", 1)
    written(path, [{"group": {"id": 1}, "trace_id": "a"}, {"group": 2}])
    with pytest.raises(UsageError, match="group in 1 and trace_id in 1, expected one"):
        planned([path])


def test_a_format_knows_its_field(tmp_path: Path) -> None:
    """Other fields group nothing there; with files of no format it has to be one field for all."""
    own = written(tmp_path / "own.jsonl", [{"group": {"id": 1}, "trace_id": "a"}] * 2)
    other = written(tmp_path / "other.jsonl", [{"trace_id": "a"}])

    def grouped(*paths: Path) -> Grouped:
        files = [(path, path.name) for path in paths]
        return plan_groups(files, own_fields={"own.jsonl": "group.id"}, unit_bytes=1 << 20)

    assert (grouped(own).grouping.field, grouped(own).grouping.groups) == ("group.id", 1)
    with pytest.raises(UsageError, match=r"group.id in 2 and trace_id in 1, expected one"):
        grouped(own, other)


def test_a_group_that_is_too_large_names_the_field(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": 1}, {"group": 2}, {"group": 2}])
    with pytest.raises(UsageError, match=r"--group-by group: the group of calls.jsonl:3 has 26"):
        planned([path], max_group_bytes=20)


def test_auto_refuses_a_field_that_puts_most_records_together(tmp_path: Path) -> None:
    records = [{"session_id": 1 if number < 506 else number} for number in range(1_010)]
    path = written(tmp_path / "calls.jsonl", records)
    with pytest.raises(UsageError, match=r"auto \(session_id\): .* 506 of 1,010 records"):
        planned([path])
    assert planned([path], field="session_id").grouping.groups == 505
    assert planned([written(path, records[2:])]).grouping.groups == 505


def test_the_index_is_read_by_parts(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.jsonl", [{"group": each} for each in "aabb"])
    grouped, index = planned([path]), tmp_path / "groups.index"
    index.write_bytes(grouped.entries.tobytes())
    part = read_entries(index, 2, 4)
    assert part.tobytes() == grouped.entries[2:].tobytes()
    index.write_bytes(index.read_bytes()[: 3 * ENTRY.itemsize])
    with pytest.raises(StorageError, match="ends too early"):
        read_entries(index, 2, 4)


def test_fields_that_are_nested() -> None:
    assert GroupFields(["a.b.c"]).of_line(b'{"a": {"b.c": 7}}') == {"a.b.c": 7}
    fields = GroupFields(["a.b"])
    assert fields.of_line(b'{"a": {"b": ""}}') == {}
    assert fields.of_line(b'{"a": 3}') == {}
    (value,) = fields.of_line(b'{"a": {"b": true}}').values()
    with pytest.raises(UsageError, match=r"a.b is bool in a record, expected a text or a whole nu"):
        group_name(value, "a.b")
