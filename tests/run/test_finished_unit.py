"""Conversations laid out anew are rejected, or refused where rows do not tell enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from again import chdir
from repacked import (
    CHATS,
    PLAIN,
    packed,
    refused,
    write,
)
from runs import run

from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import UsageError
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset

pytestmark = pytest.mark.usefixtures("with_chats")


@pytest.mark.long
def test_conversations_of_one_id_cannot_be_joined() -> None:
    twice = [{**CHATS[11], "id": "a"}, {**CHATS[11], "id": "a"}]
    one = packed("one", twice, max_length=450)
    assert read_manifest(one).counts.extra_samples
    error = refused([one], {"max_length": 1_300})
    assert "its 2 conversations have 1 ids between them" in error.what
    repack([one], Path("new"), {"packing": True})  # which asks for no other samples
    assert verify_dataset(Path("new"), ["one.jsonl"]).total == 0


def test_views_that_are_counted_and_not_found_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = packed("one", CHATS[:3])
    ends = "reasonpack.run.finished_unit.ends_of"
    monkeypatch.setattr(ends, lambda _: {1: 9})
    assert "its rows show" in refused([one], {"max_length": 700}).what


def test_samples_that_their_views_do_not_give_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = packed("one", CHATS[:3])
    monkeypatch.setattr("reasonpack.run.finished_unit._same", lambda *_: False)
    assert "from which views were left out" in refused([one], {"max_length": 700}).what


def test_a_conversation_without_a_view_is_rejected_by_its_id() -> None:
    one = packed("one", CHATS)
    counts: Counts = repack([one], Path("new"), {"max_length": 700}).counts
    assert counts.rejects == {"overlong": 1}
    lines = [json.loads(line) for line in Path("new/rejects.jsonl").read_bytes().splitlines()]
    (line,) = (each for each in lines if each.get("kind") == "conversation")
    assert (line["where"], line["reason"]) == ("weekend-in-porto", "overlong")


@pytest.mark.long
def test_it_cannot_be_rejected_where_messages_of_it_were_left_out_before() -> None:
    one = packed("one", CHATS, max_length=1_000)
    error = refused([one], {"max_length": 700})
    assert error.fix.startswith("pass --max-length 923, or pack")
    repack([one], Path("new"), {"max_length": 923})
    assert verify_dataset(Path("new"), ["one.jsonl"]).total == 0


def test_what_is_left_out_of_copies_stops_it(tmp_path: Path) -> None:
    with chdir(tmp_path):
        write(CHATS[:6])
        pack_files(["a.jsonl:2"], Path("old"), PLAIN, run=run())
        with pytest.raises(UsageError, match=r"some are copies, of which a message"):
            repack([Path("old")], Path("new"), {"max_length": 200})
        repack([Path("old")], Path("new"), {"max_length": 2_500})
        assert not verify_dataset(Path("new"), ["a.jsonl"]).total
