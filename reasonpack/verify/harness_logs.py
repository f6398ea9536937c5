"""Logs of verifiers, NeMo Gym and Harbor → a generic record for each call in them.

{"traces": [{"id": "t", "rewards": {"r": 1}, "nodes": [
    {"parent": null, "token_ids": [5, 6], "mask": [false, false], "message": ask},
    {"parent": 0, "token_ids": [9, 7], "mask": [false, true], "sampled": true, "message": …}]}]}
─→ call t:1, messages [ask], ids [5, 6, 9] and [7]

{"responses_create_params": …, "response": {"output": [
    {"type": "message", "prompt_token_ids": [5], "generation_token_ids": [7], …}]}}
─→ call #0, ids [5] and [7]

{"trajectory": [{"prompt": …, "completion": …, "tokens": {"prompt_ids": [5], …}}]}
─→ the same with calls, each with its ids

{"schema_version": "ATIF-v1.8", "steps": [{"source": "user", …}, {"source": "agent", …}]}
─→ a call for each step of the agent, with all steps before it as messages
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import Any

from reasonpack.verify.chat import Json, Refused
from reasonpack.verify.fields import EMPTY, all_but, has_failed, has_no_stop, was_cut
from reasonpack.verify.record_names import LIMITED, OF_A_MODEL, TELLING, is_of_model

_IDS = ("prompt_token_ids", "generation_token_ids", "generation_log_probs", "routed_experts")
_METRICS = ("prompt_token_ids", "completion_token_ids", "logprobs")
_VERSIONS = [f"ATIF-v1.{minor}" for minor in range(9)]


def calls_of_harness(record: Json) -> list[Json] | None:
    """Return a generic record for each call of a record; None if it is not from such a log.

    Raises:
        Refused: pack must refuse the record.
    """
    if isinstance(record.get("responses_create_params"), dict):
        return as_they_ended([*_of_rollout(record)], record)
    if str(record.get("schema_version")).startswith("ATIF-v"):
        return [*_of_trajectory(record)]
    traces = record.get("traces", [record])
    if not isinstance(traces, list) or not all("nodes" in each for each in traces):
        return None
    calls = [call for trace in traces for call in as_they_ended([*_of_trace(trace)], trace)]
    return as_they_ended(calls, record)


def as_they_ended(calls: list[Json], around: Json) -> list[Json]:
    """Mark the last of some calls as cut off, or all as failed, if the object around them is."""
    if has_failed(around):
        return [{**call, "status": "failed"} for call in calls]
    if calls and has_no_stop(around):
        calls[-1]["truncated"] = True
    return calls


def as_group(record: Json) -> Json:
    """Return a rollout of verifiers as a list of calls; another record as it is."""
    steps = record.get("trajectory")
    if not isinstance(steps, list) or not steps:
        return record
    if not all(isinstance(each, dict) and {*_STEP} <= each.keys() for each in steps):
        return record
    # It is truncated if any step is, or if the next prompt was too long.
    rest = all_but(record, ("prompt", "completion", "trajectory", *LIMITED))
    return {**rest, "calls": [*map(_as_call, steps)]}


_STEP = ("prompt", "completion", "tokens")


def _as_call(step: Json) -> Json:
    tokens, response = step["tokens"] or {}, step.get("response")
    response = response if isinstance(response, dict) else {}
    around = [step, tokens, response.get("message") or {}, *(response.get("choices") or ())]
    said = {name: one for name, one in step.items() if one is not None and name not in _PASSED}
    ids = {name: one for name, one in tokens.items() if name in _OF_TOKENS}
    ids = {name: one for name, one in ids.items() if one != [] or name[-3:] == "ids"}
    return {**said, **ids, "truncated": any(map(has_no_stop, around))}


_PASSED = ("tokens", "response", "extras")
_OF_TOKENS = ("prompt_ids", "completion_ids", "completion_mask", "completion_logprobs")


# --- verifiers ---------------------------------------------------------------------------------


def _of_trace(trace: Json) -> Iterator[Json]:
    agent, nodes, own = trace.get("agent"), trace["nodes"], trace.get("id")
    cut = {call.get("node") for call in trace.get("calls") or () if was_cut(call)}
    for number, node in enumerate(nodes):
        if not node.get("sampled"):
            continue
        way, at, below = list[Json](), node.get("parent"), number
        while at is not None:
            if not 0 <= at < below:
                raise Refused("a parent that does not precede its node")
            way.append(nodes[at])
            at, below = nodes[at].get("parent"), at
        way.reverse()
        tools = trace.get("tools")
        if any("tools" in each for each in nodes):  # by the prompts that they were shown in
            tools = (way or [node])[0].get("tools")
        yield {
            "id": f"{own}:{number}" if isinstance(own, str) else "",
            "messages": [each["message"] for each in way],
            "response": {"role": "assistant", **node["message"]},
            "truncated": number in cut,
            "tool_defs": tools,
            "reward": _reward(trace.get("rewards")),
            "train": trace.get("ok") is not False
            and not (isinstance(agent, dict) and agent.get("trainable") is False),
            **_tokens(node, [one for each in way for one in each.get("token_ids") or ()]),
        }


def _tokens(node: Json, before: list[int]) -> Json:
    """Split the ids of a node, with those before it, in prompt and completion; {} without."""
    ids, mask = node.get("token_ids") or [], node.get("mask") or []
    if len(mask) != len(ids) or any(each is not True and each is not False for each in mask):
        raise Refused("a mask of another length than the ids")
    if not (before or ids):
        return {}
    sampled = [at for at, one in enumerate(mask) if one]
    first, stop = (sampled[0], sampled[-1] + 1) if sampled else (len(ids), len(ids))
    streams = (node.get("loss_weights") or {}).values()
    if any(weights[at] != 1 for weights in streams for at in sampled):
        raise Refused("weights of single tokens")
    return {
        "prompt_token_ids": before + ids[:first],
        "completion_token_ids": ids[first:stop],
        "loss_mask": None if all(mask[first:stop]) else mask[first:stop],
        "logprobs": _spread(node.get("logprobs"), mask[first:stop]),
        "advantages": _spread(node.get("advantages"), mask[first:stop]),
    }


def _spread(values: list[float] | None, mask: list[bool]) -> list[float] | None:
    """Return one value for each token: those of the sampled ones, and 0 for all others."""
    if values is None or (not values and any(mask)):
        return None
    if len(values) != sum(mask):
        raise Refused("not one value for each sampled token")
    rest = iter(values)
    return [next(rest) if one else 0.0 for one in mask]


def _reward(rewards: Any) -> float | None:
    if not isinstance(rewards, dict) or not rewards or None in rewards.values():
        return None
    parts: list[tuple[Any, Any]] = [
        (each.get("score"), each.get("weight", 1.0)) if isinstance(each, dict) else (each, 1.0)
        for each in rewards.values()
    ]
    return sum((float(score * weight) for score, weight in parts), 0.0)


# --- NeMo Gym ----------------------------------------------------------------------------------


def _of_rollout(record: Json) -> Iterator[Json]:
    asked, response = record["responses_create_params"], record.get("response")
    if response in EMPTY:
        return
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise Refused("a rollout without a list of items")
    own, before = record.get("id") or response.get("id") or "", asked.get("input")
    before = [{"role": "user", "content": before}] if isinstance(before, str) else before or []
    items = [*map(_with_text, response["output"])]
    before = [*map(_with_text, before)]
    said = [all_but(item, _IDS) for item in items]
    for number, (start, stop) in enumerate(_answers(items)):
        logged: Json = next(filter(_has_ids, items[start:stop]), {})
        # How a response ended is how its last call did.
        rest = all_but(response, {"output"} if stop == len(said) else {"output", *TELLING})
        yield {
            "id": f"{own}#{number}" if own else "",
            "request": {**asked, "input": [*before, *said[:start]]},
            "response": {"output": said[start:stop], **rest},
            "reward": record.get("reward"),
            "prompt_token_ids": logged.get("prompt_token_ids"),
            "completion_token_ids": logged.get("generation_token_ids"),
            "logprobs": logged.get("generation_log_probs"),
        }


def _with_text(item: Any) -> Any:
    """Give a reasoning item its text, which the Gym puts into a summary of one part."""
    summary = item.get("summary") if isinstance(item, dict) else None
    if not summary or item.get("content") or item.get("encrypted_content") or len(summary) > 1:
        return item
    if not re.fullmatch("rs_[0-9a-f]{32}", str(item.get("id"))):
        return item  # of another service: it is a summary
    text = {"type": "reasoning_text", "text": summary[0]["text"]}
    return {**item, "summary": [], "content": [text]}


def _answers(items: list[Json]) -> Iterator[tuple[int, int]]:
    """Yield start and stop of the items of each call; at most one of them has token ids."""
    stop = 0
    for is_answer, group in groupby(items, _is_by_model):
        run = [*group]
        start, stop = stop, stop + len(run)
        if is_answer:
            ends = [start + number for number, item in enumerate(run, 1) if _has_ids(item)]
            yield from pairwise([start, *ends[:-1], stop])


def _has_ids(item: Json) -> bool:
    return item.get("generation_token_ids") is not None


def _is_by_model(item: Json) -> bool:
    return item.get("type") in OF_A_MODEL or is_of_model(item.get("role"))


# --- Harbor ------------------------------------------------------------------------------------


def _of_trajectory(record: Json) -> Iterator[Json]:
    yield from as_they_ended([*_of_steps(record)], record)
    for inner in record.get("subagent_trajectories") or []:
        yield from _of_trajectory(inner)


def _of_steps(record: Json) -> Iterator[Json]:
    if record.get("schema_version", "ATIF-v1.8") not in _VERSIONS:
        raise Refused("a version of ATIF that is not known")
    agent, own = record.get("agent") or {}, record.get("trajectory_id") or record.get("session_id")
    before, rewritten = list[Json](), False
    parsed = str(agent.get("name")).startswith("terminus") and any(
        step.get("tool_calls") for step in record["steps"]
    )
    for step in record["steps"]:
        message = _in_step(step)
        if step["source"] == "system" and step.get("observation") not in EMPTY:
            rewritten = True  # the log does not say how the operation changed the context
            continue
        if step["source"] == "agent":
            is_one = step.get("llm_call_count") in (None, 1)
            metrics = step.get("metrics") or {}
            ids = {name: metrics[name] for name in _METRICS if metrics.get(name) is not None}
            ids = ids if is_one and {*_METRICS[:2]} <= {*ids} else {}
            effort = step.get("reasoning_effort")
            yield {
                "id": f"{own}:{step.get('step_id')}" if own else "",
                "messages": [*before],
                "response": message,
                "tools": agent.get("tool_definitions"),
                "chat_template_kwargs": {"reasoning_effort": effort} if effort else None,
                "is_copied_context": step.get("is_copied_context"),
                "train": is_one and (bool(ids) or not (rewritten or parsed)),
                **ids,
            }
        rewritten |= (step.get("extra") or {}).get("context_management") not in EMPTY
        results = (step.get("observation") or {}).get("results") or []
        before += [message, *map(_result, results)]


def _in_step(step: Json) -> Json:
    role = {"system": "system", "user": "user", "agent": "assistant"}.get(step["source"])
    calls = [
        {
            "id": call.get("tool_call_id"),
            "type": "function",
            "function": {"name": call.get("function_name"), "arguments": call.get("arguments")},
        }
        for call in step.get("tool_calls") or []
    ]
    content = step.get("message")
    if role != "assistant":
        return {"role": role, "content": content}
    said = {"role": role, "content": content or (None if calls else ""), "tool_calls": calls}
    return {**said, "reasoning_content": step.get("reasoning_content")}


def _result(result: Json) -> Json:
    content, call = result.get("content"), result.get("source_call_id")
    said = {"role": "user", "content": "" if content is None else content}
    return said if call is None else {**said, "role": "tool", "tool_call_id": call}
