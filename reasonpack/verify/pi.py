"""The lines of a session file of Pi → a generic record for each call in them.

{"id": "b", "parentId": "a", "message": …}     the path from the root to an answer
{"type": "compaction", "firstKeptEntryId": …}  the summary, and the first entry that was kept
{"type": "context_edit", "targetId": …}        replaces or removes the content of an entry
{"message": {"role": "system", …}}             changes the system text and the tools
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reasonpack.verify.chat import Json, Refused
from reasonpack.verify.fields import all_but
from reasonpack.verify.session_calls import Found, way_to

_OF_PI = (
    *("api", "provider", "model", "usage", "stopReason", "errorMessage", "timestamp"),
    *("responseId", "content", "role", "responseModel", "thinkingLevel", "rawStopReason"),
    *("providerThinkingLevel", "diagnostics", "endTurn", "deferred"),
)
_OF_A_CALL = ("type", "id", "name", "arguments", "thoughtSignature", "partialJson", "partialArgs")
_NO_STOP = ("length", "error", "aborted", "deferred")


def is_of_pi(line: Json) -> bool:
    """Return whether a line is from a session file of Pi."""
    if line.get("type") == "session":
        return "cwd" in line and "payload" not in line
    is_message = line.get("type") == "message" and isinstance(line.get("message"), dict)
    return is_message and "timestamp" in line and "sessionId" not in line


def calls_of_pi(lines: Sequence[Json]) -> Iterator[Found]:
    """Yield for each call the index of its line, and its record or why there is none."""
    lines = _migrated(lines)
    at = {line["id"]: n for n, line in enumerate(lines) if line.get("type") != "session"}
    for number, line in enumerate(lines):
        answer = line.get("message") or {}
        if answer.get("role") != "assistant":
            continue
        try:
            way = way_to(number, lines, at, "parentId")
        except Refused as error:
            yield number, error
            continue
        seen = [*_projected(_in_context([lines[n] for n in way]))]
        system, tools = _replayed([each for each in seen if each.get("role") == "system"])
        sent = [
            _as_sent(each, answer)
            for each in seen
            if each.get("role") != "system"
            and each.get("stopReason") not in ("error", "aborted")
            and not each.get("excludeFromContext")
        ]
        own = "" if line.get("_made") else line["id"]
        call = {"messages": system + sent, "response": _of_message(answer), "id": own}
        yield number, {**call, "tools": tools} if tools else call


def _migrated(lines: Sequence[Json]) -> list[Json]:
    """Return the lines with ids and parents, which those of version 1 lack."""
    made, last = list[Json](), None
    for number, line in enumerate(lines):
        if isinstance(line.get("id"), str) or line.get("type") == "session":
            made.append(line)
            continue
        index = line.get("firstKeptEntryIndex")
        ids = {"id": f"line {number}", "parentId": last, "firstKeptEntryId": f"line {index}"}
        made.append({**line, **ids, "_made": True})
        last = ids["id"]
    return made


def _in_context(way: Sequence[Json]) -> list[Json]:
    """Return the entries of a path that are in the prompt, by its last compaction."""
    marks = [n for n, line in enumerate(way) if line.get("type") == "compaction"]
    if not marks:
        return [*way]
    last, ids = marks[-1], [line["id"] for line in way]
    first = way[last].get("firstKeptEntryId")
    start = ids.index(first) if first in ids else last
    kept = [
        line
        for line in way[start:last]
        if line.get("type") != "compaction" and (line.get("message") or {}).get("role") != "system"
    ]
    return [way[last], *kept, *way[last + 1 :]]


def _projected(lines: Sequence[Json]) -> Iterator[Json]:
    """Yield the messages of entries, with the edits among them applied."""
    edits = {
        line["targetId"]: line.get("replacement")
        for line in lines
        if line.get("type") == "context_edit"
    }
    for line in lines:
        kind, edit = line.get("type"), edits.get(line["id"], {})
        if kind == "compaction" and line.get("systemMessage"):
            yield line["systemMessage"]
        if edit is None:
            continue
        if kind in ("compaction", "branch_summary"):
            if line.get("summary"):
                yield {"role": "custom", "content": line["summary"]}
        elif kind == "custom_message":
            yield {"role": "custom", "content": line.get("content"), **edit}
        elif kind == "message":
            yield {**line["message"], **edit}


def _replayed(said: Sequence[Json]) -> tuple[list[Json], list[Json]]:
    """Join system messages to one, in a list that may be empty; return it with the final tools."""
    parts, sections, tools = list[str](), dict[str, str](), dict[str, Json]()
    for message in said:
        content = message.get("content") or ""
        if not isinstance(content, str):
            content = "\n".join(block["text"] for block in content)
        parts.append(content)
        for name, text in (message.get("sections") or {}).items():
            if text is None:
                sections.pop(name, None)
            else:
                sections[name] = text
        for tool in message.get("toolsRemoved") or ():
            tools.pop(tool["name"], None)
        for tool in message.get("toolsAdded") or ():
            function = all_but(tool, {"constrainedSampling"})
            tools[tool["name"]] = {"type": "function", "function": function}
    text = "\n\n".join(part for part in [*parts, *sections.values()] if part)
    return [{"role": "system", "content": text}] if text else [], [*tools.values()]


def _as_sent(message: Json, answer: Json) -> Json:
    """Convert a message, without its reasoning if another model than that of `answer` wrote it."""
    same = all(message.get(name) == answer.get(name) for name in ("api", "provider", "model"))
    content = message.get("content")
    if message.get("role") == "assistant" and not same and isinstance(content, list):
        blocks = [block for block in content if block.get("type") != "thinking"]
        message = {**message, "content": blocks}
    return _of_message(message)


def _of_message(message: Json) -> Json:
    role, content = message.get("role"), message.get("content")
    if role == "assistant":
        blocks = [*map(_block, content)] if content else ""
        partial = message.get("stopReason") in _NO_STOP
        return {"role": role, "content": blocks, "partial": partial, **all_but(message, _OF_PI)}
    if role == "toolResult":
        called = {"tool_call_id": message.get("toolCallId"), "name": message.get("toolName")}
        return {"role": "tool", "content": content, **called}
    if role == "bashExecution":
        said = [message.get("command"), message.get("output")]
        return {"role": "user", "content": "\n".join(each for each in said if each)}
    return {"role": "user" if role in ("custom", "hookMessage") else role, "content": content}


def _block(block: Json) -> Json:
    kind = block.get("type")
    if kind == "text":
        return {"type": kind, "text": block.get("text")}
    if kind == "thinking" and block.get("redacted"):
        return {"type": "redacted_thinking"}
    if kind == "thinking":
        signature = block.get("thinkingSignature")
        return {"type": kind, "thinking": block.get("thinking"), "signature": signature}
    if kind != "toolCall":
        return block
    call = {"id": block.get("id"), "name": block.get("name"), "input": block.get("arguments")}
    return {"type": "tool_use", **call, **all_but(block, _OF_A_CALL)}
