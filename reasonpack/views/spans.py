r"""A view's text → which stretch of it is of which kind, and belongs to which message.

    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\nGreet.\n</think>\n\nHello<|im_end|>
    └───────── h, message 0 ────────┘└──── h, message 1 ───┘└───────── t ──────────┘└─ r_out ─┘

Kinds and messages are for reading: nothing that is trained depends on them. A loop of the
template over the messages says what it wrote of each (`templates.written`). What it did not
write is searched for: a system message in front of all, a result that stands with its call. Where
a template rewrites such a message beyond recognition, its text counts to a neighbour.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from reasonpack.records.message import Message
from reasonpack.rows.kind import Kind
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.marked_chats import common_length
from reasonpack.templates.written import Written


class Span(NamedTuple):
    """A stretch of a view's text, from where the one before it ends to `stop` (exclusive).

    Attributes:
        stop: in characters from the start of the prompt.
        kind: what it holds.
        message: index in the conversation; −1 for text of the template's own.
        trained: whether it is, if the model wrote it.
    """

    stop: int
    kind: Kind
    message: int
    trained: bool = True


def completion_spans(
    prompt: str,
    stretches: Sequence[tuple[int, bool]],
    message: int,
    behaviour: Behaviour,
) -> list[Span]:
    """Split the end of the prompt and the completion into header, reasoning and response.

    `stretches` are of the completion, where each ends and whether it is trained; the first is the
    reasoning, and empty where there is none. `message` is the index of the message that it writes.
    """
    start, opener = len(prompt), behaviour.prompt_opener
    (reasoning, is_trained), *others = stretches
    opened = len(opener) if reasoning and prompt.endswith(opener) else 0
    spans = [Span(start - opened, Kind.CONTEXT, message)]
    if reasoning:
        spans.append(Span(start + reasoning, Kind.REASONING, message, is_trained))
    return [*spans, *(Span(start + end, Kind.R_OUT, message, said) for end, said in others)]


class Found(Struct, frozen=True):
    """The messages of the history as they were found in a prompt, to go on from there.

    Attributes:
        spans: of the prompt's messages.
        ends: for each message, where it ends in the prompt, and how many spans there are
            up to there.
    """

    spans: tuple[Span, ...] = ()
    ends: tuple[tuple[int, int], ...] = ()


NOTHING = Found()


def find_messages(
    prompt: str,
    messages: Sequence[Message],
    behaviour: Behaviour,
    written: Written,
    before: Found = NOTHING,
    same: int = 0,
) -> Found:
    """Find each message of the history in a prompt, in order.

    Args:
        prompt: of the view.
        messages: before the view's own.
        behaviour: of the template.
        written: what loops of the template wrote of them; the others are searched for.
        before: what was found in the prompt of an earlier view of the conversation; it is
            kept as far as that prompt is this one's beginning.
        same: how many characters that is.
    """
    same -= _LOOKAHEAD
    # What a message is depends on the one behind it.
    kept = max(0, bisect_right(before.ends, (same, math.inf)) - 1) if same > 0 else 0
    at, count = before.ends[kept - 1] if kept else (0, 0)
    spans, ends = list(before.spans[:count]), list(before.ends[:kept])
    own = {index: written.of(index) for index in range(kept - 1, len(messages))}
    stops = [each[1] for each in own.values() if each]
    most = len(prompt) - len(behaviour.prompt_opener)
    for index, message in enumerate(messages[kept:], kept):
        start, stop = own[index] or (at, -1)
        if start > at:  # the rest of a message that was searched for, or the template's own
            is_rest = index > 0 and not own[index - 1]
            spans.append(Span(start, Kind.CONTEXT, index - 1 if is_rest else -1))
        start, behind = max(at, start), _behind(messages, index, own, behaviour)
        if start <= stop <= most and not _is_shown(behind, prompt, start, stop):
            at = stop
        else:
            later = bisect_right(stops, start)
            found = _end(prompt, start, message, behaviour)
            at = found if later == len(stops) or found <= stops[later] else start
            if not ((message.content or "").strip() or message.tool_calls):
                later_ones = (each[0] for i, each in own.items() if each and i > index)
                if at > next(later_ones, at) or _is_shown(behind, prompt, start, at):
                    at = start  # what ends it was found behind another
        if message.role == "assistant":
            spans += _history_spans(prompt, start, at, index, message, behaviour)
        else:
            spans.append(Span(at, Kind.CONTEXT, index))
        ends.append((at, len(spans)))
    return Found(tuple(spans), tuple(ends))


def _behind(
    messages: Sequence[Message],
    index: int,
    own: Mapping[int, tuple[int, int] | None],
    behaviour: Behaviour,
) -> str:
    """Return the text of the message behind, or of the first result there that has one.

    It is empty for none, and for one that a loop wrote.
    """
    for behind in range(index + 1, len(messages)):
        content, role = (messages[behind].content or "").strip(), messages[behind].role
        if own[behind] or content or role != "tool":
            is_there = content and not own[behind]
            return _sure(content, behaviour.ends.get(role, "")) if is_there else ""
    return ""


def _is_shown(content: str, text: str, start: int, stop: int) -> bool:
    """Tell whether the content of a message stands in a text."""
    return content != "" and text.find(content, start, stop) >= 0


def _sure(content: str, end: str) -> str:
    """Return a content, with what ends it where it is so short that it may stand elsewhere too."""
    if len(content) > _SHORT:
        return content
    tag = _TAG_THAT_ENDS.match(end)
    return content + (tag[0] if tag else end)


def _end(text: str, at: int, message: Message, behaviour: Behaviour) -> int:
    """Return where a message ends, searched from `at`; that if it is not found."""
    if message.role == "assistant":
        return _end_of_response(text, at, message, behaviour)
    return _end_of_text(text, at, message.content or "", behaviour.ends.get(message.role, ""))


_LOOKAHEAD = 100
"""Characters behind a message that can have to do with where it ends."""


_SHORT = 16
"""Content so short that it may stand in a header too, so that its end is looked for as well."""


_TAG_THAT_ENDS = re.compile(r"\s*(?:<[^<>\s]+>|\[/?[A-Z_]+\])")
"""Its first tag is what the end of a message has in common, whatever message is behind it."""


def common_beginning(text: str, other: str) -> int:
    """Return how many leading characters two texts share; quick where one is all of them."""
    return len(text) if other.startswith(text) else common_length(text, 0, other)


def _end_of_text(text: str, at: int, content: str, end: str) -> int:
    """Return where `content` and what ends it, searched from `at`, are over."""
    whole, content = content.lstrip(), content.strip()
    if len(content) <= _SHORT:
        for shown in dict.fromkeys((whole, content)) if end else ():
            if (found := text.find(_sure(shown, end), at)) >= 0:
                found += len(shown)
                return found + common_length(text, found, end)
        if not content:
            return at
    form, found = content, text.find(content, at)
    if found < 0:
        form = json.dumps(content, ensure_ascii=False)[1:-1]
        found = text.find(form, at)
    if found < 0:
        return at
    at = found + len(form)
    while text[at : at + 1].isspace() and not text.startswith(end, at):
        at += 1
    return at + len(end) if text.startswith(end, at) else at + common_length(text, at, end.lstrip())


def _end_of_response(text: str, at: int, message: Message, behaviour: Behaviour) -> int:
    content = (message.content or "").strip()
    found = text.find(content, at)
    found = at if found < 0 else found + len(content)
    for call in message.tool_calls:
        found = max(found, text.find(call.name, found))
    for stop in (behaviour.stop(message), behaviour.answer_stop):
        end = text.find(stop.token, found)
        if end >= 0 and not stop.shown:
            return end  # the stop token begins the next message
        if end >= 0:
            end += len(stop.token)
            return end + common_length(text, end, stop.after)
    return found


def _history_spans(
    text: str, start: int, end: int, index: int, message: Message, behaviour: Behaviour
) -> list[Span]:
    """Split an assistant message of the history into header, reasoning and response."""
    header = common_length(text, start, behaviour.header)
    # Of a message that is not shown, the header is another's.
    begin = start + header if header == len(behaviour.header) and start + header <= end else start
    spans = [Span(begin, Kind.CONTEXT, index)]
    core, closer = (message.reasoning or "").strip(), behaviour.closer.strip()
    found = text.find(core, begin, end) if core else -1
    closed = text.find(closer, found + len(core), end) if found >= 0 and closer else -1
    if closed >= 0:
        after = closed + len(closer)
        after += common_length(text, after, behaviour.closer[len(behaviour.closer.rstrip()) :])
        spans.append(Span(min(after, end), Kind.REASONING, index))
    return [*spans, Span(end, Kind.R_IN, index)]
