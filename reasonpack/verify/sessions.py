"""The lines of an agent's session file → a generic record for each call in them.

    {"uuid": "b", "parentUuid": "a", "message": …}     Claude Code: the path from the root to an
                                                       answer, whose lines share a message.id
    {"type": "response_item", "payload": {…}}          Codex: the items before those of an answer
    {"id": "b", "parentId": "a", "message": …}         Pi, which `pi` reads

After a compaction the prompt is the summary and the messages that were kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.unit import Record
from reasonpack.verify.answers import check_edits
from reasonpack.verify.chat import Json, NotChecked, Reading, Refused, known_shape
from reasonpack.verify.fields import all_but
from reasonpack.verify.groups import FILE
from reasonpack.verify.pi import calls_of_pi, is_of_pi
from reasonpack.verify.record_names import is_of_model
from reasonpack.verify.session_calls import Found, way_to
from reasonpack.verify.source import Source, decoded

Value = Json | RecordError | NotChecked | Refused | None
"""A decoded record, or the error of reading it; None for a line that is not the first of a call."""
_OF_A_SERVICE = (
    *("id", "type", "model", "usage", "stop_sequence", "container", "context_management"),
)
_NOT_SEEN = {
    *("summary", "file-history-snapshot", "queue-operation", "progress", "permission-mode"),
    *("last-prompt", "ai-title", "custom-title", "agent-name", "pr-link", "mode", "system"),
}
_STOPPED = "[Request interrupted by user]"
_OF_CODEX = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")
_OF_AN_ITEM = ("phase", "internal_chat_message_metadata_passthrough")
_WRITTEN = ("reasoning", "function_call", "custom_tool_call", "local_shell_call", "web_search_call")


def decoded_calls(
    source: Source, records: Iterator[Record], field: str
) -> Iterator[tuple[Record, Value]]:
    """Yield records decoded; for a session, each line with the generic record of its call."""
    if field != FILE:
        for record in records:
            yield record, _value(record, source.reading)
        return
    lines = [*records]
    values = [_value(record, replace(source.reading, renamed={})) for record in lines]
    told: dict[int, Value] = {n: one for n, one in enumerate(values) if not isinstance(one, dict)}
    if not told:
        try:
            told |= calls_of_session([one for one in values if isinstance(one, dict)])
        except NotChecked as error:
            told = dict.fromkeys(range(len(lines)), error)
        except Refused as error:
            told = {0: error}
    for number, record in enumerate(lines):
        yield record, told.get(number)


def _value(record: Record, reading: Reading) -> Value:
    try:
        return decoded(record, reading)
    except RecordError as error:
        return error


@known_shape()
def calls_of_session(lines: Sequence[Json]) -> list[Found]:
    """Return for each call of a session the index of its line, and its record or why there is none.

    Raises:
        NotChecked: a line has an unknown shape.
        Refused: the lines are of no known kind of session, or of two.
    """
    known = {_of_claude_code: _is_of_claude_code, _of_codex: _is_of_codex, calls_of_pi: is_of_pi}
    found = [read for read, is_mine in known.items() if any(map(is_mine, lines))]
    if len(found) != 1:
        raise Refused("lines of no session, or of two")
    return [*found[0](lines)]


# --- Claude Code -------------------------------------------------------------------------------


def _is_of_claude_code(line: Json) -> bool:
    first = {"summary": "leafUuid", "file-history-snapshot": "snapshot"}.get(str(line.get("type")))
    in_session = "parentUuid" in line or line.get("type") in _NOT_SEEN
    return first in line or ("sessionId" in line and in_session)


def _of_claude_code(lines: Sequence[Json]) -> Iterator[Found]:
    at: dict[str, int] = {}
    answers, results, kept = dict[str, list[int]](), dict[str, list[int]](), dict[str, list[str]]()
    copies, moved, stopped = set[str](), list[tuple[int, Json]](), set[Any]()
    for number, line in enumerate(lines):
        uuid = line.get("uuid")
        if not isinstance(uuid, str) or at.setdefault(uuid, number) != number:
            continue
        if preserved := _preserved(line.get("compactMetadata") or {}, lines, at):
            anchor, uuids = preserved
            kept[anchor] = uuids
            moved.append((number, _in_a_row(anchor, uuids)))
        copies |= {uuid} & {each for uuids in kept.values() for each in uuids}
        message = _seen(line)
        if message.get("role") == "assistant":
            name = message.get("id")
            name = name if name and isinstance(name, str) else uuid
            answers.setdefault(name, []).append(number)
        for block in _blocks(message, "tool_result"):
            results.setdefault(block["tool_use_id"], []).append(number)
        if _STOPPED in [message.get("content"), *(b["text"] for b in _blocks(message, "text"))]:
            stopped.add(line.get("parentUuid"))
    written = {number: own for own in answers.values() for number in own}
    for key, (first, *_) in answers.items():
        try:
            parents = [each for boundary, each in moved if boundary < first]
            to = {uuid: parent for each in parents for uuid, parent in each.items()}
            way = way_to(first, lines, at, "parentUuid", to)
            _check_edits([lines[n] for n in way], [lines[n] for n in written[first]])
        except Refused as error:
            yield first, error
            continue
        history, done = list[Json](), {first}
        todo = [n for one in way for n in (one, *_kept(lines[one], kept, at))][::-1]
        while todo:
            number = todo.pop()
            if number in done or not _seen(lines[number]):
                continue
            done.update(written.get(number, [number]))
            if number not in written:
                history.append(_seen(lines[number]))
                continue
            history.append(_joined([lines[n] for n in written[number]], stopped))
            calls = [block["id"] for block in _blocks(history[-1], "tool_use")]
            todo += sorted({n for call in calls for n in results.get(call, ()) if n < first})[::-1]
        answer = _joined([lines[n] for n in written[first]], stopped)
        copied = lines[first]["uuid"] in copies
        call = {"messages": history, "response": answer, "id": key}
        yield first, {**call, "is_copied_context": copied}


def _seen(line: Json) -> Json:
    """Return the message of a line if the model wrote it or was sent it, else an empty object."""
    message, attachment = line.get("message"), line.get("attachment") or {}
    if line.get("type") == "system" and line.get("subtype") == "local_command":
        return {"role": "user", "content": line.get("content")}
    if attachment.get("type") == "queued_command":
        return {"role": "user", "content": attachment.get("prompt")}
    if line.get("type") not in ("user", "assistant") or not isinstance(message, dict):
        return {}
    hidden = line.get("isVisibleInTranscriptOnly") and not line.get("isCompactSummary")
    made_up = line.get("isApiErrorMessage") or message.get("model") == "<synthetic>"
    return {} if hidden or made_up else message


def _blocks(message: Json, kind: str) -> list[Json]:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return [block for block in blocks if block.get("type") == kind]


def _joined(lines: Sequence[Json], stopped: set[Any]) -> Json:
    """Join the lines of an answer; `stopped` has the uuids after which the user interrupted."""
    messages, content = [line["message"] for line in lines], list[Json]()
    for each in messages:
        text = each["content"]
        is_text = isinstance(text, str) and text
        content += [{"type": "text", "text": text}] if is_text else text or []
    ends = [each["stop_reason"] for each in messages if each.get("stop_reason")]
    if not ends and stopped & {line["uuid"] for line in lines}:
        ends = ["interrupted"]
    made = all_but(messages[0], _OF_A_SERVICE)
    partial = {"partial": True} if ends[-1:] == ["stop_sequence"] else {}
    return {**made, "content": content or "", "stop_reason": ends[-1] if ends else None, **partial}


def _preserved(
    metadata: Json, lines: Sequence[Json], at: dict[str, int]
) -> tuple[str, list[str]] | None:
    """Return the uuid after which a compaction puts the messages that it kept, and their uuids.

    None if it kept none; the uuids are `["?"]` if the file lacks one of them.
    """
    if listed := metadata.get("preservedMessages"):
        return listed["anchorUuid"], listed["uuids"]
    segment = metadata.get("preservedSegment")
    if not segment:
        return None
    uuids = [segment["tailUuid"]]
    while uuids[-1] != segment["headUuid"]:
        above = lines[at[uuids[-1]]].get("parentUuid") if uuids[-1] in at else None
        if above not in at or at[above] >= at[uuids[-1]]:
            return segment["anchorUuid"], ["?"]
        uuids.append(above)
    return segment["anchorUuid"], uuids[::-1]


def _in_a_row(anchor: str, uuids: list[str]) -> Json:
    """Return the parent of each of `uuids`, which follow `anchor` one after another."""
    if uuids == ["?"]:
        return {anchor: "?"}  # a parent that is in no file, so the calls are refused
    return dict(pairwise([anchor, *uuids][::-1]))


def _check_edits(way: Sequence[Json], answer: Sequence[Json]) -> None:
    """Refuse a call whose prompt was edited in a way that the file does not show."""
    for line in way:
        if (line.get("microcompactMetadata") or {}).get("compactedToolIds"):
            raise Refused("results of tools that were compacted")
    for line in answer:
        check_edits(line["message"])


def _kept(line: Json, kept: dict[str, list[str]], at: dict[str, int]) -> list[int]:
    return [at[uuid] for uuid in kept.get(line["uuid"], ()) if uuid in at]


# --- Codex -------------------------------------------------------------------------------------


def _is_of_codex(line: Json) -> bool:
    return line.get("type") in _OF_CODEX and isinstance(line.get("payload"), dict)


def _of_codex(lines: Sequence[Json]) -> Iterator[Found]:
    history, answer, last = list[Json](), list[Json](), 0
    context, lost, system = Json(), False, list[Json]()
    for number, line in [*enumerate(lines), (-1, {"type": "compacted"})]:
        kind, payload = line.get("type"), line.get("payload") or {}
        replaced = kind == "compacted" or payload.get("type") == "thread_rolled_back"
        effort = payload.get("effort") if kind == "turn_context" else None
        agents = kind == "inter_agent_communication"
        item = all_but(payload, _OF_AN_ITEM)
        is_item = kind == "response_item" and item.get("type") != "ghost_snapshot"
        if is_item and (item.get("type") in _WRITTEN or is_of_model(item.get("role"))):
            answer.append(item)
            last = number
            continue
        if answer and (is_item or replaced or agents or isinstance(effort, str)):
            call = {"messages": system + history, "response": {"output": answer}, **context}
            yield last, Refused("a history that is not in the file") if lost else call
            history, answer = history + answer, []
        if is_item:
            history = [*history, item]
        elif replaced:
            items = payload.get("replacement_history")
            lost = not isinstance(items, list)
            history = [all_but(each, _OF_AN_ITEM) for each in items or ()]
        elif agents:
            lost = True
        elif isinstance(effort, str):
            context["chat_template_kwargs"] = {"reasoning_effort": effort}
        elif kind == "session_meta" and (base := payload.get("base_instructions")):
            text = base.get("text") if isinstance(base, dict) else base
            said = [{"role": "system", "content": text}]
            system = system or (said if text and isinstance(text, str) else [])
