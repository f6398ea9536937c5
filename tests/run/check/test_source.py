"""The chat that a document was made of is found, and where another one begins."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

from runs import FIXTURES

from tests.run.check.checked import (
    CHATS,
    START,
    Rows,
    check,
    places,
    right_rows,
    saved,
    stop_untrained,
)


def test_chats_that_nothing_parts_are_told_apart(right: Rows, tmp_path: Path) -> None:
    """By their own beginnings where they are known, else by the token with which chats begin."""
    first = [row for row in right if row[0].count(START) == 2][:3]
    ids, labels = ([*chain(*columns)] for columns in zip(*first, strict=True))
    status, found = check(saved(tmp_path, [(ids, labels)]), CHATS)
    assert (status, places(found, "faults"), found["documents"]) == (1, {"joined": 2}, 3)
    assert "[[<|im_start|>]]user" in found["faults"]["joined"]["example"]

    template = tmp_path / "begins.jinja"
    own = (FIXTURES / "tokenizer" / "chat_template.jinja").read_text("utf-8")
    template.write_text("{{- '<|endoftext|>' }}" + own, "utf-8")
    (tmp_path / "begun").mkdir()
    rows = right_rows(tmp_path / "begun", str(template))[:3]
    rows.insert(1, ([rows[0][0][0]], [-100]))  # twice, as where a tokenizer writes it too
    ids, labels = ([*chain(*columns)] for columns in zip(*rows, strict=True))
    joined = saved(tmp_path / "begun", [(ids, labels)])
    status, found = check(joined, "--chat-template", template)
    assert (status, places(found, "suspects"), found["documents"]) == (0, {"joined": 2}, 3)
    assert found["suspects"]["joined"]["token"] == len(rows[0][0])


def test_a_row_of_another_chat_is_only_suspected(right: Rows, tmp_path: Path) -> None:
    source = tmp_path / "other.jsonl"
    source.write_text("".join(CHATS.read_text("utf-8").splitlines(keepends=True)[1:2]))
    status, found = check(saved(tmp_path, [stop_untrained(*right[0]), *right[1:]]), source)
    assert (status, found["faults"], places(found, "suspects")) == (0, {}, {"stop-untrained": 1})
    assert 0 < found["found"] < found["documents"]


def test_chats_that_differ_in_their_reasoning_alone_are_told_apart(tmp_path: Path) -> None:
    """They have weights too, which do not matter here."""
    answers = [
        {"role": "assistant", "content": "4", "reasoning_content": f"{n}.", "weight": 1 + n / 8}
        for n in range(40)
    ]
    chats = [{"messages": [{"role": "user", "content": "2+2?"}, answer]} for answer in answers]
    source = tmp_path / "chats.jsonl"
    source.write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    status, found = check(saved(tmp_path, right_rows(tmp_path, source=source)), source)
    assert (status, found["found"], found["faults"]) == (0, 40, {})
