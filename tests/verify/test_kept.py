"""Answers that packing kept as context by a rule that `verify` lacks: taken, and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from damages import recount
from packed_twice import FIRST, Json, Packed, chats, pack

from reasonpack.run.repack import repack
from reasonpack.views import view

WORD = "Mooring"
"""Answers that say it are kept."""


@pytest.fixture(autouse=True)
def _keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    find = view.find_completion

    def found(prompt: str, full: str, message: Any, behaviour: Any) -> Any:
        kept = WORD in (message.content or "")
        return None if kept else find(prompt, full, message, behaviour)

    monkeypatch.setattr(view, "find_completion", found)


def marked(id_: str, more: str = "") -> Json:
    """Let packing keep the last answer of a conversation."""
    record: Json = json.loads(chats()[id_])
    record["messages"][-1]["content"] += WORD + more
    return record


def packed(folder: Path, *records: Json, **asked: Any) -> Packed:
    lines = [json.dumps(record).encode() for record in records]
    return pack(folder, {"a.jsonl": lines}, on_message_error="context", **asked)


@pytest.mark.parametrize("asked", [{}, {"layout": "npass"}, {"loss_weights": "message"}])
def test_what_was_kept_is_counted(asked: Json, tmp_path: Path) -> None:
    made = packed(tmp_path, *(marked(id_) for id_ in FIRST), **asked)
    assert made.json("manifest.json")["counts"]["notes"] == {"kept view": 3}
    findings = made.compare()
    assert findings.total == 0, findings.listed
    assert findings.checked["kept as context"] == 3


@pytest.mark.parametrize(("said", "train_on"), [(2, "all"), (4, "all"), (2, "response")])
def test_more_and_fewer_than_the_manifest_says_are_found(
    said: int, train_on: str, tmp_path: Path
) -> None:
    made = packed(tmp_path, *(marked(id_) for id_ in FIRST), train_on=train_on)
    assert made.compare().total == 0
    recount(lambda counts: counts["notes"].update({"kept view": said}))(made)
    (finding,) = made.compare().listed
    assert finding.code == "RP311"
    expected = f"messages that were to be trained and are context, {said}, expected 3 as in the"
    assert expected in str(finding)


@pytest.mark.parametrize("loss_weights", ["auto", "conversation"])
def test_what_was_kept_is_not_left_out_as_too_long(loss_weights: str, tmp_path: Path) -> None:
    long = marked("bicycle-chain", " and so on" * 400)
    asked, again = ({"role": "user", "content": text} for text in ("Where?", "Again?"))
    answer = {"role": "assistant", "content": "Here.", "reasoning_content": "Hm" * 999}
    no_room = {"messages": [asked, answer, again, {"role": "assistant", "content": WORD}]}
    made = packed(tmp_path, long, no_room, max_length=1000, loss_weights=loss_weights)
    (line,) = (made.directory / "rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "overlong"
    findings = made.compare()
    assert findings.total == 0, findings.listed


def test_of_a_dataset_that_was_packed_again_more_may_have_been_kept(tmp_path: Path) -> None:
    long = marked("umbrella")
    long["messages"][0]["content"] += " and so on" * 400
    made = packed(tmp_path, long, marked("small-talk"), packing="none", max_length=2500)
    repack([made.directory], tmp_path / "again", {"max_length": 600})
    again = Packed(tmp_path / "again", made.inputs)
    counts = again.json("manifest.json")["counts"]
    assert (counts["rejected"], counts["notes"]) == (1, {"kept view": 2})
    findings = again.compare()
    assert findings.total == 0, findings.listed


@pytest.mark.parametrize("loss_weights", ["auto", "conversation"])
@pytest.mark.parametrize("of_calls", [False, True])
def test_of_a_dataset_named_twice_each_record_keeps_its_own(
    of_calls: bool, loss_weights: str, tmp_path: Path
) -> None:
    """Both have the same id, and train the same: together twice as much as one."""
    asked = [{"role": "user", "content": "Where is it?"}]
    calls = [{"messages": asked, "response": word, "trace_id": "g"} for word in ("Here", WORD)]
    records = calls if of_calls else [marked("bicycle-chain")]
    of: Json = (
        {"group_by": "trace_id", "input_format": "calls"} if of_calls else {"layout": "npass"}
    )
    made = packed(tmp_path, *records, loss_weights=loss_weights, **of)
    repack([made.directory, made.directory], tmp_path / "again", {})
    again = Packed(tmp_path / "again", made.inputs * 2)
    findings = again.compare()
    assert findings.total == 0, findings.listed
    assert findings.checked["kept as context"] == 2


@pytest.mark.parametrize("kept", [0, 1])
def test_a_group_of_calls_without_some_or_all(kept: int, tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Where is it?"}]
    known = [{"messages": asked, "response": word, "trace_id": word} for word in ("Here", WORD)]
    known[kept]["trace_id"] = known[1]["trace_id"]
    known.append({**known[0], "id": "the same again"})
    made = packed(tmp_path, *known, group_by="trace_id", input_format="calls")
    findings = made.compare()
    assert findings.total == 0, findings.listed
    assert findings.checked["kept as context"] == 1
