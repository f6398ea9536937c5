"""Records with more fields in a message, a call or beside them; and what is read of them."""

from __future__ import annotations

import json
from typing import Any

from reasonpack.records.conversation import Conversation, parse_line
from reasonpack.records.reading import DEFAULT, Reading

Json = dict[str, Any]
LONG = "Two and two make four, as everybody knows."
ASK = {"role": "user", "content": "2+2?"}


def read(record: Json, reading: Reading = DEFAULT) -> Conversation:
    return parse_line(json.dumps(record).encode(), "a.jsonl:1", reading=reading)


def of_answer(**fields: Any) -> Json:
    return {"messages": [ASK, {"role": "assistant", "content": "4", **fields}]}


def of_user(**fields: Any) -> Json:
    return {"messages": [{**ASK, **fields}, {"role": "assistant", "content": "4"}]}


def of_record(**fields: Any) -> Json:
    return {**of_answer(), **fields}


def of_call(**fields: Any) -> Json:
    function = {"name": "f", "arguments": {}, **fields.pop("function", {})}
    answer = of_answer(tool_calls=[{"type": "function", "function": function, **fields}])
    return {**answer, "tools": [TOOL]}


TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
