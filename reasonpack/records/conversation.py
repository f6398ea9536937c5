"""A record of a chat, in any known dialect → one `Conversation`.

    {"id": 7, "conversations": [{"from": "human", "value": "2+2?"},
                                {"from": "gpt",   "value": "<think>easy</think>4"}]}
                                          ↓
    Conversation("7", (Message("user", "2+2?"),
                       Message("assistant", "4", reasoning="easy")))

`schemas/record.schema.json` says what a record may look like. `message` reads
its messages, and `unread` checks the fields that nothing reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.draft import MEDIA_FIELDS, REASONING, is_absent, joined, present
from reasonpack.records.flags import read_record_weight, weights_of
from reasonpack.records.last_answer import (
    OF_THE_END,
    failure_of,
    with_answer,
    without_ignored,
)
from reasonpack.records.message import Message, ReadMessages, read_messages
from reasonpack.records.no_messages import answer_fix, no_messages
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.renaming import renamed
from reasonpack.records.row_files import plain
from reasonpack.records.tool_calls import ARGUMENTS, contradictions
from reasonpack.records.tools import TOOL_FIELDS, json_field, read_tools
from reasonpack.records.unknown import Field, UnknownFieldError, sorted_out
from reasonpack.records.unread_fields import refuse_whole, unread_in_record
from reasonpack.records.value_types import typed, wrong_type

REASONS: Mapping[str, str] = {
    "json": "not JSON, or JSON that cannot be read exactly",
    "encoding": "not UTF-8, a byte order mark, or half a character",
    "duplicate-key": "an object with the same key twice",
    "type": "a value of another type than its field has",
    "missing": "a field that has to be there is not",
    "conflict": "two fields contradict each other",
    "role": "an unknown role, or a field that messages of this role cannot have",
    "content": "content that is no text or cannot be shown, or a think tag that is never closed",
    "hidden-reasoning": "reasoning without its text: encrypted, redacted, or a summary",
    "media": "an image, audio, video or file; only text can be packed",
    "tools": "a tool call, or a list of tools, in no known form",
    "weight": "a weight that cannot be written, or a flag for parts of a message",
    "empty": "a conversation without messages",
    "no-assistant": "no assistant message, so nothing to train",
    "no-prompt": "a trained assistant message with nothing before it",
    "size": "a line longer than any conversation",
    "closing-tag": "a </think> that may end reasoning or be part of the answer",
    "null-arguments": "a null in tool arguments that Parquet holds as a struct",
    "unknown-field": "a field that nobody reads, and that may hold what the model is to learn",
}
"""The reasons of the `RecordError`s that reading a record raises, with their meanings."""

_LISTS = ("messages", "conversations", "conversation")
_FIELDS = (
    *(*_LISTS, "prompt", "completion"),
    *("id", "system", *TOOL_FIELDS, "chat_template_kwargs", "enable_thinking", *MEDIA_FIELDS),
)
READ = frozenset(_FIELDS)
"""Names of the fields of a record that are read."""
_KNOWN = READ | OF_THE_END
_CALL_ARGUMENTS = re.compile(
    r"(messages|conversations?|prompt|completion)\[\d+\]"
    r"(\.tool_calls\[\d+\](\.function)?|\.function_call)?"
    rf"(\.({'|'.join(ARGUMENTS)})|\.(content|value)\[\d+\]\.input)"
)


class Conversation(Struct, frozen=True):
    """One record of the input.

    Attributes:
        id: the record's own id as text, else `file:line`.
        messages: at least one of them is an assistant message.
        tools: in the form that chat templates take; None if the record has none.
        template_kwargs: variables that the record sets for its chat template.
        sources: for each message, the index in the record of the message it was read from; empty
            if message i is the record's message i. Those of `prompt` count before those of
            `completion`; a text in `system` that was put before them counts as the first.
        notes: oddities that were noticed and not refused, with how often each was.
        weight: of the whole record in the loss.
    """

    id: str
    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[int, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)
    weight: float = 1.0


def parse_line(line: bytes, where: str, *, reading: Reading = DEFAULT) -> Conversation:
    r"""Read the conversation in one line of JSON.

    Raises:
        RecordError: with one of `REASONS`, the path in the record, and `where`.

    >>> line = rb'{"prompt": "2+2?", "completion": "<think>\neasy\n</think>\n\n4"}'
    >>> parse_line(line, "chats.jsonl:1").messages[1].reasoning
    'easy'
    """
    return _read(lambda: strict_json.decode_line(line), where, reading)


def parse_row(row: dict[str, Any], where: str, *, reading: Reading = DEFAULT) -> Conversation:
    """Read the conversation in one row of Parquet or Arrow.

    Objects of a column have the keys of all others, as null: a key whose value is null is left
    out. In the arguments of a tool call it is left out only if `null_arguments` is `drop`.

    Raises:
        RecordError: with one of `REASONS`, the path in the record, and `where`.

    >>> row = {"id": 7, "messages": [{"role": "user", "content": "2+2?", "name": None},
    ...                              {"role": "assistant", "content": "4"}]}
    >>> parse_row(row, "chats.parquet:1").messages[0].extra
    {}
    """
    reading = replace(reading, of_rows=True)
    fields = {name: row[name] for name in _FIELDS if name in row}

    def decode() -> object:
        return {**row, **plain(fields, reading.null_arguments, _CALL_ARGUMENTS)}

    return _read(decode, where, reading)


def _read(decode: Callable[[], object], where: str, reading: Reading) -> Conversation:
    try:
        return conversation_of(decode(), where, reading)
    except RecordError as error:
        error.where = where
        raise


def conversation_of(
    record: object,
    where: str,
    reading: Reading,
    *,
    read_list: Callable[..., ReadMessages] = read_messages,
    notes_messages: bool = True,
) -> Conversation:
    """Read a record that was decoded strictly; `read_list` reads its lists of messages.

    Without `notes_messages`, its notes leave out those on messages.

    Raises:
        RecordError: with one of `REASONS` and the path in the record, without `where`.
    """
    if not isinstance(record, dict):
        fix = 'write {"messages": […]}, or another record of schemas/record.schema.json'
        raise wrong_type("", type(record).__name__, "an object", fix=fix)
    notes: tuple[str, ...] = ()
    if reading.renamed:
        record, notes = renamed(record, reading.renamed, "", known=READ | OF_THE_END | {*REASONING})
    refuse_whole(record, reading.ignored)
    notes += tuple(f"left-out record.{name}" for name in present(record, MEDIA_FIELDS))
    if reading.ignored:
        record, left = without_ignored(record, reading.ignored, "record.")
        notes += (*left,)
    if failure := failure_of(record):
        raise failure
    container = _container(record)
    text = record[container]
    if container in _LISTS and isinstance(text, str) and text.lstrip().startswith("["):
        # A list stored as JSON text has only the nulls that were written, none from a struct.
        record = {**record, container: json_field(record, container)}
        reading = replace(reading, of_rows=False)
    read = _read_all(record, container, reading, partial(read_list, reading=reading))
    messages = _with_system(record, read.messages)
    sources = read.sources
    if sources and len(messages) > len(read.messages):
        sources = (0, *(index + 1 for index in sources))
    _check(messages, container, record)
    own_id, tools = typed(record.get("id"), str | int | None, "id"), read_tools(record)
    return Conversation(
        id=where if own_id in (None, "") else str(own_id),
        messages=tuple(messages),
        tools=tools,
        template_kwargs=_template_kwargs(record),
        sources=sources,
        notes=_notes(messages if notes_messages else (), tools, (*notes, *read.notes)),
        weight=read_record_weight(record, weighs=reading.weighs),
    )


def _read_all(
    record: dict[str, Any], container: str, reading: Reading, read_list: Callable[..., ReadMessages]
) -> ReadMessages:
    """Read the messages, and check the fields of the record and its messages that nothing reads.

    Raises:
        UnknownFieldError: all those of them that may hold what the model is to learn.
        RecordError: the messages cannot be read.
    """
    record, used = with_answer(record, container)
    known = _KNOWN.union(used, weights_of(record))
    ignored = reading.ignored
    found = unread_in_record(record, read=known, container=container, ignored=ignored)
    refused, notes = sorted_out(found, ignored)
    try:
        read = _messages(record, container, read_list)
    except UnknownFieldError as error:
        raise UnknownFieldError([*refused, *error.fields]) from None
    except RecordError:
        if not refused:
            raise
    if refused:
        raise UnknownFieldError(refused)
    return ReadMessages(read.messages, read.sources, (*notes, *read.notes))


def _notes(
    messages: Sequence[Message], tools: Sequence[Any] | None, notes: Iterable[str]
) -> dict[str, int]:
    found = [*(note for message in messages for note in message.noticed), *notes]
    if tools:
        calls = (call for message in messages for call in message.tool_calls)
        found += (f"argument-type {each}" for each in contradictions(calls, tools))
        kinds = [tool.get("type") for tool in tools if "function" not in tool]
        others = (kind for kind in kinds if isinstance(kind, str) and kind != "function")
        found += (f"built-in-tool {kind}" for kind in others)
        found += ("bare-tool" for kind in kinds if kind is None)
    elif any(message.tool_calls for message in messages):
        found.append("no-tools")
    return dict(Counter(found))


# ------------------------------------------------------------------- messages


def _container(record: dict[str, Any]) -> str:
    """Return the name of the field that holds the answers: one of `_LISTS`, or `completion`."""
    found = present(record, _LISTS)
    if record.get("completion") is not None:
        found.append("completion")
    found = found or [name for name in _LISTS if record.get(name) is not None][:1]
    if len(found) > 1:
        what, fix = " and ".join(found), "keep the one to train on"
        raise RecordError("conflict", "", what, "one of them", fix)
    if not found:
        raise no_messages(record, (*_LISTS, "completion"))
    return found[0]


def _messages(
    record: dict[str, Any], container: str, read_list: Callable[..., ReadMessages]
) -> ReadMessages:
    if container != "completion":
        return read_list(record[container], container)
    prompt, completion = record.get("prompt"), record["completion"]
    if prompt is None:
        what = "completion without prompt"
        raise RecordError("missing", "", what, "both", "write the prompt, too")
    read: list[ReadMessages] = []
    missed: list[Field] = []
    for value, path, role in (prompt, "prompt", "user"), (completion, "completion", "assistant"):
        # Messages of a prompt are context, unless a flag of their own says otherwise.
        read_part = partial(read_list, train=path == container)
        try:
            read.append(_text_or_messages(value, path, role=role, read_list=read_part))
        except UnknownFieldError as error:
            missed += error.fields
    if missed:
        raise UnknownFieldError(missed)
    asked, said = read
    messages, notes = [*asked.messages, *said.messages], (*asked.notes, *said.notes)
    if not asked.sources and not said.sources:
        return ReadMessages(messages, (), notes)
    first = len(prompt) if isinstance(prompt, list) else 1
    sources = [*(asked.sources or range(len(asked.messages)))]
    sources += [first + index for index in said.sources or range(len(said.messages))]
    return ReadMessages(messages, tuple(sources), notes)


def _text_or_messages(
    value: object, path: str, *, role: str, read_list: Callable[..., ReadMessages]
) -> ReadMessages:
    if isinstance(value, list):
        return read_list(value, path)
    if not isinstance(value, str):
        raise wrong_type(path, type(value).__name__, "a string or a list")
    try:
        return read_list([{"role": role, "content": value}], path)
    except RecordError as error:
        error.path = path
        raise


def _with_system(record: dict[str, Any], messages: list[Message]) -> list[Message]:
    system = record.get("system")
    if is_absent(system):
        return messages
    if isinstance(system, list):
        system = joined(system, "system", ("text", "input_text"))
    system = typed(system, str, "system")
    if not messages or messages[0].role != "system":
        return [Message("system", system), *messages]
    if messages[0].content != system:
        what = "differs from the first message, which is a system message too"
        raise RecordError("conflict", "system", what, "the same", "keep one of the two")
    return messages


def _check(messages: list[Message], container: str, record: Mapping[str, Any]) -> None:
    if not messages:
        fix = "remove the record, or add messages"
        raise RecordError("empty", container, "no messages", "a user and an assistant message", fix)
    if all(message.role != "assistant" for message in messages):
        what = "no assistant message"
        fix = f"{answer_fix(record)}remove the record, or add one"
        raise RecordError("no-assistant", container, what, "at least one to train on", fix)
    if messages[0].role == "assistant" and messages[0].train:
        what, expected = "an assistant message", "a message before it that the model answers"
        fix = 'put a user message before it, or set "train": false on it'
        raise RecordError("no-prompt", f"{container}[0]", what, expected, fix)


# --------------------------------------------------------- template variables


def _template_kwargs(record: dict[str, Any]) -> dict[str, Any]:
    name = "chat_template_kwargs"
    kwargs = None if is_absent(record.get(name)) else json_field(record, name)
    if not isinstance(kwargs, dict | None):
        raise wrong_type(name, type(kwargs).__name__, "an object")
    kwargs = kwargs or {}
    if is_absent(record.get("enable_thinking")):
        return kwargs
    thinking = typed(record["enable_thinking"], bool, "enable_thinking")
    if kwargs.get("enable_thinking", thinking) is not thinking:
        what = f"differs from {name}.enable_thinking"
        raise RecordError("conflict", "enable_thinking", what, "the same", "keep one of the two")
    return {**kwargs, "enable_thinking": thinking}
