"""The response of a service, in any of the usual shapes → the answers in it.

"4"                                                    one, a text
{"role": "assistant", "content": "4"}                  one, a message
{"choices": [{"message": {…}}, {"message": {…}}]}      two, OpenAI chat completions
{"output": [{"type": "reasoning", …}, …]}              one, OpenAI Responses
{"type": "message", "content": [{"type": "text", …}]}  one, Anthropic Messages
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records import strict_json
from reasonpack.records.call_draft import CALL_FLAGS, Role
from reasonpack.records.draft import is_absent, present, without
from reasonpack.records.last_answer import OF_THE_END
from reasonpack.records.readers.levels import TOKEN_FIELDS, Level, Place
from reasonpack.records.readers.request import PROMPTS
from reasonpack.records.tools import json_field
from reasonpack.records.value_types import typed, wrong_type

PAIR: tuple[Role, ...] = ("chosen", "rejected")
"""Names of the fields that hold the answers of a preference pair."""
ECHOES = ("tools", "instructions", "reasoning", "text", "previous_response_id", "conversation")
"""Fields of a response that repeat fields of the request."""
_RESPONSE = TOKEN_FIELDS | {
    *("id", "choices", "output", "incomplete_details", *OF_THE_END),
    *ECHOES,
}
_CHOICE = TOKEN_FIELDS | {"message", "text", "index", "matched_stop", *OF_THE_END}
_HELD = ("message", "response", "completion", "text")
"""Fields in which a candidate may hold its answer."""
_CANDIDATE = TOKEN_FIELDS | {*CALL_FLAGS, *OF_THE_END, *_HELD, "id"}


class Answer(Struct, frozen=True, kw_only=True):
    """One answer.

    Attributes:
        items: its messages or items; None without any, but `levels` may have its ids.
        place: path in the record of the answer, or of the list that it is.
        is_list: whether it is a list.
        id: its own id; empty without one.
        levels: the objects that it was found in, from the outside in.
        failed: whether the service says that there is no answer.
        is_raw: whether it continues a text, not messages.
        continues: whether it continues an assistant message, if the prompt ends in one.
    """

    items: list[Any] | None
    place: str
    is_list: bool = False
    id: str = ""
    levels: tuple[Level, ...] = ()
    failed: bool = False
    is_raw: bool = False
    continues: bool = False


def with_choices(own: Level) -> Level:
    """Read a list of choices in `output` under the name that services give it."""
    output = own.fields.get("output")
    if "choices" in own.fields or not (isinstance(output, list) and output):
        return own
    if not all(isinstance(each, dict) and isinstance(each.get("message"), dict) for each in output):
        return own
    return replace(own, fields={**without(own.fields, ["output"]), "choices": output})


def with_prompt_of_pair(own: Level) -> Level:
    """Add the messages with which both lists of a pair begin as its prompt, if it has none."""
    one, other = (own.fields.get(name) for name in PAIR)
    if not (isinstance(one, list) and isinstance(other, list)) or len(one) < 2:
        return own
    if present(own.fields, (*PROMPTS, "request")) or one[:-1] != other[:-1]:
        return own
    return replace(own, fields={**own.fields, "messages": one[:-1]})


def answers_of(value: Any, at: Place) -> list[Answer]:
    """Return the answers in a response.

    Raises:
        RecordError: it has no known shape, or is part of a stream.
    """
    value = unwrapped(value, at.path)
    if isinstance(value, str):
        return [Answer(items=[{"role": "assistant", "content": value}], place=at.path)]
    if isinstance(value, list):
        return [Answer(items=value, place=at.path, is_list=True)]
    if not isinstance(value, dict):
        raise wrong_type(at.path, type(value).__name__, "a string, a message or a response object")
    return _in_object(value, at)


def unwrapped(value: Any, path: str) -> Any:
    """Decode a text that is the JSON of a response or a message; return other values unchanged.

    Raises:
        RecordError: the value is a streamed response, or a list of pieces of one.
    """
    first = value[0] if isinstance(value, list) and value else None
    kind = str(first.get("object") or first.get("type")) if isinstance(first, dict) else ""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        with suppress(RecordError):
            held = strict_json.decode(value.encode(), path)
            if _is_response(held):
                return held
            kind = _CHUNK if held.get("object") == _CHUNK else ""
    if kind.endswith((".chunk", ".created")) or kind == "message_start" or _is_stream(value):
        raise _piece(path)
    return value


def _is_response(held: Mapping[str, Any]) -> bool:
    """Return whether an object is a message of the assistant or the response of a service."""
    parts = [held, held.get("message")]
    for name in ("choices", "output"):
        inner = held.get(name)
        items = inner if isinstance(inner, list) else []
        parts += [each.get("message", each) for each in items if isinstance(each, dict)]
    says = any(isinstance(part, dict) and part.get("role") == "assistant" for part in parts)
    return says or held.get("object") in _OBJECTS


_CHUNK = "chat.completion.chunk"
_OBJECTS = ("chat.completion", "text_completion", "response")
"""Values of the field `object` of a response."""


def _is_stream(value: Any) -> bool:
    return isinstance(value, str) and bool(re.match(r"\s*(event: \S+\n)?data: \{", value))


def _piece(path: str) -> RecordError:
    fix = "join the pieces to one message: its texts, and the arguments of each call, in order"
    return RecordError("content", path, "a piece of a streamed answer", "the whole message", fix)


def body_of(fields: Mapping[str, Any], at: Place) -> dict[str, Any] | None:
    """Return the `body` of a request or a response, which may be JSON text; None if it has none.

    Raises:
        RecordError: the body is a text that is not JSON.
    """
    body = json_field(fields, "body", at.below("body").path)
    return body if isinstance(body, dict) else None


def _in_object(value: dict[str, Any], at: Place) -> list[Answer]:
    if "choices" not in value and (body := body_of(value, at)):
        value, at = body, at.below("body")
    if isinstance(value.get("choices"), list):
        return [*_choices(value, at)]
    if isinstance(value.get("output"), list):
        return [_responses(value, at)]
    if not is_absent(value.get("role")) or value.get("type") == "message":
        refuse_edits(value, at.path)
        return [single(at.level(value, ()).fields, at.path)]
    if not is_absent(value.get("error")):
        return [Answer(items=None, place=at.path, failed=True)]
    if value.keys() & TOKEN_FIELDS:
        own = at.level(value, TOKEN_FIELDS | OF_THE_END | {"id"})
        return [Answer(items=None, place=at.path, levels=(own,))]
    if isinstance(value.get("message"), dict):  # the form of Ollama
        return candidate(value, at)
    what = "an object without choices, output, role or token ids"
    fix = 'write a message, {"role": "assistant", "content": …}, or the response of a service'
    raise RecordError("missing", at.path, what, "the answer of a model", fix)


def refuse_edits(message: Mapping[str, Any], path: str) -> None:
    """Refuse an answer for which the service edited the prompt, except by clearing reasoning.

    Raises:
        RecordError: the answer lists such an edit.
    """
    said = message.get("context_management")
    edits = said.get("applied_edits") if isinstance(said, dict) else None
    listed = edits if isinstance(edits, list) else [edits] if edits else []
    kinds = [str(e.get("type") if isinstance(e, dict) else e) for e in listed]
    if not all(kind.startswith("clear_thinking") for kind in kinds):
        what, expected = "edits of the prompt by the service", "a prompt as the model saw it"
        fix = "leave the call out (--on-error skip)"
        raise RecordError("content", f"{path}.context_management", what, expected, fix)


def single(message: Mapping[str, Any], path: str) -> Answer:
    """Return the answer in a message, without the fields that only a response has."""
    made = without(message, _ENVELOPE)
    made.setdefault("role", "assistant")
    if made.get("stop_reason") == "stop_sequence":
        made["partial"] = True  # the service cut it off where the model wrote no stop
    continues = message.get("type") == "message"
    return Answer(items=[made], place=path, id=_id_of(message), continues=continues)


def _id_of(fields: Mapping[str, Any]) -> str:
    own_id = fields.get("id")
    return own_id if isinstance(own_id, str) else ""


_ENVELOPE = ("type", "model", "usage", "stop_sequence", "container", "context_management")
"""Fields of Anthropic's response that are not those of a message."""


def _choices(response: dict[str, Any], at: Place) -> Iterator[Answer]:
    below = at.below("choices")
    choices = typed(response["choices"], list[dict[str, Any]], below.path)
    outer, own_id = at.level(response, _RESPONSE), _id_of(response)
    if not choices:
        yield Answer(items=None, place=at.path, id=own_id, levels=(outer,), failed=True)
    for i, choice in enumerate(choices):
        path = below.item(i).path
        if isinstance(choice.get("delta"), dict) and is_absent(choice.get("message")):
            raise _piece(f"{path}.delta")
        inner = below.item(i).level(choice, _CHOICE)
        message, text = choice.get("message"), choice.get("text")
        held = "message" if message is not None else "text"
        said: Any = message
        if message is None and isinstance(text, str):
            said = {"role": "assistant", "content": text}
        if not isinstance(said, dict) and said is not None:
            raise wrong_type(f"{path}.message", type(said).__name__, "an object")
        yield Answer(
            items=None if said is None else [{"role": "assistant", **said}],
            place=f"{path}.{held}",
            id=own_id,
            levels=(outer, inner),
            failed=said is None and not choice.keys() & TOKEN_FIELDS,
            is_raw=message is None,
            continues="native_finish_reason" in choice,  # as OpenRouter says that models do
        )


def _responses(response: dict[str, Any], at: Place) -> Answer:
    return Answer(
        items=[*response["output"]] or None,
        place=at.below("output").path,
        is_list=True,
        id=_id_of(response),
        levels=(at.level(response, _RESPONSE),),
        failed=not response["output"],
    )


def candidates_of(value: Any, at: Place) -> list[Answer]:
    """Return the answers in a list of candidates.

    Raises:
        RecordError: it is no list, or one has no known shape.
    """
    if not isinstance(value, list):
        raise wrong_type(at.path, type(value).__name__, "a list of answers")
    return [answer for i, each in enumerate(value) for answer in candidate(each, at.item(i))]


def candidate(value: Any, at: Place) -> list[Answer]:
    """Return the answers in a candidate: a text, a message, a response, or an object around one.

    Raises:
        RecordError: it has no known shape.
    """
    held = [key for key in _HELD if isinstance(value, dict) and value.get(key) is not None]
    if not held or not is_absent(value.get("role")):
        return answers_of(value, at)
    own = at.level(value, _CANDIDATE)
    return [
        replace(answer, id=_id_of(own.fields) or answer.id, levels=(own, *answer.levels))
        for answer in answers_of(value[held[0]], at.below(held[0]))
    ]
