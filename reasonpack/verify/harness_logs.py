"""Traces of verifiers and rollouts of NeMo Gym that hold token ids → their calls, by these alone.

{"traces": [{"id": "t", "rewards": {"r": 1}, "nodes": [
{"parent": null, "token_ids": [5, 6], "mask": [false, false], "message": …},
{"parent": 0, "token_ids": [9, 7], "mask": [false, true], "sampled": true, "message": …}]}]}
─→ call t:1, ids [5, 6, 9] and [7]

{"responses_create_params": …, "response": {"output": [
{"type": "message", "prompt_token_ids": [5], "generation_token_ids": [7], …}]}}
─→ call #0, ids [5] and [7]
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from reasonpack.verify.chat import Json, NotChecked, Refused
from reasonpack.verify.names import CALL_ROLES, FLAGS, ROLES

_BY_MODEL = ("reasoning", "function_call")


def calls_of_harness(record: Json) -> list[Json] | None:
    """Return what `Call` is to have, of each call of a record; None if it is of neither kind.

    Raises:
        NotChecked: a call without ids, or a record that is otherwise not as above.
        Refused: it must not be packed.
    """
    if isinstance(record.get("responses_create_params"), dict):
        return [*_of_rollout(record)]
    traces = record.get("traces", [record])
    if not isinstance(traces, list) or not all("nodes" in each for each in traces):
        return None
    return [call for trace in traces for call in _of_trace(trace)]


def _of_trace(trace: Json) -> Iterator[Json]:
    agent = trace.get("agent")
    trained = not (isinstance(agent, dict) and agent.get("trainable") is False)
    for number, node in enumerate(trace["nodes"]):
        if not node.get("sampled"):
            continue
        before, at, below = list[int](), node.get("parent"), number
        while at is not None:
            if not 0 <= at < below:
                raise Refused("a parent that does not stand before its node")
            before += reversed(trace["nodes"][at].get("token_ids") or [])
            at, below = trace["nodes"][at].get("parent"), at
        before.reverse()
        ids, mask = node.get("token_ids") or [], node.get("mask") or []
        if len(mask) != len(ids) or any(each is not True and each is not False for each in mask):
            raise Refused("a mask of another length than the ids")
        if not (before or ids):
            raise NotChecked("a call without ids")
        _check_said([node["message"]])
        sampled = [at for at, one in enumerate(mask) if one]
        first, stop = (sampled[0], sampled[-1] + 1) if sampled else (len(ids), len(ids))
        if any(weights[at] != 1 for weights in _streams(node) for at in sampled):
            raise Refused("weights of single tokens")
        own = trace.get("id")
        yield {
            "id": f"{own}:{number}" if isinstance(own, str) else "",
            "chat": None,
            "prompt": before + ids[:first],
            "completion": ids[first:stop],
            "mask": None if all(mask[first:stop]) else mask[first:stop],
            "logprobs": _spread(node.get("logprobs"), mask[first:stop]),
            "advantages": _spread(node.get("advantages"), mask[first:stop]),
            "reward": _reward(trace.get("rewards")),
            "trained": trained and bool(sampled),
        }


def _streams(node: Json) -> list[list[float]]:
    return [*(node.get("loss_weights") or {}).values()]


def _spread(values: list[float] | None, mask: list[bool]) -> list[float] | None:
    """Put values of the sampled tokens at these, and 0 between them."""
    if values is None or (not values and any(mask)):
        return None
    if len(values) != sum(mask):
        raise Refused("values of other tokens than those that were sampled")
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


def _of_rollout(record: Json) -> Iterator[Json]:
    response = record.get("response")
    if not isinstance(response, dict) or not isinstance(response.get("output"), list):
        raise Refused("a rollout without a list of items")
    own = record.get("id") or response.get("id") or ""
    runs = [[*run] for wrote, run in groupby(response["output"], _is_by_model) if wrote]
    for number, item in enumerate(each for run in runs for each in _with_ids(run)):
        completion, prompt = item["generation_token_ids"], item.get("prompt_token_ids")
        if prompt is None:
            raise Refused("ids of a completion without those of its prompt")
        yield {
            "id": f"{own}#{number}" if own else "",
            "chat": None,
            "prompt": prompt,
            "completion": completion,
            "logprobs": item.get("generation_log_probs"),
            "reward": record.get("reward"),
            "trained": bool(completion),
        }


def _with_ids(run: list[Json]) -> list[Json]:
    """List the items with ids of what the model wrote in one go: each ends a call."""
    _check_said(run)
    found = [item for item in run if item.get("generation_token_ids") is not None]
    if not found:
        raise NotChecked("a call without ids")
    return found


def _check_said(messages: list[Json]) -> None:
    """See that no message says by itself whether it is trained, or is empty."""
    for each in messages:
        said = ("content", "tool_calls", "reasoning_content", "arguments", "summary")
        if any(name in each for name in FLAGS) or not any(each.get(name) for name in said):
            raise NotChecked("a message that is flagged, or empty, beside ids")


def _is_by_model(item: Json) -> bool:
    role = str(item.get("role"))
    return item.get("type") in _BY_MODEL or (
        ROLES.get(role) == "assistant" and role not in CALL_ROLES
    )
