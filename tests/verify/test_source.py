"""The source of a dataset: its files, its tokenizer, its rejects."""

from __future__ import annotations

import gzip
import json
import math
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from damages import reject, rejson, reply, rerecord, resource
from packed_twice import BROKEN, FIRST, SECOND, TOKENIZER, Json, Packed, chats, pack, pack_two

from reasonpack.datasets.options import Options
from reasonpack.errors import TokenizerError, UsageError
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.findings import fix_of

# --- what the source is --------------------------------------------------------------------------


def test_another_tokenizer_or_template_is_refused(packed: Packed, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(TOKENIZER, tmp_path / "moved"))
    assert packed.compare(tokenizer=str(moved)).total == 0
    template = moved / "chat_template.jinja"
    template.write_text(template.read_text() + "{# #}")
    assert packed.compare(tokenizer=str(moved)).counts == {"RP302": 1}
    assert "directory of the tokenizer" in fix_of("RP302")
    shutil.copy(TOKENIZER / template.name, template)
    with (moved / "tokenizer.json").open("a") as file:
        file.write("\n")
    assert packed.compare(tokenizer=str(moved)).counts == {"RP301": 1}


def test_a_tokenizer_that_is_gone_can_be_named(packed: Packed) -> None:
    for name in ("manifest.json", "plan.json"):
        rejson(name, lambda value: value["options"].update(tokenizer="no/such/place"))(packed)
    with pytest.raises(TokenizerError, match="pass --tokenizer"):
        packed.compare()
    assert packed.compare(tokenizer=str(TOKENIZER)).total == 0


def test_an_older_manifest_says_too_little(packed: Packed) -> None:
    rejson("manifest.json", lambda manifest: manifest.pop("templates"))(packed)
    findings = packed.compare()
    assert findings.total == 0
    assert [number for number, _ in findings.unchecked.values()] == [6]


def test_another_number_of_inputs_is_refused(packed: Packed) -> None:
    assert Packed(packed.directory, packed.inputs[:1]).compare().counts == {"RP303": 1}


def test_a_share_that_was_not_packed_is_refused(packed: Packed) -> None:
    inputs = [f"{packed.inputs[0]}:3", str(packed.inputs[1])]
    with pytest.raises(UsageError, match="a share that DIR was not packed with"):
        verify_dataset(packed.directory, inputs)


def test_names_of_moved_inputs_are_those_of_then(tmp_path: Path) -> None:
    """Records without an id are named after file and line."""
    lines = [
        json.dumps({**json.loads(chats()[id_]), "id": None}).encode() for id_ in FIRST + SECOND
    ]
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    made = pack(here, {"a.jsonl": lines[:3], "b.jsonl": lines[3:]})
    assert made.compare().total == 0
    assert Packed(made.directory, made.inputs[::-1]).compare().total == 0
    moved = Packed(made.directory, [Path(shutil.move(path, there)) for path in made.inputs])
    assert moved.compare().total == 0
    resource(1, lambda lines: lines.reverse())(moved)
    assert moved.compare().counts == {"RP309": 2}, "the one in the middle is where it was"


def test_a_changed_input_is_a_warning_if_its_records_are_the_same(packed: Packed) -> None:
    resource(0, lambda lines: lines.insert(2, b"   "))(packed)
    findings = packed.compare()
    assert (findings.total, len(findings.warnings)) == (0, 1)
    assert "not the bytes that were packed" in findings.warnings[0]


@pytest.mark.parametrize("kind", ["gzip", "parquet"])
def test_inputs_of_every_kind(tmp_path: Path, kind: str) -> None:
    table = [{"id": id_, **plain(json.loads(chats()[id_]))} for id_ in ("small-talk", "root-two")]
    table.append(json.loads(BROKEN))
    path = tmp_path / ("a.jsonl.gz" if kind == "gzip" else "a.parquet")

    def store() -> None:
        if kind == "gzip":
            path.write_bytes(
                gzip.compress("".join(json.dumps(row) + "\n" for row in table).encode())
            )
        else:
            pq.write_table(pa.Table.from_pylist(table), path)

    store()
    options = Options(tokenizer=str(TOKENIZER), on_error="skip")
    pack_files([str(path)], tmp_path / "packed", options)
    packed = Packed(tmp_path / "packed", [path])
    findings = packed.compare()
    assert (findings.total, findings.checked["rejects"]) == (0, 1)
    reply(table[1])
    store()
    assert packed.compare().counts == {"RP309": 1}


def plain(record: Json) -> Json:
    """Keep what every message has."""
    names = ("role", "content")
    return {"messages": [{name: each[name] for name in names} for each in record["messages"]]}


@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_ids_that_occur_several_times(tmp_path: Path, layout: str) -> None:
    known = [json.loads(chats()[id_]) for id_ in ("root-two", "small-talk", "tartib-alaryaf")]
    same = [json.dumps({**record, "id": "same"}).encode() for record in [*known, known[0]]]
    packed = pack(tmp_path, {"a.jsonl": same, "b.jsonl": same[:2]}, layout=layout)
    assert packed.compare().total == 0
    resource(0, lambda lines: lines.reverse())(packed)
    assert packed.compare().total == 0, "which of them is first does not matter"
    rerecord(0, 1, reply)(packed)
    assert packed.compare().counts == {"RP309": 1}
    resource(0, lambda lines: lines.pop(1))(packed)
    assert packed.compare().counts == {"RP305" if layout == "onepass" else "RP309": 1}


# --- rejects -------------------------------------------------------------------------------------


def test_rejects_have_the_reason_that_they_give(tmp_path: Path) -> None:
    packed = pack_two(tmp_path, max_length=700, max_position=600, overlong="skip")
    counts = packed.json("manifest.json")["counts"]
    assert counts["rejects"]["overlong"] >= 2
    assert counts["packed"] >= 1
    assert packed.compare().total == 0


def test_json_text_in_a_record_has_the_reason_of_json(tmp_path: Path) -> None:
    record = {**json.loads(chats()["small-talk"]), "tools": "{"}
    packed = pack(tmp_path, {"a.jsonl": [json.dumps(record).encode(), chats()["root-two"]]})
    assert packed.json("manifest.json")["counts"]["rejects"] == {"json": 1}
    findings = packed.compare()
    assert (findings.total, findings.checked["rejects confirmed"]) == (0, 1)


def test_a_row_with_a_number_that_json_has_not_has_the_reason_of_json(tmp_path: Path) -> None:
    source, ids = tmp_path / "a.parquet", {"prompt_ids": [1], "completion_ids": [2]}
    pq.write_table(pa.Table.from_pylist([{**ids, "reward": r} for r in (math.nan, 1.0)]), source)
    options = Options(tokenizer=str(TOKENIZER), group_by="none", on_error="skip")
    assert pack_files([str(source)], tmp_path / "out", options).counts.rejects == {"json": 1}
    findings = verify_dataset(tmp_path / "out", [str(source)])
    assert (findings.total, findings.checked["rejects confirmed"]) == (0, 1)


def test_a_reject_that_could_be_packed(packed: Packed) -> None:
    line = chats()["ab-test"]
    resource(0, lambda lines: lines.__setitem__(0, line))(packed)
    reject(lambda rejected: rejected.update(record=line.decode()))(packed)
    findings = packed.compare()
    assert findings.total == 0, "pack may have a reason that is not known here"
    assert "rejects confirmed" not in findings.checked
    reject(lambda rejected: rejected.update(reason="overlong"))(packed)
    (finding,) = packed.compare().listed
    assert (finding.code, finding.file.rpartition(":")[2]) == ("RP307", "1")
    assert finding.what.endswith("expected it packed")
