r"""A view's text → spans, each with its kind and the message it belongs to.

    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\nGreet.\n</think>\n\nHello<|im_end|>
    └───────── h, message 0 ────────┘└──── h, message 1 ───┘└───────── t ──────────┘└─ r_out ─┘

Kinds and messages are information for readers: labels do not depend on them. The text of most
messages is known from the template's loops (`templates.written`). Others are searched for, such as
a leading system message or a result shown next to its call. If a template rewrites such a message
beyond recognition, its text is attributed to a neighbour.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.records.message import Message
from reasonpack.rows.kind import Kind
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.marked_chats import common_length
from reasonpack.templates.message_places import MessagePlaces


class Span(NamedTuple):
    """A part of a view's text, from the end of the previous span to `stop` (exclusive).

    Attributes:
        stop: in characters from the start of the prompt.
        kind: the kind of its text.
        message: index in the conversation; −1 for template text that belongs to no message.
        trained: whether it is trained, if it is part of the completion.
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

    `stretches` are the completion's parts: where each ends, and whether it is trained. The first
    is the reasoning, empty if there is none. `message` is the index of the completion's message.
    """
    start, opener = len(prompt), behaviour.prompt_opener
    (reasoning, is_trained), *others = stretches
    opened = len(opener) if reasoning and prompt.endswith(opener) else 0
    spans = [Span(start - opened, Kind.CONTEXT, message)]
    if reasoning:
        spans.append(Span(start + reasoning, Kind.REASONING, message, is_trained))
    return [*spans, *(Span(start + end, Kind.R_OUT, message, said) for end, said in others)]


class Found(Struct, frozen=True):
    """Where the messages of the history are in a prompt; the search in the next goes on from here.

    Attributes:
        spans: the spans of the messages.
        ends: for each message, where it ends in the prompt, and the number of spans up to there.
    """

    spans: tuple[Span, ...] = ()
    ends: tuple[tuple[int, int], ...] = ()


def find_messages(
    prompt: str,
    messages: Sequence[Message],
    behaviour: Behaviour,
    written: MessagePlaces,
    before: Found,
    same: int,
) -> Found:
    """Find each message of the history in a prompt, in order.

    Args:
        prompt: the prompt of a view.
        messages: the messages before the view's own.
        behaviour: the template's.
        written: where the template's loops wrote messages; the others are searched for.
        before: what was found in the prompt of an earlier view, kept as far as the two prompts
            are the same.
        same: how many leading characters the two prompts share.
    """
    kept = _kept(before, same - _LOOKAHEAD)
    at, count = before.ends[kept - 1] if kept else (0, 0)
    spans, ends = list(before.spans[:count]), list(before.ends[:kept])
    own = {index: written.of(index) for index in range(max(kept - 1, 0), len(messages))}
    most = len(prompt.removesuffix(behaviour.prompt_opener))
    stops = [*(each[1] for each in own.values() if each), most]
    for index, message in enumerate(messages[kept:], kept):
        start, stop = own[index] or (max(at, _end_of_results(messages, index, written)), -1)
        if start > at:  # the rest of a message that was searched for, or template text
            is_rest = index > 0 and not own[index - 1]
            late = _late_text(prompt, at, start, messages[:index], ends)
            spans += late or [Span(start, Kind.CONTEXT, index - 1 if is_rest else -1)]
        start, following = max(at, start), _following(messages, index, own, behaviour)
        if start <= stop <= most and not _is_shown(following, prompt, start, stop):
            at = stop
        else:
            later = bisect_right(stops, start)
            found = _end(prompt, start, message, behaviour, following)
            at = found if later == len(stops) or found <= stops[later] else start
            if not ((message.content or "").strip() or message.tool_calls):
                later_ones = (each[0] for i, each in own.items() if each and i > index)
                if at > next(later_ones, at) or _is_shown(following, prompt, start, at):
                    at = start  # the end that was found is another message's
        if message.role == "assistant":
            spans += _history_spans(prompt, start, at, index, message, behaviour)
        else:
            spans.append(Span(at, Kind.CONTEXT, index))
        ends.append((at, len(spans)))
    stop = _end_of_results(messages, len(messages), written) or most
    spans += _late_text(prompt, at, min(stop, most), messages, ends)
    return Found(tuple(spans), tuple(ends))


def _kept(before: Found, same: int) -> int:
    """Return how many messages keep their places in a prompt, of which `same` characters are kept.

    The end of a message depends on the message after it.
    """
    return max(0, bisect_right(before.ends, (same, math.inf)) - 1) if same > 0 else 0


def _caller(messages: Sequence[Message], results: int) -> int:
    """Return the index of the message whose calls have results up to `results`; −1 if none has."""
    index = results - 1
    while index >= 0 and messages[index].role == "tool":
        index -= 1
    return index if index < results - 1 and index >= 0 and messages[index].tool_calls else -1


def _end_of_results(messages: Sequence[Message], index: int, written: MessagePlaces) -> int:
    """Return where the text of a call and its results ends, before an answer that follows; or 0."""
    is_answer = index == len(messages) or messages[index].role == "assistant"
    caller = _caller(messages, index) if is_answer else -1
    found = written.of(caller) if caller >= 0 else None
    return found[1] if found else 0


def _late_text(
    prompt: str, at: int, stop: int, messages: Sequence[Message], ends: Sequence[tuple[int, int]]
) -> list[Span]:
    """Return spans up to `stop` if there, after its results, is the text of a call; else none.

    `ends` are as in `Found`, of all messages up to the results, which end at `at`. A short text
    is not looked for, because template text may contain it.
    """
    caller = _caller(messages, len(messages))
    said = (messages[caller].content or "").strip() if caller >= 0 else ""
    begin = ends[caller - 1][0] if caller > 0 else 0
    place = prompt.find(said, begin, stop)
    if len(said) <= _SHORT or place < at:
        return []
    return [Span(place, Kind.CONTEXT, len(messages) - 1), Span(stop, Kind.R_IN, caller)]


def _following(
    messages: Sequence[Message],
    index: int,
    own: Mapping[int, tuple[int, int] | None],
    behaviour: Behaviour,
) -> Sequence[str]:
    """Return how the message after `index` may be shown, skipping tool results without content.

    Empty if there is none, or if a loop of the template wrote that message.
    """
    for later in range(index + 1, len(messages)):
        whole, role = messages[later].content or "", messages[later].role
        if own[later] or whole.strip() or role != "tool":
            is_there = whole.strip() and not own[later]
            end = behaviour.ends.get(role, "")
            return [_distinct(shown, end) for shown in _shown(whole)] if is_there else ()
    return ()


def _shown(content: str) -> Iterable[str]:
    """Return how a template may show a content: with the white space at its end, or without."""
    return dict.fromkeys((content.lstrip(), content.strip()))


def _is_shown(forms: Sequence[str], text: str, start: int, stop: int) -> bool:
    """Return whether one of `forms` occurs in `text[start:stop]`."""
    return any(text.find(each, start, stop) >= 0 for each in forms)


def _distinct(content: str, end: str) -> str:
    """Return `content`, with the message's end if it is so short that it may occur elsewhere."""
    if len(content) > _SHORT:
        return content
    tag = _TAG_THAT_ENDS.match(end)
    return content + (tag[0] if tag else end)


def _end(
    text: str, at: int, message: Message, behaviour: Behaviour, following: Sequence[str]
) -> int:
    """Return where a message ends, searched from `at`; `at` if it is not found.

    `following` says how the next message may be shown; text of a call after it does not count.
    """
    if message.role == "assistant":
        said = (message.content or "").strip()
        place = text.find(said, at) if said and message.tool_calls else -1
        # Without a tag at its end a short text may be part of another one.
        distinct = [each for each in following if len(each) > _SHORT or each[-1] in ">]"]
        if any(0 <= text.find(each, at) < place for each in distinct):
            message = replace(message, content=None)
        return _end_of_response(text, at, message, behaviour)
    return _end_of_text(text, at, message.content or "", behaviour.ends.get(message.role, ""))


_LOOKAHEAD = 100
"""How many characters after a message can affect where its end is found."""


_SHORT = 16
"""Content of at most this length may occur in a header too; its end is searched with it."""


_TAG_THAT_ENDS = re.compile(r"\s*(?:<[^<>\s]+>|\[/?[A-Z_]+\])")
"""The first tag after a message, which is the same whatever message follows."""


def common_beginning(text: str, other: str) -> int:
    """Return how many leading characters two texts share; fast if `other` begins with `text`."""
    return len(text) if other.startswith(text) else common_length(text, 0, other)


def _end_of_text(text: str, at: int, content: str, end: str) -> int:
    """Return where `content`, searched from `at`, ends, with the message's `end` after it."""
    forms, content = _shown(content), content.strip()
    if len(content) <= _SHORT:
        for shown in forms if end else ():
            if (found := text.find(_distinct(shown, end), at)) >= 0:
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
    # If the message is not shown, the header there is that of another message.
    begin = start + header if header == len(behaviour.header) and start + header <= end else start
    spans = [Span(begin, Kind.CONTEXT, index)]
    core, closer = (message.reasoning or "").strip(), behaviour.closer.strip()
    found = text.find(core, begin, end) if core else -1
    closed = text.find(closer, found + len(core), end) if found >= 0 and closer else -1
    said = (message.content or "").strip()
    if said and text.find(said, closed, end) < 0 <= text.find(said, begin, end):
        closed = -1  # both are in the content, and the reasoning is not shown
    if closed >= 0:
        after = closed + len(closer)
        after += common_length(text, after, behaviour.closer[len(behaviour.closer.rstrip()) :])
        spans.append(Span(min(after, end), Kind.REASONING, index))
    return [*spans, Span(end, Kind.R_IN, index)]
