"""The messages of a record, in any shape that the field writes → the shape of OpenAI's chats.

    source                                            read as
    0 {"role": "user", "content": "2+2?"}             0 {"role": "user", "content": "2+2?"}
    1 {"role": "assistant", "content": [text, call]}  1 {"role": "assistant", "tool_calls": […], …}
    2 {"role": "user", "content": [result, text]}     2 {"role": "tool", …}
                                                      2 {"role": "user", …}

`message` then reads the result by its own strict rules. A message that has that
shape already is left as it is, and is not copied.
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
    source_of,
    without,
)
from reasonpack.records.responses import items_as_messages
from reasonpack.records.side_fields import SIDE_FIELDS, read_side_fields
from reasonpack.records.unknown import Field

_OPEN, _CLOSE = "<think>", "</think>"
_SPECIAL = SIDE_FIELDS | {"type"}


class Normalised(Struct, frozen=True):
    """Messages in the shape of OpenAI's chats.

    Attributes:
        messages: what is to be read, or what the record has where it is no list at all.
        sources: the index in the record of the message that each was made of; empty where
            message i is the record's message i.
        places: by the path of a field here, as in `messages[2].tool_calls[0]`, the path in the
            record that it was read from; those of fields below it follow.
        as_text: the messages here whose calls the record has as JSON text.
    """

    messages: Any
    sources: tuple[int, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    as_text: frozenset[int] = frozenset()

    def in_record(self, unread: Field, at: str) -> Field:
        """Return a field that was found in the list at the path `at`, as the record has it."""
        path = source_of(unread.path, self.places)
        if path == unread.path:
            return unread
        name = re.sub(r"\[\d+\]", "", path.removeprefix(at)).removeprefix(".")
        return replace(unread, path=path, name=name)


def normalised(messages: Any, path: str, *, train: bool = True) -> Normalised:
    """Bring the list of messages in the field `path` of a record into the shape of OpenAI's.

    What has no known shape is left for the reader of messages to refuse. `train` holds for
    assistant messages without a flag.

    Raises:
        RecordError: a shape that is known, and holds what cannot be packed.
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
    """Tell whether nothing is to be done; the usual case, so it has to be quick."""
    before: dict[str, Any] = {}
    for message in messages:
        if not _SPECIAL.isdisjoint(message):
            return False
        role, content = message.get("role") or message.get("from"), message.get("content")
        if role in CALL_ROLES:
            return False
        if type(content) is not str and (has_blocks(content) or has_blocks(message.get("value"))):
            return False
        if _has_calls(message) and _is_reasoning_alone(before):
            return False
        before = message
    return True


# ------------------------------------------------------------ messages of calls


def _with_calls(draft: Draft) -> Draft:
    """Read the calls of a message that has them as JSON in its content."""
    message = draft.message
    role = message.get("role") or message.get("from")
    if role not in CALL_ROLES:
        return draft
    name = "content" if message.get("content") is not None else "value"
    text, at = message.get(name), draft.place(name)
    if _has_calls(message):
        what = f"tool calls in a {role} message, expected them as JSON in its content"
        raise RecordError("conflict", at, what, fix='Write the role "assistant".')
    made = {key: "assistant" if value in CALL_ROLES else value for key, value in message.items()}
    if isinstance(text, list) and text:
        if not all(
            isinstance(p, dict) and p.get("type") == "text" and type(p.get("text")) is str
            for p in text
        ):
            what = f"parts other than text in a {role} message, expected its calls as JSON"
            raise RecordError("tools", at, what, fix='Write the role "assistant" and tool_calls.')
        text = "".join(part["text"] for part in text)
    if not isinstance(text, str):
        if any(not is_absent(message.get(field)) for field in REASONING):
            what = f"reasoning without a call in a {role} message, expected its calls as JSON"
            raise RecordError("tools", draft.path, what, fix='Write the role "assistant".')
        return Draft(draft.source, draft.path, made, draft.places)
    reasoning, code = _reasoning_before(text)
    calls = strict_json.decode(code.encode(), at)
    if calls == []:
        raise RecordError("tools", at, "an empty list, expected a call", fix="Remove the message.")
    if isinstance(calls, list):
        places = {f"tool_calls[{i}]": f"{at}[{i}]" for i in range(len(calls))}
    else:
        calls, places = [calls], {"tool_calls[0]": at}
    made = without(made, ("content", "value")) | {"tool_calls": calls}
    if reasoning:
        # Beside reasoning in a field it stays in the content, to be refused there.
        name = "content" if _has_reasoning(made) else "reasoning_content"
        made[name], places[name] = reasoning, at
    return Draft(draft.source, draft.path, made, draft.places | places, str(role))


def _reasoning_before(text: str) -> tuple[str, str]:
    """Split the reasoning off the JSON that it stands before."""
    end = text.find(_CLOSE)
    inside, opened = text[:end].lstrip(), text.lstrip().startswith(_OPEN)
    if end < 0 or inside[:1] in ("{", "[") or (_OPEN in inside and not opened):
        return "", text
    return inside.removeprefix(_OPEN).strip("\n"), text[end + len(_CLOSE) :]


def _has_calls(message: Mapping[str, Any]) -> bool:
    return not (is_absent(message.get("tool_calls")) and is_absent(message.get("function_call")))


# ------------------------------------------------------ one answer in several messages


def _continues(draft: Draft, before: Draft) -> bool:
    """Tell whether a message has calls that belong to the answer in the message before it.

    It does where that one is reasoning alone, or has calls in a role of their own as this one
    does. A `tool_call` also belongs to any text before it, since it has no place for one.
    """
    if not (is_answer(before.message) and is_answer(draft.message) and _has_calls(draft.message)):
        return False
    if _has_reasoning(draft.message) or not (_has_text(draft) and _has_text(before)):
        return False
    if _has_calls(before.message):
        return bool(before.call_role and draft.call_role)
    return draft.call_role == "tool_call" or _is_reasoning_alone(before.message)


def _has_text(draft: Draft) -> bool:
    """Tell whether the content of a message can be joined with another; else it is refused."""
    return isinstance(content_of(draft.message), str | list | None)


def _has_reasoning(message: Mapping[str, Any]) -> bool:
    text, apart = _text(message)
    return apart or _CLOSE in text or text.lstrip().startswith(_OPEN)


def _is_reasoning_alone(message: Mapping[str, Any]) -> bool:
    """Tell whether a message of the assistant is reasoning and nothing else."""
    if _has_calls(message):
        return False
    text, apart = _text(message)
    text = text.strip()
    if not text or apart:
        return apart and not text
    ends = text.endswith(_CLOSE) and text.count(_CLOSE) == 1
    return ends and _OPEN not in text[len(_OPEN) :]


def _text(message: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the text of a message, and whether reasoning stands apart from it."""
    apart = any(not is_absent(message.get(name)) for name in REASONING)
    content = content_of(message)
    if not isinstance(content, list):
        return content if isinstance(content, str) else "", apart
    parts = [part for part in content if isinstance(part, dict)]
    texts = [str(part.get("text") or "") for part in parts if part.get("type") == "text"]
    return "".join(texts), apart or len(texts) < len(parts)


def _joined(first: Draft, second: Draft) -> Draft:
    """Make one message of two that are one answer; the second one has calls."""
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
