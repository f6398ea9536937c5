"""A record of calls → the answers in it, each with the objects that describe it.

"4", {"role": "assistant", …}                          a text, a message
{"choices": [{"message": {…}}, {"message": {…}}]}      OpenAI chat completions
{"output": [{"type": "reasoning", …}, …]}              OpenAI Responses: a list of items
{"type": "message", "content": [{"type": "text", …}]}  Anthropic Messages
"""

from __future__ import annotations

import re
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import decode
from reasonpack.verify.chat import Json, NotChecked, Refused
from reasonpack.verify.fields import EMPTY, all_but
from reasonpack.verify.record_names import BLOCKS, CUT, EFFORTS, REASONING, is_of_model

ANSWERS = ("response", "completion", "choices", "candidates", "output", "chosen", "rejected")
_WRITTEN = ("type", "content", "value", "tool_calls", "function_call", "refusal")
_HELD = ("message", "response", "completion", "text")
"""Keys under which a candidate holds its answer."""
NO_CHAT = (
    *("embedding", "image", "speech", "transcription", "moderation", "rerank", "search", "ocr"),
    *("file", "batch", "video", "mcp"),
)
"""Parts of the types of calls that LiteLLM logs of other than language models."""
FAILED = "failed"
"""The role of an entry without an answer: the service reports that the call failed."""
Found = tuple[Any, str, list[Json]]
"""An answer (a message, or a list of items), its role, and the objects around it in the response,
outermost first, which may hold its id, token ids, logprobs …"""
IDS = (
    *("completion_token_ids", "completion_ids", "output_token_ids", "output_ids"),
    *("response_token_ids", "response_ids", "generation_token_ids", "token_ids"),
)
"""Keys of the token ids of a completion."""
_OF_A_SERVICE = ("model", "usage", "stop_sequence", "container", "context_management")


def answers_of(record: Json) -> list[Found]:
    """List the answers of a record; the answer is None if there is none.

    Raises:
        NotChecked: an answer has an unknown shape.
        Refused: the record has two answers, or a list of a pair repeats another prompt.
    """
    names = [name for name in ANSWERS if record.get(name) not in EMPTY]
    observed = isinstance(record.get("input"), list | dict) and names == ["output"]
    if not isinstance(record.get("output"), list) and not observed:
        names = [name for name in names if name != "output"]  # only a list of items is an answer
    items = record.get("output") if names == ["output"] else None
    if isinstance(items, list) and all(isinstance(e, dict) and "message" in e for e in items):
        names, record = ["choices"], {**record, "choices": items}
    pair = [name for name in ("chosen", "rejected") if name in names]
    if names != pair and len(names) > 1:
        raise Refused("two answers")
    if pair:
        return [_of_pair(record, name) for name in pair]
    if names == ["candidates"]:
        return [_candidate(each) for each in record["candidates"]]
    if names:
        return _in_response(record, names[0])
    if record.get("status") == "failure" and "call_type" in record:
        return [(None, FAILED, [])]  # a log of LiteLLM
    is_empty = "" in (record.get("response"), record.get("completion"))
    last = record.get("messages") or (record.get("request") or {}).get("messages") or [{}]
    answered = isinstance(last, list) and is_of_model(last[-1].get("role") or last[-1].get("from"))
    says_none = {"response", "choices"} & record.keys() or record.get("error")
    has_ids = any(isinstance(record.get(name), list) for name in (*IDS, "tokens"))
    if says_none and not (is_empty or answered or has_ids):
        return [(None, FAILED, [])]
    return [(_message("", record) if is_empty else None, "none", [])]


def in_text(value: Any, *, any_object: bool = False) -> Any:
    """Decode a text that is the JSON of a response, a message or messages; keep another value.

    Raises:
        Refused: the text, or the list, is a stream of pieces.
    """
    first = value[0] if isinstance(value, list) and value else value
    if isinstance(first, dict) and (
        str(first.get("object")).endswith(".chunk")
        or str(first.get("type")).endswith(".created")
        or first.get("type") == "message_start"
    ):
        raise Refused("pieces of an answer")
    if not isinstance(value, str):
        return value
    if re.match(r"\s*(event: \S+\n)?data: \{", value):
        raise Refused("a stream of pieces of an answer")
    try:
        read = decode(value.encode()) if value.lstrip()[:1] in ("{", "[") else None
    except RecordError:
        return value
    if isinstance(read, list):
        return read if read and all(isinstance(e, dict) and "role" in e for e in read) else value
    if isinstance(read, dict) and (any_object or read.get("role") == "assistant"):
        return read
    return _read_text(read, value) if isinstance(read, dict) else value


def _read_text(read: Json, text: str) -> Any:
    """Return an object that a service or a model answered with; else the text that it is."""
    if read.get("object") == "chat.completion.chunk":
        raise Refused("a piece of an answer")
    if read.get("object") in ("chat.completion", "text_completion", "response"):
        return read
    held = [read.get("message")]
    for listed in (read.get("choices"), read.get("output")):
        items = listed if isinstance(listed, list) else []
        held += [each.get("message", each) for each in items if isinstance(each, dict)]
    by_model = [each for each in held if isinstance(each, dict) and each.get("role") == "assistant"]
    return read if by_model else text


def request_of(record: Json) -> Any:
    """Return what a service was sent, where a record holds it apart, or in its input."""
    of_litellm = {"call_type", "model_parameters", "messages"} <= record.keys()
    request = record.get("model_parameters" if of_litellm else "request") or {}
    asked = record.get("input")
    request = asked if isinstance(asked, dict) and "request" not in record else request
    request = in_text(request, any_object=True)
    body = request.get("body") if isinstance(request, dict) else None
    return in_text(body, any_object=True) if body else request


def with_prompt_of_pair(record: Json) -> Json:
    """Add to a preference pair without a prompt the messages that both of its lists begin with."""
    one, other = record.get("chosen"), record.get("rejected")
    asked = ("messages", "prompt", "input", "request")
    if not (isinstance(one, list) and isinstance(other, list)) or len(one) < 2:
        return record
    if one[:-1] != other[:-1] or any(record.get(name) not in EMPTY for name in asked):
        return record
    return {**record, "messages": one[:-1]}


def _of_pair(record: Json, name: str) -> Found:
    """Read the chosen or rejected answer of a pair; in a list it is last, after the prompt."""
    value = record[name]
    if isinstance(value, list):
        *before, value = value
        if before and before != record.get("messages", record.get("prompt")):
            raise Refused("messages before an answer that are not those of the prompt")
    return _candidate(value, name)


def _candidate(value: Any, role: str = "none") -> Found:
    """Read an answer that is a text, a message, or an object that holds one of these."""
    held = [name for name in _HELD if isinstance(value, dict) and value.get(name) is not None]
    if not held or value.get("role") not in EMPTY:
        return _message(value), role, _named(value)
    return _message(value[held[0]]), role, [value]


def _in_response(record: Json, name: str) -> list[Found]:
    """List the answers of a response; `name` is the record's key for it or for its answers."""
    is_whole = name in ("response", "completion") or not isinstance(record[name], list)
    response: Any = in_text(record[name]) if is_whole else {name: record[name]}
    if isinstance(response, list) and response:
        one = len(response) == 1
        return [(_message(response[0]) if one else _items({"output": response}), "none", [])]
    if isinstance(response, dict) and "choices" not in response:
        body = in_text(response.get("body"), any_object=True)
        response = body if isinstance(body, dict) else response
    outer = [response] if is_whole else []
    if isinstance(response, dict) and isinstance(response.get("choices"), list):
        return [_choice(each, outer) for each in response["choices"]] or [(None, FAILED, outer)]
    if isinstance(response, dict) and isinstance(response.get("output"), list):
        is_none = not response["output"]
        return [(None, FAILED, outer) if is_none else (_items(response), "none", outer)]
    if isinstance(response, dict) and response.get("error") and "role" not in response:
        return [(None, FAILED, [])]
    if isinstance(response, dict) and isinstance(response.get("message"), dict):
        return [_candidate(response)]
    has_ids = isinstance(response, dict) and isinstance(ids_in(response), list)
    if has_ids and "role" not in response:
        found: Found = None, "none", [response]
    else:
        found = _message(response, record), "none", _named(response)
    return [found]


def ids_in(value: Json) -> Any:
    """Return the token ids of a completion in an object; None without any."""
    return next((value[name] for name in IDS if value.get(name) is not None), None)


def _named(message: Any) -> list[Json]:
    """Return an object with the message's id, which names the call; none without an id."""
    return [{"id": message["id"]}] if isinstance(message, dict) and "id" in message else []


def _choice(choice: Any, outer: list[Json]) -> Found:
    message = choice.get("message") if isinstance(choice, dict) else None
    if message is None and isinstance(choice, dict) and isinstance(ids_in(choice), list):
        return None, "none", [*outer, choice]
    if not isinstance(message, dict):
        raise NotChecked("a choice without a message or ids")
    native = {name: choice[name] for name in ("native_finish_reason",) if name in choice}
    return {"role": "assistant", **native, **message}, "none", [*outer, choice]


def _message(value: Any, record: Json | None = None) -> Json:
    """Read an answer that is a text or a message; `record` may hold a text's reasoning."""
    if isinstance(value, str):
        given = {name: (record or {}).get(name) for name in REASONING}
        texts = {name: one for name, one in given.items() if isinstance(one, str) and one}
        for name in {*REASONING} & texts.keys():
            if texts[name].lower() in EFFORTS:
                del texts[name]  # it says how much the model reasons
        return {"role": "assistant", "content": value, **texts}
    if not isinstance(value, dict) or not ("role" in value or value.get("type") == "message"):
        raise NotChecked("an answer that is neither a text nor a message")
    if value.get("type") != "message":
        return value
    check_edits(value)
    made = all_but(value, _OF_A_SERVICE)
    if made.get("stop_reason") == "stop_sequence":
        made["partial"] = True
    return {"role": "assistant", **made}


def with_content(answer: Any) -> Any:
    """Add the empty text to a message of the model in which it wrote nothing; keep another answer.

    >>> with_content({"role": "assistant", "content": None})
    {'role': 'assistant', 'content': ''}
    """
    is_message = isinstance(answer, dict) and is_of_model(answer.get("role", answer.get("from")))
    names = (*_WRITTEN, *REASONING, *BLOCKS, "provider_specific_fields")
    if not is_message or any(answer.get(name) not in EMPTY for name in names):
        return answer
    return {**answer, "content": ""}


def _items(response: Json) -> list[Json]:
    """Return the items of a response."""
    items: list[Json] = response["output"]
    if not all(isinstance(each, dict) for each in items):
        raise NotChecked("items that are no objects")
    if response.get("status") not in (None, "completed", *CUT):
        raise NotChecked("a response that was neither completed nor cut off")
    return items


def check_edits(message: Json) -> None:
    """Refuse an answer whose prompt the service edited, other than by leaving thoughts out."""
    edits = (message.get("context_management") or {}).get("applied_edits") or ()
    if any(not each["type"].startswith("clear_thinking") for each in edits):
        raise Refused("a prompt that the service edited")
