"""A record of calls in the generic shape, or of a request and its response → drafts of calls.

    {"messages": […], "tools": […], "response": "4"}
    {"request": {"messages": […]}, "response": {"choices": [{"message": {…}}, …]}}
    {"prompt_token_ids": […], "completion_token_ids": […], "logprobs": […], "advantage": 0.5}
    {"group": "g", "tools": […], "calls": [{"messages": […], "response": …}, …]}
    {"messages": […], "chosen": "4", "rejected": "5"}

The fields of the request are in the record or in its `request`, the answers in one of `ANSWERS`.
Several answers to one prompt are several calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import chain
from typing import Any

from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import (
    CALL_FLAGS,
    CONTEXT_FIELDS,
    TOKEN_NAMES,
    VALUE_NAMES,
    CallDraft,
    Role,
)
from reasonpack.records.draft import (
    REASONING,
    is_absent,
    is_answer,
    is_effort,
    present,
    reasoning_beside,
)
from reasonpack.records.last_answer import OF_THE_END, TELLING, is_cut
from reasonpack.records.readers.answers import (
    PAIR,
    Answer,
    answers_of,
    body_of,
    candidate,
    candidates_of,
    unwrapped,
    with_choices,
    with_prompt_of_pair,
)
from reasonpack.records.readers.levels import (
    TOKEN_FIELDS,
    Level,
    Place,
    add_found,
    add_sequence,
    cut_off,
    found_in,
    leave_out_no_ids,
    noted,
)
from reasonpack.records.readers.request import (
    OF_A_REQUEST,
    PROMPTS,
    STOPS,
    add_context,
    add_echoes,
    add_prompt,
    lead,
    refuse_changes,
)
from reasonpack.records.reading import Reading
from reasonpack.records.strict_json import step
from reasonpack.records.tools import TOOL_FIELDS, json_field
from reasonpack.records.unknown import strings
from reasonpack.records.value_types import typed, wrong_type

ANSWERS = ("response", "completion", "choices", "candidates", "output", *PAIR)
"""Names of the fields that hold answers."""
_SAY_NONE = ("response", "choices")
"""Those that, if they hold nothing, say that the call has no answer."""
IDS = ("id", "call_id", "model_call_id")
"""Names of the field that has the call's own id."""
LISTS = ("calls", "steps")
"""Names of the field that holds all calls of a group."""
OF_A_CALL = frozenset(
    (
        *(*ANSWERS, *PROMPTS, *IDS, *CALL_FLAGS, *CONTEXT_FIELDS, *TOKEN_FIELDS),
        *("request", "is_copied_context", "tokens", "response_length"),
        *("instructions", "extra_body", "reasoning_effort", *OF_THE_END),
    )
)
"""Names of the fields of a call that are read."""
_FLAGS = {name: (name,) for name in CALL_FLAGS}
_INHERITED = (
    *((name,) for name in CONTEXT_FIELDS if name not in TOOL_FIELDS),
    *(TOOL_FIELDS, *VALUE_NAMES.values(), TOKEN_NAMES["advantages"], CALL_FLAGS),
)
"""Fields that the calls of a group inherit from it, each with its other names."""
OF_A_GROUP = OF_THE_END.union(LISTS, IDS, *_INHERITED)
"""Names of the fields of a group that are read."""


def drafts(record: Mapping[str, Any], reading: Reading) -> list[CallDraft]:
    """Return the calls of a record.

    Raises:
        RecordError: a call cannot be read, or its parts contradict each other.
    """
    name = next((name for name in LISTS if holds_calls(record.get(name))), "")
    if not name:
        return [*calls_of(record, Place(reading))]
    group, calls = Place(reading).level(record, OF_A_GROUP), record[name]
    ends = [*[()] * (len(calls) - 1), TELLING]
    found = (
        calls_of(call, group.below(name).item(i), outer=[inherited(group, call, ends[i])])
        for i, call in enumerate(calls)
    )
    return [*noted(chain.from_iterable(found), [group])]


def holds_calls(value: object) -> bool:
    """Return whether a value is a list of generic calls, and not of steps of another format."""
    return isinstance(value, list) and bool(value) and all(map(is_call, value))


def is_call(record: object) -> bool:
    """Return whether an object is a generic call: prompt and answer, a pair of lists, or ids."""
    if not isinstance(record, dict):
        return False
    answers = _names_of_answers(record)
    asked = present(record, (*PROMPTS, "request"))
    says_none = {*_SAY_NONE, *(("error",) if "request" in asked else ())} & record.keys()
    is_pair = all(isinstance(record.get(name), list) for name in PAIR)
    answered = bool(answers or says_none or record.get("error"))
    return is_pair or bool((answered and asked) or ids_in(record))


def ids_in(record: Mapping[str, Any]) -> set[str]:
    """Return of which part of a call a record has ids: `prompt_ids`, `completion_ids`, or both."""
    if isinstance(record.get("tokens"), list) and "response_length" in record:
        return {"prompt_ids", "completion_ids"}
    return {
        kind
        for kind in ("prompt_ids", "completion_ids")
        if any(name in record and isinstance(record[name], list) for name in TOKEN_NAMES[kind])
    }


def inherited(group: Level, call: Mapping[str, Any], ends: Iterable[str] = ()) -> Level:
    """Return the fields that a call inherits from its group: `ends`, and those that it lacks."""
    request = call.get("request")
    own = call.keys() | (request.keys() if isinstance(request, dict) else set())
    names = [name for kind in _INHERITED if own.isdisjoint(kind) for name in kind]
    names += ends
    fields = {name: group.fields[name] for name in names if name in group.fields}
    return replace(group, fields=fields, notes=())


def calls_of(
    record: Mapping[str, Any],
    place: Place,
    *,
    outer: Sequence[Level] = (),
    request: str = "request",
    passed: AbstractSet[str] = frozenset(),
) -> Iterator[CallDraft]:
    """Yield the calls of one object, one for each answer in it.

    Args:
        record: the object.
        place: where it is in the record.
        outer: the fields that it inherits from its group, and other objects around its answers.
        request: name of the field that holds the request.
        passed: names of the further fields of its log format, which hold nothing to learn.

    Raises:
        RecordError: it cannot be read, or its parts contradict each other.
    """
    is_text = any(isinstance(record.get(key), str) for key in ("response", "completion", "output"))
    texts = {name: record.get(name) for name in REASONING if is_text}
    texts = {name: text for name, text in texts.items() if isinstance(text, str | None)}
    more = {request, *passed, *(name for name, text in texts.items() if not is_effort(text))}
    own = place.level(record, OF_A_CALL if more <= OF_A_CALL else OF_A_CALL | more)
    own = with_choices(with_prompt_of_pair(own))
    above = [*outer, own]
    sent = [each for each in (_request(own, request),) if each]
    answers: Sequence[tuple[Answer | None, Role]] = _answers(own) or [(None, "none")]
    own_id = next((own.fields[key] for key in present(own.fields, IDS)), "")
    own_id = str(typed(own_id, str | int, place.below("id").path))
    if len(answers) > 1:
        _refuse_shared(own)
    for i, (answer, role) in enumerate(answers):
        one_id = own_id or (answer.id if answer else "")
        one_id += f"#{i}" if one_id and len(answers) > 1 else ""
        around = [*above, *(answer.levels if answer else ())]
        found = CallDraft(id=one_id, role=role)
        _add_values(found, around)
        add_prompt(found, [*above, *sent])
        add_context(found, [*above, *sent])
        if answer:
            _add_answer(found, answer)
        leave_out_no_ids(found)
        lead(found)
        if "completion_ids" not in found.tokens:
            _refuse_unseen(found, [*around, *sent], answer)
            found.notes += [] if answer or not _failed(own, found.prompt) else ["failed-call"]
        said = [found.prompt, found.answer]
        yield from noted([found], around, partial(strings, said), items=sent)


def _failed(own: Level, prompt: Any) -> bool:
    """Return whether a call says that it has no answer; rows leave out a null `response`."""
    said = {*_SAY_NONE, *(("request",) if own.reading.of_rows else ())} & own.fields.keys()
    last = prompt[-1] if isinstance(prompt, list) and prompt else prompt
    return bool(last and (said or own.fields.get("error"))) and not is_answer(last)


def _request(own: Level, key: str) -> Level | None:
    """Return the request of a call; None if that has no object of its own."""
    key = "input" if key not in own.fields and isinstance(own.fields.get("input"), dict) else key
    place, request = own.below(key), json_field(own.fields, key)
    if is_absent(request):
        return None
    if not isinstance(request, dict):
        raise wrong_type(place.path, type(request).__name__, "an object")
    if body := body_of(request, place):  # from a batch, or logged by a proxy
        request, place = body, place.below("body")
    return place.level(request, OF_A_REQUEST)


# -------------------------------------------------------------------- answers


def _answers(own: Level) -> list[tuple[Answer, Role]]:
    """Return the answers of a call, each with its role."""
    fields = own.fields
    found = _names_of_answers(fields)
    pair = [name for name in PAIR if name in found]
    if len(found) > 1 and found != pair:
        what, fix = " and ".join(found), "keep the one to train on"
        raise RecordError("conflict", own.path, what, "one of them", fix)
    if pair:
        return [_of_pair(name, own) for name in pair]
    if not found:
        found = [name for name in ("response", "completion") if fields.get(name) == ""][:1]
    if not found:
        return []
    (name,) = found
    place = own.below(name)
    value = unwrapped(fields[name], place.path)
    if name == "candidates":
        answers = candidates_of(value, place)
    elif name == "choices" or (name == "output" and isinstance(value, list)):
        answers = answers_of({name: value}, own)
    elif isinstance(value, str):
        items: list[Any] = [{"role": "assistant", "content": value, **reasoning_beside(fields)}]
        answers = [Answer(items=items, place=place.path)]
    else:
        answers = answers_of(value, place)
    return [(answer, "none") for answer in answers]


def _names_of_answers(fields: Mapping[str, Any]) -> list[str]:
    """Return which fields hold answers; `output` is one next to an input, or a list of items."""
    found = present(fields, ANSWERS)
    is_answer_to = found == ["output"] and isinstance(fields.get("input"), list | dict)
    if is_answer_to or isinstance(fields.get("output"), list):
        return found
    return [name for name in found if name != "output"]


def _of_pair(name: Role, own: Level) -> tuple[Answer, Role]:
    """Return the chosen or the rejected answer; it may be the last of a list, after the prompt."""
    value, place = own.fields[name], own.below(name)
    if isinstance(value, list):
        *before, last = value
        if before and before != own.fields.get("messages", own.fields.get("prompt")):
            what = "messages before the answer that differ from the prompt"
            fix = "write the messages that both answers have in common as messages"
            raise RecordError("conflict", place.path, what, "the same", fix)
        value, place = last, place.item(len(before))
    answers = candidate(value, place)
    if len(answers) != 1:
        what = f"{len(answers)} answers"
        raise RecordError("conflict", place.path, what, "one", "keep the one that was judged")
    return answers[0], name


def _refuse_shared(own: Level) -> None:
    """Refuse fields with values of one answer if the call has several.

    Raises:
        RecordError: reason `conflict`.
    """
    names = [*TOKEN_NAMES["completion_ids"], *TOKEN_NAMES["logprobs"], *TOKEN_NAMES["loss_mask"]]
    names += [*TOKEN_NAMES["advantages"], *VALUE_NAMES["reward"], "tokens"]
    for name in names:
        if not is_absent(own.fields.get(name)):
            what = "a value of one answer in a call with several"
            fix = f"write candidates, a list of objects with message and {name}"
            raise RecordError("conflict", step(own.path, name), what, "it in each answer", fix)


def _add_answer(draft: CallDraft, answer: Answer) -> None:
    draft.answer, draft.places["completion"] = answer.items, answer.place
    if not answer.is_list:
        draft.places["completion[0]"] = answer.place
    draft.continues = answer.continues
    for each in answer.levels:
        add_echoes(draft, each)
    if answer.failed:
        draft.notes.append("failed-call")


def _refuse_unseen(draft: CallDraft, levels: Sequence[Level], answer: Answer | None) -> None:
    """Refuse a call without ids whose prompt cannot be rendered as the model saw it.

    Raises:
        RecordError: the prompt is a text with the template's own tokens; or as `refuse_changes`.
    """
    refuse_changes(levels)
    raw_prompt = draft.place("prompt").endswith("request.prompt") and isinstance(draft.prompt, str)
    if answer and (answer.is_raw or raw_prompt):
        what = "a text prompt of a completion endpoint, which holds the tokens of the chat template"
        fix = "log the messages, or the ids of prompt and completion (return_token_ids in vLLM)"
        raise RecordError("content", draft.place("prompt"), what, "messages or token ids", fix)
    stops = any(not is_absent(each.get(name)) for each in levels for name in STOPS)
    last = draft.answer[-1] if draft.answer else None
    ends = (last, *(each.fields for each in levels)) if isinstance(last, dict) else ()
    if stops and any(each.get("finish_reason") == "stop" for each in ends):
        # The service does not say whether it stopped at such a text, or the model stopped itself.
        cut_off(draft)
        draft.notes.append("stop-sequence")


# --------------------------------------------------------------------- values


def _add_values(draft: CallDraft, levels: Sequence[Level]) -> None:
    """Add the values of tokens and of the whole call, found in any of the levels."""
    tables = (draft.tokens, TOKEN_NAMES), (draft.values, VALUE_NAMES), (draft.flags, _FLAGS)
    add_found(draft, tables, levels)
    if copied := found_in(levels, ("is_copied_context",)):
        draft.copied = typed(copied[1], bool, copied[0])
    add_sequence(draft, levels)
    if draft.tokens.get("completion_ids") and any(is_cut(each.fields) for each in levels):
        draft.notes.append("cut-off")
