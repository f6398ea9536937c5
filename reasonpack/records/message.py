"""One message, as any of the field's dialects writes it → `Message`.

    {"from": "gpt", "value": "<think>easy</think>4"}            ┐
    {"role": "assistant", "content": "4", "thinking": "easy"}   ├→  Message("assistant", "4",
    {"role": "model", "content": [{"type": "thinking", …}, …]}  ┘           reasoning="easy")

Two fields may repeat the same value; values that contradict each other are
refused. A field whose value is null, and reasoning that is an empty text, count
as absent. Fields without a meaning here (`name`, `tool_call_id`, …) are kept as
they are for the chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.dialects import normalised
from reasonpack.records.draft import FLAGS, REASONING, is_absent, known_role, source_of
from reasonpack.records.flags import read_flag
from reasonpack.records.last_answer import CONTINUED, failure_of, is_cut, without_ignored
from reasonpack.records.no_messages import SAMPLES
from reasonpack.records.reading import DEFAULT, Reading
from reasonpack.records.reasoning import (
    Part,
    check_closer,
    foreign_form,
    read_content,
    same,
    split_inline,
)
from reasonpack.records.renaming import renamed, with_known_role
from reasonpack.records.tool_calls import Call, Function, ToolCall, read_tool_calls
from reasonpack.records.unknown import UnknownFieldError, meant, misspelt, sorted_out
from reasonpack.records.unread_fields import MESSAGE_FIELDS, unread_in_messages
from reasonpack.records.value_types import typed, wrong_type


class Message(Struct, frozen=True):
    """One message, in whatever dialect the record has it.

    Attributes:
        role: `system`, `developer`, `user`, `assistant` or `tool`.
        content: text; None only on an assistant message that has reasoning or tool calls, if
            the record has no content field.
        reasoning: text that is not empty, or None.
        tool_calls: in the order of the record.
        train: False if an assistant message is context only. True for all other roles.
        extra: fields without a meaning here, for the template.
        verbatim: the content as the record has it, if reasoning was split off its beginning;
            else None.
        finished: False if the model wrote no stop token: it was cut off, or is to be continued.
        noticed: oddities that were noticed and not refused, as in `show.summary.NOTES`.
        weight: of the message in the loss, if it is trained.
        flagged: whether a flag of its own says that it is trained.
    """

    role: str
    content: str | None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    train: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict)
    verbatim: str | None = None
    finished: bool = True
    noticed: tuple[str, ...] = ()
    weight: float = 1.0
    flagged: bool = False


class _Fields(Struct):
    """The fields of a message that have a meaning here and a type; its flags may have any."""

    role: str | None = None
    from_: str | None = field(name="from", default=None)
    content: str | list[Part] | None = None
    value: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    thought: str | None = None
    reasoning_text: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None


_KNOWN = frozenset((*_Fields.__struct_encode_fields__, *FLAGS))
NOTHING_WRITTEN = "nothing-written"
"""Note on an answer that was cut off before the model wrote anything: it is not trained."""
_reasonings: Callable[[_Fields], tuple[str | None, ...]] = attrgetter(*REASONING)


class ReadMessages(NamedTuple):
    """A list of messages that was read.

    Attributes:
        messages: in order.
        sources: for each message, the index in the record's list of the message it was read
            from; empty if message i is the list's message i.
        notes: on fields that nothing reads, and on fields and roles that an option names.
    """

    messages: list[Message]
    sources: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_messages(
    messages: Any,
    path: str,
    *,
    train: bool = True,
    reading: Reading = DEFAULT,
) -> ReadMessages:
    """Read the list of messages in the field `path` of a record.

    `train` says whether assistant messages without a flag are trained.

    Raises:
        UnknownFieldError: fields that nothing reads, and that may hold what the model is to learn.
        RecordError: with the path of the message and field that cannot be read.

    >>> message = {"from": "gpt", "value": "<think>easy</think>4"}
    >>> read_messages([message], "chat").messages[0].reasoning
    'easy'
    """
    notes: tuple[str, ...] = ()
    if (reading.renamed or reading.roles or reading.ignored) and isinstance(messages, list):
        messages, notes = _named(messages, path, reading)
    plain = normalised(messages, path, train=train)
    try:
        raws, fields = _typed(plain.messages, path)
        found = unread_in_messages(raws, path, reading)
        mapped = (plain.in_record(each, path) for each in found)
        refused, more = sorted_out(mapped, reading.ignored)
        if not refused:
            sure = replace(reading, of_rows=False) if plain.as_text else reading
            read = [
                _message(
                    raw, known, f"{path}[{i}]", sure if i in plain.as_text else reading, train=train
                )
                for i, (raw, known) in enumerate(zip(raws, fields, strict=True))
            ]
            for i, each in enumerate(read):
                told = each.extra and each.train and each.role == "assistant"
                if told and (failure := failure_of(each.extra, f"{path}[{i}]", "message")):
                    raise failure
            return ReadMessages(read, plain.sources, (*notes, *more))
    except RecordError as error:
        error.path = source_of(error.path, plain.places)
        raise
    raise UnknownFieldError(refused)


def _named(messages: list[Any], path: str, reading: Reading) -> tuple[list[Any], tuple[str, ...]]:
    """Rename and leave out fields of messages as options say; return them, and notes on that."""
    named: list[Any] = []
    fields: list[str] = []
    roles: list[str] = []
    left: list[str] = []
    for i, message in enumerate(messages):
        if isinstance(message, dict):
            names, known = reading.renamed, MESSAGE_FIELDS
            message, noted = renamed(message, names, f"{path}[{i}]", known=known)  # noqa: PLW2901
            fields += noted
            message, noted = with_known_role(message, reading.roles)  # noqa: PLW2901
            roles += noted
            message, said = without_ignored(message, reading.ignored, "message.")  # noqa: PLW2901
            left += said
        named.append(message)
    return named, (*fields, *roles, *left)


def _typed(messages: Any, path: str) -> tuple[list[Any], list[_Fields]]:
    """Convert messages to `_Fields`; a field that counts as absent may have any type."""
    try:
        return messages, typed(messages, list[_Fields], path)
    except RecordError:
        if not isinstance(messages, list):
            raise
        if isinstance(messages[0], list):
            fix = f"{SAMPLES}, such as these messages"
            raise wrong_type(f"{path}[0]", "list", "an object", fix=fix) from None
        present = _present(messages)
        return present, typed(present, list[_Fields], path)


def _present(messages: list[Any]) -> list[Any]:
    """Copy messages without known fields that count as absent, but with empty texts as content."""
    return [
        {
            name: value
            for name, value in message.items()
            if name not in _KNOWN
            or not is_absent(value)
            or (name in ("content", "value") and value != {})
        }
        if isinstance(message, dict)
        else message
        for message in messages
    ]


def _message(
    raw: dict[str, Any], fields: _Fields, path: str, reading: Reading, *, train: bool
) -> Message:
    role, said = _role(raw, fields, path), fields.content
    at = f"{path}.{'value' if said is None else 'content'}"
    if fields.value is not None:
        said = same(path, {"content": said, "value": fields.value})
    content, reasoning, noticed = read_content(
        said, _reasonings(fields), path, at=at, is_answer=role == "assistant"
    )
    flag, weight = read_flag(raw, path, weighs=reading.weighs)
    others = raw.keys() - _KNOWN
    extra = {k: v for k, v in raw.items() if k in others and v is not None} if others else {}
    if role != "assistant":
        _refuse_answer_fields(fields, path, role=role, reasoning=reasoning, flag=flag)
        if content is None:
            raise _no_content(path, raw)
        return Message(role, content, extra=extra)
    by_choice = check_closer(reasoning, path, reading) if reasoning else ()
    nulls = reading.of_rows and reading.null_arguments == "refuse"
    calls = read_tool_calls(fields.tool_calls, fields.function_call, path, null_is_missing=nulls)
    written, finished = content, not extra or _is_finished(raw, calls)
    if content:
        content, reasoning, in_content = split_inline(
            content, at, reasoning=reasoning, finished=finished, reading=reading
        )
        by_choice = by_choice or in_content
    if content is None and not reasoning and not calls:
        raise _no_content(path, raw)
    silent = not calls and not (content or "").strip()
    thinks = bool((reasoning or "").strip())
    cut, nothing = silent and thinks, silent and not thinks and not finished
    noticed += by_choice + _noticed(content, calls, reading)
    if cut or not finished:
        noticed += ("reasoning-alone" if cut else NOTHING_WRITTEN if nothing else "unfinished",)
    return Message(
        role=role,
        content=content,
        reasoning=reasoning,
        tool_calls=calls,
        train=(train if flag is None else flag) and not nothing,
        extra=extra,
        verbatim=written if written and content != written else None,
        finished=finished and not cut,
        noticed=noticed,
        weight=weight,
        flagged=flag is True,
    )


def _role(raw: Mapping[str, Any], fields: _Fields, path: str) -> str:
    said = fields.role or None
    if fields.from_:
        said = same(path, {"role": said, "from": fields.from_})
    if said is None and (like := misspelt(raw, ("role", "from"))):
        what = f"no role, but {like[0]!r}"
        raise RecordError("missing", path, what, "one", f"pass --field {like[0]}={like[1]}")
    return known_role(said, path, key="from" if fields.from_ else "role")


def _no_content(path: str, raw: Mapping[str, Any]) -> RecordError:
    texts = [name for name, value in raw.items() if isinstance(value, str) and value]
    named = [(name, "content") for name in texts if meant(name) in ("content", "system")]
    like = misspelt(raw, ("content", "value")) or next(iter(named), None)
    what = f"no content, but {like[0]!r}" if like else "no content"
    fix = f"pass --field {like[0]}={like[1]}" if like else 'write "" where the text is empty'
    return RecordError("content", f"{path}.content", what, "text", fix)


def _is_finished(raw: Mapping[str, Any], calls: Sequence[ToolCall]) -> bool:
    """Return whether the model wrote a stop token, as far as a message says."""
    if any(raw.get(name) in (True, "true") for name in CONTINUED):
        return False
    if raw.get("end_turn") is False and not calls:
        return False
    return not is_cut(raw)


def _noticed(content: str | None, calls: Sequence[ToolCall], reading: Reading) -> tuple[str, ...]:
    form = foreign_form(content, reading) if content else None
    found = (f"form {form}",) if form else ()
    null = any(None in call.arguments.values() for call in calls)
    return (*found, "null-argument") if null else found


def _refuse_answer_fields(
    fields: _Fields, path: str, *, role: str, reasoning: str | None, flag: bool | None
) -> None:
    """Refuse reasoning, tool calls and a training flag on a message of another role."""
    given = {
        "reasoning": reasoning,
        "tool calls": fields.tool_calls or fields.function_call not in (None, Function()),
        "a training flag": flag,
    }
    for name, value in given.items():
        if value:
            what, expected = f"{name} on a {role} message", "on assistant messages only"
            raise RecordError("role", path, what, expected, "remove the field, or correct the role")
