"""What a record says of its last answer, beside the messages → the same in that message.

{"prompt": "2+2?", "completion": "4", "reasoning": "easy"}         reasoning of the completion
{"messages": [ask], "reasoning": "easy", "answer": "4"}            a further message
{"messages": [ask, answer], "finish_reason": "length"}             how the answer ended
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasonpack.records.draft import REASONING

__all__ = ["ENDS", "with_answer"]

ENDS = ("finish_reason", "stop_reason", "done_reason", "native_finish_reason")
"""Names of the field that says how an answer ended."""


def with_answer(
    record: dict[str, Any], container: str, *, roles: Mapping[str, str]
) -> tuple[dict[str, Any], frozenset[str]]:
    """Give the last answer of a record what stands of it beside the messages.

    Args:
        record: left as it is.
        container: the field that holds the answers.
        roles: the roles, each with the one that a template knows.

    Returns:
        The record, and the names of its fields that are in the messages now.

    >>> with_answer({"completion": "4", "reasoning": "easy"}, "completion", roles={})[0]
    ... # doctest: +NORMALIZE_WHITESPACE
    {'completion': [{'role': 'assistant', 'content': '4', 'reasoning': 'easy'}],
     'reasoning': 'easy'}
    """
    ends = {name: record[name] for name in ENDS if _is_text(record.get(name))}
    reasoning = {name: record[name] for name in REASONING if _is_text(record.get(name))}
    value = record[container]
    if not (ends or reasoning):
        return record, frozenset()
    if isinstance(value, str) and container == "completion":
        answer = {"role": "assistant", "content": value, **reasoning, **ends}
        return {**record, container: [answer]}, frozenset(answer)
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        return record, frozenset()
    said = [roles.get(str(message.get("role") or message.get("from"))) for message in value]
    if said[-1] == "assistant":
        return {**record, container: [*value[:-1], {**ends, **value[-1]}]}, frozenset(ends)
    text = record.get("answer")
    if "assistant" in said or not reasoning or not isinstance(text, str):
        return record, frozenset()
    answer = {"role": "assistant", "content": text, **reasoning, **ends}
    return {**record, container: [*value, answer]}, frozenset(answer) | {"answer"}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
