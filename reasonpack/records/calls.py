"""A record of a log → the calls of a model in it, each a prompt and an answer.

    {"messages": [ask], "response": {"choices": [{"message": answer}]}}
                                 ↓
    Call("calls.jsonl:1", conversation: ask, answer; only the answer is trained)

    {"prompt_token_ids": [5, 6], "completion_token_ids": [7, 2], "logprobs": [-0.1, -0.2]}
                                 ↓
    Call("calls.jsonl:2", prompt_ids [5, 6], completion_ids [7, 2], logprobs …)

`schemas/call.schema.json` says what a record may look like, `readers/` has a file for each log
format. A call with ids needs no chat template; if it has messages too, both are kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.call_draft import CallDraft, Role
from reasonpack.records.call_formats import SESSIONS, drafts_of, format_of
from reasonpack.records.call_messages import read_messages_of
from reasonpack.records.call_tokens import read_number, read_tokens
from reasonpack.records.conversation import Conversation
from reasonpack.records.flags import LEAST, MOST
from reasonpack.records.message import NOTHING_WRITTEN
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.readers.session import Line
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.row_files import plain
from reasonpack.records.tool_calls import ARGUMENTS
from reasonpack.records.unit import Record
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.records.value_types import wrong_type


class Call(Struct, frozen=True, kw_only=True):
    """One request to a model and what it answered.

    Attributes:
        id: its own id, else `where`; with `#k` added if a record, or an id, has several calls.
        where: `file:line`, for error messages.
        conversation: the messages of the prompt, then the answer, the only one with `train`;
            None if the log has no messages, or has ids and messages that cannot be compared.
        prompt_ids: i32[P], as logged; None if the log has no ids.
        completion_ids: i32[C], as logged; None if `prompt_ids` is.
        logprobs: f32[C] of the completion; None if the log has none, or no ids.
        advantages: f32[C], or f32[1] for the whole completion of a call without ids; None if
            the log has none.
        loss_mask: bool[C], which tokens are trained, or bool[1] without ids; None for all.
        reward: of the call; None if the log has none.
        weight: of its completion in the loss, 0 or more.
        role: `chosen` or `rejected` for an answer of a preference pair, else `none`.
        trained: False if it is only context: copied, failed, empty, masked, or flagged so.
        notes: oddities that were noticed and not refused, with how often each was.
    """

    id: str
    where: str
    conversation: Conversation | None = None
    prompt_ids: NDArray[np.int32] | None = None
    completion_ids: NDArray[np.int32] | None = None
    logprobs: NDArray[np.float32] | None = None
    advantages: NDArray[np.float32] | None = None
    loss_mask: NDArray[np.bool_] | None = None
    reward: float | None = None
    weight: float = 1.0
    role: Role = "none"
    trained: bool = True
    notes: Mapping[str, int] = field(default_factory=dict)


def read_calls(
    record: Record, reading: Reading = DEFAULT, memo: PromptMemo | None = None
) -> list[Call]:
    r"""Read the calls of a record, in its order; a record without calls gives an untrained one.

    A `memo` that earlier calls filled saves decoding and reading their messages again.

    Raises:
        RecordError: with one of `conversation.REASONS`, the path in the record, and `where`.

    >>> line = b'{"messages": [{"role": "user", "content": "2+2?"}], "response": "4"}'
    >>> (call,) = read_calls(Record("calls.jsonl:1", line))
    >>> call.id, [message.content for message in call.conversation.messages]
    ('calls.jsonl:1', ['2+2?', '4'])
    """
    reading = replace(reading, of_rows=True) if record.row is not None else reading
    try:
        memo = memo or PromptMemo()
        fields = _decoded(record, reading, memo.lines.decode)
        found = drafts_of(fields, reading)
        if not found:
            return [Call(id=record.where, where=record.where, trained=False, notes={"no-call": 1})]
        return [
            _call(draft, record.where, number if len(found) > 1 else None, reading, memo)
            for number, draft in enumerate(found)
        ]
    except RecordError as error:
        error.where = record.where
        raise


def read_session(
    records: Sequence[Record], reading: Reading = DEFAULT
) -> tuple[list[Call], list[RecordError]]:
    """Read the calls of a session file from all its records, in order.

    Returns:
        The calls, each with the line of its answer as `where`; and an error for each call that
        cannot be read, which does not end the session.

    Raises:
        RecordError: a line is not a JSON object, or the lines are not of one known format.
    """
    lines: list[Line] = []
    names: set[str] = set()
    for record in records:
        try:
            lines.append(Line(record.where, _decoded(record, reading, strict_json.decode_line)))
            names |= {format_of(lines[-1].fields)} & SESSIONS.keys()
        except RecordError as error:
            error.where = record.where
            raise
    if len(names) != 1:
        what = f"lines of {' and '.join(sorted(names)) or 'no known format'}"
        fix = f"give a session file of {', '.join(SESSIONS)} as an input of its own"
        where = records[0].where if records else ""
        raise RecordError("content", "", what, "a session", fix, where)
    calls: list[Call] = []
    refused: list[RecordError] = []
    memo, reading = PromptMemo(), replace(reading, of_rows=records[0].row is not None)
    for found in SESSIONS[names.pop()].drafts(lines):
        if isinstance(found, RecordError):
            refused.append(found)
            continue
        try:
            calls.append(_call(found, found.where, None, reading, memo))
        except RecordError as error:
            error.where, error.path = found.where, error.path.removeprefix(f"{found.where}.")
            if isinstance(error, UnknownFieldError):
                error.fields = tuple(
                    replace(each, path=each.path.removeprefix(f"{found.where}."))
                    for each in error.fields
                )
            error.fix += "; or leave these calls out (--on-error skip)"
            refused.append(error)
    return calls, refused


def _decoded(
    record: Record, reading: Reading, decode_line: Callable[[bytes], Any]
) -> dict[str, Any]:
    if record.row is None:
        fields = decode_line(record.line)
    else:
        fields = plain(record.row, reading.null_arguments, _CALL_ARGUMENTS)
    if not isinstance(fields, dict):
        fix = 'write {"messages": […], "response": …}, or another of schemas/call.schema.json'
        raise wrong_type("", type(fields).__name__, "an object", fix=fix)
    return fields


_CALL_ARGUMENTS = re.compile(
    r"(.*(\.tool_calls\[\d+\](\.function)?|\.function_call)"
    r"|(.*\.)?(messages|conversations?|prompt|completion|input|output)\[\d+\])"
    rf"\.({'|'.join(ARGUMENTS)})|.*\.(content|value)\[\d+\]\.input"
)


def _call(
    draft: CallDraft, where: str, number: int | None, reading: Reading, memo: PromptMemo
) -> Call:
    """Convert a draft to a `Call`; `number` is its index in the record, None if it is alone."""
    try:
        tokens = read_tokens(draft.tokens)
        has_ids = "prompt_ids" in tokens
        said = read_messages_of(draft, where, reading, memo, has_ids=has_ids)
        weight, reward = _weight(draft), _reward(draft)
        wanted = _is_wanted(draft) and said.train
    except UnknownFieldError:
        raise
    except RecordError as error:
        error.path = draft.place(error.path)
        raise
    notes = [*draft.notes, *said.notes]
    notes += ["copied-context"] * draft.copied
    notes += ["unread logprobs"] * ("logprobs" in draft.tokens and not has_ids)
    empty = not tokens["completion_ids"].size if has_ids else said.is_empty
    notes += ["empty-generation"] * (empty and NOTHING_WRITTEN not in notes)
    masked = "loss_mask" in tokens and not tokens["loss_mask"].any() and not empty
    has_answer = said.conversation is not None or has_ids
    trained = wanted and weight > 0 and has_answer and not (draft.copied or empty or masked)
    if trained and draft.failure:
        raise draft.failure
    unique = "" if number is None else f"#{number}"
    return Call(
        id=draft.id or where + unique,
        where=where,
        conversation=said.conversation,
        reward=reward,
        weight=weight,
        role=draft.role,
        trained=trained,
        notes=Counter(notes),
        **tokens,
    )


_OF_TOKENS = "write a mask of the completion's tokens as loss_mask, beside their ids"


def _weight(draft: CallDraft) -> float:
    value = draft.values.get("weight", 1)
    if type(value) not in (int, float):
        fix = _OF_TOKENS if isinstance(value, list) else ""
        raise wrong_type("weight", type(value).__name__, "a number", fix=fix)
    if value != 0 and not LEAST <= value <= MOST:
        what = f"got {str(value)[:30]}"
        fix = "write a negative advantage to train against an answer, or 0 to leave it out"
        raise RecordError("weight", "weight", what, f"0, or {LEAST:f} to {MOST:,.0f}", fix)
    return float(value)


def _reward(draft: CallDraft) -> float | None:
    value = draft.values.get("reward")
    if value is None:
        return None
    if isinstance(value, dict):
        names = ", ".join(f"reward.{name}" for name in value)
        fix = f"pass --field NAME=reward with one of its numbers, of {strict_json.quoted(names)}"
        raise wrong_type("reward", "dict", "a number", fix=fix)
    return read_number(value, "reward", missing="null")


def _is_wanted(draft: CallDraft) -> bool:
    """Return whether the flags of a call say that it is trained; True without flags."""
    said: dict[str, bool] = {}
    for name, value in draft.flags.items():
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            fix = _OF_TOKENS if isinstance(value, list) else ""
            raise wrong_type(name, type(value).__name__, "true, false, 0 or 1", fix=fix)
        said[name] = value == 1
    if len(set(said.values())) > 1:
        what, expected = f"{' and '.join(said)} differ", "the same in each"
        raise RecordError("conflict", next(iter(said)), what, expected, "keep one of them")
    return all(said.values())
