"""Tools, calls and template variables of a record, read by `record.schema.json` alone."""

from __future__ import annotations

from typing import Any

from reasonpack.records.strict_json import decode
from reasonpack.verify import record_names as names
from reasonpack.verify.chat import Arguments, Json, NotChecked, Reading, Refused
from reasonpack.verify.fields import EMPTY, all_but, check_fields, without_nulls
from reasonpack.verify.record_names import END, TAG, inside

NAMED = ("name", *names.ARGUMENTS)


def read_tools(record: Json) -> list[Json]:
    """Return the tools of a record, under any of their names, in OpenAI's form.

    Raises:
        NotChecked: there are two lists that differ, or an element is not known as a tool.
        Refused: the value is no list of objects.
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
    tool = decode(tool.encode(), name) if isinstance(tool, str) else tool
    if not isinstance(tool, dict):
        raise Refused(f"{name}: expected objects")
    if "function" in tool:
        return tool
    kind = tool.get("type")
    if kind in (None, "custom") and isinstance(tool.get("input_schema"), dict):  # Anthropic
        left = ("type", "cache_control", "input_schema")
        described = all_but(tool, left)
        return {"type": "function", "function": {**described, "parameters": tool["input_schema"]}}
    if kind == "function" and isinstance(tool.get("name"), str):  # OpenAI Responses
        kept = {k: v for k, v in tool.items() if k != "type" and v is not None}
        return {"type": "function", "function": kept}
    if name == "tools":
        return tool
    if name != "functions" and not isinstance(tool.get("name"), str):
        raise NotChecked(f"{name}: an object without a name")
    return {"type": "function", "function": tool}


def calls_in_text(text: str, reasoning: str) -> tuple[str, tuple[Json, ...]]:
    """Return the reasoning and the calls of a content that is JSON, perhaps after a think block.

    Raises:
        RecordError: the content is no JSON.
        Refused: it has no calls, or there is other reasoning or text before them.
    """
    before, _, after = text.partition(END)
    if after and before.lstrip()[:1] not in ("{", "["):
        if reasoning or (TAG in before and not before.lstrip().startswith(TAG)):
            raise Refused("a call after two reasonings, or after text")
        reasoning, text = inside(before), after
    found = decode(text.strip().encode())
    calls = found if isinstance(found, list) else [found]
    return reasoning, tuple(read_call(one, Reading()) for one in calls)


def read_call(raw: Any, reading: Reading) -> Json:
    """Return a call in OpenAI's form; the record may have the function's fields in the call itself.

    Only id, name and arguments are kept, all that servers return of what the model wrote.

    Raises:
        NotChecked: it has unknown fields.
        Refused: it lacks name or arguments, or these have nulls that Parquet may have added.
    """
    call = dict(raw) if isinstance(raw, dict) else {}
    function: Json = dict(call.pop("function", None) or {})
    function |= {key: call.pop(key) for key in NAMED if call.get(key) is not None}
    found = {key: one for key in names.ARGUMENTS if (one := function.pop(key, None)) is not None}
    given = [key for key, one in found.items() if one not in EMPTY] or [*found][:1]
    arguments = found[given[0]] if len(given) == 1 else None
    held = arguments if given == ["parameters"] and isinstance(arguments, dict) else {}
    if "type" in held and isinstance(held.get("properties"), dict):
        raise Refused("a description of arguments in place of arguments")
    check_fields(all_but(call, {"id"}), reading, "tool_calls.")
    check_fields(all_but(function, {"name"}), reading, "tool_calls.function.")
    if isinstance(arguments, str):
        read = decode(arguments.encode(), "arguments")
        arguments = Arguments(read, arguments) if isinstance(read, dict) else read
    elif (
        reading.row and reading.null_arguments == "refuse" and without_nulls(arguments) != arguments
    ):
        raise Refused("a null in a struct of arguments")
    if not isinstance(name := function.get("name"), str) or not isinstance(arguments, dict):
        raise Refused("a call: expected a function with name and arguments")
    named = {"id": call["id"]} if call.get("id") else {}
    return {**named, "type": "function", "function": {"name": name, "arguments": arguments}}


def read_variables(record: Json) -> Json:
    """Return the template variables of a record.

    Raises:
        Refused: they are no object.
    """
    given = record.get("chat_template_kwargs") or {}
    if isinstance(given, str):
        given = decode(given.encode(), "chat_template_kwargs")
    if not isinstance(given, dict):
        raise Refused("chat_template_kwargs: expected an object")
    switch = {"enable_thinking": record.get("enable_thinking")}
    return {**given, **(switch if switch["enable_thinking"] is not None else {})}
