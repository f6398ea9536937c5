"""A conversation → its views: what the model saw and wrote, one per trained message.

    system user assistant user assistant        messages
                   │             │
                 view 1        view 2           prompt text + completion text

A view's prompt is what the template renders of the messages before it, with the
generation prompt; its completion is what the model then wrote, up to and including
the stop token. Spans say which stretch of the text is of which kind and message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from reasonpack.behaviour import Behaviour, dump_message
from reasonpack.conversation import Conversation, Message
from reasonpack.errors import RecordError
from reasonpack.template import ChatTemplate

__all__ = ["Kind", "Rendering", "Span", "View", "build_views"]

TrainOn = Literal["all", "last-turn"]


class Kind(IntEnum):
    """What a segment holds; the numbers are those of the format."""

    CONTEXT = 0
    REASONING = 1
    R_IN = 2
    R_OUT = 3

    @property
    def label(self) -> str:
        """The paper's name: `h`, `t`, `r_in` or `r_out`."""
        return ("h", "t", "r_in", "r_out")[self]


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a view's text, from where the one before it ends to `stop` (exclusive).

    Attributes:
        stop: in characters from the start of the prompt.
        kind: what it holds.
        message: index in the conversation; −1 for text of the template's own.
    """

    stop: int
    kind: Kind
    message: int


@dataclass(frozen=True, slots=True)
class View:
    """What the model saw and wrote for one assistant message.

    Attributes:
        message: index of that message in the conversation.
        prompt: text it saw.
        completion: text it wrote, stop token included.
        spans: tile `prompt + completion`.
    """

    message: int
    prompt: str
    completion: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Rendering:
    """A chat template, what was learned about it, and the variables that the user set."""

    template: ChatTemplate
    behaviour: Behaviour
    variables: Mapping[str, Any]


def build_views(
    conversation: Conversation, rendering: Rendering, *, train_on: TrainOn = "all"
) -> list[View]:
    """Build the view of every message that is to be trained, in order.

    Raises:
        RecordError: a view cannot be had exactly from this template, or there is
            nothing to train.
    """
    messages = conversation.messages
    trained = _trained(messages, train_on)
    if not trained:
        raise RecordError(
            "nothing-to-train",
            "messages",
            "no assistant message is to be trained, expected at least one",
            fix="set train or weight on a message, or leave the conversation out",
        )
    behaviour = rendering.behaviour
    dumped = [
        dump_message(
            message,
            reasoning_fields=behaviour.reasoning_fields,
            empty_content=behaviour.empty_content,
            arguments_as_text=behaviour.arguments_as_text,
        )
        for message in messages
    ]
    views = []
    shown = 0
    for index in trained:
        view = _build_view(conversation, dumped, index, rendering)
        _check_context(view, messages, range(shown, index), rendering)
        shown = index
        views.append(view)
    return views


def _trained(messages: Sequence[Message], train_on: TrainOn) -> list[int]:
    first = 0
    if train_on == "last-turn":
        users = (index for index, message in enumerate(messages) if message.role == "user")
        first = max(users, default=0)
    return [
        index
        for index, message in enumerate(messages)
        if index >= first and message.role == "assistant" and message.train
    ]


def _build_view(
    conversation: Conversation,
    dumped: Sequence[Mapping[str, Any]],
    index: int,
    rendering: Rendering,
) -> View:
    message, behaviour = conversation.messages[index], rendering.behaviour
    switch = behaviour.thinking if message.reasoning else behaviour.not_thinking
    variables = {**switch, **rendering.variables, **conversation.template_kwargs}
    try:
        prompt = rendering.template.render(
            dumped[:index],
            tools=conversation.tools,
            kwargs=variables,
            add_generation_prompt=True,
        )
        full = rendering.template.render(
            dumped[: index + 1], tools=conversation.tools, kwargs=variables
        )
    except RecordError as error:
        error.path = f"messages[0:{index + 1}]"
        raise
    if not full.startswith(prompt):
        raise _unfit(
            rendering,
            index,
            "the prompt is not how the rendering with the answer begins "
            f"({_difference(prompt, full)})",
        )
    completion = _cut_stop(full[len(prompt) :], message, index, rendering)
    spans = _prompt_spans(prompt, conversation.messages[:index], behaviour)
    spans += _completion_spans(prompt, completion, index, rendering, message)
    return View(index, prompt, completion, tuple(spans))


def _unfit(rendering: Rendering, index: int, what: str, *, reason: str = "view") -> RecordError:
    return RecordError(
        reason,
        f"messages[{index}]",
        f"{rendering.template.name}: {what}",
        fix='set "train": false on the message to keep it as context, or use another template',
    )


def _difference(prompt: str, full: str) -> str:
    """Show where two texts part, with a little of what each has there."""
    at = _common(prompt, 0, full)
    return f"{full[at : at + 30]!r} instead of {prompt[at : at + 30]!r} after {at:,} characters"


def _common(text: str, start: int, other: str) -> int:
    """Return how many characters of `other` stand at `start` in `text`."""
    low, high = 0, min(len(other), len(text) - start)
    while low < high:
        middle = (low + high + 1) // 2
        if text.startswith(other[low:middle], start + low):
            low = middle
        else:
            high = middle - 1
    return low


def _cut_stop(rest: str, message: Message, index: int, rendering: Rendering) -> str:
    """Cut what the template adds after the stop token, which the model did not write."""
    behaviour = rendering.behaviour
    if message.tool_calls:
        stop, after = behaviour.call_stop, behaviour.call_after_stop
    else:
        stop, after = behaviour.stop, behaviour.after_stop
    if not rest.endswith(stop + after):
        raise _unfit(rendering, index, f"ends in {rest[-30:]!r}, expected {stop + after!r}")
    return rest[: len(rest) - len(after)]


def _completion_spans(
    prompt: str, completion: str, index: int, rendering: Rendering, message: Message
) -> list[Span]:
    """Check that the completion holds the message, and say where its response begins."""
    behaviour, start = rendering.behaviour, len(prompt)
    opener = behaviour.prompt_opener
    opened = bool(opener) and prompt.endswith(opener)
    response = 0
    if message.reasoning:
        response = _end_of_reasoning(completion, index, rendering, message.reasoning)
    elif opened or _shows_empty_block(completion, message, behaviour):
        raise _unfit(
            rendering,
            index,
            "has no reasoning, and the template would make the model write an empty block of it",
            reason="missing-reasoning",
        )
    _check_response(completion, response, index, rendering, message)
    spans = [Span(start - (len(opener) if opened else 0), Kind.CONTEXT, index)]
    if message.reasoning:
        spans.append(Span(start + response, Kind.REASONING, index))
    spans.append(Span(start + len(completion), Kind.R_OUT, index))
    return spans


def _end_of_reasoning(completion: str, index: int, rendering: Rendering, reasoning: str) -> int:
    core = reasoning.strip()
    found = completion.find(core)
    if found < 0 or not core or not rendering.behaviour.closer.strip():
        raise _unfit(rendering, index, "its reasoning is not in what the model would have written")
    closer = rendering.behaviour.closer
    at = completion.find(closer.strip(), found + len(core))
    if at < 0 or completion[found + len(core) : at].strip():
        raise _unfit(rendering, index, f"its reasoning is not closed by {closer.strip()!r}")
    at += len(closer.strip())
    trailing = closer[len(closer.rstrip()) :]
    return at + _common(completion, at, trailing)


def _shows_empty_block(completion: str, message: Message, behaviour: Behaviour) -> bool:
    closer = behaviour.closer.strip()
    if not closer:
        return False
    content = (message.content or "").strip()
    lead = completion.partition(content)[0] if content else completion
    return closer in lead


def _check_response(
    completion: str, start: int, index: int, rendering: Rendering, message: Message
) -> None:
    content = (message.content or "").strip()
    at = completion.find(content, start)
    if at < 0:
        raise _unfit(rendering, index, "its content is not in what the model would have written")
    at += len(content)
    for number, call in enumerate(message.tool_calls):
        at = completion.find(call.name, at)
        if at < 0:
            raise _unfit(
                rendering,
                index,
                f"tool_calls[{number}] ({call.name}) is not in what the model would have written",
            )


def _check_context(
    view: View, messages: Sequence[Message], indices: range, rendering: Rendering
) -> None:
    """Refuse a template that leaves out what a user or a system message says."""
    for index in indices:
        message = messages[index]
        if message.role in {"assistant", "tool"}:
            continue
        if (message.content or "").strip() not in view.prompt:
            raise _unfit(
                rendering,
                index,
                f"the template does not show the content of this {message.role} message",
            )


def _prompt_spans(prompt: str, messages: Sequence[Message], behaviour: Behaviour) -> list[Span]:
    """Find each message in a prompt, in order.

    Where a template rewrites a message beyond recognition its text counts to the
    neighbour: kinds and messages of context are for reading, they train nothing.
    """
    spans: list[Span] = []
    at = 0
    for index, message in enumerate(messages):
        if message.role == "assistant":
            start, at = at, _end_of_response(prompt, at, message, behaviour)
            spans += _history_spans(prompt, start, at, index, message, behaviour)
        else:
            content = (message.content or "").strip()
            end = behaviour.ends.get(message.role, "")
            at = _end_of_text(prompt, at, content, end)
            spans.append(Span(at, Kind.CONTEXT, index))
    return spans


def _end_of_text(text: str, at: int, content: str, end: str) -> int:
    """Return where `content` and what ends it, searched from `at`, are over."""
    if not content:
        found = text.find(end, at) if end else -1
        return at if found < 0 else found + len(end)
    found = text.find(content, at)
    if found < 0:
        escaped = json.dumps(content, ensure_ascii=False)[1:-1]
        found = text.find(escaped, at)
        content = escaped
        if found < 0:
            return at
    at = found + len(content)
    space = len(end) - len(end.lstrip())
    while text[at : at + 1].isspace() and not text.startswith(end[: space + 1], at):
        at += 1
    return at + _common(text, at, end)


def _end_of_response(text: str, at: int, message: Message, behaviour: Behaviour) -> int:
    found = max(at, text.find((message.content or "").strip(), at))
    for call in message.tool_calls:
        found = max(found, text.find(call.name, found))
    pairs = [(behaviour.stop, behaviour.after_stop)]
    if message.tool_calls:
        pairs.insert(0, (behaviour.call_stop, behaviour.call_after_stop))
    for stop, after in pairs:
        end = text.find(stop, found)
        if end >= 0:
            end += len(stop)
            return end + _common(text, end, after)
    return found


def _history_spans(
    text: str, start: int, end: int, index: int, message: Message, behaviour: Behaviour
) -> list[Span]:
    """Split an assistant message of the history into header, reasoning and response."""
    if not message.reasoning:
        return [Span(end, Kind.R_IN, index)]
    core, closer = message.reasoning.strip(), behaviour.closer.strip()
    found = text.find(core, start, end)
    closed = text.find(closer, found + len(core), end) if found >= 0 and closer else -1
    if closed < 0:
        return [Span(end, Kind.R_IN, index)]
    opener = (behaviour.opener or behaviour.prompt_opener).strip()
    opened = text.rfind(opener, start, found) if opener else found
    after = closed + len(closer)
    after += _common(text, after, behaviour.closer[len(behaviour.closer.rstrip()) :])
    return [
        Span(max(opened, start), Kind.CONTEXT, index),
        Span(min(after, end), Kind.REASONING, index),
        Span(end, Kind.R_IN, index),
    ]
