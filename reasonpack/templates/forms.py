"""The fields and forms in which a template reads a message, and a message written so.

Message("assistant", "Hi", "Greet.")  ──→  {"role": "assistant", "content": "Hi", "thinking": …}
"""

from __future__ import annotations

import json
from typing import Any

from msgspec import Struct

from reasonpack.records.message import Message
from reasonpack.records.tool_calls import ToolCall


class Forms(Struct, frozen=True):
    """The fields and forms that a template reads.

    Attributes:
        reasoning_fields: of a message, that hold its reasoning.
        inline: how reasoning is written into the content, where that is all that the
            template reads: with `{}` for the reasoning, e.g. `"<think>{}</think>"`.
        parts: it reads reasoning from a part of the content of type `thinking`.
        empty_content: what stands for no content beside tool calls: `""` or None.
        empty_as_written: in the history, a content `""` beside calls is handed over as that: the
            template writes an empty message of it.
        arguments_as_text: it wants tool arguments as JSON text, not as an object.
        inline_as_written: an answer with think tags in its content is handed over as the record
            has it: the template shows it so, or looks for the tags itself.
        name_in_ids: it shows the name of a tool only within the id of a call.
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
    """Write a message with the fields and in the forms that a template reads.

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
    """Return the content with its block of reasoning as the record has it, if it is handed over so.

    A tag that the template itself writes is left out.
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
    """Whether a template might take the beginning of an answer for reasoning."""
    return "</think>" in content and not content.lstrip().startswith("<think>")


def _dump_call(call: ToolCall, forms: Forms) -> dict[str, Any]:
    arguments: Any = call.arguments
    if forms.arguments_as_text:
        arguments = call.arguments_text or json.dumps(arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    identity = {} if call.id is None else {"id": call.id}
    return {**identity, "type": "function", "function": function}
