"""What `reasonpack verify` prints, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest
from damages import SHARD, add, edit, read, seal, tiny, trained, write
from packed_twice import FIRST, FIXTURES, Packed, chats, pack

from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.findings import CODES, KEPT

Command = Callable[..., tuple[int, str, str]]


def test_the_command_says_what_was_proved(good: Packed, command: Command) -> None:
    status, out, err = command(good.directory)
    assert (status, out, err.count("\n")) == (0, "", 1)
    assert ": sound: " in err
    status, out, err = command(good.directory, "--against", *good.inputs)
    assert (status, out, err.count("\n")) == (0, "", 7)
    assert "rebuilt: 6 conversations" in err
    assert "taken from the manifest: the thinking switch, the delimiters of reasoning" in err
    assert "7 records of the input, of which 6 packed and 1 rejected" in err
    status, _, err = command(good.directory, "--against", *good.inputs, "--sample", 2)
    assert status == 0
    assert "rebuilt: 2 conversations" in err


def test_what_is_not_known_is_not_sound(tmp_path: Path, command: Command) -> None:
    record = json.loads(chats()["small-talk"])
    packed = pack(tmp_path, {"a.jsonl": [json.dumps(record).encode()]})
    record["messages"][1]["mood"] = ["merry"]
    packed.inputs[0].write_text(json.dumps(record))
    status, _, err = command(packed.directory, "--against", *packed.inputs)
    assert status == 1
    assert "1 record not checked" in err
    assert "not checked: 1 record: the field 'mood' of an assistant message; the first is" in err
    status, out, _ = command(packed.directory, "--against", *packed.inputs, "--json")
    value = json.loads(out)
    assert (status, value["ok"], value["total"]) == (1, False, 0)
    assert [each["records"] for each in value["unchecked"].values()] == [1]
    allowed = command(packed.directory, "--against", *packed.inputs, "--allow-unchecked")
    assert allowed[0] == 0


def test_the_command_prints_the_first_violations(packed: Packed, command: Command) -> None:
    table = read(packed.shards[0])
    rows = [tiny(-100, -100, 8, -100, -100)] * 150
    write(packed.shards[0], pa.Table.from_pylist(rows, schema=table.schema))
    seal(packed)
    status, out, err = command(packed.directory)
    assert status == 1
    assert len(out.splitlines()) == 20
    assert all(line.startswith(f"RP209 {SHARD}: row ") for line in out.splitlines())
    assert "violations: 150 (RP209 150); the first 20 are shown" in err
    status, out, _ = command(packed.directory, "--json")
    value = json.loads(out)
    assert (status, value["ok"], value["total"], value["counts"]) == (1, False, 150, {"RP209": 150})
    assert len(value["violations"]) == KEPT
    assert value["violations"][3]["row"] == 3


def test_the_command_steers_no_terminal(tmp_path: Path, command: Command) -> None:
    record = {**json.loads(chats()["small-talk"]), "id": "\x1b[31m\nRP001 forged"}
    record["messages"][0]["content"] = "\x1b]0;title\x07 ?"
    packed = pack(tmp_path, {"a.jsonl": [json.dumps(record).encode()]})
    edit(lambda row: add(row["input_ids"], trained(row) - 2 - 8))(packed)
    status, out, err = command(packed.directory, "--against", *packed.inputs)
    assert status == 1
    assert "\x1b" not in out + err
    assert len(out.splitlines()) == 1
    assert "RP001 forged" in out


@pytest.mark.parametrize(
    "arguments", [["--sample", "3"], ["--tokenizer", "x"], ["--allow-unchecked"], ["a.jsonl"]]
)
def test_usage(good: Packed, command: Command, arguments: list[str]) -> None:
    status, _, err = command(good.directory, *arguments)
    assert status == 2
    assert "--against" in err


def test_help_lists_every_code(command: Command) -> None:
    status, out, _ = command("--help")
    assert status == 0
    lines = [line.strip() for line in out.splitlines()]
    assert all(f"{code}  {meaning}" in lines for code, meaning in CODES.items())


SHARED = {
    *("records.formats", "records.json_array", "records.plan", "records.strict_json"),
    *("records.record_places", "records.row_files"),
    *(
        "records.unit",
        "records.weight_search",
        "records",
        "rows.content_hash",
        "rows.kind",
        "rows.optional_columns",
        "rows.schema",
        "rows.consistency",  # of which the shards of `verify` are opened unchecked
        "rows",
    ),
}
OF_PACK = ("records", "rows", "run", "views", "templates.learn", "templates.behaviour")
OF_PACK += ("templates.forms",)


def test_verifying_needs_nothing_that_reads_views_or_lays_out(good: Packed) -> None:
    """In a process of its own, so that no other test has imported it."""
    code = (
        "import sys, reasonpack.cli.verify, reasonpack.verify.check as check;"
        "assert check.verify_dataset(sys.argv[1], sys.argv[2:]).total == 0;"
        "names = [m.removeprefix('reasonpack.') for m in sys.modules if 'reasonpack' in m];"
        f"own = [n for n in names if any((n + '.').startswith(o + '.') for o in {OF_PACK})];"
        f"sys.exit(','.join(n for n in own if n not in {SHARED}) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(good.directory), *map(str, good.inputs)],
        capture_output=True,
        text=True,
        check=False,
        cwd=FIXTURES.parent,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_inputs_may_be_named_as_for_pack(tmp_path: Path, command: Command) -> None:
    place = tmp_path / "a.jsonl"
    known = [chats()[id_] for id_ in FIRST]
    place.write_bytes(b"\n".join([*known, known[0], b""]))
    options = Options(tokenizer=str(FIXTURES / "tokenizer"), dedup="exact")
    pack_files([f"{place}:2.0"], tmp_path / "out", options)
    for given in (place, f"{place}:2.0", f"{place}:2"):
        status, _, err = command(tmp_path / "out", "--against", given)
        assert status == 0
        counted = "of which 3 packed (6 with copies), 1 duplicate and 0 rejected"
        assert f"4 records of the input, {counted}" in err
    wrong = {
        f"{place}:3": f"name {place} without a share",
        "-": "write it to a file",
        "-:2": "write it to a file",
    }
    for given, fix in wrong.items():
        status, _, err = command(tmp_path / "out", "--against", given)
        assert status == 2
        assert f"Fix: {fix}" in err


def test_a_file_is_no_dataset(tmp_path: Path, command: Command) -> None:
    (tmp_path / "a.jsonl").touch()
    status, out, _ = command(tmp_path / "a.jsonl")
    assert (status, out.split(" ")[0]) == (1, "RP001")
