"""Groups of any file, some of them, and such that were packed again."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from logged_groups import LOGS, PLAIN, compared, ids, packed, said, written
from packed_twice import TOKENIZER

from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack


def test_a_list_of_calls_with_ids_of_both_in_one_is_read(tmp_path: Path) -> None:
    calls = [{"tokens": [5, 6, 7], "response_length": length} for length in (1, 2)]
    out, source = packed(tmp_path, [{"steps": calls}])
    findings = compared(out, source)
    assert (findings.total, findings.unchecked) == (0, {}), findings.listed


@pytest.mark.long
def test_groups_that_were_packed_again(tmp_path: Path) -> None:
    """Of one name in two datasets, or twice in one, they are apart; so is each session."""
    other = [{**call, "id": f"{n}", "response": said("assistant", "4!")} for n, call in
             enumerate(PLAIN) if "messages" in call]  # fmt: skip
    (tmp_path / "other").mkdir()
    one, first = packed(tmp_path, PLAIN)
    two, second = packed(tmp_path / "other", other)
    repack([f"{one}:2", two], tmp_path / "both", {"shuffle": True})
    repack([tmp_path / "both", one], tmp_path / "again", {})
    for out, sources in (("both", (first, second)), ("again", (first, second, first))):
        findings = compared(tmp_path / out, *sources)
        assert (findings.total, findings.unchecked) == (0, {}), findings.listed
    assert findings.checked["views"] == 2 * 9 + 4 + 9
    other[0]["response"]["content"] = "5"
    changed = written(tmp_path / "changed.jsonl", other)
    assert set(compared(tmp_path / "both", first, changed).counts) == {"RP309"}
    pi = LOGS / "pi.jsonl"
    pack_files([str(pi)], tmp_path / "pi", Options(tokenizer=str(TOKENIZER)))
    repack([tmp_path / "pi"], tmp_path / "pi again", {})
    assert not compared(tmp_path / "pi again", pi).unchecked


@pytest.mark.long
@pytest.mark.parametrize("form", ["gzip", "list", "parquet"])
def test_any_file_is_compared(form: str, tmp_path: Path) -> None:
    """Records that cannot be looked up are spread; nothing of that is left."""
    path, calls = tmp_path / f"calls.{form}", [ids("g", f"{n % 3}", [5], [7 + n]) for n in range(6)]
    calls = [{**each, "trace_id": f"{n % 2}"} for n, each in enumerate(calls)]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(calls), path)
    else:
        whole = json.dumps(calls) if form == "list" else "\n".join(map(json.dumps, calls))
        path.write_bytes(gzip.compress(whole.encode()) if form == "gzip" else whole.encode())
    (tmp_path / "temporary").mkdir()
    pack_files([str(path)], tmp_path / "out", Options(tokenizer=str(TOKENIZER)))
    before = tempfile.tempdir
    try:
        tempfile.tempdir = str(tmp_path / "temporary")
        findings = compared(tmp_path / "out", path)
    finally:
        tempfile.tempdir = before
    assert (findings.total, findings.unchecked, findings.checked["groups"]) == (0, {}, 2)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_some_groups_are_compared(tmp_path: Path) -> None:
    findings = compared(*packed(tmp_path, PLAIN), sample=1)
    assert (findings.total, findings.checked["packed"]) == (0, 3)
    assert findings.checked["groups"] <= 2  # those without the field are read for their ids
