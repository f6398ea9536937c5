"""The tools and calls of a record, by `record.schema.json` alone → what a template is given."""

from __future__ import annotations

from typing import Any

from reasonpack.records.strict_json import decode
from reasonpack.verify import names
from reasonpack.verify.chat import Arguments, Json, NotChecked, Reading, Refused
from reasonpack.verify.fields import EMPTY, all_but, check_fields, without_nulls
from reasonpack.verify.names import END, TAG, inside

NAMED = ("name", *names.ARGUMENTS)


def read_tools(record: Json) -> list[Json]:
    """Read the tools under any of their names.

    Raises:
        NotChecked: two lists that differ, or an object that is no tool.
        Refused: no list.
    """
    lists = [[_tool(one, name) for one in _list(record.get(name), name)] for name in names.TOOLS]
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
        described = all_but(tool, left)
        return {"type": "function", "function": {**described, "parameters": tool["input_schema"]}}
    if kind == "function" and isinstance(tool.get("name"), str):  # of OpenAI's Responses
        kept = {k: v for k, v in tool.items() if k != "type" and v is not None}
        return {"type": "function", "function": kept}
    if name == "tools":
        return tool
    if name != "functions" and not isinstance(tool.get("name"), str):
        raise NotChecked(f"{name}: an object without a name")
    return {"type": "function", "function": tool}


def calls_in_text(text: str, reasoning: str) -> tuple[str, tuple[Json, ...]]:
    """Read the calls that a content has as JSON, and the reasoning that may stand before it.

    Raises:
        RecordError: it is no JSON.
        Refused: no calls, or reasoning twice.
    """
    before, _, after = text.partition(END)
    if after and before.lstrip()[:1] not in ("{", "["):
        if reasoning or (TAG in before and not before.lstrip().startswith(TAG)):
            raise Refused("a call behind two reasonings, or behind text")
        reasoning, text = inside(before), after
    found = decode(text.strip().encode())
    calls = found if isinstance(found, list) else [found]
    return reasoning, tuple(read_call(one, Reading()) for one in calls)


def read_call(raw: Any, reading: Reading) -> Json:
    """Read a call, with its function in it or beside its id.

    Raises:
        NotChecked: it has fields that are not known.
        Refused: it lacks name or arguments, or these have nulls that may not be theirs.
    """
    call = dict(raw) if isinstance(raw, dict) else {}
    function: Json = dict(call.pop("function", None) or {})
    function |= {key: call.pop(key) for key in NAMED if call.get(key) is not None}
    found = {key: one for key in names.ARGUMENTS if (one := function.pop(key, None)) is not None}
    given = [key for key, one in found.items() if one not in EMPTY] or [*found][:1]
    arguments = found[given[0]] if len(given) == 1 else None
    held = arguments if given == ["parameters"] and isinstance(arguments, dict) else {}
    if "type" in held and isinstance(held.get("properties"), dict):
        raise Refused("the description of arguments in their place")
    check_fields(all_but(call, {"id"}), reading, "tool_calls.")
    others = all_but(function, {"name"})
    check_fields(others, reading, "tool_calls.function.")
    if isinstance(arguments, str):
        read = decode(arguments.encode(), "arguments")
        arguments = Arguments(read, arguments) if isinstance(read, dict) else read
    elif reading.row and (bare := without_nulls(arguments)) != arguments:
        if reading.null_arguments == "refuse":
            raise Refused("a null in a struct of arguments")
        arguments = bare if reading.null_arguments == "drop" else arguments
    if not isinstance(function.get("name"), str) or not isinstance(arguments, dict):
        raise Refused("a call: expected a function with name and arguments")
    call = {key: value for key, value in call.items() if value is not None}
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}
