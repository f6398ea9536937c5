r"""An answer as a record has it → its content and its reasoning, separated.

"<think>A</think>B"             B, reasoning A
"A\n</think>\nB"              B, reasoning A: the only tag, first on its line
"It writes </think> and ends."  refused, unless --stray-closing-tag says how to read it
content "B", thought "B"        B: the model wrote it once

{"content": [{"type": "thinking", "thinking": "A"}, {"type": "text", "text": "B"}]}   ┐ B,
{"content": "B", "reasoning": "A", "thinking": "A"}                                   ┘ reasoning A
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from reasonpack.errors import RecordError
from reasonpack.records.draft import REASONING
from reasonpack.records.reading import Reading
from reasonpack.records.strict_json import quoted

_OPEN, _CLOSE = "<think>", "</think>"
FORMS = (
    *("<thinking>", "<thought>", "<reasoning>", "<seed:think>", "<|begin_of_thought|>"),
    *("<Thinking>", "<Thought>", "<thoughts>", "<|thinking|>", "<THINK>", "<Think>", "<think "),
    *("<antThinking>", "<analysis>", "<scratchpad>", "[THINK]", "◁think▷"),
    *("<|channel|>analysis", "assistantanalysis", "assistantfinal"),
)
"""Marks of reasoning in text, other than `<think>`, that models and datasets use."""
_AS_TEXT = ("closing-tag text",)
BY_CHANCE = 40
"""Characters up to which reasoning may equal a part of the answer by chance."""


class Answer(NamedTuple):
    """The content of an answer, and its reasoning; None if it has none.

    `noticed` has a note if --stray-closing-tag decided.
    """

    content: str
    reasoning: str | None
    noticed: tuple[str, ...] = ()


def split_inline(
    content: str, path: str, *, reasoning: str | None, finished: bool, reading: Reading
) -> Answer:
    """Split content into the reasoning at its beginning and the rest.

    A `</think>` ends reasoning if it is the only one, no field holds `reasoning`, and `<think>`
    begins the content. Without any `<think>` it must be first on its line, or the prompt must
    open the reasoning.

    Raises:
        RecordError: any other `</think>`, unless the template has no place for reasoning or
            `reading` decides; reasoning both in a field and here; `<think>` that is never closed,
            in an answer that was not cut off.

    >>> split_inline("<think>A</think>B", "", reasoning=None, finished=True, reading=Reading())
    Answer(content='B', reasoning='A', noticed=())
    """
    begins = content.lstrip().startswith(_OPEN)
    count = content.count(_CLOSE)
    if not count:
        if not begins or reasoning:
            return Answer(content, reasoning)
        if not finished:
            return Answer("", content.lstrip()[len(_OPEN) :].strip("\n") or None)
        what = "<think> is never closed"
        fix = 'close it, write "finish_reason": "length" if it was cut off, or remove the message'
        raise RecordError("content", path, what, "</think> after the reasoning", fix)
    if begins and reasoning:
        what = "reasoning in a field and again in the content"
        raise RecordError("conflict", path, what, "it once", "keep one of the two")
    end = content.find(_CLOSE)
    as_text = _split_at(content, end, reading) if begins else Answer(content, reasoning)
    alone = count == 1 and not reasoning
    if alone and (begins or (_OPEN not in content and _ends_reasoning(content, end, reading))):
        return _split_at(content, end, reading)
    return _stray(content, path, as_text, reading) if reading.closers else as_text


def check_closer(reasoning: str, path: str, reading: Reading) -> tuple[str, ...]:
    """Refuse reasoning in a field that holds a closing tag; return a note if that is to be text.

    Raises:
        RecordError: it holds one of `reading.closers`, which --stray-closing-tag does not allow.
    """
    found = [closer for closer in reading.closers if closer and closer in reasoning]
    if not found or reading.stray_closing_tag == "text":
        return _AS_TEXT if found else ()
    what = f"a field of reasoning that holds {found[0]!r}, which ends the reasoning where "
    what += "the model's output is read"
    fix = "pass --stray-closing-tag text, or take the tag out of the reasoning"
    raise RecordError("closing-tag", path, what, "it after the reasoning only", fix)


def _ends_reasoning(content: str, end: int, reading: Reading) -> bool:
    before = content[:end].rpartition("\n")[2]
    return reading.prompt_opens or not before.strip()


def _split_at(content: str, end: int, reading: Reading) -> Answer:
    """Split at the closing tag at `end`, or not at all if an empty block is text."""
    inside = content[:end].lstrip().removeprefix(_OPEN) if _OPEN in content else content[:end]
    if reading.empty_block_is_text and not inside.strip():
        return Answer(content, None)
    return Answer(content[end + len(_CLOSE) :].lstrip("\n"), inside.strip("\n") or None)


def _stray(content: str, path: str, as_text: Answer, reading: Reading) -> Answer:
    """Read a `</think>` as --stray-closing-tag says, or refuse it and show both readings."""
    if reading.stray_closing_tag == "text":
        return as_text._replace(noticed=_AS_TEXT)
    other = _split_at(content, content.rfind(_CLOSE), reading)
    possible = content.lstrip().startswith(_OPEN) or not (as_text.reasoning or _OPEN in content)
    if possible and reading.stray_closing_tag == "reasoning":
        return other._replace(noticed=("closing-tag reasoning",))
    if possible:
        what = f"a </think> that can be read in two ways: as text, {_shown(as_text)}"
        what += f"; as the end of reasoning, {_shown(other)}"
        expected = "only one way"
        fix = "pass --stray-closing-tag text or --stray-closing-tag reasoning to say which"
    elif as_text.reasoning:
        what = f"a </think> in the answer, though a field holds the reasoning: {_shown(as_text)}"
        expected = "no tag in the answer"
        fix = "pass --stray-closing-tag text to train the tag as text, or take it out"
    else:
        what = f"<think> and </think> in the middle of the answer: {_shown(as_text)}"
        expected = "reasoning at its beginning only"
        fix = "pass --stray-closing-tag text to train the tags as text, or take them out"
    raise RecordError("closing-tag", path, what, expected, fix)


def _shown(answer: Answer) -> str:
    shown = quoted(answer.content, limit=30)
    if not answer.reasoning:
        return f"the answer is {shown} without reasoning"
    return f"the reasoning is {quoted(answer.reasoning, limit=30)} and the answer {shown}"


def repeats(reasoning: str, content: str, *, name: str) -> bool:
    r"""Return whether reasoning in the field `name` repeats the answer's beginning, or all of it.

    In fields other than `thought` a text up to `BY_CHANCE` characters does not count.

    >>> repeats("I list the files.\n", "I list the files.\n```ls```", name="thought")
    True
    """
    text = reasoning.strip()
    if not text or (name != "thought" and len(text) <= BY_CHANCE):
        return False
    rest = content.strip().removeprefix(text)
    return content.strip().startswith(text) and not (rest[:1].isalnum() and text[-1].isalnum())


def is_part(reasoning: str | None, content: str | None) -> bool:
    r"""Return whether reasoning longer than `BY_CHANCE` has all of its lines in the answer.

    >>> thought = "I list all files of src.\nThen I open a.py."
    >>> is_part(thought, "I list all files of src.\n```ls```\nThen I open a.py.")
    True
    """
    lines = [line.strip() for line in (reasoning or "").splitlines() if line.strip()]
    return len("".join(lines)) > BY_CHANCE and all(line in (content or "") for line in lines)


def foreign_form(content: str, reading: Reading) -> str | None:
    """Return the mark of reasoning that a text has and the template does not write, or None.

    >>> foreign_form("<thinking>Easy.</thinking>4", Reading(opener="<think>"))
    '<thinking>'
    """
    for form in FORMS:
        if form in content and form not in reading.opener:
            return form.strip()
    return None


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
    """Return a message's content, reasoning and notes, without looking for think tags.

    `written` are the fields of reasoning, in the order of `REASONING`. If `is_answer`, reasoning
    that repeats the content is left out.

    Raises:
        RecordError: parts that cannot be read, reasoning that differs, or a `thought` that is
            in the content, but not at its beginning.
    """
    thoughts = None
    if isinstance(content, list):
        content, thoughts = _join(content, at)
    if written == _NO_REASONING and not thoughts:
        return content, None, ()
    noticed: tuple[str, ...] = ()
    kept: dict[str, str] = {}
    for name, each in zip(REASONING, written, strict=True):
        if not each:
            continue
        if is_answer and content and repeats(each, content, name=name):
            noticed = ("repeated-reasoning",)
            continue
        kept[name] = each
        if name == "thought" and is_answer and is_part(each, content):
            what = "a thought that is in the content too"
            fix = "take it out of the content, or remove the field"
            raise RecordError("conflict", f"{path}.{name}", what, "it once", fix)
    reasoning = same(path, {**kept, "thinking parts": thoughts or None})
    if reasoning and reasoning.lstrip().startswith("<think>"):
        what, expected = "reasoning that begins with <think>", "the text between the tags"
        raise RecordError("content", path, what, expected, "leave the tags out of the field")
    return content, reasoning, noticed


def _join(parts: list[Part], path: str) -> tuple[str | None, str | None]:
    """Join content parts into (content, reasoning), each None without a part of its kind."""
    texts: list[str] = []
    thoughts: list[str] = []
    for i, part in enumerate(parts):
        at = f"{path}[{i}]"
        if part.type == "text":
            text = part.text
            texts.append(text or "")
        elif part.type in ("thinking", "reasoning"):
            if any(texts):
                fix = "split the message in two here if the model stopped in between; else leave "
                fix += "the record out (--on-error skip)"
                raise RecordError("content", at, f"a {part.type} part after text", "it before", fix)
            written = {"text": part.text, "thinking": part.thinking, "reasoning": part.reasoning}
            text = same(at, {name: one for name, one in written.items() if one} or written)
            thoughts.append(text or "")
        else:
            kind = "no type" if part.type is None else f"type {quoted(part.type)}"
            fix = 'write "type": "text" if it is text, else leave it out (--on-error skip)'
            expected = "text, thinking, tool_use or tool_result"
            raise RecordError("content", at, f"a part of {kind}", expected, fix)
        if text is None:
            what = f"no text in a {part.type} part"
            raise RecordError("missing", at, what, "some", 'write the text in its field "text"')
    return "".join(texts) if texts else None, "".join(thoughts) if thoughts else None


def same(path: str, values: Mapping[str, Any]) -> Any:
    """Return the value of the fields that are not None, None without any; raise if they differ."""
    found = None
    for value in values.values():
        if found is None:
            found = value
        elif value is not None and value != found:
            named = [name for name, each in values.items() if each is not None]
            what, fix = f"{' and '.join(named)} differ", f"keep one of {', '.join(named)}"
            raise RecordError("conflict", path, what, "one of them or the same in each", fix)
    return found
