"""Session files: the check reads them as packing does, whatever line is missing or changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from reasonpack.errors import RecordError
from reasonpack.records.calls import read_session
from reasonpack.records.unit import Record
from reasonpack.verify.calls import read_calls
from reasonpack.verify.chat import NotChecked, Reading, Refused
from reasonpack.verify.sessions import calls_of_session
from tests.verify.test_calls import LOGS, outcome, packed

Lines = list[dict[str, Any]]


def lines_of(name: str) -> Lines:
    return [*map(json.loads, (LOGS / f"{name}.jsonl").read_bytes().splitlines())]


def as_packed(lines: Sequence[Any]) -> dict[str, Any]:
    """Return each call by its line; None of those that cannot be had."""
    records = [Record(f"x:{n}", json.dumps(each).encode()) for n, each in enumerate(lines)]
    calls, refused = read_session(records)
    return dict.fromkeys(each.where for each in refused) | {c.where: packed(c) for c in calls}


def as_checked(lines: Lines) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, call in calls_of_session(lines):
        where = f"x:{number}"
        try:
            found[where] = None
            if isinstance(call, dict):
                found[where] = outcome(*read_calls(call, Reading(), where))
        except (Refused, NotChecked):
            pass  # neither must be packed, here
    return found


CHANGED: dict[str, tuple[str, Any]] = {
    "Claude Code, reasoning that is hidden": (
        "claude_code", lambda lines: lines[15]["message"]["content"][0].update(thinking="")),
    "Claude Code, messages that a compaction kept": (
        "claude_code", lambda lines: lines[10]["compactMetadata"].update(
            preservedMessages={"anchorUuid": "u10", "uuids": ["u1", "u8", "u15", "?"]})),
    "Claude Code, a segment that a compaction kept": (
        "claude_code", lambda lines: [
            lines[10]["compactMetadata"].update(preservedSegment={
                "headUuid": "u1", "anchorUuid": "u10", "tailUuid": "u8"}),
            lines[12].update(parentUuid="u8")]),
    "Claude Code, a segment that is not whole": (
        "claude_code", lambda lines: lines[10]["compactMetadata"].update(
            preservedSegment={"headUuid": "u0", "anchorUuid": "u10", "tailUuid": "u8"})),
    "Claude Code, a message that waited and a command": (
        "claude_code", lambda lines: [
            lines[8].update(attachment={"type": "queued_command", "prompt": "And masts?"}),
            lines[12].update(type="system", subtype="local_command", content="<a>b</a>")]),
    "Claude Code, results that were compacted": (
        "claude_code", lambda lines: lines[8].update(
            microcompactMetadata={"compactedToolIds": ["toolu_1"]})),
    "Claude Code, a prompt that the service edited": (
        "claude_code", lambda lines: lines[9]["message"].update(
            context_management={"applied_edits": [{"type": "clear_tool_uses_1"}]})),
    "Claude Code, thoughts that the service left out": (
        "claude_code", lambda lines: lines[9]["message"].update(
            context_management={"applied_edits": [{"type": "clear_thinking_1"}]})),
    "Claude Code, an answer that was interrupted": (
        "claude_code", lambda lines: [
            lines[9]["message"].pop("stop_reason"),
            lines.insert(10, {**lines[12], "uuid": "i", "parentUuid": lines[9]["uuid"],
                "message": {"role": "user", "content": "[Request interrupted by user]"}})]),
    "Claude Code, a call that says who made it": (
        "claude_code", lambda lines: [
            block.update(caller={"type": "direct"}) for line in lines
            for block in (line.get("message") or {}).get("content", ())
            if isinstance(block, dict) and block["type"] == "tool_use"]),
    "Claude Code, an answer that stopped at a text": (
        "claude_code", lambda lines: lines[9]["message"].update(stop_reason="stop_sequence")),
    "Claude Code, a result that comes later": (
        "claude_code", lambda lines: lines[7].update(parentUuid="u8", uuid="later")),
    "Claude Code, a line that stands twice": (
        "claude_code", lambda lines: lines.append({**lines[9], "message": lines[2]["message"]})),
    "Claude Code, answers without an id that is a text": (
        "claude_code", lambda lines: lines[9]["message"].update(id=1.5)),
    "Codex, instructions that are empty": (
        "codex", lambda lines: lines[0]["payload"].update(base_instructions={"text": ""})),
    "Codex, a compaction without a history": (
        "codex", lambda lines: lines[12]["payload"].pop("replacement_history")),
    "Codex, a rollback": ("codex", lambda lines: lines[11].update(
        payload={"type": "thread_rolled_back", "num_turns": 1})),
    "Codex, another effort behind an answer": (
        "codex", lambda lines: lines[11].update(type="turn_context", payload={"effort": "high"})),
    "Codex, a message of another agent": (
        "codex", lambda lines: lines[8].update(type="inter_agent_communication")),
    "Codex, a developer's message first, and what stands beside items": (
        "codex", lambda lines: [
            lines[2]["payload"].update(role="developer"),
            *(line["payload"].update(internal_chat_message_metadata_passthrough={"turn_id": "t"})
              for line in lines if line["type"] == "response_item")]),
    "Codex, two answers": ("codex", lambda lines: lines.insert(15, lines[14])),
    "Pi, a command and a summary": ("pi", lambda lines: lines.extend([
        {"type": "message", "id": "x", "parentId": "e10", "timestamp": "", "message": {
            "role": "bashExecution", "command": "ls", "output": "a"}},
        {"type": "branch_summary", "id": "y", "parentId": "x", "summary": "Two."},
        {"type": "custom_message", "id": "z", "parentId": "y", "content": "Three."},
        {**lines[-1], "id": "w", "parentId": "z"}])),
    "Pi, entries without ids": ("pi", lambda lines: [
        line.pop(name, None) for line in lines[1:] for name in ("id", "parentId")]),
    "Pi, a compaction of version 1": ("pi", lambda lines: [
        lines[9].update(firstKeptEntryIndex=7),
        *(line.pop(name, None) for line in lines[1:]
          for name in ("id", "parentId", "firstKeptEntryId"))]),
    "Pi, system messages": ("pi", lambda lines: [
        lines[1].update(type="message", message={
            "role": "system", "content": "", "sections": {"a": "One.", "b": "Two."},
            "toolsAdded": [{"name": "f", "parameters": {}}, {"name": "g"}]}),
        lines[5].update(message={
            "role": "system", "content": [
                {"type": "text", "text": "Three."}, {"type": "text", "text": "3."}],
            "sections": {"a": None, "c": "Four."}, "toolsRemoved": [{"name": "f"}]}),
        lines[9].update(systemMessage={"role": "system", "content": "Five."})]),
    "Pi, edits of the context": ("pi", lambda lines: [
        lines[1].update(type="context_edit", targetId="e2", replacement=None),
        lines[5].update(type="context_edit", targetId="e3", replacement={"content": "Cut."})]),
    "Pi, another model": ("pi", lambda lines: lines[6]["message"].update(model="harbour-2")),
    "Pi, reasoning that is redacted": (
        "pi", lambda lines: lines[3]["message"]["content"][0].update(redacted=True)),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_session_that_was_changed_is_checked(name: str) -> None:
    of, change = CHANGED[name]
    lines = lines_of(of)
    change(lines)
    assert as_checked(lines) == as_packed(lines)


def test_lines_of_two_sessions_or_none_are_refused() -> None:
    for lines in ([*lines_of("pi"), *lines_of("codex")], [{"a": 1}]):
        with pytest.raises(RecordError):
            as_packed(lines)
        with pytest.raises(Refused):
            calls_of_session(lines)
    with pytest.raises(NotChecked):
        calls_of_session(
            [
                {"type": "response_item", "payload": {"content": 1}},
                {"type": "compacted", "payload": {"replacement_history": 3}},
            ]
        )
