"""Rejects are matched with records, and their reasons are judged where that is possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from damages import reject
from packed_twice import OPTIONS, TOKENIZER, Packed

from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.rebuilt import Rebuilt

ASK = {"role": "user", "content": "Go."}
LONG = {"role": "assistant", "content": "Gone " * 100}


def test_a_reject_of_another_line_leaves_two_without_a_match(packed: Packed) -> None:
    reject(lambda line: line.update(where=line["where"] + "9"))(packed)
    assert packed.compare().counts == {"RP304": 1, "RP306": 1}


def test_a_reject_of_other_text_leaves_two_without_a_match(packed: Packed) -> None:
    reject(lambda line: line.update(record="{}"))(packed)
    assert packed.compare().counts == {"RP304": 1, "RP306": 1}


def test_records_that_only_packing_refuses(tmp_path: Path) -> None:
    """Its rules are more; and a line may be no text at all."""
    call = {"type": "custom", "function": {"name": "f", "arguments": {}}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    lines = [json.dumps({"messages": [ASK, each]}).encode() for each in (answer, LONG)]
    source = tmp_path / "a.jsonl"
    source.write_bytes(b"\n".join([*lines, b'{"messages": "\xff"}']))
    options = Options(tokenizer=str(TOKENIZER), on_error="skip", overlong="skip")
    counts = pack_files([str(source)], tmp_path / "out", options).counts
    assert counts.rejects == {"tools": 1, "encoding": 1}
    found = verify_dataset(tmp_path / "out", [str(source)])
    assert (found.total, found.unchecked) == (0, {})


def test_a_record_of_which_every_answer_is_too_long(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    short = {"role": "assistant", "content": "Gone."}
    source.write_text(
        "".join(json.dumps({"messages": [ASK, each]}) + "\n" for each in (LONG, short))
    )
    options = Options(**{**OPTIONS, "max_length": 60, "overlong": "split"})
    assert pack_files([str(source)], tmp_path / "out", options).counts.rejects == {"overlong": 1}
    found = verify_dataset(tmp_path / "out", [str(source)])
    assert (found.total, found.unchecked) == (0, {})


def test_a_call_with_ids_that_is_too_long_has_any_message(tmp_path: Path) -> None:
    """Its messages are read as far as each can, so only packing or only the check may number it."""
    source = tmp_path / "a.jsonl"
    short = {"role": "assistant", "content": "Gone."}
    messages = [ASK, short, short, short]
    calls = [
        {"prompt_token_ids": [5, 6], "completion_token_ids": [7] * many, "messages": messages}
        for many in (2, 9)
    ]
    source.write_text(json.dumps({"id": "a", "calls": calls}) + "\n")
    options = Options(**{**OPTIONS, "max_length": 8, "overlong": "split", "input_format": "calls"})
    made = pack_files([str(source)], tmp_path / "out", options).counts
    assert (made.left_out, made.notes["text-not-read conflict"]) == ({"over-max-length": 1}, 2)
    found = verify_dataset(tmp_path / "out", [str(source)])
    assert (found.total, found.unchecked) == (0, {})


@pytest.mark.parametrize(
    ("overlong", "rebuilt", "counts"),
    [
        ("skip", Rebuilt(unknown="a doubt"), {}),
        ("split", Rebuilt(unknown="a doubt"), {}),
        ("split", Rebuilt(reason="record", error="a fault"), {"RP308": 1}),
    ],
)
def test_what_is_left_out_of_records_without_views_is_not_judged(
    overlong: Any,
    rebuilt: Rebuilt,
    counts: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = tmp_path / "a.jsonl"
    short = {"role": "assistant", "content": "Gone."}
    source.write_text(json.dumps({"messages": [ASK, short, ASK, LONG]}) + "\n")
    if overlong == "skip":
        with source.open("a") as file:
            file.write(json.dumps({"messages": [ASK, short]}) + "\n")
    options = Options(**{**OPTIONS, "max_length": 60, "overlong": overlong})
    made = pack_files([str(source)], tmp_path / "out", options).counts
    assert made.rejected == (overlong == "skip")
    monkeypatch.setattr("reasonpack.verify.against.rebuild", lambda *_, **__: rebuilt)
    monkeypatch.setattr("reasonpack.verify.differences.rebuild", lambda *_, **__: rebuilt)
    assert verify_dataset(tmp_path / "out", [str(source)]).counts == counts
