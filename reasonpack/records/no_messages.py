"""A record without a known field of messages → the error that says which of its fields to read.

{"trajectory": [{"role": …}, …]}          --field trajectory=messages
{"instruction": "…", "output": "…"}       --field instruction=prompt --field output=completion
{"inputs": {"messages": …}, "outputs": {"choices": …}}
                                          --field inputs=request --field outputs=response
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from reasonpack.errors import RecordError
from reasonpack.records.draft import is_absent
from reasonpack.records.strict_json import quoted
from reasonpack.records.unknown import misspelt

_ASKED = ("instruction", "question", "problem", "query", "input")
_SAID = ("output", "response", "solution", "answer", "generation")
"""Names of fields that often hold a prompt, and an answer to it."""


def no_messages(record: Mapping[str, Any], known: tuple[str, ...]) -> RecordError:
    """Return the error for a record that has none of the fields `known`."""
    what = f"no messages among the fields {quoted(', '.join(map(str, record)))}, expected some"
    like = misspelt(record, known)
    found = [f"{like[0]}={like[1]}"] if like else [*_request(record)] or [*_texts(record)]
    lists = [name for name in record if name != "prompt" and _is_list(record[name])]
    if lists and not like:
        fix = f"Pass {' or '.join(f'--field {name}=messages' for name in lists)}."
    elif found:
        fix = f"Pass {' '.join(f'--field {each}' for each in found)}."
    elif any(re.search("tokens|ids|sequences", name) and _is_ids(record[name]) for name in record):
        fix = "Write each sample as a record of its own: its ids as prompt_ids and completion_ids, "
        fix += "or as tokens with response_length, and which of them are trained as loss_mask."
    else:
        fix = "Write messages, conversations, conversation, or prompt and completion; or name the "
        fix += "fields that hold them, with --field NAME=prompt --field NAME=completion."
    return RecordError("missing", "", what, fix=fix)


def _is_list(value: object) -> bool:
    """Return whether a value is a list of messages, or its JSON text."""
    if isinstance(value, str):
        return bool(re.match(r'\s*\[\s*\{[^{}]*"(role|from)"\s*:', value))
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and not {"role", "from"}.isdisjoint(first)


def _is_ids(value: object) -> bool:
    """Return whether a value is a list of integers, or a list that begins with such a list."""
    if isinstance(value, list) and value and isinstance(value[0], list):
        return _is_ids(value[0])
    return isinstance(value, list) and bool(value) and set(map(type, value)) == {int}


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
