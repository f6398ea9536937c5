"""Records are looked up where they stand in their file."""

from __future__ import annotations

from pathlib import Path

from grouped import planned, sources

from reasonpack.records.groups import Groups


def test_records_are_as_they_stand_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"trace_id": 1}\r\n\n{"trace_id": 2}\n  {"trace_id": 1} \nbroken'
    )
    grouped = planned([path])
    groups = Groups(grouped.entries, sources(grouped, [path]), grouped.grouping.field)
    assert [[record.line for record in group.records] for group in groups] == [
        [b'{"trace_id": 1}', b'  {"trace_id": 1} '],
        [b'{"trace_id": 2}'],
        [b"broken"],
    ]
    assert (grouped.grouping.field, grouped.grouping.alone) == ("trace_id", 1)
