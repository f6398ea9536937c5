"""A record without a known field of messages → the error that says which of its fields to read.

{"trajectory": [{"role": …}, …]}          --field trajectory=messages
{"instruction": "…", "output": "…"}       --field instruction=prompt --field output=completion
{"inputs": {"messages": …}, "outputs": {"choices": …}}
                                          --field inputs=request --field outputs=response
{"trajectories": [{"steps": …}, …]}       each of trajectories as a record of its own
{"batch": {"sequences": [[5, 6], …]}}     each sample as a record of its own
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import TOKEN_NAMES
from reasonpack.records.draft import is_absent
from reasonpack.records.strict_json import quoted
from reasonpack.records.unknown import misspelt

_ASKED = ("instruction", "question", "problem", "query", "input")
_SAID = ("output", "response", "solution", "answer", "generation")
"""Names of fields that often hold a prompt, and an answer to it."""
_OF_A_RECORD = frozenset(
    (
        *("messages", "conversations", "conversation", "completion", "response"),
        *(*TOKEN_NAMES["prompt_ids"], *TOKEN_NAMES["completion_ids"]),
    )
)
"""Names of fields by which an object inside a record is taken for a record of its own."""
SAMPLES = "write each sample as a record of its own, with its values from all lists"


def no_messages(record: Mapping[str, Any], known: tuple[str, ...]) -> RecordError:
    """Return the error for a record that has none of the fields `known`."""
    what = f"no messages among the fields {quoted(', '.join(map(str, record)))}"
    like = misspelt(record, known)
    found = [f"{like[0]}={like[1]}"] if like else [*_request(record)] or [*_texts(record)]
    lists = [name for name in record if name != "prompt" and _is_list(record[name])]
    if lists and not like:
        fix = f"pass {' or '.join(f'--field {name}=messages' for name in lists)}"
    elif found:
        fix = f"pass {' '.join(f'--field {each}' for each in found)}"
    elif inner := next((name for name in record if _are_records(record[name])), ""):
        fix = f"write each of {inner} as a record of its own, with the fields of this record that "
        fix += f"hold for it too{_of_steps(record[inner])}"
    elif _has_ids("tokens|ids|sequences", "", record):
        fix = f"{SAMPLES}: its ids as prompt_ids and completion_ids, or as tokens with "
        fix += "response_length, and as loss_mask 1 for each of them to train and 0 for the others"
        if _has_ids("target", "", record):
            fix += (
                "; targets are the ids one place later: add the last of them to the ids, and a 0 "
            )
            fix += "before the flags"
    else:
        fix = "write messages, conversations, conversation, or prompt and completion; or name the "
        fix += "fields that hold them, with --field NAME=prompt --field NAME=completion"
    return RecordError("missing", "", what, "some", fix)


def answer_fix(names: Iterable[str]) -> str:
    """Return how to read an answer whose field is misspelt, before another fix; empty if none is.

    >>> answer_fix(["messages", "responce"])
    'pass --field responce=response if it holds the answer, else '
    """
    like = misspelt(dict.fromkeys(names), ("response", "completion", "choices", "candidates"))
    return f"pass --field {like[0]}={like[1]} if it holds the answer, else " if like else ""


def _is_list(value: object) -> bool:
    """Return whether a value is a list of messages, or its JSON text."""
    if isinstance(value, str):
        return bool(re.match(r'\s*\[\s*\{[^{}]*"(role|from)"\s*:', value))
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and not {"role", "from"}.isdisjoint(first)


def _are_records(value: object) -> bool:
    """Return whether a value is a list of objects that are records, or lists of such objects."""
    first = value[0] if isinstance(value, list) and value else None
    if not isinstance(first, dict):
        return False
    values = first.values()
    return bool(_OF_A_RECORD & first.keys()) or any(_is_list(v) or _are_records(v) for v in values)


def _of_steps(items: list[Any]) -> str:
    """Return how to write items of which each holds the messages of the one before it."""
    names = (name for name in items[0] if _is_list(items[0][name]))
    if not (name := next(names, "")):
        return ""
    return f", its {name} as messages; and pass --input-format calls if each goes on with the last"


def _has_ids(words: str, path: str, value: object) -> bool:
    """Return whether a list of integers is at or below a path that has one of some words."""
    if isinstance(value, dict):
        return any(_has_ids(words, f"{path}.{key}", each) for key, each in value.items())
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], dict | list):
        return _has_ids(words, path, value[0])
    return bool(re.search(words, path)) and set(map(type, value)) == {int}


def _request(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that hold a request and its response, if the record has both."""
    parts = {n: v.keys() for n, v in record.items() if isinstance(v, dict) and n.isidentifier()}
    asked = [f"{name}=request" for name in parts if {"messages", "input"} & parts[name]]
    said = [f"{name}=response" for name in parts if {"choices", "output", "role"} & parts[name]]
    if asked and said:
        yield from (asked[0], said[0])


def _texts(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields that hold a prompt and its answer as texts, if the record has both."""
    names = {name.lower(): name for name, value in record.items() if isinstance(value, str)}
    asked = [f"{names[name]}=prompt" for name in _ASKED if name in names][:1]
    said = [f"{names[name]}=completion" for name in _SAID if name in names][:1]
    has_prompt = not is_absent(record.get("prompt"))
    if said and (asked or has_prompt):
        yield from (*(() if has_prompt else asked), *said)
