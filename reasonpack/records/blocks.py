"""Typed blocks in the content of a message → plain parts, tool_calls and tool messages.

    content of an answer                              the message
    {"type": "thinking", "thinking": "Add."}          a thinking part
    {"type": "output_text", "text": "So:"}            a text part
    {"type": "tool_use", "id": …, "name": …, …}       one of tool_calls

    content of a user message
    {"type": "tool_result", "tool_use_id": …, …}      a tool message before it

An order of blocks that no chat template can render is refused.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.draft import (
    Draft,
    content_of,
    hidden,
    is_absent,
    joined,
    known_role,
    made_call,
    media,
    present,
    without,
)

_TEXT = ("text", "input_text", "output_text")
_REASONING = ("thinking", "reasoning", "reasoning_text")
_PLAIN = ("text", "thinking", "reasoning")
_MEDIA = (
    *("image", "image_url", "image_file", "input_image", "output_image"),
    *("audio", "audio_url", "input_audio", "output_audio"),
    *("video", "video_url", "input_video", "file", "input_file", "document", "document_url"),
)
"""Types of parts that are not text."""
_BY_MODEL = {"type": "direct"}
"""The `caller` of an Anthropic call that the model made itself, not code that it wrote."""


# ------------------------------------------------------------ in the content


def has_blocks(content: object) -> bool:
    """Return whether content has parts that are neither plain text nor plain reasoning.

    >>> has_blocks([{"type": "text", "text": "4"}]), has_blocks([{"type": "tool_use"}])
    (False, True)
    """
    return type(content) is list and any(
        type(part) is dict
        and (
            part.get("type") not in _PLAIN
            or type(part.get("thinking")) is list
            or "closed" in part
            or "signature" in part
        )
        for part in content
    )


def read_blocks(draft: Draft) -> list[Draft]:
    """Convert the blocks in a message's content to plain parts, tool_calls and tool messages.

    Returns the tool messages, then the message itself unless it held only results. Parts of an
    unknown type stay as they are; the reader of messages refuses them.

    Raises:
        RecordError: media; reasoning without its text; an order that no template can render;
            tool_use blocks beside tool_calls.
    """
    message = draft.message
    name = "content" if has_blocks(message.get("content")) else "value"
    if not has_blocks(message.get(name)):
        return [draft]
    parts: list[Any] = []
    calls: list[dict[str, Any]] = []
    results: list[Draft] = []
    places = dict(draft.places)
    for i, block in enumerate(message[name]):
        at = f"{draft.place(name)}[{i}]"
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "tool_use":
            call = f"tool_calls[{len(calls)}]"
            inside = f"{call}.function"
            places |= {call: at, inside: at, f"{inside}.arguments": f"{at}.input"}
            calls.append(_call(block))
        elif kind == "tool_result":
            _check_result(draft, parts, at)
            results += _result(block, draft.source, at)
        else:
            places[f"{name}[{len(parts)}]"] = at
            parts.append(_part(block, kind, at))
            if calls and _has_text(parts[-1]):
                fix = "put it before the call; or split the message in two here, if the model "
                fix += "wrote it after it had seen the result"
                raise RecordError("content", at, f"a {kind} part after a call", "calls last", fix)
    if not parts and not calls and results:
        rest = without(message, ("role", "from", name))
        return [replace(result, message=rest | result.message) for result in results]
    changed: dict[str, Any] = {name: parts}
    if calls:
        if not is_absent(message.get("tool_calls")):
            what = "tool_calls and tool_use parts"
            raise RecordError("conflict", draft.path, what, "the calls once", "keep one of the two")
        changed["tool_calls"] = calls
    if any(isinstance(block, dict) and block.get("closed") is False for block in message[name]):
        changed["finish_reason"] = "length"
    return [*results, Draft(draft.source, draft.path, message | changed, places)]


def _call(block: dict[str, Any]) -> dict[str, Any]:
    """Convert a tool_use block to one of tool_calls."""
    own = ("type", "id", "name", "input", "caller" if block.get("caller") == _BY_MODEL else "")
    return made_call(*map(block.get, ("id", "name", "input"))) | without(block, own)


def refuse_media(messages: object, path: str) -> None:
    """Refuse images, audio and video in the list of messages at `path`, which nothing reads.

    Raises:
        RecordError: reason `media`.
    """
    for i, message in enumerate(messages if isinstance(messages, list) else ()):
        parts = content_of(message) if isinstance(message, dict) else None
        for k, part in enumerate(parts if isinstance(parts, list) else ()):
            if isinstance(part, dict) and part.get("type") in _MEDIA:
                raise media(f"{path}[{i}].content[{k}]", f"a part of type {part['type']}")


def _part(block: Any, kind: object, path: str) -> Any:
    """Convert a block to a plain text or thinking part; one of unknown type stays as it is."""
    if kind in _MEDIA:
        raise media(path, f"a part of type {kind}")
    if kind == "redacted_thinking":
        raise hidden(path, "a redacted_thinking part")
    if kind in _TEXT:
        return {**block, "type": "text"}
    if kind not in _REASONING:
        return block
    part = without(block, ("type", "signature", "closed"))
    if isinstance(part.get("thinking"), list):
        part["thinking"] = joined(part["thinking"], f"{path}.thinking", _TEXT)
    if block.get("signature") and not _has_text(part):
        raise hidden(path, f"a {kind} part with a signature alone")
    return {"type": "thinking", **part}


def _has_text(part: Any) -> bool:
    return isinstance(part, dict) and bool(present(part, ("text", "thinking", "reasoning")))


def _check_result(draft: Draft, before: list[Any], path: str) -> None:
    said = draft.message.get("role") or draft.message.get("from")
    key = "from" if draft.message.get("from") else "role"
    if known_role(said, draft.path, key=key) == "assistant":
        what, expected = "a tool_result part on an assistant message", "it on a user message"
        raise RecordError("role", path, what, expected, "write it in a user message after this one")
    if any(map(_has_text, before)):
        what = "a tool_result part after text"
        raise RecordError("content", path, what, "results first", "put the results before the text")


def _result(block: dict[str, Any], source: int, path: str) -> list[Draft]:
    """Convert a tool_result block to a tool message, and the blocks in its content."""
    content = block.get("content")
    message = {
        "role": "tool",
        "tool_call_id": block.get("tool_use_id"),
        "content": "" if is_absent(content) else content,
        **without(block, ("type", "tool_use_id", "content")),
    }
    return read_blocks(Draft(source, path, message, {"tool_call_id": f"{path}.tool_use_id"}))
