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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.arguments import has_null_key
from reasonpack.records.beside import ENDS
from reasonpack.records.dialects import normalised
from reasonpack.records.draft import FLAGS, REASONING, is_absent
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.reasoning import foreign_form, repeats, split_inline
from reasonpack.records.renaming import chosen
from reasonpack.records.strict_json import quoted, typed, wrong_type
from reasonpack.records.unknown import Field, UnknownFieldError
from reasonpack.records.unread import Names, unread_in_messages

__all__ = ["NAMES", "ROLES", "Message", "ReadMessages", "ToolCall", "read_messages"]

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
        noticed: what was noticed and not refused; keys of `conversation.NOTES`.
    """

    role: str
    content: str | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    train: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    verbatim: str | None = field(default=None, repr=False)
    finished: bool = field(default=True, repr=False)
    noticed: tuple[str, ...] = field(default=(), repr=False, compare=False)


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
_CONTINUED = ("prefix", "partial")
_UNFINISHED = frozenset(
    ("length", "max_tokens", "max_output_tokens", "incomplete", "content_filter", "abort")
)
"""Values of `finish_reason` of an answer after which the model wrote no stop."""
NAMES = Names(
    message=_KNOWN | {*ENDS, *_CONTINUED},
    call=frozenset(_Call.__struct_fields__),
    function=frozenset(_Function.__struct_fields__),
    roles=ROLES,
)
"""What is read of messages."""
_PART = ("text", "thinking", "reasoning")
_NO_FLAGS = [None] * len(FLAGS)


class ReadMessages(NamedTuple):
    """A list of messages that was read.

    Attributes:
        messages: in order.
        sources: the index in the record's list that each was read from; empty where message i
            is the list's message i.
        unread: fields that nobody reads, and that hold nothing to learn.
    """

    messages: list[Message]
    sources: tuple[int, ...] = ()
    unread: tuple[Field, ...] = ()


def read_messages(
    messages: Any,
    path: str,
    *,
    train: bool = True,
    null_keys: bool = False,
    reading: Reading = DEFAULT,
) -> ReadMessages:
    """Read the list of messages in the field `path` of a record.

    `train` holds for the assistant messages that have no flag of their own. With `null_keys`,
    null may stand for a key that is not there, as in a struct of Parquet.

    Raises:
        UnknownFieldError: fields that nobody reads, and that may hold what the model is to learn.
        RecordError: with the path of the message and field that cannot be read.

    >>> read_messages([{"from": "gpt", "value": "<think>easy</think>4"}], "chat").messages
    [Message(role='assistant', content='4', reasoning='easy', tool_calls=(), train=True, extra={})]
    """
    if (reading.ignored or reading.renamed) and isinstance(messages, list):
        messages = [
            chosen(each, reading, f"{path}[{i}]", known=NAMES.message)
            if isinstance(each, dict)
            else each
            for i, each in enumerate(messages)
        ]
    plain = normalised(messages, path, train=train)
    try:
        fields: list[_Fields] = typed(plain.messages, list[_Fields], path)
        unread = list(unread_in_messages(plain.messages, path, names=NAMES, asked=reading.asked))
        if not any(each.refused for each in unread):
            mode = _Mode(train, null_keys, reading)
            pairs = enumerate(zip(plain.messages, fields, strict=True))
            read = [_message(raw, known, f"{path}[{i}]", mode) for i, (raw, known) in pairs]
            return ReadMessages(read, plain.sources, tuple(unread))
    except RecordError as error:
        error.path = plain.source_path(error.path)
        raise
    raise UnknownFieldError(
        [replace(each, path=plain.source_path(each.path)) for each in unread if each.refused]
    )


class _Mode(NamedTuple):
    """What holds for all messages of a list; see `read_messages`."""

    train: bool
    null_keys: bool
    reading: Reading


def _message(raw: dict[str, Any], fields: _Fields, path: str, mode: _Mode) -> Message:
    said = _same(path, ("role", "from"), (fields.role, fields.from_))
    role = _role(said, path, key="role" if fields.from_ is None else "from")
    at = f"{path}.{'value' if fields.content is None else 'content'}"
    content, reasoning, noticed = _content(fields, path, at=at)
    flag = _flag(fields, path)
    extra = {k: v for k, v in raw.items() if k not in _KNOWN and v is not None}
    if role != "assistant":
        _refuse_answer_fields(fields, path, role=role, reasoning=reasoning, flag=flag)
        if content is None:
            raise _no_content(path)
        return Message(role, content, extra=extra)
    calls = _tool_calls(fields, path, mode)
    written, finished = content, _is_finished(raw)
    # JSON is left whole, also where a text in it holds a closing tag.
    is_json = said == "function_call" and content and content.lstrip()[:1] in ("{", "[")
    if content and not is_json:
        content, reasoning = split_inline(
            content, at, reasoning=reasoning, finished=finished, reading=mode.reading
        )
    verbatim = written if written and content != written else None
    if said == "function_call":
        content, calls = None, _calls_in_text(content, calls, at, mode)
    if content is None and not reasoning and not calls:
        raise _no_content(path)
    cut = bool(reasoning) and not calls and not (content or "").strip()
    noticed += _noticed(content, calls, mode.reading)
    if cut or not finished:
        noticed += ("reasoning-alone",) if cut else ("unfinished",)
    return Message(
        role=role,
        content=content,
        reasoning=reasoning,
        tool_calls=calls,
        train=mode.train if flag is None else flag,
        extra=extra,
        verbatim=None if said == "function_call" else verbatim,
        finished=finished and not cut,
        noticed=noticed,
    )


def _no_content(path: str) -> RecordError:
    what = "no content, expected text"
    return RecordError("content", f"{path}.content", what, fix='Write "" where the text is empty.')


def _is_finished(raw: Mapping[str, Any]) -> bool:
    """Tell whether the model wrote a stop, as far as a message says."""
    if any(raw.get(name) is True for name in _CONTINUED):
        return False
    ends = (raw.get(name) for name in ENDS)
    return not any(isinstance(end, str) and end.lower() in _UNFINISHED for end in ends)


def _noticed(content: str | None, calls: Sequence[ToolCall], reading: Reading) -> tuple[str, ...]:
    form = foreign_form(content, reading) if content else None
    found = (f"form {form}",) if form else ()
    null = any(
        isinstance(call.arguments, dict) and None in call.arguments.values() for call in calls
    )
    return (*found, "null-argument") if null else found


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


def _content(
    fields: _Fields, path: str, *, at: str
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Read (content, reasoning, what was noticed), without looking for think tags."""
    content = _same(path, ("content", "value"), (fields.content, fields.value))
    thoughts = None
    if isinstance(content, list):
        content, thoughts = _join(content, at)
    reasonings = [getattr(fields, name) or None for name in REASONING]
    noticed: tuple[str, ...] = ()
    for n, (name, each) in enumerate(zip(REASONING, reasonings, strict=True)):
        if each and content and repeats(each, content, name=name):
            reasonings[n], noticed = None, ("repeated-reasoning",)
    reasoning = _same(path, (*REASONING, "thinking parts"), (*reasonings, thoughts or None))
    if reasoning and reasoning.lstrip().startswith("<think>"):
        what = "reasoning that <think> begins, expected the text between the tags"
        raise RecordError("content", path, what, fix="Leave the tags out of the field.")
    return content, reasoning, noticed


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


# ------------------------------------------------------------------ tool calls


def _tool_calls(fields: _Fields, path: str, mode: _Mode) -> tuple[ToolCall, ...]:
    if fields.function_call is None:
        calls = fields.tool_calls or ()
        return tuple(_call(call, f"{path}.tool_calls[{i}]", mode) for i, call in enumerate(calls))
    if fields.tool_calls:
        what = "tool_calls and function_call, expected one of them"
        raise RecordError("conflict", path, what, fix="Remove function_call.")
    function, at = fields.function_call, f"{path}.function_call"
    return (_function(function, at, call_id=None, mode=mode),)


def _calls_in_text(
    text: str | None, calls: tuple[ToolCall, ...], path: str, mode: _Mode
) -> tuple[ToolCall, ...]:
    """Read the calls that a message of the role `function_call` has as JSON in its content."""
    if calls:
        what = "tool calls in a function_call message, expected them as JSON in its content"
        raise RecordError("conflict", path, what, fix='Write the role "assistant".')
    if text is None:
        return ()
    value = strict_json.decode(text.encode(), path)
    if not isinstance(value, list):
        return (_call(typed(value, _Call, path), path, mode),)
    if not value:
        raise RecordError(
            "tools", path, "an empty list, expected a call", fix="Remove the message."
        )
    calls_ = enumerate(typed(value, list[_Call], path))
    return tuple(_call(each, f"{path}[{i}]", mode) for i, each in calls_)


def _call(call: _Call, path: str, mode: _Mode) -> ToolCall:
    if call.type not in (None, "function"):
        what = f"a call of type {quoted(call.type)}, expected function"
        raise RecordError("tools", path, what, fix="Only function calls can be packed.")
    if call.function is None:
        return _function(call, path, call_id=call.id, mode=mode)
    if call.name is not None or call.arguments is not None:
        what = "both a function and a name or arguments beside it, expected one of the two"
        raise RecordError("conflict", path, what, fix="Remove name and arguments.")
    return _function(call.function, f"{path}.function", call_id=call.id, mode=mode)


def _function(function: _Function, path: str, *, call_id: str | None, mode: _Mode) -> ToolCall:
    if not function.name:
        raise RecordError("missing", path, "a call without a name", fix="Name the tool.")
    written = function.arguments
    if written is None:
        what = "a call without arguments"
        raise RecordError("missing", path, what, fix="Write {} where there are none.")
    if not isinstance(written, str):
        refuses = mode.null_keys and mode.reading.null_arguments == "refuse"
        if refuses and has_null_key(written):
            raise RecordError("null-arguments", f"{path}.arguments", _NULL, fix=_NULL_FIX)
        return ToolCall(function.name, written, None, call_id)
    return ToolCall(function.name, _object_in(written, f"{path}.arguments"), written, call_id)


_NULL = (
    "a null in arguments that the column holds as a struct, where null also stands for keys that "
    "another row has, expected arguments as they were written"
)
_NULL_FIX = (
    "Store arguments as JSON text, or pass --null-arguments drop to leave such keys out, or "
    "--null-arguments keep if each null was written."
)


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
