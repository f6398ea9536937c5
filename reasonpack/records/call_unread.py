"""The fields of a call, of its request and of its response that nobody reads.

The rule is that of a record (see `unknown`), and one more: a list of numbers that nobody reads
may be ids, a mask or weights, so it is refused under any name.

    {"prompt_token_ids": […], "step_weights": [0.5, 1]}     refused
    {"messages": […], "score": 3}                           named, once
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from reasonpack.records.call_draft import CALL_FLAGS, TOKEN_NAMES, VALUE_NAMES
from reasonpack.records.conversation import READ
from reasonpack.records.draft import REASONING
from reasonpack.records.harmless import HARMLESS_OF_A_CALL
from reasonpack.records.message import NAMES
from reasonpack.records.strict_json import step
from reasonpack.records.tools import TOOL_FIELDS
from reasonpack.records.unknown import Field, Known, Texts, unread
from reasonpack.wording import nearest

_NUMBERS = {int, float, bool, type(None)}
_TOKENS: Mapping[str, type | tuple[type, ...]] = {
    name: list for names in TOKEN_NAMES.values() for name in names
}
_OF_CHATS = READ | NAMES.message | NAMES.beside
"""Names that options know as those of a chat, or of a message."""
_LIKELY: Mapping[str, type | tuple[type, ...]] = {
    **_TOKENS,
    **dict.fromkeys((name for names in VALUE_NAMES.values() for name in names), (int, float)),
    **dict.fromkeys(CALL_FLAGS, (bool, int)),
    **dict.fromkeys(TOOL_FIELDS, (str, list)),
    "messages": list,
    **dict.fromkeys(("prompt", "response", "completion"), (str, list)),
    "system": str,
    "chat_template_kwargs": (str, dict),
    "enable_thinking": bool,
    **dict.fromkeys(REASONING, ()),
}


def unread_in_call(
    fields: Mapping[str, Any],
    read: Collection[str],
    path: str,
    *,
    texts: Texts,
    name: str = "",
) -> Iterator[Field]:
    """Yield the fields of a call, or of an object in one, that nobody reads.

    `read` are names of its fields that are read, `texts` gives all text that was read of the call.
    `name` is that of the object, as an option names it; empty for the record.
    """
    known = Known(frozenset(read), HARMLESS_OF_A_CALL, _LIKELY)
    numbers = {key for key, value in fields.items() if key not in read and _are_numbers(value)}
    rest = {key: value for key, value in fields.items() if key not in numbers}
    for found in unread(rest, known, path, texts=texts, name=name):
        yield replace(found, name=_told_apart(found.name))
    for key in sorted(numbers):
        full = _told_apart(f"{name}.{key}" if name else str(key))
        near = nearest(key, _TOKENS)
        yield Field(full, step(path, str(key)), refused=True, near="" if fields.get(near) else near)


def _told_apart(name: str) -> str:
    """Put `record` before a name that options know as one of a chat, or of a message."""
    return f"record.{name}" if name.partition(".")[0] in _OF_CHATS else name


def _are_numbers(value: object) -> bool:
    """Tell whether a value is a list of numbers, or a list of such lists.

    >>> _are_numbers([1, 0.5]), _are_numbers([[1], [2]]), _are_numbers([]), _are_numbers(["a"])
    (True, True, False, False)
    """
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], list):
        return any(map(_are_numbers, value))
    kinds = set(map(type, value))
    return kinds <= _NUMBERS and kinds != {type(None)}
