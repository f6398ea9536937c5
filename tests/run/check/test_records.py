"""Chats are checked as pack would take them, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from runs import FIXTURES, chats

from reasonpack.cli import cli

TOKENIZER = str(FIXTURES / "tokenizer")


def check(path: Path, *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["check", str(path), "--tokenizer", TOKENIZER, *more])
    return result.exit_code, result.stdout


def test_chats_that_pack_takes(tmp_path: Path) -> None:
    status, shown = check(FIXTURES / "chats.jsonl")
    assert (status, shown.splitlines()) == (
        0,
        [
            "records        24 read, 89 answers could be trained",
            "sound          pack takes all of them",
        ],
    )


def test_records_of_calls_are_counted(tmp_path: Path) -> None:
    call = {"trace_id": "a", "messages": [{"role": "user", "content": "2+2?"}], "response": "4"}
    more = [{**call, "id": 2, "response": "5"}, {**call, "trace_id": "b"}]
    place = tmp_path / "calls.jsonl"
    place.write_text("".join(json.dumps(each) + "\n" for each in (call, *more)))
    said = "records        3 read in 2 groups, 3 answers could be trained"
    assert check(place)[1].splitlines()[0] == said
    assert json.loads(check(place, "--json")[1])["records"] == 3


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Chats of which some have an unknown role, and two a field that nobody reads."""
    lines = chats(20).splitlines(keepends=True)
    for number in (3, 5):
        record = json.loads(lines[number])
        record["messages"][1]["chain"] = "a thought"
        lines[number] = json.dumps(record).encode() + b"\n"
    (tmp_path / "chats.jsonl").write_bytes(b"".join(lines))
    return tmp_path / "chats.jsonl"


def test_faults_are_grouped(mixed: Path) -> None:
    status, shown = check(mixed, "--json")
    found = json.loads(shown)
    assert (status, found["ok"], found["records"]) == (1, False, 20)
    counts = {reason: group["count"] for reason, group in found["faults"].items()}
    assert counts == {"role": 2, "unknown-field": 2}
    assert found["faults"]["role"]["example"].startswith(f"{mixed}:10: messages[0].role")
    assert "'chain' (2 times)" in found["faults"]["unknown-field"]["example"]
    assert [path.name for path in mixed.parent.iterdir()] == ["chats.jsonl"], "nothing is written"


def test_lines_are_those_of_pack(mixed: Path) -> None:
    status, shown = check(mixed)
    first, second, _, third, _ = shown.splitlines()
    assert status == 1
    assert first.startswith("records        20 read, ")
    assert second.startswith("rejected       2 role: an unknown role")
    assert third.startswith("               2 unknown-field: ") or "2 unknown-field: " in third
