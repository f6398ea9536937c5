"""Which message fields a template reads, and messages written as dicts with these fields.

Message("assistant", "Hi", "Greet.")  ──→  {"role": "assistant", "content": "Hi", "thinking": …}
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from reasonpack.records.message import Message
from reasonpack.records.tool_calls import ToolCall


class Forms(Struct, frozen=True):
    """The message fields that a template reads, and their forms.

    Attributes:
        reasoning_fields: message fields from which the template reads reasoning.
        inline: if the template reads reasoning only from the content: how to write it there,
            with `{}` for the reasoning, e.g. `"<think>{}</think>"`; else empty.
        parts: whether the template reads reasoning from a content part of type `thinking`.
        empty_content: the content to pass for a message with tool calls only: `""` or None.
        empty_as_written: whether a recorded content `""` of a message with calls is passed as
            `""` in the history: the template writes an empty message for it.
        arguments_as_text: whether tool arguments are passed as JSON text, not as an object.
        inline_as_written: whether an answer with think tags in its content is passed as recorded,
            because the template shows it unchanged or looks for the tags itself.
        name_in_ids: whether the template shows a tool's name only as part of a call's id.
    """

    reasoning_fields: tuple[str, ...] = ()
    inline: str = ""
    parts: bool = False
    empty_content: str | None = ""
    empty_as_written: bool = False
    arguments_as_text: bool = False
    inline_as_written: bool = False
    name_in_ids: bool = False


def dump_message(message: Message, forms: Forms) -> dict[str, Any]:
    """Return a message as the dict that a template with these `forms` reads.

    >>> dump_message(Message("assistant", "Hi", "Greet."), Forms(("thinking",)))
    {'role': 'assistant', 'content': 'Hi', 'thinking': 'Greet.'}
    """
    dumped: dict[str, Any] = {"role": message.role, **message.extra}
    dumped["content"] = message.content or ""
    kept = forms.empty_as_written and message.content is not None
    if message.tool_calls and not message.content and not kept:
        dumped["content"] = forms.empty_content
    written = as_written(message, forms)
    if written is not None:
        dumped["content"] = written
    elif message.reasoning and forms.parts:
        dumped["content"] = [{"type": "thinking", "thinking": message.reasoning}]
        if message.content:
            dumped["content"].append({"type": "text", "text": message.content})
    elif message.reasoning and forms.inline:
        before, _, after = forms.inline.partition("{}")
        dumped["content"] = before + message.reasoning + after + (message.content or "")
    elif message.reasoning:
        dumped.update(dict.fromkeys(forms.reasoning_fields, message.reasoning))
    elif message.role == "assistant" and _is_tag_in_text(message.content or ""):
        dumped.update(dict.fromkeys(forms.reasoning_fields, ""))
    if message.tool_calls:
        dumped["tool_calls"] = [_dump_call(call, forms) for call in message.tool_calls]
    return dumped


def as_written(message: Message, forms: Forms) -> str | None:
    """Return the recorded content including its reasoning block, or None if it is not passed so.

    A `<think>` tag that the template itself writes is left out.
    """
    if message.verbatim is None or not forms.inline_as_written:
        return None
    if not forms.inline.startswith("{}"):
        return message.verbatim
    text = message.verbatim.lstrip()
    if not text.startswith("<think>"):
        return message.verbatim
    return text.removeprefix("<think>").removeprefix("\n")


def _is_tag_in_text(content: str) -> bool:
    """Return whether a template might mistake the beginning of `content` for reasoning."""
    return "</think>" in content and not content.lstrip().startswith("<think>")


def _dump_call(call: ToolCall, forms: Forms) -> dict[str, Any]:
    arguments: Any = call.arguments
    if forms.arguments_as_text:
        arguments = call.arguments_text or json.dumps(arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    identity = {} if call.id is None else {"id": call.id}
    return {**identity, "type": "function", "function": function}
