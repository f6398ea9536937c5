"""A session file of Claude Code → drafts of calls.

    {"type": "user",      "uuid": "a", "parentUuid": null, "message": {"role": "user", …}}
    {"type": "assistant", "uuid": "b", "parentUuid": "a",  "message": {"id": "msg_1", …}}  ┐ one
    {"type": "assistant", "uuid": "c", "parentUuid": "b",  "message": {"id": "msg_1", …}}  ┘ call
    {"type": "user",      "uuid": "d", "parentUuid": "c",  "message": {"content": [result]}}

An answer has a line for each block of its content, all with the same `message.id`. Its prompt is
the path from the root to its first line, with all lines of the answers on that path, and with the
results of their calls, which may be on other branches. After a compaction the path is the summary,
then the messages that were preserved, whatever their parents are; a copy of such a message is not
trained. An answer that the user interrupted has no stop token. The file lacks the system prompt,
the tools, the text of attachments, and results that were compacted by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft, Said, draft_of
from reasonpack.records.readers.answers import refuse_edits, single
from reasonpack.records.readers.session import Line, way_to

_LACKING = ("missing system", "missing tools")
_ASIDE = (
    *("summary", "file-history-snapshot", "queue-operation", "progress", "permission-mode"),
    *("last-prompt", "ai-title", "custom-title", "agent-name", "pr-link", "mode", "system"),
)
"""Types of lines that the model never sees."""
_INTERRUPTED = "[Request interrupted by user]"


def is_mine(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a line of such a file; the first ones have no `sessionId`."""
    kind = record.get("type")
    if kind in ("summary", "file-history-snapshot") and {"leafUuid", "snapshot"} & record.keys():
        return True
    return "sessionId" in record and ("parentUuid" in record or kind in _ASIDE)


def drafts(lines: Sequence[Line]) -> Iterator[CallDraft | RecordError]:
    """Yield the calls of a session, and an error for each that cannot be read."""
    session = _Session(lines)
    for key, own in session.answers.items():
        first = session.lines[own[0]]
        try:
            for index in own:
                refuse_edits(session.lines[index].fields["message"], "message")
            history, notes = session.history(own[0])
        except RecordError as error:
            error.where = first.where
            yield error
            continue
        yield draft_of(
            history,
            [session.answer(key)],
            where=first.where,
            id=key,
            notes=[*_LACKING, *notes, *session.unread],
            copied=own[0] in session.copies,
        )
        session.unread = []


class _Session:
    """The lines of a session by their ids.

    Attributes:
        lines: each once, in the order of the file.
        at: index of a line, by its uuid.
        answers: indices of an answer's lines, by the id of its message.
        key_of: that id, by the index of a line.
        results: indices of the lines with the result of a call, by the call's id.
        preserved: uuids of the messages that a compaction kept, by the uuid of its summary.
        moved: for each compaction, the index of its line, and the new parents of kept messages.
        interrupted: uuids of the lines after which the user interrupted the model.
        copies: indices of the lines that repeat a preserved message after the compaction.
        unread: notes on lines of an unknown type.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines: list[Line] = []
        self.at: dict[str, int] = {}
        self.answers: dict[str, list[int]] = {}
        self.key_of: dict[int, str] = {}
        self._joined: dict[str, Said] = {}
        self.results: dict[str, list[int]] = {}
        self.preserved: dict[str, list[str]] = {}
        self.moved: list[tuple[int, dict[str, str]]] = []
        self.interrupted: set[str] = set()
        self.copies: set[int] = set()
        self.unread: list[str] = []
        for line in lines:
            uuid, kind = line.fields.get("uuid"), str(line.fields.get("type"))
            if not isinstance(uuid, str):
                self.unread += [] if kind in _ASIDE else [f"unread {kind}"]
            elif uuid not in self.at:
                self.at[uuid] = len(self.lines)
                self.lines.append(line)
                self._note(len(self.lines) - 1, line)

    def _note(self, index: int, line: Line) -> None:
        self._note_kept(index, line.fields.get("compactMetadata"))
        if any(line.fields["uuid"] in uuids for uuids in self.preserved.values()):
            self.copies.add(index)
        message = _message(line)
        if message is None:
            return
        if message.get("role") == "assistant":
            key = message.get("id")
            key = key if isinstance(key, str) and key else str(line.fields["uuid"])
            self.answers.setdefault(key, []).append(index)
            self.key_of[index] = key
        for block in _blocks(message):
            if block.get("type") == "tool_result":
                self.results.setdefault(str(block.get("tool_use_id")), []).append(index)
            elif block.get("text") == _INTERRUPTED:
                self.interrupted.add(str(line.fields.get("parentUuid")))

    def _note_kept(self, index: int, metadata: object) -> None:
        """Store which messages a compaction kept: a list of them, or the first and the last one."""
        said = metadata if isinstance(metadata, dict) else {}
        kept, segment = said.get("preservedMessages"), said.get("preservedSegment")
        if isinstance(kept, dict) and isinstance(kept.get("uuids"), list):
            anchor, uuids = str(kept.get("anchorUuid")), [str(each) for each in kept["uuids"]]
        elif isinstance(segment, dict):
            anchor, head, tail = (str(segment.get(f"{n}Uuid")) for n in ("anchor", "head", "tail"))
            uuids = []
            with suppress(KeyError, RecordError):
                way = way_to(self.lines, self.at, self.at[tail], "parentUuid", {head: None})
                uuids = [self.lines[i].fields["uuid"] for i in way]
            if uuids[:1] != [head]:  # a parent that is not there: what follows cannot be read
                self.moved.append((index, {anchor: "?"}))
                return
        else:
            return
        self.preserved[anchor] = uuids
        self.moved.append((index, dict(zip(uuids, [anchor, *uuids], strict=False))))

    def answer(self, key: str) -> Said:
        """Return an answer, whose lines are joined only once."""
        if key in self._joined:
            return self._joined[key]
        messages = [self.lines[i].fields["message"] for i in self.answers[key]]
        content = [block for message in messages for block in _blocks(message)]
        ends = [m["stop_reason"] for m in messages if m.get("stop_reason")]
        uuids = {self.lines[i].fields["uuid"] for i in self.answers[key]}
        ends = ends or ["interrupted"] * bool(uuids & self.interrupted)
        joined = {
            **messages[0],
            "content": content or "",
            "stop_reason": ends[-1] if ends else None,
        }
        place = f"{self.lines[self.answers[key][0]].where}.message"
        made = (single(joined, place).items or [{}])[0]
        made.pop("id", None)
        self._joined[key] = Said(made, place)
        return self._joined[key]

    def history(self, last: int) -> tuple[list[Said], list[str]]:
        """Return the messages before the answer that begins in the line `last`, and notes.

        Raises:
            RecordError: a parent is not in the file, or results of tools were compacted.
        """
        found: list[Said] = []
        notes: list[str] = []
        done: set[int] = set()
        for index in self._way(last):
            line, message = self.lines[index], _message(self.lines[index])
            if line.fields.get("type") == "attachment":
                notes.append("missing attachment")
            compacted = line.fields.get("microcompactMetadata")
            if isinstance(compacted, dict) and compacted.get("compactedToolIds"):
                what = "results of tools that were compacted"
                fix = "leave these calls out (--on-error skip)"
                raise RecordError("missing", line.where, what, "what the model saw of them", fix)
            if message is None or index in done:
                continue
            if message.get("role") != "assistant":
                done.add(index)
                found.append(_said(line))
                continue
            key = self.key_of[index]
            said = self.answer(key)
            found.append(said)
            done.update(self.answers[key])
            calls = [str(b.get("id")) for b in _blocks(said.message) if b.get("type") == "tool_use"]
            results = {i for call in calls for i in self.results.get(call, ()) if i < last}
            for i in sorted(results - done):
                done.add(i)
                found.append(_said(self.lines[i]))
        return found, notes

    def _way(self, last: int) -> list[int]:
        """Return the indices of the lines on the path from the root to `last`, without that."""
        moved = {
            uuid: to for at, parents in self.moved if at < last for uuid, to in parents.items()
        }
        *way, _ = way_to(self.lines, self.at, last, "parentUuid", moved)
        whole: list[int] = []
        for index in way:
            kept = self.preserved.get(self.lines[index].fields["uuid"], ())
            whole += [index, *(self.at[uuid] for uuid in kept if uuid in self.at)]
        return [*dict.fromkeys(index for index in whole if index != last)]


def _message(line: Line) -> dict[str, Any] | None:
    """Return the message in a line that the model wrote or was sent; None if there is none."""
    fields, kind = line.fields, line.fields.get("type")
    message, attached = fields.get("message"), fields.get("attachment")
    if (kind, fields.get("subtype")) == ("system", "local_command"):
        return {"role": "user", "content": fields.get("content")}
    if isinstance(attached, dict) and attached.get("type") == "queued_command":
        return {"role": "user", "content": attached.get("prompt")}
    if kind not in ("user", "assistant") or not isinstance(message, dict):
        return None
    shown_only = fields.get("isVisibleInTranscriptOnly") and not fields.get("isCompactSummary")
    is_made_up = fields.get("isApiErrorMessage") or message.get("model") == "<synthetic>"
    return None if shown_only or is_made_up else message


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [b for b in content if isinstance(b, dict)] if isinstance(content, list) else []


def _said(line: Line) -> Said:
    return Said(dict(_message(line) or {}), f"{line.where}.message")
