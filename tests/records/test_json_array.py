"""A list is cut where the standard library would cut it, whatever the blocks and the units."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from runs import OPTIONS, SKIPPING, chats, run, tree

from reasonpack.errors import StorageError
from reasonpack.records.json_array import NotAList, elements
from reasonpack.records.plan import plan
from reasonpack.records.unit import read_records
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset

BOM = b"\xef\xbb\xbf"
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='a"\\[]{},\n 日', max_size=6),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text('",]', max_size=2), below),
    max_leaves=8,
)


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.long
@settings(max_examples=400)
@given(
    list_=st.lists(values, max_size=6),
    indent=st.none() | st.integers(0, 2),
    size=st.integers(1, 30),
    around=st.sampled_from([b"", b"\n", BOM, BOM + b" \r\n\t"]),
)
@example(list_=["\\"], indent=None, size=3, around=b"")
@example(list_=[], indent=1, size=1, around=b"")
def test_elements_are_those_of_the_standard_library(
    list_: list[Any], indent: int | None, size: int, around: bytes
) -> None:
    data = around + json.dumps(list_, indent=indent, ensure_ascii=False).encode() + b"\n"
    found = list(elements(blocks(data, size), longest=10_000))
    assert [json.loads(element.text) for element in found] == list_
    for at, element in enumerate(found):
        rest = elements(blocks(data[element.start :], size), start=element.start, longest=10_000)
        assert list(rest) == found[at:]


@pytest.mark.parametrize(
    ("data", "index", "words"),
    [
        (b'[{"a": 1}, {"a": 2}', 1, "never closed"),
        (b'[{"a": [1}, {"a": 2}]', 0, "never closed"),
        (b'[{"a": "1}]', 0, "never closed"),
        (b'[{"a": 1}]}', 1, "something follows"),
        (b"[1]\n[2]\n", 1, "something follows"),
        (b"[1]" + b" " * 200 + b"2", 1, "something follows"),
        (b"[1, 2}", 2, "ends in '}'"),
        (b"[1, " + b"2" * 2_000 + b"]", 1, "more than 1,000 bytes"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 5, 10_000])
def test_what_is_no_list_is_refused_where_it_shows(
    data: bytes, index: int, words: str, size: int
) -> None:
    with pytest.raises(NotAList, match=words) as caught:
        list(elements(blocks(data, size), longest=1_000))
    assert caught.value.index == index


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b"[,1]", [b"", b"1"]),
        (b"[1,,2]", [b"1", b"", b"2"]),
        (b"[1,]", [b"1", b""]),
        (rb'["a\", ]", 2]', [rb'"a\", ]"', b"2"]),
        (rb'["\\"]', [rb'"\\"']),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
def test_marks_are_found_whatever_the_blocks(data: bytes, texts: list[bytes], size: int) -> None:
    assert [each.text for each in elements(blocks(data, size), longest=99)] == texts


@pytest.mark.parametrize("unit_bytes", [1, 4, 1_000])
def test_a_comma_too_many_leaves_an_empty_element_whatever_the_units(
    unit_bytes: int, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_bytes(b"[1,\n 2,\n]")
    _, units = plan([(tmp_path / "a.json", "a")], unit_bytes=unit_bytes)
    found = [record for unit in units for record in read_records(unit, tmp_path / "a.json")]
    assert [(record.where, record.line) for record in found] == [
        ("a[0]", b"1"),
        ("a[1]", b"2"),
        ("a[2]", b""),
    ]


def as_list(lines: bytes, indent: int | None = 2) -> bytes:
    objects = [json.loads(line) for line in lines.splitlines()]
    return json.dumps(objects, indent=indent, ensure_ascii=False).encode()


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_is_cut_into_units_that_tile_it(indent: int | None, tmp_path: Path) -> None:
    path, data = tmp_path / "chats.json", as_list(chats(), indent)
    path.write_bytes(data)
    _, units = plan([(path, "chats.json")], unit_bytes=4_000)
    assert len(units) > 5
    assert [unit.start for unit in units] == [0, *(unit.stop for unit in units[:-1])]
    assert units[-1].stop == len(data)
    assert {unit.container for unit in units} == {"array"}
    found = [list(read_records(unit, path)) for unit in units]
    assert [unit.first_line for unit in units] == [
        sum(map(len, found[:at])) for at in range(len(units))
    ]
    records = [record for each in found for record in each]
    assert [json.loads(record.line) for record in records] == json.loads(data)
    assert [record.where for record in records] == [
        f"chats.json[{index}]" for index in range(len(records))
    ]


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_a_list_packs_like_the_lines_it_is_made_of(workers: int, tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_bytes(chats(bad=False))
    (tmp_path / "chats.json").write_bytes(as_list(chats(bad=False)))
    manifests = []
    for name in ("chats.jsonl", "chats.json"):
        out = tmp_path / f"{name}.out"
        manifests.append(
            pack_files([str(tmp_path / name)], out, OPTIONS, run=run(num_proc=workers))
        )
        assert verify_dataset(out, [str(tmp_path / name)]).total == 0
    lines, list_ = manifests
    assert list_.counts.tokens == lines.counts.tokens
    assert list_.counts.views == lines.counts.views
    assert len(list_.shards) > 1


@pytest.mark.long
def test_the_bytes_do_not_depend_on_workers_and_a_stopped_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "chats.json").write_bytes(as_list(chats()))
    inputs = [str(tmp_path / "chats.json")]
    pack_files(inputs, tmp_path / "one", SKIPPING, run=run(num_proc=1))
    pack_files(inputs, tmp_path / "two", SKIPPING, run=run(num_proc=2))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    for name in ("manifest.json", "receipts/00003.json"):
        (tmp_path / "two" / name).unlink()
    pack_files(inputs, tmp_path / "two", SKIPPING, run=run(num_proc=2))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_rejects_keep_the_whole_element_and_say_which_it_was(tmp_path: Path) -> None:
    data = as_list(chats(10))
    (tmp_path / "chats.json").write_bytes(data)
    pack_files([str(tmp_path / "chats.json")], tmp_path / "out", SKIPPING, run=run())
    reject = json.loads((tmp_path / "out" / "rejects.jsonl").read_text("utf-8"))
    assert reject["where"] == f"{tmp_path / 'chats.json'}[9]"
    assert reject["error"].startswith(reject["where"] + ": messages[0].role: ")
    assert reject["record"].encode() in data
    assert json.loads(reject["record"]) == json.loads(data)[9]
    assert verify_dataset(tmp_path / "out", [str(tmp_path / "chats.json")]).total == 0


def zstd(data: bytes) -> bytes:
    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_a_compressed_list_is_one_unit(compress: Any, tmp_path: Path) -> None:
    path = tmp_path / "chats.json.packed"
    path.write_bytes(compress(BOM + as_list(chats())))
    _, units = plan([(path, "chats")], unit_bytes=100)
    assert len(units) == 1
    found = list(read_records(units[0], path))
    assert [json.loads(record.line)["id"] for record in found] == [f"chat {n}" for n in range(40)]
    assert [record.where for record in found][:2] == ["chats[0]", "chats[1]"]
    path.write_bytes(compress(as_list(chats())[:-2]))
    with pytest.raises(StorageError, match=r"chats\[39\]: the list is never closed"):
        list(read_records(plan([(path, "chats")])[1][0], path))


def test_a_fault_in_an_element_of_many_lines_is_given_by_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "chats.json").write_bytes(b'[\n  {\n    "id": 1,\n    "messages": [nope]\n  }\n]')
    with pytest.raises(Exception, match=r"chats\.json\[0\]: not JSON at line 3, column 18"):
        pack_files([str(tmp_path / "chats.json")], tmp_path / "out", OPTIONS, run=run())
