"""Fields of a record that describe its last answer → the same fields in that message.

{"prompt": "2+2?", "completion": "4", "reasoning": "easy"}         reasoning of the completion
{"messages": [ask], "reasoning": "easy", "answer": "4"}            an answer to append
{"messages": [ask, answer], "finish_reason": "length"}             how the answer ended
{"messages": [ask, answer], "finish_reasons": ["length"]}          how each generation ended
{"messages": [ask, answer], "status": "truncated"}                 likewise, of the whole sample
{"messages": [ask, answer], "status": "aborted"}                   refused: it is not to be trained
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from reasonpack.records.draft import ROLES, is_absent, not_trained, reasoning_beside
from reasonpack.records.strict_json import quoted, step

ENDS = ("finish_reason", "stop_reason", "done_reason", "native_finish_reason")
"""Names of the field that says how an answer ended."""
UNFINISHED = {
    *("length", "max_tokens", "max_output_tokens", "model_length", "incomplete", "truncated"),
    *("content_filter", "abort", "cancelled", "error", "in_progress", "interrupted", "failed"),
    *("pause_turn", "timeout", "model_context_window_exceeded", "refusal", "repetition"),
    *("safety", "recitation", "blocklist", "prohibited_content", "malformed_function_call"),
    *("guardrail_intervened", "content_filtered", "insufficient_system_resource", "aborted"),
    *("canceled", "failure"),
}
"""Values of `finish_reason` which say that the model wrote no stop token."""
TRUNCATED = ("truncated", "is_truncated")
"""Names of the flag that says that an answer was cut off at a limit of tokens."""
_FAILED = {"abort", "aborted", "cancelled", "canceled", "error", "failed", "failure", "timeout"}
"""Values of `status` with which trainers leave a sample out."""
OF_THE_END = frozenset((*ENDS, *TRUNCATED, "status", "error"))
"""Names of the fields of a sample that say how its generation ended."""

_TELLING = OF_THE_END | {"metadata", "finish_details"}


def _status(fields: Mapping[str, Any]) -> str:
    return str(fields.get("status")).lower()


def cut_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return a finish_reason if a sample's status or a flag says that it was cut off; else {}.

    >>> cut_of({"status": "truncated"}), cut_of({"status": "completed", "truncated": False})
    ({'finish_reason': 'length'}, {})
    """
    cut = any(fields.get(name) is True for name in TRUNCATED)
    cut |= _status(fields) in UNFINISHED
    return {"finish_reason": "length"} if cut else {}


def ended_early(fields: Mapping[str, Any], ignored: Container[str]) -> dict[str, str]:
    """Return what stays of an ignored `status`: that the model was cut off before it stopped."""
    cut = "status" in ignored and _status(fields) in UNFINISHED
    return {"status": "incomplete"} if cut else {}


def is_cut(fields: Mapping[str, Any]) -> bool:
    """Return whether a sample or message says that the model was cut off before it stopped."""
    return any(end.lower() in UNFINISHED for end in ends_of(fields).values())


def refuse_failed(
    fields: Mapping[str, Any], ignored: Container[str], path: str = "", name: str = ""
) -> None:
    """Refuse a sample that has an answer, but whose status or error says that generation failed.

    `path` is its path in the record, `name` its name in options; both are empty for the record.

    Raises:
        RecordError: it does, in a field that is not to be `ignored`.
    """
    error = fields.get("error")
    found = {"status": fields["status"]} if _status(fields) in _FAILED else {}
    found |= {"error": error} if error and type(error) not in (int, float) else {}
    for key, value in found.items():
        option = f"{name}.{key}" if name else key
        if option not in ignored:
            what = f"got {quoted(str(value))}, so its generation failed"
            raise not_trained(step(path, key), what, "a whole sample", option=option)


def ends_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a message or record, or of its metadata, that say how it ended.

    >>> ends_of({"metadata": {"finish_details": {"type": "max_tokens"}}, "finish_reason": None})
    {'finish_details': 'max_tokens'}
    """
    if _TELLING.isdisjoint(fields):
        return {}
    found: dict[str, Any] = {}
    for holder in (fields.get("metadata"), fields):
        if isinstance(holder, Mapping):
            details = holder.get("finish_details")
            kind = details.get("type") if isinstance(details, Mapping) else details
            found |= {"finish_details": kind} if _is_text(kind) else {}
            found |= {name: holder[name] for name in ENDS if _is_text(holder.get(name))}
    return found | cut_of(fields)


def ended(message: Mapping[str, Any], ends: Mapping[str, Any]) -> dict[str, Any]:
    """Add to a message the fields `ends` that say how it ended; its own count if it has them.

    >>> ended({"content": "4", "finish_reason": None}, {"finish_reason": "length"})
    {'finish_reason': 'length', 'content': '4'}
    """
    own = {name: one for name, one in message.items() if name not in ends or not is_absent(one)}
    return {**ends, **own}


def _end_of_generation(record: Mapping[str, Any], answer: object) -> dict[str, str]:
    """Return the finish_reason of `answer` out of those of several generations; {} if unknown."""
    reasons, texts = record.get("finish_reasons"), record.get("generations")
    if not isinstance(reasons, list):
        return {}
    if isinstance(texts, list) and len(texts) == len(reasons) and answer in texts:
        reasons = [reasons[texts.index(answer)]]
    alike = reasons and all(each == reasons[0] for each in reasons) and _is_text(reasons[0])
    return {"finish_reason": reasons[0]} if alike else {}


def with_answer(record: dict[str, Any], container: str) -> tuple[dict[str, Any], frozenset[str]]:
    """Copy the fields of a record that describe its last answer into that message.

    `container` is the field that holds the messages or the completion. If its messages have no
    answer, the fields `answer` and reasoning are appended as one.

    Returns:
        The record so changed, and the names of its fields that the messages hold now.

    >>> with_answer({"completion": "4", "reasoning": "easy"}, "completion")[0]
    ... # doctest: +NORMALIZE_WHITESPACE
    {'completion': [{'role': 'assistant', 'content': '4', 'reasoning': 'easy'}],
     'reasoning': 'easy'}
    """
    value = record[container]
    last = value[-1] if isinstance(value, list) and value else {"content": value}
    written = last.get("content") or last.get("value") if isinstance(last, dict) else None
    ends = _end_of_generation(record, written) | ends_of(record)
    reasoning = reasoning_beside(record)
    if not (ends or reasoning):
        return record, frozenset()
    if isinstance(value, str) and container == "completion":
        answer = {"role": "assistant", "content": value, **reasoning, **ends}
        return {**record, container: [answer]}, frozenset(answer)
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        return record, frozenset()
    said = [ROLES.get(str(message.get("role") or message.get("from"))) for message in value]
    if said[-1] == "assistant":
        return {**record, container: [*value[:-1], ended(value[-1], ends)]}, frozenset(ends)
    text = record.get("answer")
    if "assistant" in said or not reasoning or not isinstance(text, str):
        return record, frozenset()
    answer = {"role": "assistant", "content": text, **reasoning, **ends}
    return {**record, container: [*value, answer]}, frozenset(answer) | {"answer"}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
