"""One message, as any of the field's dialects writes it → `Message`.

    {"from": "gpt", "value": "<think>easy</think>4"}            ┐
    {"role": "assistant", "content": "4", "thinking": "easy"}   ├→  Message("assistant", "4",
    {"role": "model", "content": [{"type": "thinking", …}, …]}  ┘           reasoning="easy")

The same thing said twice is fine, two things that contradict each other are
refused. A field whose value is null, and reasoning that is an empty text, count
as absent. Fields with no meaning here (`name`, `tool_call_id`, …) are kept for
the chat template as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.dialects import normalised
from reasonpack.records.draft import FLAGS, REASONING, is_absent
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.strict_json import quoted, typed, wrong_type

__all__ = ["ROLES", "Message", "ToolCall", "read_messages"]

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "tool_call": "assistant",
    "function_call": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "observation": "tool",
}
"""The roles that a record may name, each with the role that a template knows."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by an assistant message.

    Attributes:
        name: the tool.
        arguments: an object where the record gives one, or the JSON text of one; else the text.
        arguments_text: the arguments as written where the record gives text, else None.
        id: the call's id, where the record gives one.
    """

    name: str
    arguments: dict[str, Any] | str
    arguments_text: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message, whatever the record called its fields.

    Attributes:
        role: `system`, `developer`, `user`, `assistant` or `tool`.
        content: text; None only on an assistant message that has reasoning or tool calls, where
            the record has no content at all.
        reasoning: text that is not empty, or None.
        tool_calls: in the order of the record.
        train: False where an assistant message is context only. True for all other roles.
        extra: fields with no meaning here, for the template.
        verbatim: the content as the record has it, where reasoning was split off its beginning;
            else None.
        finished: False where the model wrote no stop: it was cut off, or is to be continued.
    """

    role: str
    content: str | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    train: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    verbatim: str | None = field(default=None, repr=False)
    finished: bool = field(default=True, repr=False)


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    reasoning: str | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: dict[str, Any] | str | None = None


class _Call(_Function):
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Fields(msgspec.Struct):
    """All fields of a message with a meaning here."""

    role: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    content: str | list[_Part] | None = None
    value: str | list[_Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    thought: str | None = None
    reasoning_text: str | None = None
    tool_calls: list[_Call] | None = None
    function_call: _Function | None = None
    train: Any = None
    trainable: Any = None
    loss: Any = None
    weight: Any = None
    loss_weight: Any = None
    loss_mask: Any = None
    step_loss_mask: Any = None
    training: Any = None


_KNOWN = frozenset(_Fields.__struct_encode_fields__)
_PART = ("text", "thinking", "reasoning")
_NO_FLAGS = [None] * len(FLAGS)


def read_messages(
    messages: Any, path: str, *, train: bool = True, reading: Reading = DEFAULT
) -> tuple[list[Message], tuple[int, ...]]:
    """Read the list of messages in the field `path` of a record.

    `train` holds for the assistant messages that have no flag of their own. Returns with them the
    index in the list that each was read from; none where message i is the list's message i.

    Raises:
        RecordError: with the path of the message and field that cannot be read.

    >>> read_messages([{"from": "gpt", "value": "<think>easy</think>4", "weight": 0}], "chat")
    ... # doctest: +NORMALIZE_WHITESPACE
    ([Message(role='assistant', content='4', reasoning='easy', tool_calls=(), train=False,
              extra={})], ())
    """
    plain = normalised(messages, path, train=train)
    try:
        fields: list[_Fields] = typed(plain.messages, list[_Fields], path)
        pairs = enumerate(zip(plain.messages, fields, strict=True))
        read = [_message(raw, known, f"{path}[{i}]", train, reading) for i, (raw, known) in pairs]
    except RecordError as error:
        error.path = plain.source_path(error.path)
        raise
    return read, plain.sources


def _message(
    raw: dict[str, Any],
    fields: _Fields,
    path: str,
    train: bool,
    reading: Reading,  # noqa: ARG001
) -> Message:
    said = _same(path, ("role", "from"), (fields.role, fields.from_))
    role = _role(said, path, key="role" if fields.from_ is None else "from")
    at = f"{path}.{'value' if fields.content is None else 'content'}"
    content, reasoning = _content(fields, path, at=at)
    calls: tuple[ToolCall, ...] = ()
    flag = _flag(fields, path)
    if role != "assistant":
        _refuse_answer_fields(fields, path, role=role, reasoning=reasoning, flag=flag)
        train = True
    else:
        train = train if flag is None else flag
        # JSON is left whole, also where a text in it holds a closing tag.
        is_json = said == "function_call" and content and content.lstrip()[:1] in ("{", "[")
        if content and reasoning is None and not is_json:
            content, reasoning = _split_inline(content, at)
        elif content and content.lstrip().startswith("<think>") and "</think>" in content:
            what = "reasoning in a field and again in the content, expected it once"
            raise RecordError("conflict", at, what, fix="Keep one of the two.")
        calls = _tool_calls(fields, path)
        if said == "function_call":
            content, calls = None, _calls_in_text(content, calls, at)
    if content is None and not reasoning and not calls:
        what = "no content, expected text"
        fix = 'Write "" where the text is empty.'
        raise RecordError("content", f"{path}.content", what, fix=fix)
    extra = {k: v for k, v in raw.items() if k not in _KNOWN and v is not None}
    return Message(role, content, reasoning, calls, train, extra)


def _same(path: str, names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    """Return the value that all fields which are there agree on, None where none is there."""
    found = None
    for value in values:
        if found is None:
            found = value
        elif value is not None and value != found:
            named = [name for name, each in zip(names, values, strict=True) if each is not None]
            what = f"{' and '.join(named)} differ, expected one of them or the same in each"
            raise RecordError("conflict", path, what, fix=f"Keep one of {', '.join(named)}.")
    return found


def _role(said: str | None, path: str, *, key: str) -> str:
    if said is None:
        raise RecordError("missing", path, "no role, expected one", fix=_ROLE_FIX)
    role = ROLES.get(said)
    if role is None:
        what = f"unknown role {quoted(said)}, expected a known one"
        raise RecordError("role", f"{path}.{key}", what, fix=_ROLE_FIX)
    return role


_ROLE_FIX = f"Write one of {', '.join(ROLES)}."


# ------------------------------------------------------ content and reasoning


def _content(fields: _Fields, path: str, *, at: str) -> tuple[str | None, str | None]:
    """Read (content, reasoning), without looking for think tags."""
    content = _same(path, ("content", "value"), (fields.content, fields.value))
    thoughts = None
    if isinstance(content, list):
        content, thoughts = _join(content, at)
    written = [getattr(fields, name) or None for name in REASONING]
    reasoning = _same(path, (*REASONING, "thinking parts"), (*written, thoughts or None))
    return content, reasoning


def _join(parts: list[_Part], path: str) -> tuple[str | None, str | None]:
    """Join content parts into (content, reasoning), each None where no part is of its kind."""
    texts: list[str] = []
    thoughts: list[str] = []
    for i, part in enumerate(parts):
        at = f"{path}[{i}]"
        if part.type == "text":
            text = part.text
            texts.append(text or "")
        elif part.type in ("thinking", "reasoning"):
            if any(texts):
                what = f"a {part.type} part after text, expected it before"
                raise RecordError("content", at, what, fix="Make two messages of it.")
            text = _same(at, _PART, (part.text, part.thinking, part.reasoning))
            thoughts.append(text or "")
        else:
            kind = "no type" if part.type is None else f"type {quoted(part.type)}"
            what = f"a part of {kind}, expected text, thinking, tool_use or tool_result"
            raise RecordError("content", at, what, fix="Only text can be packed: remove the part.")
        if text is None:
            raise RecordError("missing", at, f"no text in a {part.type} part", fix='Write "text".')
    return "".join(texts) if texts else None, "".join(thoughts) if thoughts else None


def _split_inline(content: str, path: str) -> tuple[str, str | None]:
    """Split `<think>…</think>…` into (content, reasoning); the opening tag may be missing."""
    opened = content.lstrip().startswith("<think>")
    end = content.find("</think>")
    if end < 0 and opened:
        what = "<think> is never closed, expected </think> after the reasoning"
        raise RecordError("content", path, what, fix="Close it, or remove the message.")
    start = content.find("<think>", 0, max(end, 0))
    if end < 0 or (start >= 0 and not opened):
        return content, None
    inside = content[start + len("<think>") if opened else 0 : end]
    return content[end + len("</think>") :].lstrip("\n"), inside.strip("\n") or None


# ------------------------------------------------------------------ tool calls


def _tool_calls(fields: _Fields, path: str) -> tuple[ToolCall, ...]:
    if fields.function_call is None:
        calls = fields.tool_calls or ()
        return tuple(_call(call, f"{path}.tool_calls[{i}]") for i, call in enumerate(calls))
    if fields.tool_calls:
        what = "tool_calls and function_call, expected one of them"
        raise RecordError("conflict", path, what, fix="Remove function_call.")
    return (_function(fields.function_call, f"{path}.function_call", call_id=None),)


def _calls_in_text(
    text: str | None, calls: tuple[ToolCall, ...], path: str
) -> tuple[ToolCall, ...]:
    """Read the calls that a message of the role `function_call` has as JSON in its content."""
    if calls:
        what = "tool calls in a function_call message, expected them as JSON in its content"
        raise RecordError("conflict", path, what, fix='Write the role "assistant".')
    if text is None:
        return ()
    value = strict_json.decode(text.encode(), path)
    if not isinstance(value, list):
        return (_call(typed(value, _Call, path), path),)
    if not value:
        raise RecordError(
            "tools", path, "an empty list, expected a call", fix="Remove the message."
        )
    return tuple(_call(c, f"{path}[{i}]") for i, c in enumerate(typed(value, list[_Call], path)))


def _call(call: _Call, path: str) -> ToolCall:
    if call.type not in (None, "function"):
        what = f"a call of type {quoted(call.type)}, expected function"
        raise RecordError("tools", path, what, fix="Only function calls can be packed.")
    if call.function is None:
        return _function(call, path, call_id=call.id)
    if call.name is not None or call.arguments is not None:
        what = "both a function and a name or arguments beside it, expected one of the two"
        raise RecordError("conflict", path, what, fix="Remove name and arguments.")
    return _function(call.function, f"{path}.function", call_id=call.id)


def _function(function: _Function, path: str, *, call_id: str | None) -> ToolCall:
    if not function.name:
        raise RecordError("missing", path, "a call without a name", fix="Name the tool.")
    written = function.arguments
    if written is None:
        what = "a call without arguments"
        raise RecordError("missing", path, what, fix="Write {} where there are none.")
    if not isinstance(written, str):
        return ToolCall(function.name, written, None, call_id)
    return ToolCall(function.name, _object_in(written, f"{path}.arguments"), written, call_id)


def _object_in(text: str, path: str) -> dict[str, Any]:
    """Read arguments written as text, which has to be that of a JSON object."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        if strict_json.is_too_deep(text):
            raise strict_json.too_deep(path) from None
        value = None
    if not isinstance(value, dict):
        what = f"{quoted(text)} is no JSON object, expected the arguments of a call"
        raise RecordError("tools", path, what, fix="Write {} where there are none.")
    strict_json.check_keys(text.encode(), value, path)
    return value


# ----------------------------------------------------------------------- flags


def _flag(fields: _Fields, path: str) -> bool | None:
    """Read whether the message is trained; None where it does not say."""
    values = [getattr(fields, name) for name in FLAGS]
    if values == _NO_FLAGS:
        return None
    values = [None if is_absent(value) else value for value in values]
    for name, value in zip(FLAGS, values, strict=True):
        if value is None:
            continue
        if isinstance(value, list):
            what = "got a list, expected 0 or 1 for the whole message"
            fix = "A mask of tokens needs the tokens' ids, which a message does not have."
            raise RecordError("weight", f"{path}.{name}", what, fix=f"{fix} Write 0 or 1.")
        if not isinstance(value, bool | int | float):
            raise wrong_type(f"{path}.{name}", type(value).__name__, "true, false, 0 or 1")
        if value not in (0, 1):
            what = "got a number other than 0 and 1, expected one of the two"
            fix = "Weighting is not supported yet: write 1 to train the message, 0 not to."
            raise RecordError("weight", f"{path}.{name}", what, fix=fix)
    flag = _same(path, FLAGS, tuple(values))
    return None if flag is None else flag == 1


def _refuse_answer_fields(
    fields: _Fields, path: str, *, role: str, reasoning: str | None, flag: bool | None
) -> None:
    """Refuse what only an assistant message can have."""
    given = {
        "reasoning": reasoning,
        "tool calls": fields.tool_calls or fields.function_call,
        "a training flag": flag,
    }
    for name, value in given.items():
        if value:
            what = f"{name} on a {role} message, expected it on assistant messages only"
            raise RecordError("role", path, what, fix="Remove the field, or mend the role.")
