"""Messages and records → their fields that nothing reads; see `unknown` for the rule."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.draft import (
    FLAGS,
    MEDIA_FIELDS,
    REASONING,
    ROLES,
    is_absent,
    is_effort,
    media,
    not_trained,
    present,
)
from reasonpack.records.harmless_fields import HARMLESS, HARMLESS_OF_A_RECORD
from reasonpack.records.last_answer import CONTINUED, OF_THE_END
from reasonpack.records.reading import Reading
from reasonpack.records.side_fields import SIDE_FIELDS
from reasonpack.records.strict_json import step
from reasonpack.records.tool_calls import Call, Function
from reasonpack.records.tools import TOOL_FIELDS
from reasonpack.records.unknown import CREDIT, INSTRUCTED, Field, Known, meant, strings, unread

_FLAG = (bool, int)
_OF_AN_ANSWER: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("role", "from", *REASONING), str),
    **dict.fromkeys(("content", "value"), (str, list)),
    **dict.fromkeys(FLAGS, _FLAG),
    "tool_calls": list,
    "function_call": dict,
}
MESSAGE_FIELDS = frozenset((*_OF_AN_ANSWER, *CONTINUED)) | OF_THE_END
"""Names of the fields of a message that are read, in addition to `SIDE_FIELDS`."""
_MISSED: Mapping[str, type | tuple[type, ...]] = dict.fromkeys(REASONING, ())
"""Known names that are recognised if misspelt, but cannot be read here."""
_OF_A_MESSAGE: Mapping[str, type | tuple[type, ...]] = {
    **_OF_AN_ANSWER,
    **_MISSED,
    **dict.fromkeys((*FLAGS, "tool_calls", "function_call"), ()),
}
OF_A_RECORD: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("messages", "conversations", "conversation"), list),
    **dict.fromkeys(("prompt", "completion"), (str, list)),
    **dict.fromkeys(TOOL_FIELDS, (str, list)),
    "system": str,
    "chat_template_kwargs": (str, dict),
    "enable_thinking": bool,
    **_MISSED,
}
"""Fields of a record, each with the type of its value."""
_SAME = (
    *(REASONING, FLAGS, TOOL_FIELDS, ("content", "value"), ("role", "from")),
    ("messages", "conversations", "conversation"),
)
"""Names that stand for the same field of a record or a message."""
_ASKED = frozenset(("instruction", "input", "query", "history"))
"""Fields next to `prompt` that hold more of the prompt, as in Alpaca's form."""
_ANSWERS = frozenset(("answer", "response", "output", "choices", "chosen"))
"""Fields next to messages that end with a user's, which hold the answer to them."""
_YES, _NO = ("true", "1", "1.0"), ("false", "0", "0.0")
_NOT_TRAINED: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("remove_sample", "mask_sample", "set_advantage_to_zero"), _YES),
    **dict.fromkeys(("sample_mask", "sample_loss_mask"), _NO),
    **dict.fromkeys(("label", "kto_tag"), ("false",)),  # 0 may be the number of a class
}
"""Fields with which a sample is out of training, or its answer a bad one, each with such values."""
_MEDIA = (
    *(*MEDIA_FIELDS, "multimodal_inputs", "multi_modal_data", "multi_modal_inputs", "image_urls"),
    "pixel_values",
)
"""Fields of a record that hold images, audio or video."""
_WHOLE = (*_NOT_TRAINED, *_MEDIA)
_REASONING_PART = frozenset(("type", "text", "thinking", "reasoning"))
_REASON = ("thinking", "reasoning")
_PARTS: Mapping[object, frozenset[str]] = {
    "text": frozenset(("type", "text")),
    **dict.fromkeys(_REASON, _REASONING_PART),
}
"""The fields that are read of each type of content part."""
_CALL, _FUNCTION = (frozenset(each.__struct_fields__) for each in (Call, Function))
"""The fields that are read of a tool call, and of its function."""


@lru_cache(maxsize=8)
def _of_messages(asked: frozenset[str]) -> tuple[Known, Known]:
    """Return what is known of the fields of answers, and of other messages."""
    read = MESSAGE_FIELDS | asked
    return Known(read, HARMLESS, _OF_AN_ANSWER, strict=True), Known(read, HARMLESS, _OF_A_MESSAGE)


def unread_in_messages(messages: Sequence[Any], path: str, reading: Reading) -> Iterator[Field]:
    """Yield the fields that nothing reads of the messages in the list at `path` of a record.

    Of an object that the template shows whole none is harmless: the model did not write it, but
    may have seen it later.
    """
    answer, other = _of_messages(reading.asked)
    for i, message in enumerate(messages):
        at = f"{path}[{i}]"
        role = message.get("role") or message.get("from")
        known = answer if ROLES.get(role) == "assistant" else other
        if not message.keys() <= known.read:
            found = unread(message, known, at, texts=partial(_texts, message))
            yield from _qualified(_without_taken(found, message), "message", OF_A_RECORD)
        if known is other:
            continue
        for name, place, inner, inside in _inside(message, at):
            if not inner.keys() <= inside:
                is_shown = name in reading.dumped
                known = Known(inside, frozenset() if is_shown else HARMLESS, {}, strict=True)
                texts = tuple[str] if is_shown else partial(_texts, message)
                yield from unread(inner, known, place, texts=texts, name=name)


def _inside(
    message: Mapping[str, Any], path: str
) -> Iterator[tuple[str, str, dict[str, Any], frozenset[str]]]:
    """Yield the objects in an answer: name in options, path, object, fields that are read of it."""
    for name in ("content", "value", "tool_calls"):
        items = message.get(name)
        for i, item in enumerate(items) if isinstance(items, list) else ():
            at, read = f"{path}.{name}[{i}]", _CALL
            if name != "tool_calls":
                read = _PARTS.get(item.get("type"), frozenset())
                if not read:
                    continue  # it is refused for its type
            yield name, at, item, read
            if isinstance(function := item.get("function"), dict):
                yield f"{name}.function", f"{at}.function", function, _FUNCTION
    if isinstance(function := message.get("function_call"), dict):
        yield "function_call", f"{path}.function_call", function, _FUNCTION


def unread_in_record(
    record: Mapping[str, Any], *, read: frozenset[str], container: str, ignored: Container[str]
) -> Iterator[Field]:
    """Yield the fields of a record that nothing reads.

    `read` are the names of its fields that are read; `container` is the one that holds the answers.

    Raises:
        RecordError: a field that is not `ignored` says not to train.
    """
    if record.keys() <= read:
        return
    telling = INSTRUCTED | (_ASKED if container == "completion" else frozenset())
    telling |= {name for name in CREDIT if isinstance(record.get(name), int | float | list)}
    telling |= _ANSWERS if _last_role(record[container]) == "user" else frozenset()
    known = Known(read, HARMLESS_OF_A_RECORD, OF_A_RECORD, telling=telling)

    def texts() -> Iterator[str]:
        return strings([record.get(name) for name in ("prompt", container)])

    for name in present(record, FLAGS):
        option = f"record.{name}"
        if name not in read and option not in ignored and str(record[name]).lower() in _NO:
            raise _not_trained(record[name], name, option)
    found = (
        _of_answers(each, record, container) for each in unread(record, known, "", texts=texts)
    )
    yield from _qualified(_without_taken(found, record), "record", MESSAGE_FIELDS | SIDE_FIELDS)


def refuse_whole(
    fields: Mapping[str, Any], ignored: Container[str], path: str = "", name: str = ""
) -> None:
    """Refuse an object that holds media, or that says that it is not to be trained.

    `path` is its path in the record, `name` its name in options; both are empty for the record.

    Raises:
        RecordError: it does, in a field that is not to be `ignored`.
    """
    for key in present(fields, _WHOLE):
        value, at = fields[key], step(path, key)
        option = f"{name}.{key}" if name else f"record.{key}" if key in MEDIA_FIELDS else key
        is_empty = isinstance(value, dict) and all(map(is_absent, value.values()))
        if option in ignored or is_empty:
            continue
        if key in _MEDIA:
            fix = f"pass --ignore-fields {option} if the model saw none"
            raise media(at, f"{key} of the record", otherwise=fix)
        if _is_not_trained(key, value):
            raise _not_trained(value, at, option)
    inner, option = fields.get("overrides"), f"{name}.overrides" if name else "overrides"
    for key, value in inner.items() if isinstance(inner, dict) and option not in ignored else ():
        if _is_not_trained(key, value):
            raise _not_trained(value, step(step(path, "overrides"), key), option)


def _is_not_trained(key: str, value: object) -> bool:
    """Return whether a field says that its sample is not trained.

    A text as `label` may be a class, or the expected answer.
    """
    is_text = key == "label" and isinstance(value, str)
    return not is_text and str(value).lower() in _NOT_TRAINED.get(key, ())


def _not_trained(value: object, path: str, option: str) -> RecordError:
    what = f"got {str(value).lower()}, with which it is not trained"
    return not_trained(path, what, "none", option=option)


def _last_role(messages: object) -> str | None:
    last = messages[-1] if isinstance(messages, list) and messages else None
    said = (last.get("role") or last.get("from")) if isinstance(last, dict) else None
    return ROLES.get(str(said))


def _of_answers(unread_: Field, record: Mapping[str, Any], container: str) -> Field:
    """Mark a field as refused if it holds the reasoning of a completion."""
    value = record.get(unread_.name)
    if container != "completion" or not isinstance(value, str) or is_effort(value):
        return unread_
    if unread_.name not in REASONING and meant(unread_.name) != "reasoning_content":
        return unread_
    near = "reasoning_content" if isinstance(record[container], str) else ""
    return replace(unread_, refused=True, near=near)


def _without_taken(fields: Iterable[Field], object_: Mapping[str, Any]) -> Iterator[Field]:
    """Clear `near` of a field if the object, or an earlier field, takes that name already."""
    taken = {name for name, value in object_.items() if value not in (None, "", [], {})}
    contents = (object_.get(name) for name in ("content", "value", "completion"))
    if any(map(_has_reasoning, contents)):
        taken.add("reasoning_content")
    for each in fields:
        same = next((names for names in _SAME if each.near in names), (each.near,))
        yield each if taken.isdisjoint(same) else replace(each, near="")
        taken.add(each.near)


def _has_reasoning(content: object) -> bool:
    """Return whether a content has reasoning, in a part or between think tags."""
    if isinstance(content, list):
        return any(isinstance(each, dict) and each.get("type") in _REASON for each in content)
    return isinstance(content, str) and ("</think>" in content or content[:7] == "<think>")


def _qualified(
    fields: Iterable[Field], place: str, read_elsewhere: Container[str]
) -> Iterator[Field]:
    """Put `place` before names that are read in another object, as in `record.reasoning`."""
    for each in fields:
        if each.name.partition(".")[0] in read_elsewhere:
            each = replace(each, name=f"{place}.{each.name}", near="")  # noqa: PLW2901
        yield each


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of a message that are read."""
    for name, value in message.items():
        if name in MESSAGE_FIELDS and isinstance(value, str):
            yield value
    for _, _, inner, read in _inside(message, ""):
        yield from strings([value for name, value in inner.items() if name in read - {"function"}])
