"""`Draft`, a message being converted to OpenAI's form; the names of roles, flags and reasoning.

`dialects` makes a draft of each message of a record, `responses` and `blocks` convert it, and
`dialects` joins drafts that are parts of one answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct, field

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import quoted
from reasonpack.records.value_types import typed

ROLES: Mapping[str, str] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "tool_call": "assistant",
    "function_call": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "function_response": "tool",
    "ipython": "tool",
    "observation": "tool",
}
"""The roles that records use, each with the role that chat templates know."""
CALL_ROLES = ("tool_call", "function_call")
"""Roles of messages whose content is their tool calls as JSON."""


def known_role(said: object, path: str, *, key: str) -> str:
    """Return the role that templates know for `said`, which a message has in its field `key`.

    Raises:
        RecordError: the message has no role, or an unknown one.
    """
    if said is None:
        raise RecordError("missing", path, "no role", "one", _ROLE_FIX)
    role = ROLES.get(said) if isinstance(said, str) else None
    if role is None:
        what = f"unknown role {quoted(str(said))}"
        fix = f"{_ROLE_FIX}; or pass --role NAME=ROLE to read it as one of these"
        raise RecordError("role", f"{path}.{key}", what, "a known one", fix)
    return role


_ROLE_FIX = f"write one of {', '.join(ROLES)}"
FLAGS = (
    *("train", "trainable", "loss", "weight", "loss_weight", "loss_multiplier"),
    *("loss_mask", "step_loss_mask", "training"),
)
"""Names of the flag that says whether an assistant message is trained."""
REASONING = ("reasoning_content", "reasoning", "thinking", "thought", "reasoning_text")
"""Names of the field that has the reasoning of an assistant message as text."""
_EFFORTS = {
    *("on", "off", "true", "false", "enabled", "disabled"),
    *("auto", "none", "minimal", "low", "medium", "high"),
}

MEDIA_FIELDS = ("images", "image", "audio", "audios", "video", "videos")
"""Names of the field of a record or message that holds images, audio or video."""


class Draft(Struct):
    """A message that is being converted.

    Attributes:
        source: the index in the record of the message that it was made of, the first of several.
        path: the path of that message in the record.
        message: its fields; those of the record are never changed in place.
        places: by the path of a field below this message, such as `tool_calls[0]`, the path in
            the record that it was read from, if that differs.
        call_role: the message's role if that is one of `CALL_ROLES`, else empty.
    """

    source: int
    path: str
    message: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)
    call_role: str = ""

    def place(self, name: str) -> str:
        """Return the path in the record of a field of this message."""
        return self.places.get(name) or f"{self.path}.{name}"


def source_of(path: str, places: Mapping[str, str]) -> str:
    """Replace the longest prefix of a path that `places` has; without one the path is unchanged.

    >>> source_of("chat[1].name", {"chat[1]": "chat[0].content[2]"})
    'chat[0].content[2].name'
    """
    end = len(path)
    while end > 0:
        if path[:end] in places:
            return places[path[:end]] + path[end:]
        end = max(path.rfind(".", 0, end), path.rfind("[", 0, end))
    return path


def is_absent(value: object) -> bool:
    """Return whether a field with this value counts as absent.

    >>> [is_absent(value) for value in (None, "", [], {}, 0, False, [None])]
    [True, True, True, True, False, False, False]
    """
    return value is None or value in ("", [], {})


def present(fields: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """Return those of the names under which an object has a field that does not count as absent."""
    if fields.keys().isdisjoint(names):  # usually, and faster than the rest
        return []
    return [name for name in names if name in fields and not is_absent(fields[name])]


def content_of(message: Mapping[str, Any]) -> Any:
    """Return the `content` of a message, or its `value` if it has none."""
    content = message.get("content")
    return message.get("value") if content is None else content


def is_effort(value: object) -> bool:
    """Return whether a value says how much a model reasons, so is not its reasoning.

    >>> is_effort("off"), is_effort("High"), is_effort("Easy.")
    (True, True, False)
    """
    return isinstance(value, str) and value.lower() in _EFFORTS


def reasoning_beside(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a record that hold the reasoning of its answer."""
    texts = ((name, record[name]) for name in present(record, REASONING))
    return {name: text for name, text in texts if isinstance(text, str) and not is_effort(text)}


def is_answer(message: object) -> bool:
    """Return whether a value is an assistant message, with a role other than `CALL_ROLES`."""
    return isinstance(message, dict) and (message.get("role") or message.get("from")) in _ANSWERS


_ANSWERS = tuple(name for name in ROLES if ROLES[name] == "assistant" and name not in CALL_ROLES)


def without(fields: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Copy an object without some of its fields."""
    return {name: value for name, value in fields.items() if name not in names}


def made_call(id_: object, name: object, arguments: object) -> dict[str, Any]:
    """Return a tool call in OpenAI's form."""
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def joined(parts: object, path: str, types: Collection[str]) -> str:
    """Join the texts of a list of content parts, whose types are all among `types`.

    Raises:
        RecordError: `parts` is not such a list, or a part has no text.

    >>> joined([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "x", ["text"])
    'ab'
    """
    texts: list[str] = []
    for i, part in enumerate(typed(parts, list[dict[str, Any]], path)):
        if part.get("type") not in types:
            what = f"a part of another type than {' or '.join(types)}"
            raise RecordError("content", f"{path}[{i}]", what, "text", "write its text")
        texts.append(typed(part.get("text"), str, f"{path}[{i}].text"))
    return "".join(texts)


def agree(drafts: Iterable[Draft], *, train: bool) -> None:
    """Check that the messages which form one answer are all trained, or all not trained.

    `train` says whether a message without a flag is trained.

    Raises:
        RecordError: reason `conflict`, with the path of the first that differs.
    """
    first: set[Any] | None = None
    for draft in drafts:
        flags = _flags(draft.message) or {train}
        first = flags if first is None else first
        if flags != first:
            what = (
                "is trained and the message before it is not, or the other way round; they are "
                "one answer of the model"
            )
            fix = 'write "train" with the same value on both'
            raise RecordError("conflict", draft.path, what, "the same in both", fix)


def _flags(message: Mapping[str, Any]) -> set[Any]:
    values = (message.get(name) for name in FLAGS)
    return {value == 1 if value in (0, 1) else repr(value) for value in values if value is not None}


def media(path: str, what: str, *, otherwise: str = "") -> RecordError:
    """Make the error for an image, audio, video or file at `path`; `otherwise` is another fix."""
    fix = "only text can be packed: leave the record out, or pass --on-error skip to collect such"
    fix += f"; or {otherwise}" if otherwise else ""
    return RecordError("media", path, what, "text", fix)


LEAVE_OUT = "leave it out (--on-error skip)"
"""What to do with a record that is not to be trained."""


def not_trained(
    path: str, what: str, expected: str, *, option: str, how: str = "", leave: str = LEAVE_OUT
) -> RecordError:
    """Make the error for a sample that trainers leave out for the field at `path`.

    `how` says how it is trained without that field, `leave` how to leave it out.
    """
    fix = f"{leave}, or pass --ignore-fields {option} to train it{how}"
    return RecordError("weight", path, what, expected, fix)


def hidden(path: str, what: str, *, fix: str = "") -> RecordError:
    """Make the error for reasoning at `path` whose text is not in the record."""
    otherwise = (
        'write its text; or remove it and set "train": false on the message, since the answer '
        "followed reasoning that is not here"
    )
    what += ": the text of the reasoning is not there"
    return RecordError("hidden-reasoning", path, what, "it", fix or otherwise)
