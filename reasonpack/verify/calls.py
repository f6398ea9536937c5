"""A record of calls → the prompt and answer of each call, read by `call.schema.json` alone.

    {"messages": […], "response": "4"}                        ─→ Call, a Chat of prompt and answer
    {"prompt_token_ids": [5], "completion_token_ids": [7]}    ─→ Call, its ids

Known shapes: messages or ids with one answer, several choices or candidates, a preference pair, a
request with its response, a list of calls, logs of harnesses. Any other one raises `NotChecked`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.verify.answers import (
    ANSWERS,
    FAILED,
    IDS,
    NO_CHAT,
    answers_of,
    in_text,
    request_of,
    with_content,
    with_prompt_of_pair,
)
from reasonpack.verify.chat import Chat, Json, NotChecked, Reading, Refused, known_shape
from reasonpack.verify.fields import EMPTY, check_whole, renamed, without_path, without_stop
from reasonpack.verify.harness_logs import as_group, as_they_ended, calls_of_harness
from reasonpack.verify.reader import read_chat
from reasonpack.verify.record_names import FLAGS, OF_THE_END, TELLING, TOOLS, is_of_model

_PROMPT_IDS = ("prompt_token_ids", "prompt_ids")
_REQUEST_IDS = ("prompt_token_ids", "token_ids", "input_ids")
_LOGPROBS = (
    *("logprobs", "rollout_logprobs", "rollout_log_probs", "completion_logprobs"),
    *("response_logprobs", "generation_log_probs", "log_probs"),
)
_MASK = ("loss_mask", "response_mask", "completion_mask", "env_mask")
_FLAGS = ("train", "trainable", "training", "loss", "step_loss_mask")
_CONTEXT = ("system", *TOOLS, "chat_template_kwargs", "enable_thinking")
_VALUES = ("advantages", "advantage", "reward", "weight", "loss_weight", "loss_multiplier")
_OF_A_GROUP = (
    *(("system",), TOOLS, ("chat_template_kwargs",), ("enable_thinking",), _FLAGS),
    *(_VALUES[:2], _VALUES[2:3], _VALUES[3:]),
)
_LISTS = ("calls", "steps")  # of a group's calls
_LEVELS: tuple[str, ...] = (*_LISTS, "subagent_trajectories", "traces", "nodes", "request")
_LEVELS += ("model_parameters", "response", "choices", "candidates")
_CHANGES = ("chat_template", "documents", "previous_response_id", "conversation")
NAMES = ("id", "call_id", "model_call_id")
_ASKED = ("messages", "prompt", "input")
_OF_A_CALL = {*_PROMPT_IDS, *IDS, *ANSWERS}
_LOGS = ("nodes", "traces", "responses_create_params")
_OTHERS = ("stop", "stop_token_ids", "extra_body")


class Call(Struct, frozen=True):
    """A call, as this check reads it.

    Attributes:
        id: its own, else the place of its record, with its number if that has several.
        chat: the messages of the prompt and, last, the answer; None without messages.
        prompt: token ids of the prompt; None without ids.
        completion: token ids of the completion; None without ids.
        mask: which ids of the completion are trained; None for all.
        logprobs: one for each id of the completion; None without any.
        advantages: one for each id of the completion, or one number; None without any.
        weight: loss weight of the completion.
        role: none, chosen or rejected.
        trained: False also for a call that failed.
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


@known_shape()
def read_calls(record: Json, reading: Reading, where: str) -> list[Call]:
    """Read the calls of a decoded record.

    Raises:
        NotChecked: the record has an unknown shape.
        Refused: pack must refuse the record.
    """
    record = as_group(_with_options(record, reading))
    calls = next((record[name] for name in _LISTS if record.get(name)), None)
    if any(name in record for name in _LOGS) or str(record.get("schema_version"))[:4] == "ATIF":
        listed = calls_of_harness(record)
        if listed is None:
            raise NotChecked("a log of a harness in an unknown form")
    elif isinstance(calls, list):
        known = {*_OF_A_CALL, "tokens"}
        if not all(isinstance(each, dict) and {*each} & known for each in calls):
            raise NotChecked("a list whose elements may not be calls")
        listed = as_they_ended([_inherited(record, each) for each in calls], record)
    else:
        listed = [record]
    found = [call for each in listed for call in _calls(each, reading)]
    return [
        call if call.id else replace(call, id=f"{where}#{number}" if len(found) > 1 else where)
        for number, call in enumerate(found)
    ]


def _with_options(record: Json, reading: Reading) -> Json:
    """Drop and rename fields of a record as the run's options `ignore_fields` and `field` say."""
    for name in reading.ignored:
        first, *more = name.removeprefix("record.").split(".")
        if not more or first in (*_LEVELS, *TELLING):
            record = without_path(record, [first, *more])
    if any(name.split(".")[0] in _LEVELS for name in reading.renamed):
        raise NotChecked("a renamed field within a request or a response")
    known = {*_OF_A_CALL, *_LOGPROBS, *_MASK, *_VALUES, *_ASKED, *_CONTEXT, "request", *OF_THE_END}
    return renamed(record, reading.renamed, known)


def _inherited(record: Json, call: Json) -> Json:
    """Add to a call of a list the fields of its group that neither it nor its request sets."""
    request = call.get("request")
    own = call.keys() | (request.keys() if isinstance(request, dict) else set())
    names = [name for kind in _OF_A_GROUP if own.isdisjoint(kind) for name in kind]
    return {**{name: record[name] for name in names if name in record}, **call}


def _calls(record: Json, reading: Reading) -> Iterator[Call]:
    if any(kind in str(record.get("call_type")) for kind in NO_CHAT):
        return
    request = request_of(record)
    if not isinstance(request, dict) or "body" in request:
        raise NotChecked("a request that is no plain object")
    record = with_prompt_of_pair(record)
    answers = answers_of(record)
    for number, (said, role, levels) in enumerate(answers):
        answer = without_stop(said, [record, *levels])
        ids = [record.get(name) for name in NAMES]
        ids += [level["id"] for level in levels[:1] if isinstance(level.get("id"), str)]
        id_ = str(next((each for each in ids if each not in EMPTY), ""))
        id_ += f"#{number}" if id_ and len(answers) > 1 else ""
        if role == FAILED:
            if {*_PROMPT_IDS} & record.keys():
                raise NotChecked("ids of a call that failed")
            _check_options(_CHANGES, record, request)
            yield Call(id_, None, trained=False)
            continue
        call = _call(record, request, answer, levels, reading)
        yield replace(call, id=id_, role=role)


def _call(record: Json, request: Json, answer: Any, levels: list[Json], reading: Reading) -> Call:
    """Read everything of a call except its id and role."""
    places = _without_no_ids([record, *levels], request, answer)
    record = places[0]
    prompt, ids = _value(places, _PROMPT_IDS), _value(places, IDS)
    given = [request[name] for name in _REQUEST_IDS if isinstance(request.get(name), list)]
    held = [place["prompt"] for place in (record, request) if isinstance(place.get("prompt"), dict)]
    given += [each["token_ids"] for each in held if isinstance(each.get("token_ids"), list)]
    prompt = _value([{"ids": each} for each in [prompt, *given]], ("ids",)) if given else prompt
    if "tokens" in record and isinstance(record["tokens"], list):
        cut = len(record["tokens"]) - record.get("response_length", -1)
        prompt, ids = record["tokens"][:cut], record["tokens"][cut:]
    if ids is None:  # else the ids say what the model saw and where it stopped
        _check_options((*_CHANGES, *_OTHERS), record, request)
    chat = None
    if prompt is None or not isinstance(_value((record, request), _ASKED), str):
        asker = (record, request, *(level for level in levels[:1] if "output" in level))
        chat, answer = _chat(asker, answer, reading, has_ids=ids is not None)
    if (prompt is None) != (ids is None):
        raise Refused("ids of one of prompt and completion")
    mask = _mask(_value(places, _MASK), len(prompt or ()), ids)
    weight = _value(places, _VALUES[3:])
    said = (place.get(name) for place in places for name in _FLAGS)
    flags = {bool(each) for each in said if each not in EMPTY}
    is_empty = ids == [] if ids is not None else chat is None or chat.messages[-1].is_empty
    wanted = flags <= {True} and weight != 0 and not record.get("is_copied_context")
    logprobs = _logprobs(_value(places, _LOGPROBS)) if ids is not None else None
    advantages, reward = _value(places, ("advantages", "advantage")), _value(places, ("reward",))
    if {*map(type, prompt or ()), *map(type, ids or ())} - {int}:
        raise Refused("ids that are no whole numbers")
    listed = [each for each in (logprobs, advantages) if isinstance(each, list)]
    if any(len(each) != (1 if ids is None else len(ids)) for each in listed):
        raise Refused("not one logprob or advantage for each id")
    single = [each for each in (advantages, reward, weight) if not isinstance(each, list)]
    if not all(isinstance(each, int | float | None) for each in chain(single, *listed)):
        raise Refused("a logprob, an advantage, a reward or a weight that is no number")
    wanted = wanted and not is_empty and (mask is None or any(mask)) and _is_trained(answer, chat)
    weight = 1.0 if weight is None else float(weight)
    for each in places:
        check_whole(each, trained=bool(wanted))
    reward = None if reward is None else float(reward)
    values = (mask, logprobs, advantages, reward, weight)
    return Call("", chat, prompt, ids, *values, trained=bool(wanted))


def _without_no_ids(places: list[Json], request: Json, answer: Any) -> list[Json]:
    """Drop the empty lists of a call that has an answer in messages, and ids of no tokens."""
    names = (*_PROMPT_IDS, *IDS, "tokens")
    ids = [place[name] for place in places for name in names if isinstance(place.get(name), list)]
    asked = [] if answer else [place.get(name) for place in (places[0], request) for name in _ASKED]
    ends = [each[-1] for each in asked if isinstance(each, list) and each]
    answered = answer or any(is_of_model(each.get("role") or each.get("from")) for each in ends)
    if not ids or any(ids) or not answered:
        return places
    return [{name: one for name, one in place.items() if one != []} for place in places]


def _value(places: Any, names: tuple[str, ...]) -> Any:
    """Return the value that some objects have under any of some keys, which must be the same."""
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
    places: Sequence[Json], answer: Any, reading: Reading, *, has_ids: bool
) -> tuple[Chat | None, Any]:
    """Read the prompt's messages and the answer; None if only its token ids can be used.

    The answer is returned as well, as it may end the prompt. `places` are the record, its request
    and, in OpenAI's Responses, the response, which repeats system text and tools.
    """
    record, request, *echo = places
    asked = [{n: in_text(p[n]) for n in _ASKED if n in p} for p in (record, request)]
    asked = _value([{n: v for n, v in p.items() if not isinstance(v, dict)} for p in asked], _ASKED)
    if isinstance(asked, list) and not all(isinstance(each, dict) for each in asked):
        raise NotChecked("a prompt that is no list of messages")
    last_asked = asked[-1] if isinstance(asked, list) and asked else {}
    goes_on = is_of_model(last_asked.get("role") or last_asked.get("from"))
    may_go_on = goes_on and isinstance(answer, dict)  # as Anthropic's and OpenRouter's do
    if answer is None and goes_on:
        *asked, last_asked = asked
        answer = without_stop(last_asked, [record])
    answer = with_content(answer)
    items = answer if isinstance(answer, list) else [answer]
    if may_go_on and (items[0].get("type") == "message" or "native_finish_reason" in items[0]):
        raise NotChecked("an answer that may continue the last message of the prompt")
    context = _context(record, request, *echo)
    if isinstance(asked, list) and asked and "system" in context:
        first = asked[0].get("content", asked[0].get("value"))
        role = asked[0].get("role", asked[0].get("from"))
        if role in ("system", "developer") and _as_text(first) != _as_text(context["system"]):
            asked = [{"role": "system", "content": context.pop("system")}, *asked]
    is_begun = goes_on and asked == [] and "system" in context  # the prompt is the system text
    said = {"messages": items} if is_begun else {"prompt": asked, "completion": items}
    try:
        if answer is None or (asked in EMPTY and not is_begun):
            raise Refused("no prompt, or no answer")
        if sum(each.get("type", "message") == "message" for each in items) > 1:
            raise Refused("an answer of several messages")
        read = read_chat({**context, **said}, reading)
        *before, last = read.messages
        if before and _repeats(before[-1], last):
            before.pop()
        if last.role != "assistant" or not before:
            raise Refused("an answer without a message before it")
    except (NotChecked, Refused):
        if has_ids:
            return None, answer
        raise
    if has_ids and last.cut and last.is_silent and not last.thinks:
        return None, answer  # the ids say what was written
    history = [replace(each, trained=False) for each in before]
    return replace(read, messages=(*history, last)), answer


def _as_text(content: Any) -> Any:
    return "".join(p.get("text") for p in content) if isinstance(content, list) else content


def _context(record: Json, request: Json, *echo: Json) -> Json:
    """Collect system text, tools and template variables of a request, as fields of a chat."""
    context = {name: _value((record, request), (name,)) for name in _CONTEXT}
    instructions = _value((record, request), ("instructions",))
    if instructions is not None and context["system"] not in (None, instructions):
        raise Refused("a system text and instructions that differ")
    context["system"] = context["system"] if instructions is None else instructions
    for place in echo:  # counts only where record and request have nothing
        if context["system"] is None:
            context["system"] = place.get("instructions") or None
        if all(context[name] is None for name in TOOLS):
            context["tools"] = place.get("tools") or None
    efforts = [place.get("reasoning_effort") for place in (record, request)]
    nested = [place.get("reasoning") for place in (record, request)]
    efforts += [each.get("effort") for each in nested if isinstance(each, dict)]
    given = [each for each in efforts if isinstance(each, str) and each]
    if given:
        held = context["chat_template_kwargs"] or {}
        said = {*given, held.get("reasoning_effort", given[0])} if isinstance(held, dict) else ()
        if len(said) != 1:
            raise NotChecked("reasoning efforts that differ")
        context["chat_template_kwargs"] = {"reasoning_effort": given[0], **held}
    return {name: value for name, value in context.items() if value is not None}


def _check_options(names: Sequence[str], *places: Json) -> None:
    if any(place.get(name) not in EMPTY for place in places for name in names):
        raise NotChecked("options of a request that change the prompt or the stop")


def _repeats(one: Any, answer: Any) -> bool:
    """Return whether a message of the prompt repeats the answer, perhaps without its reasoning."""
    return (
        one.role == "assistant"
        and (one.content, one.null) == (answer.content, answer.null)
        and one.reasoning in ("", answer.reasoning)
        and [call["function"] for call in one.calls] == [call["function"] for call in answer.calls]
    )


def _is_trained(answer: Any, chat: Chat | None) -> bool:
    if chat is not None:
        return chat.messages[-1].trained
    last = answer[-1] if isinstance(answer, list) and answer else answer
    return not isinstance(last, dict) or all(last.get(name, 1) != 0 for name in FLAGS)
