"""A record → the log format that it is written in, recognised by its shape.

    chat         messages or conversations whose last message is an answer; prompt and completion
    calls        an answer next to its prompt, token ids, or a list of such calls
    litellm      call_type, model_parameters and messages
    nemo-gym     rollout_id with generation_token_ids, or responses_create_params
    verifiers    nodes with a message each, traces of these, or steps of a trajectory
    atif         steps, with a schema_version ATIF-v…
    claude-code  lines with sessionId and parentUuid         ┐ a session: all lines of a file
    codex        lines with type and payload                 │ together are calls
    pi           lines with type session, or type message    ┘

The readers from litellm on recognise their own records; all others are chats or calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft
from reasonpack.records.draft import is_absent, is_answer
from reasonpack.records.readers import (
    atif,
    claude_code,
    codex,
    generic,
    litellm,
    nemo_gym,
    pi,
    verifiers,
)
from reasonpack.records.readers.session import Line
from reasonpack.records.reading import Reading

CHAT, CALLS = "chat", "calls"
GROUP_FIELDS: tuple[str, ...] = (
    *("group", "group_id", "trace_id", "rollout_id", "session_id", "sessionId", "trajectory_id"),
    *("conversation_id", "metadata.trace_id", "metadata.session_id", "metadata.rollout_id"),
)
"""Fields that may name the group of a call if its format has no field for that."""


class Reader(NamedTuple):
    """The reader of a log format in which each record holds whole calls.

    Attributes:
        is_mine: returns whether a record is of this format.
        drafts: returns the calls of a record.
        group: the field that says which records belong together.
    """

    is_mine: Callable[[Mapping[str, Any]], bool]
    drafts: Callable[[Mapping[str, Any], Reading], list[CallDraft]]
    group: str


READERS: Mapping[str, Reader] = {
    "litellm": Reader(litellm.is_mine, litellm.drafts, "trace_id"),
    "atif": Reader(atif.is_mine, atif.drafts, "session_id"),
    "nemo-gym": Reader(nemo_gym.is_mine, nemo_gym.drafts, "rollout_id"),
    "verifiers": Reader(verifiers.is_mine, verifiers.drafts, "group.id"),
}
"""The log formats whose records do not have the generic shape, each with its reader."""


class Session(NamedTuple):
    """The reader of a log format in which a file is one session.

    Attributes:
        is_mine: returns whether a record is a line of such a file.
        drafts: yields the calls in the lines of a file, and an error for each that is unreadable.
    """

    is_mine: Callable[[Mapping[str, Any]], bool]
    drafts: Callable[[Sequence[Line]], Iterable[CallDraft | RecordError]]


SESSIONS: Mapping[str, Session] = {
    "claude-code": Session(claude_code.is_mine, claude_code.drafts),
    "codex": Session(codex.is_mine, codex.drafts),
    "pi": Session(pi.is_mine, pi.drafts),
}
"""The log formats in which only all lines of a file together give its calls, as one group."""
_OWN_SHAPES: Mapping[str, Reader | Session] = {**READERS, **SESSIONS}


def format_of(record: Mapping[str, Any]) -> str:
    """Return the format of a record: `chat`, `calls`, or a key of `READERS` or `SESSIONS`.

    A record of unknown shape counts as a chat; the reader of chats refuses it.

    Raises:
        RecordError: reason `conflict`, if the record has the shape of several formats.

    >>> format_of({"prompt_token_ids": [5], "completion_token_ids": [7]})
    'calls'
    """
    found = [name for name, reader in _OWN_SHAPES.items() if reader.is_mine(record)]
    if len(found) > 1:
        what, expected = f"the shape of {' and of '.join(found)}", "that of one format"
        raise RecordError("conflict", "", what, expected, "keep the fields of one of them")
    if found:
        return found[0]
    has_list = any(generic.holds_calls(record.get(name)) for name in generic.LISTS)
    if has_list or len(generic.ids_in(record)) == 2:
        return CALLS
    return CALLS if generic.is_call(record) and not _is_chat(record) else CHAT


def drafts_of(record: Mapping[str, Any], reading: Reading) -> list[CallDraft]:
    """Return the calls of a record; one in the shape of a chat is read as a call, too.

    Raises:
        RecordError: the record cannot be read, or is a line of a session file.
    """
    name = format_of(record)
    if name in SESSIONS:
        what = f"a line of a session file of {name}"
        fix = "give the session file as an input of its own"
        raise RecordError("content", "", what, "a call by itself", fix)
    return (READERS[name].drafts if name in READERS else generic.drafts)(record, reading)


def _is_chat(record: Mapping[str, Any]) -> bool:
    """Return whether a record that may be a call also has the shape of a chat.

    The `response` or `choices` of a service make it a call, even if its messages end in an answer.
    """
    if isinstance(record.get("response"), Mapping) or isinstance(record.get("choices"), list):
        return False
    if not (is_absent(record.get("prompt")) or is_absent(record.get("completion"))):
        return True
    for name in ("messages", "conversations", "conversation"):
        messages = record.get(name)
        if isinstance(messages, list) and messages:
            return is_answer(messages[-1])
    return False
