"""The tools of a record, under any of their names → a list in the form that templates take.

{"type": "function", "function": {…}}           stays as it is
{"name": …, "input_schema": …}                  Anthropic: input_schema becomes parameters
{"type": "function", "name": …, …}              OpenAI Responses
{"name": …, …}                                  in functions, tool_defs and available_tools
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.draft import is_absent, without
from reasonpack.records.value_types import wrong_type

TOOL_FIELDS = ("tools", "functions", "tool_defs", "available_tools")
"""Names of the field that holds the tools."""


def read_tools(record: dict[str, Any]) -> tuple[Any, ...] | None:
    """Return the tools of a record; None if it has none.

    Raises:
        RecordError: a value is no list of objects; two lists differ; an object is no tool.

    >>> read_tools({"tool_defs": '[{"name": "f"}]'})
    ({'type': 'function', 'function': {'name': 'f'}},)
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name in TOOL_FIELDS:
        if name in record and (tools := _tools(record, name)):
            found[name] = tools
    (first, tools), *others = [*found.items()] or [("", [])]
    for name, other in others:
        if other != tools:
            what, expected = f"{first} and {name} differ", "one of them or the same in both"
            raise RecordError("conflict", name, what, expected, f"remove {name}")
    return tuple(tools) or None


def _tools(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tools = [] if is_absent(record.get(name)) else json_field(record, name)
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise wrong_type(name, type(tools).__name__, "a list of tools")
    return [_tool(tool, name, f"{name}[{i}]") for i, tool in enumerate(tools)]


def _tool(tool: Any, name: str, path: str) -> dict[str, Any]:
    if isinstance(tool, str) and tool.lstrip().startswith("{"):
        tool = strict_json.decode(tool.encode(), path)
    if not isinstance(tool, dict):
        raise wrong_type(path, type(tool).__name__, "an object")
    kind = tool.get("type")
    if "function" in tool:
        return tool
    if isinstance(tool.get("input_schema"), dict) and kind in (None, "custom"):
        rest = without(tool, ("type", "input_schema", "cache_control"))
        return {"type": "function", "function": {**rest, "parameters": tool["input_schema"]}}
    if kind == "function" and isinstance(tool.get("name"), str):
        function = {
            key: value for key, value in tool.items() if key != "type" and value is not None
        }
        return {"type": "function", "function": function}
    if name == "tools":
        return tool
    if name != "functions" and not isinstance(tool.get("name"), str):
        fix = 'write {"type": "function", "function": {"name": …, …}}'
        raise RecordError("tools", path, "an object without a name", "a tool", fix)
    return {"type": "function", "function": tool}


def json_field(record: Mapping[str, Any], name: str, path: str = "") -> Any:
    """Return the value of a field, decoded if it is JSON text; None if that text is empty.

    `path` is the field's place in the whole record, if `record` is a part of it.

    Raises:
        RecordError: a text that is not JSON.
    """
    value = record.get(name)
    if not isinstance(value, str):
        return value
    return strict_json.decode(value.encode(), path or name) if value.strip() else None
