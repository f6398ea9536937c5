"""The traces and rollouts of verifiers → drafts of calls: one for each answer of a model.

    {"id": …, "traces": [{"id": "t", "tools": […], "rewards": {…}, "nodes": [
        {"parent": null, "message": ask,    "token_ids": [5, 6], "mask": [false, false]},
        {"parent": 0,    "message": answer, "token_ids": [9, 7, 2], "mask": [false, true, true],
         "sampled": true, "logprobs": [-0.1, -0.2]}]}]}
                                    ↓
    call t:1    prompt [ask], ids [5, 6, 9]    answer, ids [7, 2]

A node has only the tokens that it adds. The prompt is the tokens of all nodes above it, then its
own tokens before the first sampled one. A trace may be in an episode, or a record by itself.

Before version 1 of its environments a rollout had a list of calls, each with its whole prompt:

    {"prompt": […], "completion": […], "reward": 1, "trajectory": [
        {"prompt": [ask], "completion": [answer], "response": {…}, "is_truncated": false,
         "tokens": {"prompt_ids": [5, 6, 9], "completion_ids": [7, 2], …}}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CallDraft, Said, draft_of
from reasonpack.records.call_tokens import read_ids
from reasonpack.records.draft import is_absent, without
from reasonpack.records.last_answer import OF_THE_END, TRUNCATED, is_cut
from reasonpack.records.readers.generic import OF_A_GROUP, calls_of, inherited
from reasonpack.records.readers.levels import TOKEN_FIELDS, Level, Place, has_no_stop, noted
from reasonpack.records.reading import Reading
from reasonpack.records.value_types import typed, wrong_type

_EPISODE_FIELDS = "env errors group id is_timeout ok run task traces"
_TRACE_FIELDS = """
    agent calls errors extra_usage id info is_completed is_timeout metrics mm_token_type_id_map
    nodes ok request_rewrites response_rewrites rewards root_reply state stop_condition task timing
    tools verifiers version
"""
_NODE_FIELDS = """
    advantages entropies is_content logprobs loss_weights mask message parent reference_logprobs
    sampled semantic_parents timestamp token_ids tools trainer_logprobs
"""
_ROLLOUT_FIELDS = """
    completion error_chain example_id is_completed long_error_chain metrics prompt stop_condition
    task timing token_usage trajectory version_info
"""
_TOKENS_FIELDS = "overlong_prompt prompt_attribution prompt_mask routed_experts"
_EPISODE, _TRACE, _NODE, _ROLLOUT, _TOKENS = (
    OF_THE_END.union(names.split())
    for names in (_EPISODE_FIELDS, _TRACE_FIELDS, _NODE_FIELDS, _ROLLOUT_FIELDS, _TOKENS_FIELDS)
)
_STEP = frozenset(("trajectory_id", "extras"))
_IDS = ("prompt_ids", "completion_ids")


def is_mine(record: Mapping[str, Any]) -> bool:
    """Return whether a record is an episode, a trace or a rollout."""
    if _is_rollout(record):
        return True
    traces = record.get("traces")
    found = traces if isinstance(traces, list) and traces else [record]
    return all(isinstance(each, dict) and _has_nodes(each.get("nodes")) for each in found)


def _has_nodes(nodes: object) -> bool:
    return isinstance(nodes, list) and all(
        isinstance(node, dict) and isinstance(node.get("message"), dict) for node in nodes
    )


def _is_rollout(record: Mapping[str, Any]) -> bool:
    steps = record.get("trajectory")
    return (
        isinstance(steps, list)
        and bool(steps)
        and all(isinstance(each, dict) and "tokens" in each for each in steps)
        and all(isinstance(each.get(n), list) for each in steps for n in ("prompt", "completion"))
    )


def drafts(record: Mapping[str, Any], reading: Reading) -> list[CallDraft]:
    """Return the calls of an episode, a trace or a rollout.

    Raises:
        RecordError: a node has no parent that it names, or lists of different lengths; a step of
            a rollout cannot be read.
    """
    if _is_rollout(record):
        return [*_rollout(record, Place(reading))]
    if not isinstance(record.get("traces"), list):
        return [*_trace(record, Place(reading))]
    own = Place(reading).level(record, _EPISODE)
    traces = own.below("traces")
    found = (_trace(trace, traces.item(i)) for i, trace in enumerate(record["traces"]))
    return [*noted(chain.from_iterable(found), [own])]


def _rollout(record: Mapping[str, Any], place: Place) -> Iterator[CallDraft]:
    own = place.level(record, OF_A_GROUP | _ROLLOUT)
    # It is truncated if any step is, or if the next prompt was too long.
    own = replace(own, fields=without(own.fields, TRUNCATED))
    steps = own.below("trajectory")
    found = (_step(each, steps.item(i), own) for i, each in enumerate(record["trajectory"]))
    yield from noted(chain.from_iterable(found), [own])


def _step(step: Mapping[str, Any], place: Place, rollout: Level) -> Iterator[CallDraft]:
    """Yield the call of a step: its `response` repeats the completion, and may say how it ended."""
    said = {name: value for name, value in step.items() if value is not None}
    outer, tokens = [inherited(rollout, said)], step["tokens"]
    if isinstance(tokens, dict):
        ids = {name: value for name, value in tokens.items() if value != [] or name in _IDS}
        outer.append(place.below("tokens").level(ids, _TOKENS | TOKEN_FIELDS))
    response = step.get("response")
    if isinstance(response, dict):
        choices = response.get("choices")
        held = [response.get("message"), *(choices if isinstance(choices, list) else ())]
        cut = any(isinstance(each, dict) and has_no_stop(each) for each in held)
        said |= {"truncated": True} if cut else {}
    yield from calls_of(without(said, ("response", "tokens")), place, outer=outer, passed=_STEP)


def _trace(trace: Mapping[str, Any], place: Place) -> Iterator[CallDraft]:
    own = place.level(trace, _TRACE)
    nodes = own.below("nodes").levels(trace["nodes"], _NODE)
    yield from noted(_calls(trace, own, nodes), [own], items=nodes)


def _calls(trace: Mapping[str, Any], own: Level, nodes: list[Level]) -> Iterator[CallDraft]:
    ids = [read_ids(node.fields.get("token_ids") or [], f"{node.path}.token_ids") for node in nodes]
    agent = trace.get("agent")
    by_root = any("tools" in node.fields for node in nodes)
    trainable = not (isinstance(agent, dict) and agent.get("trainable") is False)
    failed = own.fields.get("ok") is False
    for i, node in enumerate(nodes):
        if not node.fields.get("sampled"):
            continue
        way = _way(nodes, i)
        before = [nodes[n] for n in way[:-1]]
        holder = nodes[way[0]] if by_root else own  # the root has the tools of the prompt
        tools = holder.fields.get("tools")
        draft = draft_of(
            [Said(each.fields["message"], f"{each.path}.message") for each in before],
            [Said(_finished(node.fields["message"], own, i), f"{node.path}.message")],
            id=f"{trace['id']}:{i}" if isinstance(trace.get("id"), str) else "",
            context={} if is_absent(tools) else {"tool_defs": tools},
            flags={} if trainable and not failed else {"train": False},
            notes=["failed-call"] if failed else [],
            places={
                "prompt": own.below("nodes").path,
                "completion": node.path,
                "tool_defs": holder.below("tools").path,
                "reward": own.below("rewards").path,
            },
        )
        reward = _reward(trace)
        if reward is not None:
            draft.values["reward"] = reward
        if any(ids[n].size for n in way):
            _add_tokens(draft, node, [ids[n] for n in way])
        yield draft


def _way(nodes: list[Level], last: int) -> list[int]:
    """Return the indices of the nodes on the path from the root to the node `last`.

    Raises:
        RecordError: a parent does not come before its child.
    """
    way = [last]
    while (parent := nodes[way[-1]].fields.get("parent")) is not None:
        if type(parent) is not int or not 0 <= parent < way[-1]:
            what, expected = f"got {str(parent)[:30]}", "the index of a node before this one"
            fix = "write null for a root, or the index of the message before this one"
            raise RecordError("conflict", f"{nodes[way[-1]].path}.parent", what, expected, fix)
        way.append(parent)
    return way[::-1]


def _add_tokens(draft: CallDraft, node: Level, ids: list[NDArray[np.int32]]) -> None:
    """Add the tokens of a path to a draft, split into prompt and completion by the last mask."""
    own, fields, path = ids[-1], node.fields, node.path
    mask = typed(fields.get("mask") or [], list[bool], f"{path}.mask")
    if len(mask) != own.size:
        what = f"a list of {len(mask):,}"
        expected = f"a flag for each of the {own.size:,} token_ids"
        raise RecordError("conflict", f"{path}.mask", what, expected, "log both of the same tokens")
    sampled = np.flatnonzero(np.array(mask, np.bool_))
    first, stop = (int(sampled[0]), int(sampled[-1]) + 1) if sampled.size else (own.size, own.size)
    whole = np.concatenate(ids)
    start = whole.size - own.size
    draft.tokens["prompt_ids"] = whole[: start + first]
    draft.tokens["completion_ids"] = whole[start + first : start + stop]
    draft.places |= dict.fromkeys(("prompt_ids", "completion_ids"), f"{path}.token_ids")
    if sampled.size < stop - first:
        draft.tokens["loss_mask"] = mask[first:stop]
        draft.places["loss_mask"] = f"{path}.mask"
    for kind in ("logprobs", "advantages"):
        values = fields.get(kind)
        if values is None or (values == [] and sampled.size):
            continue
        values = typed(values, list[Any], f"{path}.{kind}")
        if len(values) != sampled.size:
            what = f"a list of {len(values):,}"
            expected = f"one for each of the {sampled.size:,} tokens that mask says were sampled"
            raise RecordError("conflict", f"{path}.{kind}", what, expected, "log both of one call")
        spread: list[Any] = [0.0] * (stop - first)
        for at, value in zip(sampled.tolist(), values, strict=True):
            spread[at - first] = value
        draft.tokens[kind], draft.places[kind] = spread, f"{path}.{kind}"
    _refuse_weights(node, sampled)


def _refuse_weights(node: Level, sampled: NDArray[np.intp]) -> None:
    streams = node.fields.get("loss_weights") or {}
    for name, weights in typed(
        streams, dict[str, list[float]], f"{node.path}.loss_weights"
    ).items():
        if any(at >= len(weights) or weights[at] != 1 for at in sampled.tolist()):
            what, expected = f"weights {name!r} of single tokens", "1 for all that were sampled"
            fix = f"pass --ignore-fields {node.name}.loss_weights to train all with weight 1"
            raise RecordError("weight", f"{node.path}.loss_weights", what, expected, fix)


def _finished(message: dict[str, Any], trace: Level, node: int) -> dict[str, Any]:
    """Mark a node's message as cut off if the trace's list of calls says so."""
    calls, place = trace.fields.get("calls"), trace.below("calls")
    for call in calls if isinstance(calls, list) else ():
        is_its = isinstance(call, dict) and call.get("node") == node
        if is_its and is_cut(place.level(call, OF_THE_END).fields):
            return {**message, "partial": True}
    return message


def _reward(trace: Mapping[str, Any]) -> float | None:
    """Return the weighted sum of a trace's rewards; None if there are none, or one is null."""
    rewards = trace.get("rewards")
    if not isinstance(rewards, dict) or not rewards:
        return None
    total = 0.0
    for name, reward in rewards.items():
        parts = (reward, 1.0)
        if isinstance(reward, dict):
            parts = reward.get("score"), reward.get("weight", 1.0)
        if reward is None:
            return None
        if wrong := [type(part) for part in parts if type(part) not in (int, float)]:
            raise wrong_type(f"rewards.{name}", wrong[0].__name__, "a number")
        total += parts[0] * parts[1]
    return total
