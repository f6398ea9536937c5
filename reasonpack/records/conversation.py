"""A record of chat, in any of the field's dialects → one `Conversation`.

    {"id": 7, "conversations": [{"from": "human", "value": "2+2?"},
                                {"from": "gpt",   "value": "<think>easy</think>4"}]}
                                          ↓
    Conversation("7", "chats.jsonl:1", (Message("user", "2+2?"),
                                        Message("assistant", "4", reasoning="easy")))

`schemas/record.schema.json` says what a record may look like; `message` reads
its messages. Fields of the record with no meaning here are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.message import Message, ToolCall, read_messages
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.strict_json import quoted, typed, wrong_type

__all__ = ["REASONS", "Conversation", "Message", "ToolCall", "parse_line", "parse_record"]

REASONS: Mapping[str, str] = {
    "json": "not JSON, or nothing that can be read exactly",
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
    "weight": "a weight other than 0 and 1, or a flag for parts of a message",
    "empty": "a conversation without messages",
    "no-assistant": "no assistant message, so nothing to train",
    "no-prompt": "a trained assistant message with nothing before it",
    "size": "a line longer than any conversation",
}
"""The reason codes of the `RecordError`s raised here, with what each means."""
LARGEST = 1 << 27
"""Bytes of the longest line that is read; to render it takes some ten times that."""

_LISTS = ("messages", "conversations", "conversation")
_FIELDS = (
    *(*_LISTS, "prompt", "completion"),
    *("id", "system", "tools", "functions", "chat_template_kwargs", "enable_thinking"),
)
_CALL_ARGUMENTS = re.compile(
    r"(messages|conversations?|prompt|completion)\[\d+\]"
    r"\.(tool_calls\[\d+\](\.function)?|function_call)\.arguments"
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """One record of the input.

    Attributes:
        id: the record's own id as text, else `where`.
        where: `file:line`, for messages to people.
        messages: at least one, and at least one of the assistant.
        tools: as the template takes them; None where the record has none.
        template_kwargs: variables that the record sets for its chat template.
        sources: the index in the record of the message that each was read from; empty where
            message i is the record's message i. Messages of `prompt` come before those of
            `completion`, and a text in `system` that was put before all of them counts as one.
        notes: what was noticed and not refused, with how often; the keys are for programs.
    """

    id: str
    where: str
    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[int, ...] = ()
    notes: Mapping[str, int] = field(default_factory=dict)


def parse_line(line: bytes, where: str, *, reading: Reading = DEFAULT) -> Conversation:
    r"""Read one line of JSON.

    Raises:
        RecordError: with one of `REASONS`, the path in the record, and `where`.

    >>> line = rb'{"prompt": "2+2?", "completion": "<think>\neasy\n</think>\n\n4"}'
    >>> parse_line(line, "chats.jsonl:1").messages[1]
    Message(role='assistant', content='4', reasoning='easy', tool_calls=(), train=True, extra={})
    """
    if len(line) > LARGEST:
        what = f"a line of {len(line):,} bytes, expected at most {LARGEST:,}"
        raise RecordError("size", "", what, fix="Leave it out.", where=where)
    return _read(lambda: strict_json.decode(line), where, reading)


def parse_record(
    record: object, where: str, *, null_keys: bool = False, reading: Reading = DEFAULT
) -> Conversation:
    """Read one decoded row.

    `null_keys` is for rows from Parquet, where each object of a column has the keys of all
    others: a key whose value is null is left out, but not in the arguments of a tool call.

    Raises:
        RecordError: with one of `REASONS`, the path in the record, and `where`.

    >>> row = {"id": 7, "messages": [{"role": "user", "content": "2+2?", "name": None},
    ...                              {"role": "assistant", "content": "4"}]}
    >>> parse_record(row, "chats.parquet:1", null_keys=True).messages[0]
    Message(role='user', content='2+2?', reasoning=None, tool_calls=(), train=True, extra={})
    """
    if not isinstance(record, dict):
        return _read(lambda: record, where, reading)
    fields = {name: record[name] for name in _FIELDS if name in record}

    def decode() -> object:
        strict_json.count_keys(fields)  # refuses what is nested too deeply to be copied
        plain = strict_json.plain(fields, "", null_keys=null_keys, keep=_CALL_ARGUMENTS)
        return {**record, **plain}

    return _read(decode, where, reading)


def _read(decode: Callable[[], object], where: str, reading: Reading) -> Conversation:
    try:
        return _conversation(decode(), where, reading)
    except RecordError as error:
        error.where = where
        raise


def _conversation(record: object, where: str, reading: Reading) -> Conversation:
    if not isinstance(record, dict):
        raise wrong_type("", type(record).__name__, "an object")
    container = _container(record)
    read, sources = _messages(record, container, reading)
    messages = _with_system(record, read)
    if sources and len(messages) > len(read):
        sources = (0, *(index + 1 for index in sources))
    _check(messages, container)
    own_id = typed(record.get("id"), str | int | None, "id")
    return Conversation(
        id=where if own_id in (None, "") else str(own_id),
        where=where,
        messages=tuple(messages),
        tools=_tools(record),
        template_kwargs=_template_kwargs(record),
        sources=sources,
    )


# ------------------------------------------------------------------- messages


def _container(record: dict[str, Any]) -> str:
    """Name the field that holds the answers: a list of messages, or `completion`."""
    found = [name for name in (*_LISTS, "completion") if record.get(name) is not None]
    if len(found) > 1:
        what = f"{' and '.join(found)}, expected one of them"
        raise RecordError("conflict", "", what, fix="Keep the one to train on.")
    if not found:
        what = f"no messages among the fields {quoted(', '.join(map(str, record)))}"
        fix = "Write messages, conversations, conversation, or prompt and completion."
        raise RecordError("missing", "", what, fix=fix)
    return found[0]


def _messages(record: dict[str, Any], container: str, reading: Reading) -> _Read:
    if container != "completion":
        return read_messages(record[container], container, reading=reading)
    prompt, completion = record.get("prompt"), record["completion"]
    if prompt is None:
        what = "completion without prompt"
        raise RecordError("missing", "", what, fix="Write the prompt beside it.")
    asked, from_prompt = _text_or_messages(
        prompt, "prompt", role="user", train=False, reading=reading
    )
    said, from_completion = _text_or_messages(
        completion, "completion", role="assistant", train=True, reading=reading
    )
    if not from_prompt and not from_completion:
        return [*asked, *said], ()
    first = len(prompt) if isinstance(prompt, list) else 1
    sources = (
        *(from_prompt or range(len(asked))),
        *(first + index for index in from_completion or range(len(said))),
    )
    return [*asked, *said], sources


_Read = tuple[list[Message], tuple[int, ...]]
"""Messages, and the index of the source of each; see `Conversation.sources`."""


def _text_or_messages(
    value: object, path: str, *, role: str, train: bool, reading: Reading
) -> _Read:
    """Read a prompt or completion; `train` holds for messages that do not say it themselves."""
    if isinstance(value, list):
        return read_messages(value, path, train=train, reading=reading)
    if not isinstance(value, str):
        raise wrong_type(path, type(value).__name__, "a string or a list")
    try:
        return read_messages([{"role": role, "content": value}], path, train=train, reading=reading)
    except RecordError as error:
        error.path = path
        raise


def _with_system(record: dict[str, Any], messages: list[Message]) -> list[Message]:
    system = typed(record.get("system"), str | None, "system")
    if not system:
        return messages
    if not messages or messages[0].role != "system":
        return [Message("system", system), *messages]
    if messages[0].content != system:
        what = "differs from the first message, which is a system message too, expected the same"
        raise RecordError("conflict", "system", what, fix="Keep one of the two.")
    return messages


def _check(messages: list[Message], container: str) -> None:
    if not messages:
        what = "no messages, expected a user and an assistant message"
        raise RecordError("empty", container, what, fix="Remove the record, or add messages.")
    if all(message.role != "assistant" for message in messages):
        what = "no assistant message, expected at least one to train on"
        raise RecordError("no-assistant", container, what, fix="Remove the record, or add one.")
    if messages[0].role == "assistant" and messages[0].train:
        what = "an assistant message, expected a message before it that the model answers"
        fix = 'Put a user message before it, or set "train": false on it.'
        raise RecordError("no-prompt", f"{container}[0]", what, fix=fix)


# -------------------------------------------------- tools and template variables


def _tools(record: dict[str, Any]) -> tuple[Any, ...] | None:
    """Read `tools` and `functions`, the older form; an empty list is none at all."""
    tools = _tool_list(record, "tools")
    functions = [
        tool if "function" in tool else {"type": "function", "function": tool}
        for tool in _tool_list(record, "functions")
    ]
    if tools and functions and tools != functions:
        what = "tools and functions differ, expected one of them or the same in both"
        raise RecordError("conflict", "functions", what, fix="Remove functions.")
    return tuple(tools or functions) or None


def _tool_list(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tools = _json_field(record, name)
    if not isinstance(tools, list | None):
        raise wrong_type(name, type(tools).__name__, "a list of tools")
    for i, tool in enumerate(tools or ()):
        if not isinstance(tool, dict):
            raise wrong_type(f"{name}[{i}]", type(tool).__name__, "an object")
    return tools or []


def _template_kwargs(record: dict[str, Any]) -> dict[str, Any]:
    name = "chat_template_kwargs"
    kwargs = _json_field(record, name)
    if not isinstance(kwargs, dict | None):
        raise wrong_type(name, type(kwargs).__name__, "an object")
    thinking = typed(record.get("enable_thinking"), bool | None, "enable_thinking")
    kwargs = kwargs or {}
    if thinking is None:
        return kwargs
    if kwargs.get("enable_thinking", thinking) is not thinking:
        what = f"differs from {name}.enable_thinking, expected the same"
        raise RecordError("conflict", "enable_thinking", what, fix="Keep one of the two.")
    return {**kwargs, "enable_thinking": thinking}


def _json_field(record: dict[str, Any], name: str) -> Any:
    """Return a field that holds a value or the JSON text of one; an empty text is none."""
    value = record.get(name)
    if not isinstance(value, str):
        return value
    return strict_json.decode(value.encode(), name) if value.strip() else None
