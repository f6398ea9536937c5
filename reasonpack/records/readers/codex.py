"""A session file of Codex → drafts of calls.

    {"type": "session_meta",  "payload": {"id": …, "base_instructions": {"text": …}}}
    {"type": "response_item", "payload": {"type": "message", "role": "user", …}}
    {"type": "response_item", "payload": {"type": "reasoning", …}}            ┐ one call
    {"type": "response_item", "payload": {"type": "function_call", …}}        ┘
    {"type": "compacted",     "payload": {"replacement_history": […]}}        the new history

Items are those of OpenAI's Responses. The file lacks the tools. After a rollback, a message of
another agent, or a compaction without its new history, it also lacks the history: no call can be
read up to the next new history.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft, Said, draft_of
from reasonpack.records.draft import without
from reasonpack.records.readers.session import Line
from reasonpack.records.responses import is_by_model

_TYPES = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")
_BY_MODEL = ("custom_tool_call", "local_shell_call", "web_search_call")
"""Types of items that only the model writes, and that cannot be read."""
_NOT_SENT = ("ghost_snapshot",)
_BESIDE = ("phase", "internal_chat_message_metadata_passthrough")
"""Fields of items that do not belong to the message."""


def is_mine(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a line of such a file."""
    return record.get("type") in _TYPES and isinstance(record.get("payload"), dict)


def drafts(lines: Sequence[Line]) -> Iterator[CallDraft | RecordError]:
    """Yield the calls of a session, and an error for each that cannot be read."""
    session = _Session()
    for line in lines:
        payload = line.fields.get("payload")
        item = payload if isinstance(payload, dict) else {}
        kind = line.fields.get("type")
        if kind == "response_item" and item.get("type") not in _NOT_SENT:
            if not _is_by_model(item):
                yield from session.answered()
            session.add(item, line)
        elif kind == "compacted" or (kind, item.get("type")) == ("event_msg", "thread_rolled_back"):
            yield from session.answered()
            session.replace(item, line)
        elif kind == "session_meta":
            session.begin(item, line)
        elif kind == "turn_context" and isinstance(item.get("effort"), str):
            yield from session.answered()  # the answer of the turn before, with its own effort
            session.context["chat_template_kwargs"] = {"reasoning_effort": item["effort"]}
        elif kind == "inter_agent_communication":
            yield from session.answered()
            session.lost = "a message of another agent"
        elif kind not in _TYPES:
            session.notes.append(f"unread {kind}")
    yield from session.answered()


class _Session:
    """The history of a session up to a line, and the items of the answer that follows it."""

    def __init__(self) -> None:
        self.system: list[Said] = []
        self.history: list[Said] = []
        self.answer: list[Said] = []
        self.where = self.lost = ""
        self.context: dict[str, Any] = {}
        self.notes: list[str] = []

    def begin(self, meta: Mapping[str, Any], line: Line) -> None:
        base = meta.get("base_instructions")
        text = base.get("text") if isinstance(base, dict) else base
        if isinstance(text, str) and text and not self.system:
            at = f"{line.where}.payload.base_instructions"
            self.system = [Said({"role": "system", "content": text}, at)]

    def add(self, item: dict[str, Any], line: Line) -> None:
        said = Said(without(item, _BESIDE), f"{line.where}.payload")
        if _is_by_model(item):
            self.answer.append(said)
            self.where = line.where
            self.notes += ["unread phase"] if item.get("phase") else []
        else:
            self.history.append(said)

    def replace(self, payload: Mapping[str, Any], line: Line) -> None:
        items = payload.get("replacement_history")
        if isinstance(items, list) and all(isinstance(item, dict) for item in items):
            at = f"{line.where}.payload.replacement_history"
            self.history = [
                Said(without(item, _BESIDE), f"{at}[{i}]") for i, item in enumerate(items)
            ]
            self.lost = ""
        else:
            self.lost = "a rollback" if "num_turns" in payload else "a compaction"

    def answered(self) -> Iterator[CallDraft | RecordError]:
        """Yield the call of the answer, if there is one, and append the answer to the history."""
        if not self.answer:
            return
        lacking = ["missing tools"] + ([] if self.system else ["missing system"])
        if self.lost:
            what = f"the history that follows {self.lost} is not in the file"
            fix = "leave these calls out (--on-error skip), or log the requests themselves"
            yield RecordError("missing", "", what, "all that the model saw", fix, self.where)
        else:
            yield draft_of(
                [*self.system, *self.history],
                self.answer,
                where=self.where,
                context={**self.context},
                notes=[*lacking, *self.notes],
            )
        self.notes = []
        self.history += self.answer
        self.answer = []


def _is_by_model(item: Mapping[str, Any]) -> bool:
    return item.get("type") in _BY_MODEL or is_by_model(item)
