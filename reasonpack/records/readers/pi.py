"""A session file of Pi → drafts of calls.

    {"type": "session", "id": …}
    {"type": "message", "id": "a", "parentId": null, "message": {"role": "user", …}}
    {"type": "message", "id": "b", "parentId": "a",  "message": {"role": "assistant", …}}
    {"type": "compaction", "id": "c", "parentId": "b", "summary": …, "firstKeptEntryId": "b"}

What the model saw before an answer is the way from the root to its parent; behind a compaction it
is the summary, and what was kept. The file does not hold the system prompt, the tools, and the
words that Pi puts around summaries and commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft, Said, draft_of
from reasonpack.records.draft import without
from reasonpack.records.readers.session import Line, way_to
from reasonpack.records.unknown import strings

_SETTINGS = ("model_change", "thinking_level_change", "label", "custom", "session_info")
_TYPES = ("session", "message", "compaction", "branch_summary", "custom_message", *_SETTINGS)
_ENDS = {"length": "length", "error": "error", "aborted": "abort"}
_ENVELOPE = (
    *("api", "provider", "model", "usage", "stopReason", "errorMessage", "timestamp"),
    *("responseId", "content", "role"),
)
_LACKING = ("missing system", "missing tools")


def is_mine(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is a line of such a file."""
    if record.get("type") == "session":
        return "cwd" in record and "payload" not in record
    message = record.get("message")
    of_message = record.get("type") == "message" and isinstance(message, dict)
    return of_message and "timestamp" in record and "sessionId" not in record


def drafts(lines: Sequence[Line]) -> Iterator[CallDraft | RecordError]:
    """Yield the calls of a session, and why others cannot be had."""
    entries = [line for line in lines if line.fields.get("type") != "session"]
    by_id = {line.fields["id"]: i for i, line in enumerate(entries) if _has_id(line)}
    kinds = (str(line.fields.get("type")) for line in entries)
    unread = [f"unread {kind}" for kind in kinds if kind not in _TYPES]
    made: dict[str, Said] = {}
    for i, entry in enumerate(entries):
        message = entry.fields.get("message")
        if not isinstance(message, dict) or message.get("role") != "assistant":
            continue
        try:
            # Entries of version 1 have no ids; they are a line each.
            way = way_to(entries, by_id, i, "parentId") if _has_id(entry) else range(i + 1)
        except RecordError as error:
            error.where = entry.where
            yield error
            continue
        history, notes = _history([entries[n] for n in way[:-1]], made)
        yield draft_of(
            history,
            [_said(message, f"{entry.where}.message")],
            where=entry.where,
            id=entry.fields["id"] if _has_id(entry) else "",
            notes=[*_LACKING, *notes, *unread],
        )
        unread = []


def _has_id(line: Line) -> bool:
    return isinstance(line.fields.get("id"), str)


def _history(way: Sequence[Line], made: dict[str, Said]) -> tuple[list[Said], list[str]]:
    """Return what the model saw of the entries before its answer, and notes.

    What was `made` of a line stands under its place, so that each is made once.
    """
    kept: Sequence[Line] = way
    found: list[Said] = []
    notes: list[str] = []
    compactions = [i for i, line in enumerate(way) if line.fields.get("type") == "compaction"]
    if compactions:
        at = compactions[-1]
        first = way[at].fields.get("firstKeptEntryId")
        start = next((i for i, line in enumerate(way) if line.fields.get("id") == first), at)
        kept = [*way[start:at], *way[at + 1 :]]
        found.append(_summary(way[at]))
        notes.append("missing summary-wording")
    for line in kept:
        kind, message = line.fields.get("type"), line.fields.get("message")
        if kind == "message" and isinstance(message, dict):
            if message.get("stopReason") in ("error", "aborted") or message.get(
                "excludeFromContext"
            ):
                continue  # which are not sent again
            if message.get("role") == "bashExecution":
                notes.append("missing command-wording")
            if line.where not in made:
                made[line.where] = _said(message, f"{line.where}.message")
            found.append(made[line.where])
        elif kind == "custom_message":
            content = line.fields.get("content")
            found.append(Said({"role": "user", "content": content}, line.where))
        elif kind == "branch_summary":
            found.append(_summary(line))
            notes.append("missing summary-wording")
    return found, notes


def _summary(line: Line) -> Said:
    return Said({"role": "user", "content": line.fields.get("summary")}, f"{line.where}.summary")


def _said(message: dict[str, Any], place: str) -> Said:
    """Return a message in the shape of a record's."""
    role, content = message.get("role"), message.get("content")
    if role == "assistant":
        blocks = content if isinstance(content, list) else [content]
        made = {"role": role, "content": [*map(_block, blocks)] if content else ""}
        if message.get("stopReason") in (*_ENDS,):  # of any type
            made["finish_reason"] = _ENDS[message["stopReason"]]
        return Said({**made, **without(message, _ENVELOPE)}, place)
    if role == "toolResult":
        made = {"role": "tool", "tool_call_id": message.get("toolCallId"), "content": content}
        return Said({**made, "name": message.get("toolName")}, place)
    if role == "bashExecution":
        text = "\n".join(strings([message.get("command"), message.get("output")]))
        return Said({"role": "user", "content": text}, place)
    return Said({"role": "user" if role == "custom" else role, "content": content}, place)


def _block(block: Any) -> Any:
    """Return a block of an answer in the shape of Anthropic's."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "toolCall":
        rest = without(block, ("type", "id", "name", "arguments", "thoughtSignature"))
        call = {"id": block.get("id"), "name": block.get("name"), "input": block.get("arguments")}
        return {"type": "tool_use", **call, **rest}
    if kind == "thinking":
        if block.get("redacted"):
            return {"type": "redacted_thinking"}
        return {
            "type": "thinking",
            "thinking": block.get("thinking"),
            "signature": block.get("thinkingSignature"),
        }
    if kind == "text":
        return {"type": "text", "text": block.get("text")}
    return block
