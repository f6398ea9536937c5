"""Calls that are read and cut: what is left out, what trains nothing, and what is noted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from packed_calls import LOGS, OPTIONS, SKIPPING, Json, packed, with_ids, written
from runs import FIXTURES, said

from reasonpack.errors import RecordError, UsageError
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from tests.changed import replace


def test_what_cannot_be_had_of_a_session_is_left_out(tmp_path: Path) -> None:
    whole = (LOGS / "claude_code.jsonl").read_text("utf-8")
    source = tmp_path / "session.jsonl"
    source.write_text(whole.replace('"Look north."', '""'), "utf-8")
    with pytest.raises(RecordError, match=r"session.jsonl:16: .* \(--on-error skip\)"):
        pack_files([str(source)], tmp_path / "out", OPTIONS)
    manifest = pack_files([str(source)], tmp_path / "out", SKIPPING)
    assert manifest.counts.rejected > 0
    assert manifest.counts.packed == 1
    assert verify_dataset(tmp_path / "out").total == 0


def test_ids_have_no_turns(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="token ids alone, which do not say where a turn begins"):
        packed(tmp_path, [with_ids([5], [7])], loss_weights="turn")


def test_a_record_that_is_rejected_leaves_out_and_notes_nothing(tmp_path: Path) -> None:
    silent = {**with_ids([5], []), "id": "c"}
    same = [{**with_ids([5], [token]), "id": "a"} for token in (7, 8)]
    calls = [{**with_ids([5], [7] * 20), "id": "b"}, silent, *same]
    options: Json = {"max_length": 10, "on_error": "skip"}
    manifest, _ = packed(tmp_path, [{"calls": calls}, with_ids([5], [7])], **options)
    assert manifest.counts.rejects == {"conflict": 1}
    assert (manifest.counts.left_out, manifest.counts.notes) == ({}, {})


def test_answers_without_reasoning_count_as_often_as_their_group_is_packed(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "2+2?"}]
    calls = [
        {"trace_id": "t", "messages": asked, "response": {**said("assistant", "4"), **more}}
        for more in ({}, {"reasoning_content": "Easy."})
    ]
    source, template = written(tmp_path / "a.jsonl", calls), FIXTURES / "templates"
    options = replace(OPTIONS, chat_template=str(template / "thinking_prompt.jinja"))
    manifest = pack_files([f"{source}:2"], tmp_path / "out", options)
    assert (manifest.counts.packed, manifest.counts.missing_reasoning) == (2, 2)


def test_calls_in_ids_need_no_chat_template(tmp_path: Path) -> None:
    """Messages beside ids are then not compared; what has no ids says what it needs."""
    shutil.copy(FIXTURES / "tokenizer" / "tokenizer.json", tmp_path)
    bare = replace(OPTIONS, tokenizer=str(tmp_path / "tokenizer.json"))
    asked = {"trace_id": "t", "messages": [said("user", "2+2?")], "response": "4"}
    calls = [with_ids([5, 6], [7, 8]), {**asked, "prompt_ids": [5, 6], "completion_ids": [9]}]
    source = written(tmp_path / "calls.jsonl", calls)
    manifest = pack_files([source], tmp_path / "out", bare)
    assert (manifest.counts.views, manifest.templates) == (2, [])
    assert manifest.counts.notes["not-rendered"] == 1
    found = verify_dataset(tmp_path / "out", [source])
    assert (found.total, found.warnings, found.unchecked) == (0, [], {})
    without_ids = written(tmp_path / "messages.jsonl", [asked])
    with pytest.raises(RecordError, match="messages: no chat template for them, expected one, or"):
        pack_files([without_ids], tmp_path / "other", bare)
    with pytest.raises(UsageError, match="no chat template, expected one"):
        pack_files([str(FIXTURES / "chats.jsonl")], tmp_path / "other", bare)


@pytest.mark.parametrize("said_so", [{"response": ""}, {"response": None}, {"choices": []}])
def test_the_first_call_of_a_log_may_have_no_answer(said_so: Json, tmp_path: Path) -> None:
    """It is one of a log of calls, and no chat whose answer is missing."""
    asked = {"trace_id": "t", "messages": [said("user", "2+2?")]}
    manifest, (row,) = packed(tmp_path, [{**asked, **said_so}, {**asked, "response": "4"}])
    assert len(row["call_id"]) == manifest.counts.views == 1
    notes = manifest.counts.notes
    assert notes.get("failed-call", 0) + notes.get("empty-generation", 0) == 1


@pytest.mark.parametrize("of_calls", [False, True])
def test_answers_that_the_template_hides_are_counted(of_calls: bool, tmp_path: Path) -> None:
    call = {"function": {"name": "look_up", "arguments": "{}"}, "id": "c", "type": "function"}
    asked = {"role": "assistant", "content": "", "tool_calls": [call], "train": False}
    told = [said("user", "Who?"), asked, {**said("tool", "Nobody."), "tool_call_id": "c"}]
    answer = said("assistant", "No one.")
    record: Json = (
        {"messages": told, "response": answer} if of_calls else {"messages": [*told, answer]}
    )
    shown = "{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
    prompt = "{{ '<|im_start|>assistant\\n' if add_generation_prompt }}"
    template = "{% for m in messages %}" + shown + "{% endfor %}" + prompt
    manifest, _ = packed(tmp_path, [record], chat_template=template)
    assert manifest.counts.notes["hidden-answer"] == 1
