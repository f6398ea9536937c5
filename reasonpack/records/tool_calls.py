r"""The tool calls of an answer → `ToolCall`.

{"type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}
{"name": "f", "args": {"a": 1}}              ToolCall("f", {"a": 1})

`has_null_key` and `contradictions` find arguments that are read back as other values:

{"n": null}                 written as None by some templates, read back as the text "None"
{"n": 2}, n is a string     read back as "2"
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from msgspec import Struct

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.draft import is_absent
from reasonpack.records.strict_json import quoted
from reasonpack.records.value_types import typed


class ToolCall(Struct, frozen=True):
    """One call of a tool by an assistant message.

    Attributes:
        name: the tool.
        arguments: an object.
        arguments_text: the arguments as written if the record has them as text, else None.
        id: the call's id; None if the record has none.
    """

    name: str
    arguments: dict[str, Any]
    arguments_text: str | None = None
    id: str | None = None


ARGUMENTS = ("arguments", "args", "input", "parameters")
"""Names of the field that has the arguments of a call."""
_arguments = attrgetter(*ARGUMENTS)


class Function(Struct):
    """The function of a call, as a record has it."""

    name: str | None = None
    arguments: dict[str, Any] | str | None = None
    args: Any = None
    input: Any = None
    parameters: Any = None

    def given(self) -> dict[str, Any]:
        """Return the arguments under each name that has some; if all are empty, the first one."""
        values = dict(zip(ARGUMENTS, _arguments(self), strict=True))
        there = {name: value for name, value in values.items() if not is_absent(value)}
        empty = ((name, value) for name, value in values.items() if value is not None)
        return there or dict([*empty][:1])


class Call(Function):
    """A call, as a record has it: with an object `function`, or the fields of one in the call."""

    id: str | None = None
    type: str | None = None
    function: Function | None = None
    custom: Any = None


def read_tool_calls(
    calls: Sequence[Call] | None, single: Function | None, path: str, *, null_is_missing: bool
) -> tuple[ToolCall, ...]:
    """Read the fields `tool_calls` and `function_call` of the message at `path`.

    If `null_is_missing`, a null in arguments may stand for an absent key, and is refused.

    Raises:
        RecordError: both fields are there, a call is not complete, or has such a null.
    """
    if single is None or single == Function():
        return tuple(
            _call(call, f"{path}.tool_calls[{i}]", null_is_missing)
            for i, call in enumerate(calls or ())
        )
    if calls:
        what = "tool_calls and function_call"
        raise RecordError("conflict", path, what, "one of them", "remove function_call")
    return (_function(single, f"{path}.function_call", None, null_is_missing),)


def _call(call: Call, path: str, null_is_missing: bool) -> ToolCall:
    if call.type not in (None, "function"):
        fix = 'write "type": "function", or leave the call out: only functions can be called'
        raise RecordError("tools", path, f"a call of type {quoted(call.type)}", "function", fix)
    if call.function is None:
        return _function(call, path, call.id or None, null_is_missing)
    beside = call.given()
    if call.name is not None or "arguments" in beside or not all(map(is_absent, beside.values())):
        what = "both a function and a name or arguments next to it"
        raise RecordError("conflict", path, what, "one of the two", "remove name and arguments")
    return _function(call.function, f"{path}.function", call.id or None, null_is_missing)


def _function(
    function: Function, path: str, call_id: str | None, null_is_missing: bool
) -> ToolCall:
    if not function.name:
        raise RecordError("missing", path, "a call without a name", "one", "name the tool")
    given = function.given()
    if not given:
        fix = "write {} where there are none"
        raise RecordError("missing", path, "a call without arguments", "them", fix)
    name, value = next(iter(given.items()))
    if len(given) > 1 or (name == "parameters" and _is_schema(value)):
        found = f"both {' and '.join(given)}" if len(given) > 1 else "parameters that are a schema"
        fix = "write as arguments what the model passed"
        raise RecordError("tools", path, found, "the arguments of a call once", fix)
    written = typed(value, dict[str, Any] | str, f"{path}.{name}")
    if not isinstance(written, str):
        if null_is_missing and has_null_key(written):
            what = "a null in arguments that the column holds as a struct, where null also stands "
            what += "for keys that another row has"
            fix = "store arguments as JSON text, or pass --null-arguments drop to leave such keys "
            fix += "out, or --null-arguments keep if each null was written"
            expected = "arguments as they were written"
            raise RecordError("null-arguments", f"{path}.{name}", what, expected, fix)
        return ToolCall(function.name, written, None, call_id)
    return ToolCall(function.name, _object_in(written, f"{path}.{name}"), written, call_id)


def _is_schema(value: object) -> bool:
    """Return whether a value is a schema of arguments, as a tool's definition has it."""
    return isinstance(value, dict) and "type" in value and isinstance(value.get("properties"), dict)


def _object_in(text: str, path: str) -> dict[str, Any]:
    """Decode arguments written as text, which must be a JSON object."""
    try:
        value = strict_json.decode(text.encode(), path) if text.strip() else None
    except RecordError as error:
        if error.reason == "json":
            error.fix += "; if the call was cut off, leave it out (--on-error skip)"
        raise
    if not isinstance(value, dict):
        what, expected = f"{quoted(text)} is no JSON object", "the arguments of a call"
        raise RecordError("tools", path, what, expected, "write an object, {} if there are none")
    return value


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def has_null_key(value: object) -> bool:
    """Return whether a key in a value, at any depth, has the value null.

    >>> has_null_key({"a": [{"b": None}]}), has_null_key({"a": [None]})
    (True, False)
    """
    if isinstance(value, dict):
        return any(each is None or has_null_key(each) for each in value.values())
    return isinstance(value, list) and any(map(has_null_key, value))


def contradictions(calls: Iterable[ToolCall], tools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield `tool.argument` for every argument of another type than its tool's schema says.

    Null arguments are not checked.

    >>> tool = {"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}}}
    >>> list(contradictions([ToolCall("f", {"n": "2"}), ToolCall("f", {"n": 2})], [tool]))
    ['f.n']
    """
    schemas = {name: properties for name, properties in map(_properties, tools) if properties}
    for call in calls if schemas else ():
        for key, value in call.arguments.items():
            schema = schemas.get(call.name, {}).get(key)
            kind = schema.get("type") if isinstance(schema, dict) else None
            if value is not None and isinstance(kind, str) and not _is_a(value, kind):
                yield f"{call.name}.{key}"


def _properties(tool: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return a tool's name and the schemas of its arguments, None if it has none."""
    function = tool.get("function")
    inner = function if isinstance(function, dict) else tool
    schema = inner.get("parameters") or inner.get("input_schema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return str(inner.get("name")), properties if isinstance(properties, dict) else None


def _is_a(value: object, kind: str) -> bool:
    expected = _TYPES.get(kind)
    if expected is None:
        return True
    if isinstance(value, bool):
        return kind == "boolean"
    whole = isinstance(value, float) and value.is_integer()
    return isinstance(value, expected) or (kind == "integer" and whole)
