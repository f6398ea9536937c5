"""Fields of a message in which services put reasoning → `reasoning_content`.

    reasoning_details          OpenRouter   [{"type": "reasoning.text", "text": "Add."}]
    thinking_blocks            LiteLLM      [{"type": "thinking", "thinking": "Add."}]
    reasoning_items            LiteLLM      reasoning items of OpenAI's Responses
    provider_specific_fields   LiteLLM      any of these, or reasoning_content, inside

The same text in several of them is read once. Reasoning that is encrypted or only a summary is
refused; so are fields that cannot be followed: media, a mask of characters, a channel other than
final.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.draft import (
    MEDIA_FIELDS,
    REASONING,
    Draft,
    content_of,
    hidden,
    is_absent,
    is_answer,
    media,
    present,
    without,
)
from reasonpack.records.reasoning import repeats
from reasonpack.records.responses import reasoning_of_item
from reasonpack.records.strict_json import quoted
from reasonpack.records.value_types import typed


def _detail(block: Mapping[str, Any], path: str) -> Any:
    texts = {"reasoning.text": block.get("text"), "reasoning.summary": ""}
    return _of_type(block, path, texts, "reasoning.encrypted", "encrypted reasoning")


def _thinking(block: Mapping[str, Any], path: str) -> Any:
    texts = {"thinking": block.get("thinking")}
    return _of_type(block, path, texts, "redacted_thinking", "redacted thinking")


def _converse(block: Mapping[str, Any], path: str) -> Any:
    text = block.get("reasoningText")
    if isinstance(text, dict):
        return text.get("text")
    raise hidden(path, "a block without reasoningText")


def _of_type(
    block: Mapping[str, Any], path: str, texts: Mapping[str, Any], without: str, what: str
) -> Any:
    """Return the block's text, by its type in `texts`; refuse the type `without` and others."""
    kind = block.get("type")
    if isinstance(kind, str) and kind in texts:
        return texts[kind]
    if kind == without:
        raise hidden(path, what)
    named = "no type" if kind is None else f"type {quoted(str(kind))}"
    expected = f"{', '.join(texts)} or {without}"
    fix = "write the reasoning as the text of reasoning_content"
    raise RecordError("content", path, f"a block of {named}", expected, fix)


_BLOCKS: Mapping[str, Callable[[Mapping[str, Any], str], Any]] = {
    "reasoning_details": _detail,
    "thinking_blocks": _thinking,
    "reasoning_items": reasoning_of_item,
    "reasoningContentBlocks": _converse,
}
"""Fields that hold a list of reasoning blocks, each with a function that returns a block's text."""
_WRAPPER = "provider_specific_fields"
SIDE_FIELDS = frozenset((*_BLOCKS, *MEDIA_FIELDS, _WRAPPER, "channel", "train_detail"))
"""Fields of a message that `read_side_fields` reads or refuses."""


def read_side_fields(draft: Draft) -> Draft:
    """Move reasoning from the side fields of a message to `reasoning_content`; refuse the others.

    Raises:
        RecordError: media; reasoning without its text, or that differs from other reasoning of
            the message; a mask of characters; a channel other than final; a value of the wrong
            type.
    """
    message = draft.message
    if SIDE_FIELDS.isdisjoint(message):
        return draft
    _refuse(draft)
    left = without(message, (*_BLOCKS, *MEDIA_FIELDS, _WRAPPER, "train_detail"))
    if is_answer(message):
        left.pop("channel", None)
    found = dict(_texts(message, draft.path))
    if not is_absent(message.get(_WRAPPER)):
        path = draft.place(_WRAPPER)
        wrapped = typed(message[_WRAPPER], dict[str, Any], path)
        found |= {f"{path}.{name}": text for name, text in _plain(wrapped).items()}
        found |= _texts(wrapped, path)
        rest = without(wrapped, (*_BLOCKS, *_plain(wrapped)))
        if rest := {name: value for name, value in rest.items() if not is_absent(value)}:
            left[_WRAPPER] = rest
    if not found:
        return Draft(draft.source, draft.path, left, draft.places)
    said = content_of(message)
    written = {
        draft.place(name): text
        for name, text in _plain(message).items()
        if not (isinstance(said, str) and said and repeats(text, said, name=name))
    }
    (first, text), *others = (written | found).items()
    for path, other in others:
        if other != text:
            what, expected = f"differs from {first}", "the same reasoning in both"
            raise RecordError("conflict", path, what, expected, "keep one of the two")
    if written:
        return Draft(draft.source, draft.path, left, draft.places)
    left["reasoning_content"] = text
    return Draft(draft.source, draft.path, left, {**draft.places, "reasoning_content": first})


def _plain(fields: Mapping[str, Any]) -> dict[str, str]:
    named = {name: fields.get(name) for name in REASONING}
    return {name: text for name, text in named.items() if isinstance(text, str) and text}


def _texts(fields: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each field that holds reasoning blocks."""
    for name, read in _BLOCKS.items():
        if is_absent(fields.get(name)):
            continue
        at = f"{path}.{name}"
        blocks = typed(fields[name], list[dict[str, Any]], at)
        texts = [
            typed(read(block, f"{at}[{i}]"), str | None, f"{at}[{i}]") or ""
            for i, block in enumerate(blocks)
        ]
        if any(texts):
            yield at, "".join(texts)
        elif any(block.get("signature") or block.get("summary") for block in blocks):
            raise hidden(at, "summaries or signatures alone")


def _refuse(draft: Draft) -> None:
    message = draft.message
    for name in present(message, MEDIA_FIELDS):
        raise media(draft.place(name), f"{name} on a message")
    if not is_absent(message.get("train_detail")):
        what = "ranges of characters to train, which are not supported yet"
        fix = 'remove it, and write "train" for the whole message'
        raise RecordError("weight", draft.place("train_detail"), what, "none", fix)
    channel = message.get("channel")
    if not is_answer(message) or is_absent(channel):
        return
    if channel != "final" or not isinstance(content_of(message), str):
        what = f"a message of channel {quoted(str(channel))}"
        fix = (
            "write all channels of an answer as one message: analysis as reasoning_content, final "
        )
        fix += "as content, a call as one of tool_calls"
        raise RecordError("content", draft.place("channel"), what, "final with text, or none", fix)
