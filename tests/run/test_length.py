"""What is too long, from a command: divided, left out, rejected or an error, and said."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from runs import FIXTURES

from reasonpack.cli import cli, run
from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.run.pack import pack_files
from reasonpack.run.ray import pack_table
from reasonpack.verify.check import verify_dataset

ROOT = FIXTURES.parent
TOKENIZER = str(FIXTURES / "tokenizer")
TEXT = "The boat crosses the river once more and then it comes back. "
SCHEMA = Draft202012Validator(json.loads((ROOT / "schemas/reject.schema.json").read_bytes()))
Call = Callable[..., tuple[int, str]]
Json = dict[str, Any]


def turn(number: int, *, words: int = 4) -> list[Json]:
    return [
        {"role": "user", "content": f"{number}? {TEXT}"},
        {"role": "assistant", "content": TEXT, "reasoning_content": TEXT * words},
    ]


def conversation(*, turns: int = 6, long: int | None = None) -> Json:
    """Turns of about a hundred tokens; the answer of one may be as long as eight of them."""
    messages = [
        message for at in range(turns) for message in turn(at, words=60 if at == long else 4)
    ]
    return {"id": f"{turns} turns", "messages": messages}


SHORT, LONG = conversation(turns=1), conversation(long=2)
ALL = [SHORT, LONG, conversation(turns=8)]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Call:
    monkeypatch.chdir(tmp_path)

    def command(records: list[Json], *options: str) -> tuple[int, str]:
        Path("a.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        arguments = ["pack", "a.jsonl", "--tokenizer", TOKENIZER, "-o", "out", *options]
        monkeypatch.setattr(sys, "argv", ["reasonpack", *arguments])
        status = run(cli)
        return status, capsys.readouterr().err

    return command


def rejects() -> list[Json]:
    lines = [json.loads(line) for line in Path("out/rejects.jsonl").read_text().splitlines()]
    for line in lines:
        SCHEMA.validate(line)
    return lines


def test_the_default_divides_and_leaves_out(call: Call) -> None:
    status, said = call(ALL, "--max-length", "600")
    assert status == 3
    first, *rest = said.splitlines()
    assert first.startswith("too long       2 conversations divided into ")
    assert "of history; 1 message left untrained (--max-length 600, --max-position 8,192)" in first
    assert rest[0].split() == ["conversations", "3", "packed", "of", "3"]
    assert "left out       1 over-max-length: a message whose view is longer than a row" in said
    (line,) = rejects()
    assert line.pop("error").startswith(f"a.jsonl:2: messages[5]: a view of {line['tokens']:,} ")
    assert line.pop("tokens") > 600
    assert line == {
        "kind": "message",
        "where": "a.jsonl:2",
        "message": 5,
        "reason": "over-max-length",
    }
    counts = read_manifest(Path("out")).counts
    assert (counts.divided, counts.left_out, counts.views) == (2, {"over-max-length": 1}, 14)
    assert verify_dataset(Path("out"), ["a.jsonl"]).total == 0


def test_the_limit_of_the_model_is_another_reason(call: Call) -> None:
    status, said = call(ALL, "--max-position", "600")
    assert status == 3
    assert said.startswith("too long       1 message left untrained (--max-position 600)\n")
    assert [line["reason"] for line in rejects()] == ["over-max-position"]
    counts = read_manifest(Path("out")).counts
    assert (counts.divided, counts.samples) == (0, 3)
    assert verify_dataset(Path("out"), ["a.jsonl"]).total == 0


def test_what_fits_is_not_spoken_of(call: Call) -> None:
    status, said = call([SHORT], "--max-length", "600")
    assert (status, said.partition(" ")[0]) == (0, "conversations")
    assert not Path("out/rejects.jsonl").exists()


def test_a_dataset_that_fits_has_the_bytes_that_it_had(call: Call) -> None:
    found = []
    for overlong in ("split", "skip", "error"):
        limits = ("--max-length", "4000", "--packing", "--overwrite")
        assert call(ALL, *limits, "--overlong", overlong)[0] == 0
        found.append(read_manifest(Path("out")).content_hash)
    assert len(set(found)) == 1


def test_divided_rows_are_filled_like_others(call: Call) -> None:
    assert call(ALL, "--max-length", "600", "--packing")[0] == 3
    manifest = read_manifest(Path("out"))
    assert manifest.counts.rows < manifest.counts.samples
    assert verify_dataset(Path("out"), ["a.jsonl"]).total == 0


@pytest.mark.parametrize("layout", ["onepass", "npass"])
def test_a_conversation_of_which_nothing_fits_is_a_reject(call: Call, layout: str) -> None:
    records = [SHORT, conversation(turns=1, long=0)]
    status, said = call(records, "--max-length", "400", "--layout", layout)
    assert status == 3
    assert said.startswith("too long       1 conversation rejected (--max-length 400")
    (line,) = rejects()
    assert (line["reason"], line["where"]) == ("overlong", "a.jsonl:2")
    assert "expected at most 400 (--max-length). Fix: raise --max-length" in line["error"]
    assert "record" in line
    assert verify_dataset(Path("out"), ["a.jsonl"]).total == 0


def test_of_calls_groups_are_divided_and_records_rejected(call: Call) -> None:
    asked = [{"role": "user", "content": "How many boats lie in the harbour?"}]
    records = [{"trace_id": 1, "messages": asked, "response": f"{n} " * n} for n in (40, 39, 900)]
    status, said = call(records, "--max-length", "200")
    assert status == 3
    assert re.search("too long +1 group divided into 2 samples, .*; 1 record rejected", said), said


def test_skip_rejects_the_whole_conversation(call: Call) -> None:
    """Even if all but one of its views fit, and these together."""
    records = [*ALL, conversation(turns=2, long=1)]
    assert call(records, "--max-length", "600", "--overlong", "skip")[0] == 3
    assert [line["reason"] for line in rejects()] == ["overlong"] * 3
    assert rejects()[0]["error"].endswith(", or divide such conversations with --overlong split.")
    counts = read_manifest(Path("out")).counts
    assert (counts.packed, counts.divided, counts.left_out) == (1, 0, {})
    assert verify_dataset(Path("out"), ["a.jsonl"]).total == 0


def test_skip_rejects_a_view_that_the_model_cannot_attend_over(call: Call) -> None:
    assert call(ALL, "--max-position", "600", "--overlong", "skip")[0] == 3
    (line,) = rejects()
    assert (line["reason"], line["where"]) == ("overlong", "a.jsonl:2")
    assert "expected at most 600 (--max-position). Fix: raise --max-position" in line["error"]


def test_error_stops(call: Call) -> None:
    status, said = call(ALL, "--max-length", "600", "--overlong", "error")
    assert status == 1
    assert "a.jsonl:2: messages: a sample of " in said
    assert said.endswith("with --overlong split, or leave them out with --overlong skip.\n")


def test_a_view_of_too_many_characters_is_left_out(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not encoded, and the other messages of its conversation are packed."""
    for module in ("run.length", "verify.encoding"):
        monkeypatch.setattr(f"reasonpack.{module}.LONGEST_TEXT", 3_000)
        monkeypatch.setattr(f"reasonpack.{module}.CHARACTERS_OF_A_TOKEN", 0)
    status, _ = call([SHORT, LONG])
    assert status == 3
    (line,) = rejects()
    assert (line["message"], line["reason"]) == (5, "over-max-position")
    assert line["characters"] > 3_000
    assert "tokens" not in line
    assert read_manifest(Path("out")).counts.views == 6
    assert verify_dataset(Path("out"), ["a.jsonl"]).total == 0
    assert call([conversation(turns=1, long=0), SHORT], "--overwrite")[0] == 3
    assert [line["reason"] for line in rejects()] == ["overlong"]
    status, said = call([SHORT, LONG], "--overwrite", "--overlong", "error")
    assert (status, "characters, expected at most 3,000 (--max-position)" in said) == (1, True)


def test_messages_of_several_items_keep_the_index_of_the_record(tmp_path: Path) -> None:
    """A system field is message 0."""
    record = {"system": "Be brief.", "messages": LONG["messages"]}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record))
    options = Options(tokenizer=TOKENIZER, max_length=600)
    pack_files([str(path)], tmp_path / "out", options)
    line = json.loads((tmp_path / "out" / "rejects.jsonl").read_text())
    assert line["message"] == 6
    assert verify_dataset(tmp_path / "out", [str(path)]).total == 0


def test_a_pipeline_without_a_place_for_rejects_stops_where_a_message_is_left_out() -> None:
    options = Options(tokenizer=TOKENIZER, max_length=600)
    divided = pack_table(pa.Table.from_pylist([conversation(turns=8)]), options)
    assert divided.num_rows > 1
    with pytest.raises(RecordError, match=r"a view of .* expected at most 600"):
        pack_table(pa.Table.from_pylist([LONG]), options)
