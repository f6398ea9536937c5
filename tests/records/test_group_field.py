"""The field of records that names their group: stated, nested, or found."""

from __future__ import annotations

from pathlib import Path

import pytest
from grouped import Json, planned, read, written

from reasonpack.errors import UsageError
from reasonpack.records.group_index import Grouped, plan_groups
from reasonpack.records.groups import fields_of_line, group_name


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
        own_fields = {"own.jsonl": "group.id"}
        return plan_groups(files, own_fields=own_fields, unit_bytes=1 << 20, folder=tmp_path)

    assert (grouped(own).grouping.field, grouped(own).grouping.groups) == ("group.id", 1)
    with pytest.raises(UsageError, match=r"group.id in 2 and trace_id in 1, expected one"):
        grouped(own, other)


def test_auto_refuses_a_field_that_puts_most_records_together(tmp_path: Path) -> None:
    records = [{"session_id": 1 if number < 506 else number} for number in range(1_010)]
    path = written(tmp_path / "calls.jsonl", records)
    with pytest.raises(UsageError, match=r"auto \(session_id\): .* 506 of 1,010 records"):
        planned([path])
    assert planned([path], field="session_id").grouping.groups == 505
    assert planned([written(path, records[2:])]).grouping.groups == 505


def test_fields_that_are_nested() -> None:
    assert fields_of_line(b'{"a": {"b.c": 7}}', ["a.b.c"]) == {"a.b.c": 7}
    assert fields_of_line(b'{"a": {"b": ""}}', ["a.b"]) == {}
    assert fields_of_line(b'{"a": 3}', ["a.b"]) == {}
    (value,) = fields_of_line(b'{"a": {"b": true}}', ["a.b"]).values()
    with pytest.raises(UsageError, match=r"a.b is bool in a record, expected a text or a whole nu"):
        group_name(value, "a.b")


@pytest.mark.parametrize("value", [b'"\xff"', b'"\\ud800"', b'{"b": "\xff"}'])
def test_a_value_that_is_not_unicode_names_no_group(value: bytes) -> None:
    """The fault is reported when the record is read."""
    assert fields_of_line(b'{"a": ' + value + b"}", ["a", "a.b"]) == {}
