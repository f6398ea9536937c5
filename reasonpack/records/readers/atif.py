"""Trajectories in Harbor's format, ATIF → drafts of calls: one for each step of the agent.

    {"schema_version": "ATIF-v1.8", "session_id": "s", "agent": {"tool_definitions": […], …},
     "steps": [{"step_id": 1, "source": "user", "message": "How many boats?"},
               {"step_id": 2, "source": "agent", "message": "", "tool_calls": […],
                "observation": {"results": [{"source_call_id": "c", "content": "12"}]},
                "metrics": {"prompt_token_ids": […], "completion_token_ids": […]}}]}

The prompt of a step is all steps before it, except system steps with an observation: these are
operations, which may have changed the context. Steps that were copied from another trajectory are
only context. A step that stands for several calls, follows a rewritten context, or was parsed
(Terminus) is not trained: what the model saw or wrote there is not in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft, Said, draft_of
from reasonpack.records.draft import is_absent, made_call
from reasonpack.records.last_answer import OF_THE_END
from reasonpack.records.readers.levels import Level, Place, found_in, noted
from reasonpack.records.reading import Reading
from reasonpack.records.strict_json import quoted, step
from reasonpack.records.value_types import typed

VERSIONS = tuple(f"ATIF-v1.{minor}" for minor in range(9))
"""The versions of the format that are read."""
_TRAJECTORY_FIELDS = """
    agent continued_trajectory_ref extra final_metrics notes schema_version session_id steps
    subagent_trajectories trajectory_id
"""
_STEP_FIELDS = """
    extra is_copied_context llm_call_count message metrics model_name observation
    reasoning_content reasoning_effort source step_id timestamp tool_calls
"""
_TRAJECTORY, _STEP = (OF_THE_END.union(x.split()) for x in (_TRAJECTORY_FIELDS, _STEP_FIELDS))
_NESTED = "subagent_trajectories"
_IDS = {"prompt_token_ids": "prompt_ids", "completion_token_ids": "completion_ids"}
_METRICS = {**_IDS, "logprobs": "logprobs"}


def is_mine(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a trajectory."""
    return str(record.get("schema_version")).startswith("ATIF-v") and "steps" in record


def drafts(record: Mapping[str, Any], reading: Reading) -> list[CallDraft]:
    """Return the calls of a trajectory, and of the trajectories of sub-agents in it.

    Raises:
        RecordError: the version is unknown, or a step cannot be read.
    """
    return [*_trajectory(record, Place(reading))]


def _trajectory(record: Mapping[str, Any], place: Place) -> Iterator[CallDraft]:
    version = record.get("schema_version", VERSIONS[-1])
    if version not in VERSIONS:
        what, expected = f"got {quoted(str(version))}", f"one of {VERSIONS[0]} to {VERSIONS[-1]}"
        fix = "read it with a reasonpack that knows it, or write it in such a version"
        raise RecordError("type", place.below("schema_version").path, what, expected, fix)
    own = place.level(record, _TRAJECTORY)
    steps = own.below("steps").levels(record.get("steps"), _STEP)
    yield from noted(_steps(record, steps, own), [own], items=steps)
    nested = record.get(_NESTED) or []
    for i, each in enumerate(typed(nested, list[dict[str, Any]], _NESTED)):
        yield from _trajectory(each, replace(own.below(_NESTED).item(i), name=_NESTED))


def _steps(record: Mapping[str, Any], steps: list[Level], own: Level) -> Iterator[CallDraft]:
    agent = record["agent"] if isinstance(record.get("agent"), dict) else {}
    tools = agent.get("tool_definitions")
    # Terminus has no tools: the calls that it logs were parsed from the text of its answers.
    parses = str(agent.get("name")).startswith("terminus")
    parses = parses and any(not is_absent(each.fields.get("tool_calls")) for each in steps)
    own_id = record.get("trajectory_id") or record.get("session_id") or ""
    before: list[Said] = []
    lacking = [] if is_absent(tools) is False else ["missing tools"]
    if not steps or steps[0].fields.get("source") != "system":
        lacking.append("missing system")
    rewritten = False
    for each in steps:
        message = _message(each)
        if message["role"] == "system" and not is_absent(each.fields.get("observation")):
            rewritten = True
            continue
        if message["role"] == "assistant":
            draft = draft_of(
                before,
                [Said(message, each.path)],
                id=f"{own_id}:{each.fields.get('step_id')}" if own_id else "",
                context=_context(tools, each.fields.get("reasoning_effort")),
                places={
                    "tools": step(own.path, "agent.tool_definitions"),
                    "prompt": own.below("steps").path,
                    "completion[0].content": f"{each.path}.message",
                },
                notes=[*lacking],
            )
            unseen = ("rewritten-context",) if rewritten else ("parsed-answer",) * parses
            _judge(draft, each, unseen)
            yield draft
        extra = each.fields.get("extra")
        rewritten |= isinstance(extra, dict) and not is_absent(extra.get("context_management"))
        before += [Said(message, each.path), *_results(each)]


def _context(tools: object, effort: object) -> dict[str, Any]:
    variables = {"reasoning_effort": effort} if isinstance(effort, str) and effort else None
    found = {"tools": tools, "chat_template_kwargs": variables}
    return {name: value for name, value in found.items() if not is_absent(value)}


def _judge(draft: CallDraft, step_: Level, unseen: tuple[str, ...]) -> None:
    """Add the ids of a step to its draft, and a flag if it is not one call that can be trained."""
    draft.copied = bool(found_in((step_,), ("is_copied_context",))) and bool(
        typed(step_.fields["is_copied_context"], bool, f"{step_.path}.is_copied_context")
    )
    if isinstance(step_.fields.get("metrics"), dict):
        metrics = step_.below("metrics").level(step_.fields["metrics"], _METRICS)
        draft.notes += metrics.notes
        found = {n: metrics.fields[n] for n in _METRICS if metrics.fields.get(n) is not None}
        if not _IDS.keys() <= found.keys():
            draft.notes += [f"unread metrics.{name}" for name in found]
            found = {}
        for name, value in found.items():
            draft.tokens[_METRICS[name]] = value
            draft.places[_METRICS[name]] = f"{metrics.path}.{name}"
    count = step_.fields.get("llm_call_count")
    if count not in (None, 1):
        draft.flags["train"] = False
        draft.notes.append("several-calls" if count else "no-model-call")
        draft.tokens.clear()
    elif unseen and not draft.tokens:
        draft.flags["train"] = False
        draft.notes += unseen


_ROLES = {"system": "system", "user": "user", "agent": "assistant"}


def _message(step_: Level) -> dict[str, Any]:
    fields = step_.fields
    source = fields.get("source")
    if source not in (*_ROLES,):  # of any type
        what, expected = f"got {quoted(str(source))}", "system, user or agent"
        raise RecordError("role", f"{step_.path}.source", what, expected, "write one of these")
    message: dict[str, Any] = {"role": _ROLES[source], "content": fields.get("message")}
    if source != "agent":
        return message
    if not is_absent(fields.get("reasoning_content")):
        message["reasoning_content"] = fields["reasoning_content"]
    calls = typed(fields.get("tool_calls") or [], list[dict[str, Any]], f"{step_.path}.tool_calls")
    message["content"] = message["content"] or ("" if not calls else None)
    if calls:
        names = ("tool_call_id", "function_name", "arguments")
        message["tool_calls"] = [made_call(*map(call.get, names)) for call in calls]
    return message


def _results(step_: Level) -> Iterator[Said]:
    """Yield the results in a step's observation as messages.

    A result of no call becomes a user message, as harnesses show their terminal so.
    """
    observation = step_.fields.get("observation")
    if not isinstance(observation, dict):
        return
    at = f"{step_.path}.observation.results"
    for i, result in enumerate(typed(observation.get("results") or [], list[dict[str, Any]], at)):
        content = result.get("content")
        message: dict[str, Any] = {"role": "user", "content": "" if content is None else content}
        if result.get("source_call_id") is not None:
            message |= {"role": "tool", "tool_call_id": result["source_call_id"]}
        yield Said(message, f"{at}[{i}]")
