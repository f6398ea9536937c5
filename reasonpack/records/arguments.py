"""Arguments of tool calls that a model cannot have meant so, or that come back as others.

{"n": null}                 written as None by some templates, read back as the text "None"
{"n": 2}, n is a string     read back as "2"
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["contradictions", "has_null_key"]

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def has_null_key(value: object) -> bool:
    """Tell whether a key in a value, at any depth, is null.

    >>> has_null_key({"a": [{"b": None}]}), has_null_key({"a": [None]})
    (True, False)
    """
    if isinstance(value, dict):
        return any(each is None or has_null_key(each) for each in value.values())
    return isinstance(value, list) and any(map(has_null_key, value))


def contradictions(
    calls: Sequence[tuple[str, Any]], tools: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield `tool.argument` for every argument of another type than its tool's schema says.

    Args:
        calls: names of tools, each with the arguments.
        tools: the tools of the record.

    >>> tool = {"name": "f", "parameters": {"properties": {"n": {"type": "integer"}}}}
    >>> list(contradictions([("f", {"n": "2"}), ("f", {"n": 2})], [tool]))
    ['f.n']
    """
    schemas = {name: properties for name, properties in map(_properties, tools) if properties}
    for name, arguments in calls if schemas else ():
        properties = schemas.get(name)
        if properties is None or not isinstance(arguments, dict):
            continue
        for key, value in arguments.items():
            schema = properties.get(key)
            kind = schema.get("type") if isinstance(schema, dict) else None
            if value is not None and isinstance(kind, str) and not _is_a(value, kind):
                yield f"{name}.{key}"


def _properties(tool: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return a tool's name, and the schemas of its arguments where it has some."""
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
