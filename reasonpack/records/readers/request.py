"""The request to a service → the prompt and context of a draft.

    {"messages": […], "tools": […], "reasoning_effort": "high"}       OpenAI's chat completions
    {"input": […], "instructions": "Be brief.", "tools": […]}         OpenAI's Responses
    {"messages": […], "system": […], "tools": [{"input_schema": …}]}  Anthropic's Messages

Options that only steer sampling are ignored. Options that change what the model sees, and that
chat templates are not given here, are refused in calls without ids: their prompts cannot be
rendered as the model saw them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.call_draft import CONTEXT_FIELDS, CallDraft
from reasonpack.records.draft import content_of, is_absent, present
from reasonpack.records.readers.levels import Level, add_found, found_in
from reasonpack.records.strict_json import step
from reasonpack.records.tools import TOOL_FIELDS
from reasonpack.records.unknown import strings
from reasonpack.records.unread_fields import refuse_whole

PROMPTS = ("messages", "prompt", "input")
"""Names of the field that holds the prompt."""
_IDS = ("prompt_token_ids", "token_ids", "input_ids")
"""Names of the field of a request that holds the token ids of the prompt."""
_HISTORY = (
    "the conversation that it names is not in the log",
    "all that the model saw",
    "log the whole input of each request, or the ids of prompt and completion",
)
_LOG_IDS = "log the ids of prompt and completion, or leave the call out"
_CHANGES = {
    "previous_response_id": _HISTORY,
    "conversation": _HISTORY,
    "chat_template": (
        "a chat template of the request's own",
        "the one that the run is given",
        "pack such calls by themselves with --chat-template, and leave the field out",
    ),
    "documents": (
        "documents for the chat template",
        "all that the model saw in messages",
        "write them as chat_template_kwargs.documents",
    ),
    "continue_final_message": (
        "an answer that continues the last message of the prompt",
        "its own message",
        _LOG_IDS,
    ),
    "add_generation_prompt": ("a prompt without its generation prompt", "one with it", _LOG_IDS),
}
"""Options that change what the model sees: the fault, what was expected, and the fix."""
_HARMLESS = {"continue_final_message": False, "add_generation_prompt": True}
"""Values of these that change nothing."""
STOPS = ("stop", "stop_token_ids")
"""Options that make the service stop where the model wrote no stop token."""
EFFORT = ("reasoning_effort", "reasoning")
OF_A_REQUEST = frozenset(
    (
        *(*PROMPTS, *CONTEXT_FIELDS, *_CHANGES, *EFFORT, "instructions", "extra_body"),
        *("thinking", "include_reasoning", "text", "functions", "function_call", *STOPS, *_IDS),
    )
)
"""Names of the fields of a request that are read, or that only steer sampling."""
_CONTEXT = {name: (name,) for name in CONTEXT_FIELDS}


def add_prompt(draft: CallDraft, levels: Sequence[Level]) -> None:
    """Add to a draft the prompt, which may be in the record or in its request.

    Raises:
        RecordError: two prompts differ, or one is only named by its id, or has media.
    """
    for each in levels:
        for name in present(each.fields, (*PROMPTS, *(_IDS if "input_ids" in each.read else ()))):
            value, path = _messages_in(each.get(name)), step(each.path, name)
            if isinstance(value, dict) and isinstance(value.get("token_ids"), list):
                refuse_whole(value, each.reading.ignored, path, name)
                path, value = f"{path}.token_ids", value["token_ids"]
            if is_absent(value) or isinstance(value, dict):
                if name == "prompt" and value and "id" in value:
                    raise RecordError("content", path, *_HISTORY)
                continue
            is_ids = isinstance(value, list) and set(map(type, value)) == {int}
            kind = "prompt_ids" if is_ids else "prompt"
            before = draft.tokens.get(kind) if is_ids else draft.prompt
            if before not in (None, value):
                what, fix = f"differs from {draft.places[kind]}", "keep the one that was sent"
                raise RecordError("conflict", path, what, "one prompt", fix)
            draft.places.setdefault(kind, path)
            if is_ids:
                draft.tokens[kind] = value
            draft.prompt = draft.prompt if is_ids else value


def _messages_in(value: Any) -> Any:
    """Decode a text that is a JSON list of messages; return other values unchanged."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        with suppress(RecordError):
            held = strict_json.decode(value.encode())
            if held and all(isinstance(each, dict) and "role" in each for each in held):
                return held
    return value


def add_context(draft: CallDraft, levels: Sequence[Level]) -> None:
    """Add to a draft the tools, the system text and the template's variables.

    Raises:
        RecordError: two values of one of these differ.
    """
    add_found(draft, [(draft.context, _CONTEXT)], levels)
    if instructions := found_in(levels, ("instructions",)):
        if draft.context.get("system", instructions[1]) != instructions[1]:
            what, expected = f"differs from {draft.places['system']}", "one system text"
            raise RecordError("conflict", instructions[0], what, expected, "keep one of the two")
        draft.places["system"], draft.context["system"] = instructions
    for each in levels:
        _add_extra(draft, each)


def add_echoes(draft: CallDraft, response: Level) -> None:
    """Add the tools and the system text that a response repeats, if the request has none."""
    for name, kind in (("tools", "tools"), ("instructions", "system")):
        has = set(draft.context) & ({*TOOL_FIELDS} if kind == "tools" else {kind})
        value = response.get(name)
        if not has and not is_absent(value):
            draft.context[kind], draft.places[kind] = value, step(response.path, name)


def lead(draft: CallDraft) -> None:
    """Put the system text before messages that begin with another one: the model saw both."""
    prompt, system = draft.prompt, draft.context.get("system")
    first = prompt[0] if isinstance(prompt, list) and prompt else None
    if is_absent(system) or not isinstance(first, dict):
        return
    role = first.get("role") or first.get("from")
    if role in ("system", "developer") and _text(content_of(first)) != _text(system):
        draft.prompt = [{"role": "system", "content": draft.context.pop("system")}, *prompt]
        at = draft.places["prompt"]
        draft.places |= {f"prompt[{i + 1}]": f"{at}[{i}]" for i in range(len(prompt))}
        draft.places["prompt[0].content"] = draft.places["system"]


def _text(content: Any) -> Any:
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    return "".join(strings([part.get("text") for part in content]))


def _add_extra(draft: CallDraft, level: Level) -> None:
    """Add template variables in `extra_body`, and the reasoning effort as such a variable."""
    extra = level.get("extra_body")
    if isinstance(extra, dict) and not is_absent(extra.get("chat_template_kwargs")):
        _add_variables(
            draft,
            extra["chat_template_kwargs"],
            f"{step(level.path, 'extra_body')}.chat_template_kwargs",
        )
    for name in present(level.fields, EFFORT):
        value, path = level.get(name), step(level.path, name)
        if isinstance(value, dict):
            path, value = f"{path}.effort", value.get("effort")
        if name == "reasoning" and not isinstance(level.fields.get(name), dict):
            continue  # a text: the reasoning of an answer
        if isinstance(value, str) and value:
            _add_variables(draft, {"reasoning_effort": value}, path)


def _add_variables(draft: CallDraft, variables: object, path: str) -> None:
    held = draft.context.get("chat_template_kwargs") or {}
    if not isinstance(held, dict) or not isinstance(variables, dict):
        differs = held != variables
    else:
        differs = any(held.get(name, value) != value for name, value in variables.items())
        draft.context["chat_template_kwargs"] = {**variables, **held}
        draft.places.setdefault("chat_template_kwargs", path)
    if differs:
        what = f"differs from {draft.place('chat_template_kwargs')}"
        raise RecordError("conflict", path, what, "the same", "keep one of the two")


def refuse_changes(levels: Sequence[Level]) -> None:
    """Refuse the options in `_CHANGES`, which change what the model sees.

    Raises:
        RecordError: one of them has a value that does.
    """
    for each in levels:
        for name in present(each.fields, _CHANGES):
            if name in each.read and each.fields[name] != _HARMLESS.get(name):
                raise RecordError("content", step(each.path, name), *_CHANGES[name])
