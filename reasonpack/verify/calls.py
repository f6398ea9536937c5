"""A record of calls → what each call saw and wrote, by `call.schema.json` and by nothing else.

    {"messages": […], "response": "4"}                        ─→ Call, a Chat of prompt and answer
    {"prompt_token_ids": [5], "completion_token_ids": [7]}    ─→ Call, its ids

Read here: messages or ids beside one answer, several choices or candidates, a pair, a request with
its response, a list of calls. Every other shape is one that is not checked (`NotChecked`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reasonpack.verify.chat import Chat, Json, NotChecked, Reading, Refused
from reasonpack.verify.fields import EMPTY, renamed
from reasonpack.verify.names import CALL_ROLES, FLAGS, ROLES
from reasonpack.verify.reader import read_chat

_PROMPT_IDS = ("prompt_token_ids", "prompt_ids")
_IDS = (
    *("completion_token_ids", "completion_ids", "output_token_ids", "output_ids"),
    *("response_token_ids", "response_ids", "generation_token_ids", "token_ids"),
)
_LOGPROBS = (
    *("logprobs", "rollout_logprobs", "rollout_log_probs", "completion_logprobs"),
    *("response_logprobs", "generation_log_probs", "log_probs"),
)
_MASK = ("loss_mask", "response_mask", "completion_mask")
_FLAGS = ("train", "trainable", "training", "loss", "step_loss_mask")
_TOOLS = ("tools", "functions", "tool_defs", "available_tools")
_CONTEXT = ("system", *_TOOLS, "chat_template_kwargs", "enable_thinking")
_VALUES = ("advantages", "advantage", "reward", "weight", "loss_weight")
_OF_A_GROUP = (
    *(("system",), _TOOLS, ("chat_template_kwargs",), ("enable_thinking",), _FLAGS),
    *(_VALUES[:2], _VALUES[2:3], _VALUES[3:]),
)
_LEVELS = ("calls", "request", "response", "choices", "candidates")
_ENDS = ("finish_reason", "stop_reason", "done_reason", "native_finish_reason")
_ANSWERS = ("response", "completion", "choices", "candidates", "output", "chosen", "rejected")
_CHANGES = ("chat_template", "documents", "previous_response_id", "conversation")
NAMES = ("id", "call_id", "model_call_id")
_ASKED = ("messages", "prompt", "input")
_OF_A_CALL = {*_PROMPT_IDS, *_IDS, *_ANSWERS}
_LOGS = ("nodes", "traces", "steps", "responses_create_params")
_OTHERS = ("stop", "reasoning_effort", "extra_body", "instructions")


@dataclass(frozen=True, slots=True)
class Call:
    """A call, as this check reads it.

    Attributes:
        id: its own, or where it is.
        chat: what was asked, and the answer as its last message; None without messages.
        prompt: ids that the model saw; None without ids.
        completion: ids that it wrote.
        mask: which of these are trained; all where it is None.
        logprobs: of these; None for none.
        advantages: of these, or one number for all; None for none.
        reward: of the call.
        weight: of its completion.
        role: none, chosen or rejected.
        trained: whether it is to be trained.
    """

    id: str
    chat: Chat | None
    prompt: list[int] | None = None
    completion: list[int] | None = None
    mask: list[bool] | None = None
    logprobs: list[float] | None = None
    advantages: list[float] | float | None = None
    reward: float | None = None
    weight: float = 1.0
    role: str = "none"
    trained: bool = True


def read_calls(record: Json, reading: Reading, where: str) -> list[Call]:
    """Read the calls of a record that was decoded.

    Raises:
        NotChecked: it has a shape that is not known here.
        Refused: it must not be packed.
    """
    if any(name in record for name in _LOGS):
        raise NotChecked("the log of a harness, in a form of its own")
    record = _as_told(record, reading)
    calls = record.get("calls")
    if isinstance(calls, list) and calls:
        if not all(isinstance(each, dict) and {*each} & _OF_A_CALL for each in calls):
            raise NotChecked("a list that may be none of calls")
        found = [call for each in calls for call in _calls(_inherited(record, each), reading)]
    else:
        found = [*_calls(record, reading)]
    return [
        call if call.id else replace(call, id=f"{where}#{number}" if len(found) > 1 else where)
        for number, call in enumerate(found)
    ]


def _as_told(record: Json, reading: Reading) -> Json:
    """Leave out and rename fields of a call as the run was told."""
    for name in reading.ignored:
        first, *more = name.removeprefix("record.").split(".")
        if not more or first in _LEVELS:
            record = _without(record, [first, *more])
    if any(name.split(".")[0] in _LEVELS for name in reading.renamed):
        raise NotChecked("a renamed field within a request or a response")
    return renamed(record, reading.renamed, {*_OF_A_CALL, *_LOGPROBS, *_MASK, *_VALUES})


def _without(value: Any, names: Sequence[str]) -> Any:
    """Copy a value without the fields of a dotted name, in all elements of lists."""
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    if not isinstance(value, dict) or names[0] not in value:
        return value
    first, *more = names
    if not more:
        return {key: one for key, one in value.items() if key != first}
    return {**value, first: _without(value[first], more)}


def _inherited(record: Json, call: Json) -> Json:
    request = call.get("request")
    own = call.keys() | (request.keys() if isinstance(request, dict) else set())
    names = [name for kind in _OF_A_GROUP if own.isdisjoint(kind) for name in kind]
    return {**{name: record[name] for name in names if name in record}, **call}


def _calls(record: Json, reading: Reading) -> Iterator[Call]:
    request = record.get("request") or {}
    if not isinstance(request, dict) or "body" in request or set(_CHANGES) & request.keys():
        raise NotChecked("a request that is no plain object, or that changes the prompt")
    answers = _answers(record)
    for number, (answer, role, levels) in enumerate(answers):
        ids = [record.get(name) for name in NAMES]
        ids += [level["id"] for level in levels[:1] if isinstance(level.get("id"), str)]
        own = next((each for each in ids if each not in EMPTY), "")
        id_ = f"{own}#{number}" if own and len(answers) > 1 else str(own)
        yield _call(record, request, answer, levels, reading, id_=id_, role=role)


Found = tuple[Any, str, list[Json]]
"""An answer, its role, and the objects from the response in that say something of it."""


def _answers(record: Json) -> list[Found]:
    names = [name for name in _ANSWERS if record.get(name) not in EMPTY]
    if "output" in names:
        raise NotChecked("an output")
    pair = [name for name in ("chosen", "rejected") if name in names]
    if names != pair and len(names) > 1:
        raise Refused("two answers")
    if not names:
        is_empty = "" in (record.get("response"), record.get("completion"))
        return [(_message("") if is_empty else None, "none", [])]
    value = record[names[0]]
    if pair:
        return [(_message(record[name]), name, []) for name in pair]
    if names == ["candidates"]:
        return [(_message(each), "none", []) for each in value]
    response = {"choices": value} if names == ["choices"] else value
    if isinstance(response, dict) and isinstance(response.get("choices"), list):
        outer = [] if names == ["choices"] else [response]
        return [_choice(choice, outer) for choice in response["choices"] or [None]]
    return [(_message(response, record), "none", [])]


def _choice(choice: Any, outer: list[Json]) -> Found:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise NotChecked("a choice without a message")
    ends = {name: choice[name] for name in _ENDS if isinstance(choice.get(name), str)}
    if "finish_reason" in ends and "stop_reason" in ends:
        ends = {"finish_reason": ends["finish_reason"], "partial": True}
    return {"role": "assistant", **ends, **message}, "none", [*outer, choice]


def _message(value: Any, record: Json | None = None) -> Json:
    """Read an answer that is a text or a message."""
    if isinstance(value, str):
        names = ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_text", *_ENDS)
        beside = {name: (record or {})[name] for name in names if (record or {}).get(name)}
        return {"role": "assistant", "content": value, **beside}
    if not isinstance(value, dict) or "role" not in value or value.get("type") == "message":
        raise NotChecked("an answer that is neither a text nor a message")
    return value


def _call(
    record: Json,
    request: Json,
    answer: Any,
    levels: list[Json],
    reading: Reading,
    *,
    id_: str,
    role: str,
) -> Call:
    places = [record, *levels]
    prompt, ids = _said(places, _PROMPT_IDS), _said(places, _IDS)
    if "tokens" in record and isinstance(record["tokens"], list):
        cut = len(record["tokens"]) - record.get("response_length", -1)
        prompt, ids = record["tokens"][:cut], record["tokens"][cut:]
    chat = None
    if prompt is None or not isinstance(_said((record, request), _ASKED), str):
        chat = _chat(record, request, answer, reading, has_ids=ids is not None)
    elif ids is None:
        raise Refused("ids of a prompt without those of its completion")
    if (prompt is None) != (ids is None):
        raise Refused("ids of one of prompt and completion")
    mask = _mask(_said(places, _MASK), len(prompt or ()), ids)
    weight = _said(places, ("weight", "loss_weight"))
    flags = {bool(record[name]) for name in _FLAGS if record.get(name) not in EMPTY}
    is_empty = ids == [] if ids is not None else _is_empty(chat)
    wanted = flags <= {True} and weight != 0 and not record.get("is_copied_context")
    return Call(
        id_,
        chat,
        prompt,
        ids,
        mask,
        _logprobs(_said(places, _LOGPROBS)) if ids is not None else None,
        _said(places, ("advantages", "advantage")),
        _said(places, ("reward",)),
        1.0 if weight is None else weight,
        role,
        bool(wanted and not is_empty and (mask is None or any(mask)) and _is_trained(answer, chat)),
    )


def _said(places: Any, names: tuple[str, ...]) -> Any:
    """Return what several objects say under several names, which has to be the same."""
    nothing = EMPTY if names == _ASKED else (None, "", {})
    found = [place[name] for place in places for name in names if place.get(name) not in nothing]
    if any(each != found[0] for each in found):
        raise Refused(f"{names[0]}: two values")
    return found[0] if found else None


def _mask(said: Any, prompt: int, ids: list[int] | None) -> list[bool] | None:
    if said is None:
        return None
    if not isinstance(said, list):
        return [bool(said)] * (1 if ids is None else len(ids))
    if ids is None or len(said) not in (len(ids), prompt + len(ids)):
        raise Refused("a mask of another length")
    if len(said) != len(ids) and any(said[:prompt]):
        raise Refused("a mask that trains the prompt")
    return [bool(each) for each in said[len(said) - len(ids) :]]


def _logprobs(said: Any) -> list[float] | None:
    if isinstance(said, dict):
        said = said["token_logprobs"] if said.get("content") is None else said["content"]
    if said is None:
        return None
    listed = [each["logprob"] if isinstance(each, dict) else each for each in said]
    return [0.0 if each is None else each for each in listed]


def _chat(
    record: Json, request: Json, answer: Any, reading: Reading, *, has_ids: bool
) -> Chat | None:
    asked = _said((record, request), _ASKED)
    if isinstance(asked, list) and not all(isinstance(each, dict) for each in asked):
        raise NotChecked("a prompt that is no list of messages")
    if answer is None and isinstance(asked, list) and asked and _is_answer(asked[-1]):
        *asked, answer = asked
    if any({*_OTHERS} & place.keys() for place in (record, request)) or "reasoning" in request:
        raise NotChecked("stops, variables or instructions of a request")
    if asked == [] and "system" in {*record, *request}:
        raise NotChecked("a system text alone as the prompt")
    if asked in EMPTY or answer is None:
        if has_ids:
            return None
        if "call_type" in record:
            raise NotChecked("a call that failed, by the log of a gateway")
        raise Refused("no prompt, or no answer")
    context = {name: _said((record, request), (name,)) for name in _CONTEXT}
    context = {name: value for name, value in context.items() if value is not None}
    whole = {**context, "prompt": asked, "completion": [answer]}
    try:
        read = read_chat(whole, reading)
    except (NotChecked, Refused):
        if has_ids:
            return None
        raise
    *before, last = read.messages
    if before and _same(before[-1], last):
        before.pop()
    if last.role != "assistant" or not before:
        if has_ids:
            return None
        raise Refused("no answer to something")
    history = [replace(each, trained=False) for each in before]
    return replace(read, messages=(*history, last))


def _is_answer(raw: Json) -> bool:
    name = str(raw.get("role") or raw.get("from"))
    return ROLES.get(name) == "assistant" and name not in CALL_ROLES


def _same(one: Any, answer: Any) -> bool:
    """Whether a message of the prompt is the answer, perhaps without its reasoning."""
    return (
        one.role == "assistant"
        and (one.content, one.null) == (answer.content, answer.null)
        and one.reasoning in ("", answer.reasoning)
        and [call["function"] for call in one.calls] == [call["function"] for call in answer.calls]
    )


def _is_trained(answer: Any, chat: Chat | None) -> bool:
    if chat is not None:
        return chat.messages[-1].trained
    return not isinstance(answer, dict) or all(answer.get(name, 1) != 0 for name in FLAGS)


def _is_empty(chat: Chat | None) -> bool:
    last = chat.messages[-1] if chat else None
    return last is None or not (last.content or last.reasoning or last.calls)
