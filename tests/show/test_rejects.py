"""Why records were rejected: a table, with the first of each reason."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from commanded import Call, write
from runs import ROOT, chats

from reasonpack.show.rejects import WORDS, examples


def check_table(error: str) -> None:
    lines = [line for line in error.splitlines() if line.startswith(("rejected", " " * 15))]
    assert lines[:4] == [
        "rejected       4 role: an unknown role, or a field that messages of this role cannot have",
        lines[1],
        "rejected       2 json: not JSON, or JSON that cannot be read exactly",
        lines[3],
    ]
    assert lines[1].startswith(" " * 15 + "chats.jsonl:10: messages[0].role: ")
    assert lines[3].startswith(" " * 15 + "chats.jsonl:41: not JSON at column 2")


def test_rejects_end_in_a_table(call: Call) -> None:
    write("chats.jsonl", chats() + b"{\n{\n")
    status, error = call("pack", "chats.jsonl", "--on-error", "skip", "--unit-size", "4000")
    assert status == 3
    check_table(error)


@pytest.mark.long
def test_parts_show_their_own_rejects_and_merge_shows_all(call: Call) -> None:
    write("chats.jsonl", chats() + b"{\n{\n")
    arguments = ("pack", "chats.jsonl", "--on-error", "skip", "--unit-size", "4000")
    found = []
    for part in ("0", "1"):
        status, error = call(*arguments, "--shard-index", part, "--shard-count", "2")
        assert status == 3
        found += re.findall(r"^rejected +(\d+) (\S+):", error, re.MULTILINE)
        assert len(re.findall(r"^ +chats\.jsonl:\d+: ", error, re.MULTILINE)) >= 1
    totals = {reason: sum(int(n) for n, each in found if each == reason) for _, reason in found}
    assert totals == {"role": 4, "json": 2}
    status, error = call("merge")
    assert status == 3
    check_table(error)


def test_the_table_does_not_steer_the_terminal(call: Call) -> None:
    bad = {"messages": [{"role": "\x1b[31mred", "content": "x"}]}
    name = "\u202e\x07chats.jsonl"
    write(name, chats(3) + json.dumps(bad).encode() + b"\n")
    _, error = call("pack", name, "--on-error", "skip")
    assert "role" in error
    assert all(character.isprintable() for character in error.replace("\n", ""))


def test_every_reason_has_words() -> None:
    used = set()
    for path in (ROOT / "reasonpack").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "RecordError":
                used |= {each.value for each in node.args[:1] if isinstance(each, ast.Constant)}
    assert len(used) > 10
    assert used <= set(WORDS), "say in WORDS or REASONS what the reason means"


def test_the_first_of_each_reason_is_found_over_several_files(tmp_path: Path) -> None:
    lines = [{"reason": reason, "error": f"{at}: {reason}"} for at, reason in enumerate("aabac")]
    for at in (0, 3):
        text = "".join(json.dumps(line) + "\n" for line in lines[at : at + 3])
        (tmp_path / f"{at}.jsonl").write_text(text)
    places = [tmp_path / "0.jsonl", tmp_path / "3.jsonl"]
    assert examples(places, "abc") == {"a": "0: a", "b": "2: b", "c": "4: c"}
    assert examples([tmp_path / "missing"], ()) == {}
