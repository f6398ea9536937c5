"""Fields that say how an answer ended, and those of a record that describe its last answer.

They mean the same on a message, and on a choice, response, call or record around an answer:

    finish_reason: length, status: truncated, truncated: true   cut off: no stop is trained
    status: aborted, error: {…}                                 failed: refused, if it is trained
    finish_reason: stop, status: completed, error: null         whole, as without such a field

A record of several messages or calls says it of the last one. Fields that are ignored are left
out before any of this is read. Reasoning next to the messages is copied into the last answer:

    {"prompt": "2+2?", "completion": "4", "reasoning": "easy"}  reasoning of the completion
    {"messages": [ask], "reasoning": "easy", "answer": "4"}     an answer to append
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.draft import LEAVE_OUT, ROLES, not_trained, reasoning_beside
from reasonpack.records.renaming import removed
from reasonpack.records.responses import BY_MODEL
from reasonpack.records.strict_json import quoted, step

ENDS = ("finish_reason", "stop_reason", "done_reason", "native_finish_reason")
"""Names of the field that says why the generation of an answer ended."""
STATES = ("status", "termination_reason")
"""Names of the field that says what became of a sample."""
TRUNCATED = ("truncated", "is_truncated")
"""Names of the flag that says that an answer was cut off at a limit of tokens."""
CONTINUED = ("prefix", "partial")
"""Names of the flag of a message that says that an answer is to be continued."""
UNFINISHED = {
    *("length", "max_tokens", "max_output_tokens", "model_length", "incomplete", "truncated"),
    *("content_filter", "abort", "cancelled", "error", "in_progress", "interrupted", "failed"),
    *("pause_turn", "timeout", "model_context_window_exceeded", "refusal", "repetition"),
    *("safety", "recitation", "blocklist", "prohibited_content", "malformed_function_call"),
    *("guardrail_intervened", "content_filtered", "insufficient_system_resource", "aborted"),
    *("canceled", "failure", "max_response_length_exceeded"),
}
"""Values of `ENDS` and `STATES` which say that the model wrote no stop token."""
_FAILED = {"abort", "aborted", "cancelled", "canceled", "error", "failed", "failure", "timeout"}
"""Values of `STATES` with which trainers leave a sample out."""
OF_THE_END = frozenset((*ENDS, "finish_details", *STATES, *TRUNCATED, "error"))
"""Names of the fields that say how an answer ended."""
TELLING = OF_THE_END | {"metadata", "end_turn", "matched_stop", "finish_reasons", "generations"}
"""These, and other fields that may say it."""


def without_ignored(
    fields: Mapping[str, Any],
    ignored: Iterable[str],
    prefix: str,
    known: AbstractSet[str] = TELLING,
) -> tuple[dict[str, Any], list[str]]:
    """Return an object without the `known` fields that options ignore, and notes on them.

    `prefix` is what an option may write before a name, such as `record.` or `message.`.

    >>> without_ignored({"status": "failed", "id": 1}, {"record.status", "id"}, "record.")
    ({'id': 1}, ['left-out record.status'])
    """
    left, notes = dict(fields), []
    for name in ignored:
        way = name.removeprefix(prefix).split(".")
        if way[0] in (known if len(way) == 1 else TELLING):
            rest = removed(left, way)
            notes += [] if rest is None else [f"left-out {name}"]
            left = left if rest is None else rest
    return left, notes


def ends_of(fields: Mapping[str, Any]) -> list[str]:
    """Return why a generation ended, as a message or record says, or its metadata.

    >>> ends_of({"metadata": {"finish_details": {"type": "max_tokens"}}, "done_reason": "Stop"})
    ['max_tokens', 'stop']
    """
    return [*_ends(fields.get("metadata")), *_ends(fields)]


def _ends(holder: object) -> Iterator[str]:
    if isinstance(holder, Mapping):
        details = holder.get("finish_details")
        values = [details.get("type") if isinstance(details, Mapping) else details]
        yield from filter(None, map(_word, [*values, *(holder.get(name) for name in ENDS)]))


def _word(value: object) -> str:
    """Return a value in small letters, without the name of its enumeration; no text gives ''.

    >>> _word("FinishReason.MAX_TOKENS"), _word("Aborted"), _word(None)
    ('max_tokens', 'aborted', '')
    """
    return value.lower().rpartition(".")[2] if isinstance(value, str) else ""


def is_cut(fields: Mapping[str, Any]) -> bool:
    """Return whether an object says that the model was cut off before it stopped."""
    if TELLING.isdisjoint(fields):
        return False
    said = [*ends_of(fields), *(_word(fields.get(name)) for name in STATES)]
    flags = (fields.get(name) in (True, "true") for name in TRUNCATED)
    return any(flags) or not UNFINISHED.isdisjoint(said) or bool(_failures(fields))


def _failures(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an object which say that generation failed."""
    if OF_THE_END.isdisjoint(fields):
        return {}
    found = {key: fields[key] for key in STATES if _word(fields.get(key)) in _FAILED}
    error = fields.get("error")
    return found | ({"error": error} if error and type(error) not in (int, float) else {})


def failure_of(fields: Mapping[str, Any], path: str = "", name: str = "") -> RecordError | None:
    """Return the error for an object with an answer to train, if it says that generation failed.

    `path` is its path in the record, `name` its name in options; both are empty for the record.
    """
    found = _failures(fields)
    if not found:
        return None
    key, value = next(iter(found.items()))
    what = f"got {quoted(str(value))}, so its generation failed"
    option = ",".join(f"{name}.{each}" if name else each for each in found)
    how = " with a stop, unless another field says that it was cut off"
    leave = 'set "train": false on it' if name == "message" else LEAVE_OUT
    return not_trained(step(path, key), what, "a whole sample", option=option, how=how, leave=leave)


def _is_cut_in(reasons: object, texts: object, answer: object) -> bool:
    """Return whether `answer` was cut off, by lists of all generations and why each ended."""
    if not isinstance(reasons, list) or not reasons:
        return False
    if isinstance(texts, list) and len(texts) == len(reasons) and answer in texts:
        reasons = [reasons[texts.index(answer)]]
    return {_word(each) for each in reasons} <= UNFINISHED


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
    reasoning = reasoning_beside(record)
    cut = is_cut(record)
    cut |= _is_cut_in(record.get("finish_reasons"), record.get("generations"), written)
    if not (cut or reasoning):
        return record, frozenset()
    ends = {"partial": True} if cut else {}
    if isinstance(value, str) and container == "completion":
        answer = {"role": "assistant", "content": value, **reasoning, **ends}
        return {**record, container: [answer]}, frozenset(reasoning)
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        return record, frozenset()
    said = [ROLES.get(str(message.get("role") or message.get("from"))) for message in value]
    if said[-1] == "assistant" or value[-1].get("type") in BY_MODEL:
        return {**record, container: [*value[:-1], {**value[-1], **ends}]}, frozenset()
    text = record.get("answer")
    if "assistant" in said or not reasoning or not isinstance(text, str):
        return record, frozenset()
    answer = {"role": "assistant", "content": text, **reasoning, **ends}
    return {**record, container: [*value, answer]}, frozenset(reasoning) | {"answer"}
