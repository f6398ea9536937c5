r"""The calls of tools in an answer → `ToolCall`.

{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}
{"name": "f", "arguments": {"a": 1}}         ToolCall("f", {"a": 1})
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.arguments import has_null_key
from reasonpack.records.draft import is_absent
from reasonpack.records.strict_json import quoted

__all__ = ["Call", "Function", "ToolCall", "read_calls"]


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


class Function(msgspec.Struct):
    """The function of a call, as a record has it."""

    name: str | None = None
    arguments: dict[str, Any] | str | None = None
    args: Any = None
    input: Any = None
    parameters: Any = None


class Call(Function):
    """A call, as a record has it: with its function inside, or its fields beside the others."""

    id: str | None = None
    type: str | None = None
    function: Function | None = None


def read_calls(
    calls: Sequence[Call] | None, single: Function | None, path: str, *, null_is_missing: bool
) -> tuple[ToolCall, ...]:
    """Read the fields `tool_calls` and `function_call` of the message at `path`.

    Where `null_is_missing`, a null in arguments may stand for a key that is not there.

    Raises:
        RecordError: both are there, a call that is not whole, or such a null.
    """
    if single in (None, Function()):
        return tuple(
            _call(call, f"{path}.tool_calls[{i}]", null_is_missing)
            for i, call in enumerate(calls or ())
        )
    if calls:
        what = "tool_calls and function_call, expected one of them"
        raise RecordError("conflict", path, what, fix="Remove function_call.")
    return (_function(single, f"{path}.function_call", None, null_is_missing),)


def _call(call: Call, path: str, null_is_missing: bool) -> ToolCall:
    if call.type not in (None, "function"):
        what = f"a call of type {quoted(call.type)}, expected function"
        fix = 'Write "type": "function", or leave the call out: only functions can be called.'
        raise RecordError("tools", path, what, fix=fix)
    if call.function is None:
        return _function(call, path, call.id or None, null_is_missing)
    if call.name is not None or call.arguments is not None:
        what = "both a function and a name or arguments beside it, expected one of the two"
        raise RecordError("conflict", path, what, fix="Remove name and arguments.")
    return _function(call.function, f"{path}.function", call.id or None, null_is_missing)


def _function(
    function: Function, path: str, call_id: str | None, null_is_missing: bool
) -> ToolCall:
    if not function.name:
        raise RecordError("missing", path, _NAMELESS, fix="Name the tool.")
    written = function.arguments
    for name in ("args", "input", "parameters"):
        if not is_absent(getattr(function, name)):
            what = f"the arguments of a call under the name {name}, expected arguments"
            raise RecordError("tools", f"{path}.{name}", what, fix="Rename it to arguments.")
    if written is None:
        what = "a call without arguments, expected them"
        raise RecordError("missing", path, what, fix="Write {} where there are none.")
    if not isinstance(written, str):
        if null_is_missing and has_null_key(written):
            raise RecordError("null-arguments", f"{path}.arguments", _NULL, fix=_NULL_FIX)
        return ToolCall(function.name, written, None, call_id)
    return ToolCall(function.name, _object_in(written, f"{path}.arguments"), written, call_id)


_NAMELESS = "a call without a name, expected one"
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
