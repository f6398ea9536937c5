"""A record of calls → the answers in it, each with the objects that say something of it.

"4", {"role": "assistant", …}                          a text, a message
{"choices": [{"message": {…}}, {"message": {…}}]}      of OpenAI's chat completions
{"output": [{"type": "reasoning", …}, …]}              of OpenAI's Responses: a list of items
{"type": "message", "content": [{"type": "text", …}]}  of Anthropic's Messages
"""

from __future__ import annotations

import re
from typing import Any

from reasonpack.verify.chat import Json, NotChecked, Refused
from reasonpack.verify.fields import EMPTY
from reasonpack.verify.names import CUT, ENDS, REASONING

ANSWERS = ("response", "completion", "choices", "candidates", "output", "chosen", "rejected")
FAILED = "failed"
"""The role of no answer, as the service says that there is none."""
Found = tuple[Any, str, list[Json]]
"""An answer (a message, or the items of one), its role, and the objects from the response in that
say something of it."""
_OF_A_SERVICE = ("model", "usage", "stop_sequence", "container", "context_management")
_ITEMS = {"reasoning": "r", "message": "m", "function_call": "c"}


def answers_of(record: Json) -> list[Found]:
    """List the answers of a record.

    Raises:
        NotChecked: they have a shape that is not known here.
        Refused: they contradict each other.
    """
    names = [name for name in ANSWERS if record.get(name) not in EMPTY]
    pair = [name for name in ("chosen", "rejected") if name in names]
    if names != pair and len(names) > 1:
        raise Refused("two answers")
    if pair:
        return [(_message(record[name]), name, []) for name in pair]
    if names == ["candidates"]:
        return [(_message(each), "none", []) for each in record["candidates"]]
    if names:
        return _in_response(record, names[0])
    if record.get("status") == "failure" and "call_type" in record:
        return [(None, FAILED, [])]  # by the log of LiteLLM
    is_empty = "" in (record.get("response"), record.get("completion"))
    return [(_message("") if is_empty else None, "none", [])]


def _in_response(record: Json, name: str) -> list[Found]:
    """List the answers in a response, or in what a record has of one."""
    response = record[name] if name in ("response", "completion") else {name: record[name]}
    outer = [response] if response is record[name] else []
    if isinstance(response, dict) and isinstance(response.get("choices"), list):
        return [_choice(choice, outer) for choice in response["choices"] or [None]]
    if isinstance(response, dict) and isinstance(response.get("output"), list):
        return [(_items(response), "none", outer)] if response["output"] else [(None, FAILED, [])]
    if isinstance(response, dict) and response.get("error") and "role" not in response:
        return [(None, FAILED, [])]
    return [(_message(response, record), "none", _named(response))]


def _named(message: Any) -> list[Json]:
    """Return what names the call: the id of its answer."""
    return [{"id": message["id"]}] if isinstance(message, dict) and "id" in message else []


def _choice(choice: Any, outer: list[Json]) -> Found:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise NotChecked("a choice without a message")
    ends = {name: choice[name] for name in ENDS if isinstance(choice.get(name), str)}
    if "finish_reason" in ends and "stop_reason" in ends:
        ends = {"finish_reason": ends["finish_reason"], "partial": True}
    return {"role": "assistant", **ends, **message}, "none", [*outer, choice]


def _message(value: Any, record: Json | None = None) -> Json:
    """Read an answer that is a text or a message."""
    if isinstance(value, str):
        names = (*REASONING, *ENDS)
        beside = {name: (record or {})[name] for name in names if (record or {}).get(name)}
        return {"role": "assistant", "content": value, **beside}
    if not isinstance(value, dict) or not ("role" in value or value.get("type") == "message"):
        raise NotChecked("an answer that is neither a text nor a message")
    if value.get("type") != "message":
        return value
    made = {key: one for key, one in value.items() if key not in _OF_A_SERVICE}
    if made.get("stop_reason") == "stop_sequence":
        made["partial"] = True
    return {"role": "assistant", **made}


def _items(response: Json) -> list[Json]:
    """Read the items of one answer, of which there is one at least."""
    items: list[Json] = response["output"]
    if not all(isinstance(each, dict) for each in items):
        raise NotChecked("items that are no objects")
    kinds = [each.get("type", "message" if "role" in each else None) for each in items]
    letters = "".join(_ITEMS.get(str(kind), "?") for kind in kinds)
    if not re.fullmatch("r?m?c*", letters):
        raise NotChecked("items that are not those of one answer")
    whole, last = response.get("status"), items[-1].get("status")
    if whole not in (None, "completed", *CUT):
        raise NotChecked("a response that was neither completed nor cut off")
    if whole in CUT and last in (None, "", "completed"):
        items = [*items[:-1], {**items[-1], "status": whole}]
    return items
