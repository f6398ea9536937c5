"""A session file of Pi → drafts of calls.

    {"type": "session", "id": …}
    {"type": "message", "id": "s", "parentId": null, "message": {"role": "system", …}}
    {"type": "message", "id": "a", "parentId": "s",  "message": {"role": "user", …}}
    {"type": "message", "id": "b", "parentId": "a",  "message": {"role": "assistant", …}}
    {"type": "compaction", "id": "c", "parentId": "b", "summary": …, "firstKeptEntryId": "b"}

The prompt of an answer is the path from the root to its parent, with edits of the context made;
after a compaction it is the summary and what was kept. The system messages on the path form one:
each adds texts, sections and tools to it, or removes some; older files have none. Reasoning of
another model is not sent. The file lacks the words that Pi puts around summaries and commands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft, Said, draft_of
from reasonpack.records.draft import joined, without
from reasonpack.records.readers.session import Line, way_to
from reasonpack.records.unknown import strings
from reasonpack.records.value_types import typed

_SUMMARIES = ("compaction", "branch_summary")
_TYPES = (
    *("session", "message", "custom_message", "context_edit", *_SUMMARIES, "usage"),
    *("model_change", "thinking_level_change", "label", "custom", "session_info"),
)
_NO_STOP = ("length", "error", "aborted", "deferred")
_MODEL = ("api", "provider", "model")
_ENVELOPE = (
    *(*_MODEL, "usage", "stopReason", "errorMessage", "timestamp", "responseId", "content", "role"),
    *("responseModel", "thinkingLevel", "providerThinkingLevel", "diagnostics", "rawStopReason"),
    *("endTurn", "deferred"),
)
_OF_A_CALL = ("type", "id", "name", "arguments", "thoughtSignature", "partialJson", "partialArgs")
_MADE = "#"
"""First character of an id that is made here, of the number of a line."""


def is_mine(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a line of such a file."""
    if record.get("type") == "session":
        return "cwd" in record and "payload" not in record
    message = record.get("message")
    of_message = record.get("type") == "message" and isinstance(message, dict)
    return of_message and "timestamp" in record and "sessionId" not in record


def drafts(lines: Sequence[Line]) -> Iterator[CallDraft | RecordError]:
    """Yield the calls of a session, and an error for each that cannot be read."""
    entries = [*_entries(lines)]
    by_id = {line.fields["id"]: i for i, line in enumerate(entries)}
    kinds = (str(line.fields.get("type")) for line in entries)
    unread = [f"unread {kind}" for kind in kinds if kind not in _TYPES]
    made: dict[tuple[str, bool], Said] = {}
    for i, entry in enumerate(entries):
        message, own_id = entry.fields.get("message"), entry.fields["id"]
        if not isinstance(message, dict) or message.get("role") != "assistant":
            continue
        try:
            way = way_to(entries, by_id, i, "parentId")
            first, history, notes = _seen(_kept([entries[n] for n in way[:-1]]), message, made)
            system, tools = _system(first)
        except RecordError as error:
            error.where = entry.where
            yield error
            continue
        yield draft_of(
            [*system, *history],
            [_converted(message, f"{entry.where}.message")],
            where=entry.where,
            id="" if own_id.startswith(_MADE) else own_id,
            context={"tools": tools} if tools else {},
            places={"tools": first[-1].place} if first else {},
            notes=[*notes, *unread],
        )
        unread = []


def _entries(lines: Sequence[Line]) -> Iterator[Line]:
    """Yield the entries; those of version 1, each a child of the one before, get ids here."""
    before = None
    for number, (where, fields) in enumerate(lines):
        if isinstance(fields.get("id"), str) and fields.get("type") != "session":
            yield Line(where, fields)
        elif fields.get("type") != "session":
            first, own = f"{_MADE}{fields.get('firstKeptEntryIndex')}", f"{_MADE}{number}"
            made = {"id": own, "parentId": before, "firstKeptEntryId": first}
            yield Line(where, {**fields, **made})
            before = own


def _kept(way: Sequence[Line]) -> Sequence[Line]:
    """Return the entries in context; after a compaction: that, what it kept, and what follows."""
    found = [i for i, line in enumerate(way) if line.fields.get("type") == "compaction"]
    if not found:
        return way
    at = found[-1]
    first = way[at].fields.get("firstKeptEntryId")
    start = next((i for i, line in enumerate(way) if line.fields["id"] == first), at)
    kept = (line for line in way[start:at] if line.fields.get("type") != "compaction")
    others = (line for line in kept if _message(line)[0].get("role") != "system")
    return [way[at], *others, *way[at + 1 :]]


def _message(line: Line) -> tuple[dict[str, Any], str]:
    """Return the message of an entry, empty if it has none, and its place."""
    kind, message = line.fields.get("type"), line.fields.get("message")
    name = "summary" if kind in _SUMMARIES else "content"
    if kind == "custom_message" or (kind in _SUMMARIES and line.fields.get(name)):
        return {"role": "custom", "content": line.fields.get(name)}, f"{line.where}.{name}"
    held = kind == "message" and isinstance(message, dict)
    return (message if held and message else {}), f"{line.where}.message"


def _seen(
    kept: Sequence[Line], answer: Mapping[str, Any], made: dict[tuple[str, bool], Said]
) -> tuple[list[Said], list[Said], list[str]]:
    """Return the system messages before an answer, the other messages, and notes.

    `made` keeps converted messages by their place, so that each is converted once.
    """
    edits = {
        str(line.fields.get("targetId")): line
        for line in kept
        if line.fields.get("type") == "context_edit"
    }
    system: list[Said] = []
    history: list[Said] = []
    notes: list[str] = []
    for line in kept:
        message, place = _message(line)
        role, edit = message.get("role"), edits.get(line.fields["id"])
        if isinstance(line.fields.get("systemMessage"), dict):
            system.append(Said(line.fields["systemMessage"], f"{line.where}.systemMessage"))
        new = edit.fields.get("replacement") if edit else None
        if edit and isinstance(new, dict) and line.fields.get("type") not in _SUMMARIES:
            message, place = {**message, "content": new.get("content")}, f"{edit.where}.replacement"
        unsent = message.get("stopReason") in ("error", "aborted")
        if not message or (edit and new is None) or unsent or message.get("excludeFromContext"):
            continue
        if role == "system":
            system.append(Said(message, place))
            continue
        same = role != "assistant" or all(message.get(n) == answer.get(n) for n in _MODEL)
        if (place, same) not in made:
            made[place, same] = _converted(message, place, thinks=same)
        history.append(made[place, same])
        notes += ["missing summary-wording"] if line.fields.get("type") in _SUMMARIES else []
        notes += ["missing command-wording"] if role == "bashExecution" else []
        blocks = message["content"] if isinstance(message.get("content"), list) else []
        left_out = not same and any(map(_is_thought, blocks))
        notes += ["missing thoughts-of-another-model"] if left_out else []
    notes += ["missing system-place"] if len(system) > 1 else []
    return system, history, notes if system else ["missing system", "missing tools", *notes]


def _system(found: Sequence[Said]) -> tuple[list[Said], list[dict[str, Any]]]:
    """Return system messages joined to one, or none if that is empty, and the tools in them."""
    texts: list[str] = []
    sections: dict[str, str | None] = {}
    tools: dict[str, dict[str, Any]] = {}
    for message, at in found:
        content = typed(message.get("content") or "", str | list[Any], f"{at}.content")
        parts = [content] if isinstance(content, str) else content
        texts += ["\n".join(p if isinstance(p, str) else joined([p], at, ("text",)) for p in parts)]
        sections |= typed(message.get("sections") or {}, dict[str, str | None], f"{at}.sections")
        sections = {name: text for name, text in sections.items() if text is not None}
        gone, added = (
            typed(message.get(name) or [], list[dict[str, Any]], f"{at}.{name}")
            for name in ("toolsRemoved", "toolsAdded")
        )
        tools = without(tools, [str(tool.get("name")) for tool in gone])
        tools |= {str(tool.get("name")): tool for tool in added}
    text = "\n\n".join(filter(None, (*texts, *sections.values())))
    one = [Said({"role": "system", "content": text}, found[0].place)] if text else []
    functions = (without(tool, ("constrainedSampling",)) for tool in tools.values())
    return one, [{"type": "function", "function": function} for function in functions]


def _converted(message: dict[str, Any], place: str, *, thinks: bool = True) -> Said:
    """Convert a message to a shape that records may have, without reasoning unless `thinks`."""
    role, content = message.get("role"), message.get("content")
    if role == "assistant":
        blocks = content if isinstance(content, list) else [content] if content else []
        blocks = [block for block in map(_block, blocks) if thinks or not _is_thought(block)]
        made = {"role": role, "content": blocks or ""}
        if message.get("stopReason") in _NO_STOP:
            made["partial"] = True
        return Said({**made, **without(message, _ENVELOPE)}, place)
    if role == "toolResult":
        made = {"role": "tool", "tool_call_id": message.get("toolCallId"), "content": content}
        return Said({**made, "name": message.get("toolName")}, place)
    if role == "bashExecution":
        text = "\n".join(strings([message.get("command"), message.get("output")]))
        return Said({"role": "user", "content": text}, place)
    is_users = role in ("custom", "hookMessage")
    return Said({"role": "user" if is_users else role, "content": content}, place)


def _is_thought(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") in ("thinking", "redacted_thinking")


def _block(block: Any) -> Any:
    """Convert a block of an answer to Anthropic's form."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "toolCall":
        call = {"id": block.get("id"), "name": block.get("name"), "input": block.get("arguments")}
        return {"type": "tool_use", **call, **without(block, _OF_A_CALL)}
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
