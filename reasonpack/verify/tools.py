"""The tools of a record, by `record.schema.json` alone → what a chat template is given."""

from __future__ import annotations

from typing import Any

from reasonpack.records.strict_json import decode
from reasonpack.verify.chat import Json, NotChecked, Refused

__all__ = ["read_tools"]

NAMES = ("tools", "functions", "tool_defs", "available_tools")


def read_tools(record: Json) -> list[Json]:
    """Read the tools under any of their names.

    Raises:
        NotChecked: two lists that differ, or an object that is no tool.
        Refused: no list.
    """
    lists = [[_tool(one, name) for one in _list(record.get(name), name)] for name in NAMES]
    given = [tools for tools in lists if tools]
    if any(tools != given[0] for tools in given):
        raise NotChecked("lists of tools that differ")
    return given[0] if given else []


def _list(value: Any, name: str) -> list[Any]:
    if isinstance(value, str):
        value = decode(value.encode(), name) if value.strip() else None
    if value and not isinstance(value, list):
        raise Refused(f"{name}: expected a list")
    return value or []


def _tool(tool: Any, name: str) -> Json:
    if not isinstance(tool, dict):
        raise Refused(f"{name}: expected objects")
    if "function" in tool:
        return tool
    kind = tool.get("type")
    if kind in (None, "custom") and isinstance(tool.get("input_schema"), dict):  # Anthropic's
        left = ("type", "cache_control", "input_schema")
        described = {key: value for key, value in tool.items() if key not in left}
        return {"type": "function", "function": {**described, "parameters": tool["input_schema"]}}
    if kind == "function" and isinstance(tool.get("name"), str):  # of OpenAI's Responses
        kept = {k: v for k, v in tool.items() if k != "type" and v is not None}
        return {"type": "function", "function": kept}
    if name == "tools":
        return tool
    if name != "functions" and not isinstance(tool.get("name"), str):
        raise NotChecked(f"{name}: an object without a name")
    return {"type": "function", "function": tool}
