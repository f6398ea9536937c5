"""Content and the fields of reasoning beside it → a text each.

content [{"type": "thinking", "thinking": "Add."}, {"type": "text", "text": "4"}]   ┐ "4", and
content "4", reasoning "Add.", thinking "Add."                                      ┘ "Add."
"""

from __future__ import annotations

from typing import Any

import msgspec

from reasonpack.errors import RecordError
from reasonpack.records.draft import REASONING
from reasonpack.records.reasoning import is_part, repeats
from reasonpack.records.strict_json import quoted

_PART = ("text", "thinking", "reasoning")
_NO_REASONING = (None,) * len(REASONING)


class Part(msgspec.Struct):
    """A part of content, as a record has it."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    reasoning: str | None = None


def read_content(
    content: str | list[Part] | None,
    written: tuple[str | None, ...],
    path: str,
    *,
    at: str,
    is_answer: bool,
) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Read (content, reasoning, what was noticed), without looking for think tags.

    `written` are the fields of reasoning, in the order of `REASONING`. Only what is of the
    assistant can repeat itself.

    Raises:
        RecordError: parts that cannot be read, reasoning that differs, or a `thought` that
            stands in the content, and not as its beginning.
    """
    thoughts = None
    if isinstance(content, list):
        content, thoughts = _join(content, at)
    if written == _NO_REASONING:
        return content, thoughts or None, ()
    noticed: tuple[str, ...] = ()
    kept: list[str | None] = []
    for name, each in zip(REASONING, written, strict=True):
        again = is_answer and each and content and repeats(each, content, name=name)
        noticed = ("repeated-reasoning",) if again else noticed
        kept.append(None if again else each or None)
        if name == "thought" and kept[-1] and is_answer and is_part(each, content):
            what = "a thought that stands in the content too, expected it once"
            fix = "Take it out of the content, or remove the field."
            raise RecordError("conflict", f"{path}.{name}", what, fix=fix)
    reasoning = same(path, (*REASONING, "thinking parts"), (*kept, thoughts or None))
    if reasoning and reasoning.lstrip().startswith("<think>"):
        what = "reasoning that <think> begins, expected the text between the tags"
        raise RecordError("content", path, what, fix="Leave the tags out of the field.")
    return content, reasoning, noticed


def _join(parts: list[Part], path: str) -> tuple[str | None, str | None]:
    """Join content parts into (content, reasoning), each None where no part is of its kind."""
    texts: list[str] = []
    thoughts: list[str] = []
    for i, part in enumerate(parts):
        at = f"{path}[{i}]"
        if part.type == "text":
            text = part.text
            texts.append(text or "")
        elif part.type in ("thinking", "reasoning"):
            if any(texts):
                what = f"a {part.type} part after text, expected it before"
                fix = (
                    "Split the message in two here if the model stopped in between; else leave "
                    "the record out (--on-error skip)."
                )
                raise RecordError("content", at, what, fix=fix)
            text = same(at, _PART, (part.text, part.thinking, part.reasoning))
            thoughts.append(text or "")
        else:
            kind = "no type" if part.type is None else f"type {quoted(part.type)}"
            what = f"a part of {kind}, expected text, thinking, tool_use or tool_result"
            fix = 'Write "type": "text" if it is text, else remove the part.'
            raise RecordError("content", at, what, fix=fix)
        if text is None:
            what = f"no text in a {part.type} part, expected some"
            raise RecordError("missing", at, what, fix='Write "text".')
    return "".join(texts) if texts else None, "".join(thoughts) if thoughts else None


def same(path: str, names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    """Return the value that all fields which are there agree on, None where none is there."""
    found = None
    for value in values:
        if found is None:
            found = value
        elif value is not None and value != found:
            named = [name for name, each in zip(names, values, strict=True) if each is not None]
            what = f"{' and '.join(named)} differ, expected one of them or the same in each"
            raise RecordError("conflict", path, what, fix=f"Keep one of {', '.join(named)}.")
    return found
