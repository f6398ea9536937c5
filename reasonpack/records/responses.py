"""Items of OpenAI's Responses in a list of messages → messages.

    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Add."}]}   ┐ one assistant
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", …}]}├ message
    {"type": "function_call", "name": "add", "arguments": "{}", "call_id": "c1"}     ┘
    {"type": "function_call_output", "call_id": "c1", "output": "4"}                  a tool message

One answer of the model is at most one reasoning item, then at most one message, then calls. Any
other order is refused, as no chat template can render it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.draft import (
    REASONING,
    Draft,
    agree,
    hidden,
    is_absent,
    is_answer,
    joined,
    made_call,
    present,
    without,
)
from reasonpack.records.strict_json import quoted
from reasonpack.records.value_types import typed

ITEM_FIELDS = {
    "reasoning": ("type", "id", "status", "summary", "content", "encrypted_content"),
    "function_call": ("type", "id", "status", "name", "arguments", "call_id"),
    "function_call_output": ("type", "id", "status", "call_id", "output"),
}
"""Fields of each type of item that are converted, or have no use in a message."""
BY_MODEL = ("reasoning", "function_call")
"""Types of items that only the model writes."""


def items_as_messages(drafts: Sequence[Draft], *, train: bool) -> list[Draft]:
    """Convert the items among `drafts` to messages; other messages stay as they are.

    `train` says whether a message without a flag is trained.

    Raises:
        RecordError: an item of unknown type; reasoning without its text; items of one answer in
            an order that cannot be rendered.
    """
    made: list[Draft] = []
    for by_model, group in groupby(drafts, key=_is_by_model):
        run = list(group)
        if by_model and any(_type(draft) in BY_MODEL for draft in run):
            made.append(_answer(run, train=train))
        else:
            made += map(_single, run)
    return made


def _type(draft: Draft) -> str | None:
    """Return the type of an item; None for a message, which has a role and no such type."""
    message = draft.message
    kind = message.get("type")
    if not isinstance(kind, str):
        return None
    if message.get("role") is None and message.get("from") is None:
        return kind
    return kind if kind == "message" else None


def _is_by_model(draft: Draft) -> bool:
    if _type(draft) in BY_MODEL:
        return True
    return is_answer(draft.message) and is_absent(draft.message.get("tool_calls"))


def is_by_model(item: Mapping[str, Any]) -> bool:
    """Return whether the model wrote an item or a message of a log."""
    return item.get("type") in BY_MODEL or is_answer(item)


def _single(draft: Draft) -> Draft:
    """Convert an item that is a message by itself."""
    kind, message = _type(draft), draft.message
    if kind is None:
        return draft
    if kind == "message":
        return Draft(draft.source, draft.path, _bare(message))
    if kind != "function_call_output":
        what = f"an item of type {quoted(kind)}"
        expected = "message, reasoning, function_call or function_call_output"
        fix = "write it as a message with a role, or remove the record"
        raise RecordError("role", f"{draft.path}.type", what, expected, fix)
    result = {"role": "tool", "tool_call_id": message.get("call_id")}
    result["content"] = "" if is_absent(message.get("output")) else message["output"]
    rest = without(message, ITEM_FIELDS[kind])
    return Draft(draft.source, draft.path, {**result, **rest}, {"content": f"{draft.path}.output"})


def _answer(run: Sequence[Draft], *, train: bool) -> Draft:
    """Join a run of items that the model wrote to one message."""
    answer = Draft(run[0].source, run[0].path, {"role": "assistant"})
    parts: list[Draft] = []
    for draft in run:
        kind = _type(draft) or "message"
        _check_order(draft, kind, [_type(part) or "message" for part in parts])
        parts.append(draft)
        _add(answer, draft, kind)
    agree(parts, train=train)
    return answer


def _check_order(draft: Draft, kind: str, before: Sequence[str]) -> None:
    """Refuse an item that cannot follow those of the types `before` in one answer."""
    if not before or kind == "function_call":
        return
    own = present(draft.message, REASONING)
    if kind == "message" and list(before) == ["reasoning"] and not own:
        return
    what = f"a {kind} item after a {before[-1]} item in one answer"
    expected = "at most one reasoning item, then at most one message, then function calls"
    fix = "write chat messages in place of the items: one for each answer of the model"
    raise RecordError("content", draft.path, what, expected, fix)


def _add(answer: Draft, draft: Draft, kind: str) -> None:
    item, at = draft.message, draft.path
    if kind == "message":
        answer.message |= _there(_bare(item))
        answer.places |= {name: f"{at}.{name}" for name in item}
        return
    rest = _there(without(item, ITEM_FIELDS[kind]))
    answer.message = {**_ended(item), **rest, **answer.message}
    if kind == "reasoning":
        answer.message["reasoning_content"] = reasoning_of_item(item, at)
        return
    calls = typed(answer.message.get("tool_calls", []), list[Any], f"{at}.tool_calls")
    name = f"tool_calls[{len(calls)}]"
    answer.places |= {name: at, f"{name}.function": at}
    call_id = item.get("id") if is_absent(item.get("call_id")) else item["call_id"]
    made = made_call(call_id, item.get("name"), item.get("arguments"))
    answer.message["tool_calls"] = [*calls, made]


def _there(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an item adds to its answer: fields that do not count as absent, and its text."""
    text = ("content", "value")
    return {name: one for name, one in fields.items() if name in text or not is_absent(one)}


def _bare(item: Mapping[str, Any]) -> dict[str, Any]:
    text = {"content": ""} if item.get("content") == [] else {}
    return without(item, ("type", "status")) | _ended(item) | text


def _ended(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `status` of an item, which says how it ended; {} if the model completed it."""
    status = item.get("status")
    return {} if status in (None, "completed") else {"status": status}


def reasoning_of_item(item: Mapping[str, Any], path: str) -> str:
    """Return the text of a reasoning item.

    Raises:
        RecordError: reason `hidden-reasoning`, if it has none.

    >>> reasoning_of_item({"content": [{"type": "reasoning_text", "text": "Add."}]}, "x")
    'Add.'
    """
    text = joined(item.get("content") or [], f"{path}.content", ("reasoning_text", "text"))
    if text:
        return text
    has = present(item, ("encrypted_content", "summary"))
    fix = (
        'write the text as "content": [{"type": "reasoning_text", "text": …}], also where the '
        'summary is all of it; or remove the item and set "train": false on the rest of the answer'
    )
    raise hidden(path, f"a reasoning item with {' and '.join(has) or 'no content'} alone", fix=fix)
