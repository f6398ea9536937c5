"""The messages of a record, in any known dialect → messages in OpenAI's form.

    source                                            read as
    0 {"role": "user", "content": "2+2?"}             0 {"role": "user", "content": "2+2?"}
    1 {"role": "assistant", "content": [text, call]}  1 {"role": "assistant", "tool_calls": […], …}
    2 {"role": "user", "content": [result, text]}     2 {"role": "tool", …}
                                                      2 {"role": "user", …}

`message` then reads the result by strict rules. A list whose messages all have this
form already is returned as it is, not copied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.blocks import has_blocks, read_blocks
from reasonpack.records.draft import (
    CALL_ROLES,
    REASONING,
    Draft,
    agree,
    content_of,
    is_absent,
    is_answer,
    present,
    source_of,
    without,
)
from reasonpack.records.last_answer import CONTINUED, OF_THE_END, ends_of
from reasonpack.records.responses import items_as_messages
from reasonpack.records.side_fields import SIDE_FIELDS, read_side_fields
from reasonpack.records.unknown import Field

_OPEN, _CLOSE = "<think>", "</think>"
_SPECIAL = SIDE_FIELDS | {"type"}


class Normalised(Struct, frozen=True):
    """Messages in OpenAI's form.

    Attributes:
        messages: the list of messages; the record's own value if that is no list of objects.
        sources: for each message, the index in the record of the message it was made of; empty
            if message i is the record's message i.
        places: by the path of a field here, such as `messages[2].tool_calls[0]`, the path in the
            record that it was read from; paths below it follow.
        as_text: indexes of the messages whose calls the record has as JSON text.
    """

    messages: Any
    sources: tuple[int, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    as_text: frozenset[int] = frozenset()

    def in_record(self, unread: Field, at: str) -> Field:
        """Return a field of the list at the path `at`, with its path and name in the record."""
        path = source_of(unread.path, self.places)
        if path == unread.path:
            return unread
        name = re.sub(r"\[\d+\]", "", path.removeprefix(at)).removeprefix(".")
        return replace(unread, path=path, name=name)


def normalised(messages: Any, path: str, *, train: bool = True) -> Normalised:
    """Convert the list of messages in the field `path` of a record to OpenAI's form.

    Values of an unknown shape are left for the reader of messages to refuse. `train` says
    whether assistant messages without a flag are trained.

    Raises:
        RecordError: a value has a known shape, but cannot be packed.
    """
    if (
        not isinstance(messages, list)
        or not all(isinstance(message, dict) for message in messages)
        or _all_ordinary(messages)
    ):
        return Normalised(messages)
    drafts = [Draft(i, f"{path}[{i}]", message) for i, message in enumerate(messages)]
    read: list[Draft] = []
    for draft in items_as_messages(drafts, train=train):
        for each in map(_with_calls, read_blocks(read_side_fields(draft))):
            if read and _continues(each, read[-1]):
                agree((read[-1], each), train=train)
                read[-1] = _joined(read[-1], each)
            else:
                read.append(each)
    sources = tuple(draft.source for draft in read)
    places: dict[str, str] = {}
    for i, draft in enumerate(read):
        at = f"{path}[{i}]"
        places[at] = draft.path
        places |= {f"{at}.{name}": place for name, place in draft.places.items()}
    same = sources == tuple(range(len(messages)))
    as_text = frozenset(i for i, draft in enumerate(read) if draft.call_role)
    made = [draft.message for draft in read]
    return Normalised(made, () if same else sources, places, as_text)


def _all_ordinary(messages: list[Any]) -> bool:
    """Return whether no message needs to be converted; fast, as this is the usual case."""
    before: dict[str, Any] = {}
    for message in messages:
        if not _SPECIAL.isdisjoint(message):
            return False
        role, content = message.get("role") or message.get("from"), message.get("content")
        if role in CALL_ROLES:
            return False
        if type(content) is not str and (has_blocks(content) or has_blocks(message.get("value"))):
            return False
        if is_answer(message) and is_answer(before) and _is_reasoning_alone(before):
            return False
        before = message
    return True


# ------------------------------------------------------------ messages of calls


def _with_calls(draft: Draft) -> Draft:
    """Convert a message with a role of `CALL_ROLES` to an assistant message with tool_calls."""
    message = draft.message
    role = message.get("role") or message.get("from")
    if role not in CALL_ROLES:
        return draft
    name = "content" if message.get("content") is not None else "value"
    text, at = message.get(name), draft.place(name)
    if _has_calls(message):
        what, expected = f"tool calls in a {role} message", "them as JSON in its content"
        raise RecordError("conflict", at, what, expected, 'write the role "assistant"')
    made = {key: "assistant" if value in CALL_ROLES else value for key, value in message.items()}
    if isinstance(text, list) and text:
        if not all(
            isinstance(p, dict) and p.get("type") == "text" and type(p.get("text")) is str
            for p in text
        ):
            what = f"parts other than text in a {role} message"
            fix = 'write the role "assistant" and tool_calls'
            raise RecordError("tools", at, what, "its calls as JSON", fix)
        text = "".join(part["text"] for part in text)
    if not isinstance(text, str):
        if present(message, REASONING):
            what, expected = f"reasoning without a call in a {role} message", "its calls as JSON"
            raise RecordError("tools", draft.path, what, expected, 'write the role "assistant"')
        return Draft(draft.source, draft.path, made, draft.places)
    reasoning, code = _reasoning_before(text)
    calls = strict_json.decode(code.encode(), at)
    if calls == []:
        raise RecordError("tools", at, "an empty list", "a call", "remove the message")
    if isinstance(calls, list):
        places = {f"tool_calls[{i}]": f"{at}[{i}]" for i in range(len(calls))}
    else:
        calls, places = [calls], {"tool_calls[0]": at}
    made = without(made, ("content", "value")) | {"tool_calls": calls}
    if reasoning:
        name = "reasoning_content"
        if _has_reasoning(made):  # in a field; the content is then refused for its tags
            name, reasoning = "content", f"{_OPEN}{reasoning}{_CLOSE}"
        made[name], places[name] = reasoning, at
    return Draft(draft.source, draft.path, made, draft.places | places, str(role))


def _reasoning_before(text: str) -> tuple[str, str]:
    """Split a text into the reasoning before its JSON, which may be empty, and the JSON."""
    end = text.find(_CLOSE)
    inside, opened = text[:end].lstrip(), text.lstrip().startswith(_OPEN)
    if end < 0 or inside[:1] in ("{", "[") or (_OPEN in inside and not opened):
        return "", text
    return inside.removeprefix(_OPEN).strip("\n"), text[end + len(_CLOSE) :]


def _has_calls(message: Mapping[str, Any]) -> bool:
    return bool(present(message, ("tool_calls", "function_call")))


# ------------------------------------------------------ one answer in several messages


def _continues(draft: Draft, before: Draft) -> bool:
    """Return whether a message belongs to the answer in the message before it.

    It does if that message is reasoning alone, or if both messages have a role of `CALL_ROLES`.
    A `tool_call` message also continues a text, since it has no place for one itself. A text does
    not continue reasoning of which the record says how it ended.
    """
    if not (is_answer(before.message) and is_answer(draft.message)):
        return False
    if _has_reasoning(draft.message) or not (_is_joinable(draft) and _is_joinable(before)):
        return False
    if not _has_calls(draft.message):
        if not _text(draft.message)[0].strip() or not _is_reasoning_alone(before.message):
            return False
        return not (ends_of(before.message) or present(before.message, (*CONTINUED, *OF_THE_END)))
    if _has_calls(before.message):
        return bool(before.call_role and draft.call_role)
    return draft.call_role == "tool_call" or _is_reasoning_alone(before.message)


def _is_joinable(draft: Draft) -> bool:
    """Return whether the content of a message has a type that is joined, and not refused later."""
    return isinstance(content_of(draft.message), str | list | None)


def _has_reasoning(message: Mapping[str, Any]) -> bool:
    text, apart = _text(message)
    return apart or _CLOSE in text or text.lstrip().startswith(_OPEN)


def _is_reasoning_alone(message: Mapping[str, Any]) -> bool:
    """Return whether an assistant message is reasoning and nothing else."""
    if _has_calls(message):
        return False
    text, apart = _text(message)
    text = text.strip()
    if not text or apart:
        return apart and not text
    ends = text.endswith(_CLOSE) and text.count(_CLOSE) == 1
    return ends and _OPEN not in text[len(_OPEN) :]


def _text(message: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the text of a message, and whether a field or part besides it holds reasoning."""
    apart = bool(present(message, REASONING))
    content = content_of(message)
    if not isinstance(content, list):
        return content if isinstance(content, str) else "", apart
    parts = [part for part in content if isinstance(part, dict)]
    texts = [str(part.get("text") or "") for part in parts if part.get("type") == "text"]
    return "".join(texts), apart or len(texts) < len(parts)


def _joined(first: Draft, second: Draft) -> Draft:
    """Join two messages that form one answer; calls of the second follow those of the first."""
    one, two = (
        {key: value for key, value in draft.message.items() if not is_absent(value)}
        for draft in (first, second)
    )
    message = without(one | two, ("role", "from", "content", "value")) | {"role": "assistant"}
    contents = [c for c in map(content_of, (first.message, second.message)) if c is not None]
    if any(isinstance(content, list) for content in contents):
        message["content"] = [part for content in contents for part in _parts(content)]
    elif contents:
        message["content"] = "".join(contents)
    places = dict(first.places)
    holder = second if content_of(first.message) is None else first
    places["content"] = holder.place(
        "value" if holder.message.get("content") is None else "content"
    )
    already = len(one.get("tool_calls", ()))
    message["tool_calls"] = [*one.get("tool_calls", ()), *two.get("tool_calls", ())]
    places["function_call"] = second.place("function_call")
    for i in range(len(two.get("tool_calls", ()))):
        for below in ("", ".function", ".function.arguments"):
            name = f"tool_calls[{i}]{below}"
            if not below or name in second.places:
                places[f"tool_calls[{already + i}]{below}"] = second.place(name)
    return Draft(first.source, first.path, message, places, second.call_role)


def _parts(content: str | list[Any]) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]
