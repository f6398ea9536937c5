"""A conversation → its views: what the model saw and wrote, one per trained message.

    system user assistant user assistant        messages
                   │             │
                 view 1        view 2           prompt text + completion text

A view's prompt is what the template renders of the messages before it, with the
generation prompt. Its completion is what the model then wrote, up to and including the
stop token. Where the rendering with the answer continues the prompt, the completion is
the rest of it. Templates often do not: they drop the reasoning of an answer that is
complete, or rewrite the history once there is one. Then the answer is taken from the
end of that rendering, and what it lacks is put in front of it as it was learned from
the template. Either way the completion must hold all of the message, or the
conversation is refused.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from reasonpack.behaviour import Behaviour
from reasonpack.completion import find_completion
from reasonpack.errors import RecordError
from reasonpack.memo import Memo
from reasonpack.probe import dump_message
from reasonpack.records.conversation import Conversation, Message
from reasonpack.sandbox import ready_for_bounds
from reasonpack.spans import (
    Found,
    Span,
    common_beginning,
    common_length,
    completion_spans,
    find_messages,
)
from reasonpack.template import ChatTemplate

__all__ = ["MissingReasoning", "Rendering", "TrainOn", "View", "Views", "build_views", "each_view"]

TrainOn = Literal["all", "last-turn"]
MissingReasoning = Literal["skip-loss", "empty-think", "error"]


WORTH_A_MEMO = 12
"""Views from which a memo is used: what it saves grows with the square of their number."""


@dataclass(frozen=True, slots=True)
class View:
    """What the model saw and wrote for one assistant message.

    Attributes:
        message: index of that message in the conversation.
        prompt: text it saw.
        completion: text it wrote, stop token included.
        spans: tile `prompt + completion`.
        shared: how many characters the prompt has in common with that of the view before, from
            the start; fewer where that was not looked for.
    """

    message: int
    prompt: str
    completion: str
    spans: tuple[Span, ...]
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a conversation.

    Attributes:
        views: in the order of the messages; at least one.
        untrained: how many messages were left untrained because their prompt opens
            reasoning that they do not have.
    """

    views: tuple[View, ...]
    untrained: int


@dataclass(frozen=True, slots=True)
class Rendering:
    """How conversations become text.

    Attributes:
        template: the chat template.
        behaviour: what was learned about it.
        variables: what the user set for every conversation.
        missing_reasoning: what to do with a message without reasoning where the
            template makes the model reason: leave it untrained, train it after an
            empty block, or refuse it.
        train_empty_think: train such an empty block too.
        remember: render each message once in the same circumstances; see `reasonpack.memo`.
    """

    template: ChatTemplate
    behaviour: Behaviour
    variables: Mapping[str, Any]
    missing_reasoning: MissingReasoning = "skip-loss"
    train_empty_think: bool = False
    remember: bool = True


def build_views(
    conversation: Conversation, rendering: Rendering, *, train_on: TrainOn = "all"
) -> Views:
    """Build the view of every message that is to be trained.

    Raises:
        RecordError: a view cannot be had exactly from this template, or there is
            nothing to train.
    """
    with ready_for_bounds():
        built = list(each_view(conversation, rendering, train_on=train_on))
    views = tuple(view for view in built if view is not None)
    return Views(views, len(built) - len(views))


def each_view(
    conversation: Conversation, rendering: Rendering, *, train_on: TrainOn = "all"
) -> Iterator[View | None]:
    """Yield the view of every message that is to be trained, one at a time.

    All together have the text of the conversation many times over.

    Yields:
        None for a message that is left untrained.

    Raises:
        RecordError: a view cannot be had exactly from this template, or there was
            nothing to train.
    """
    messages, forms = conversation.messages, rendering.behaviour.forms
    asked = [
        (index, _variables(conversation, index, rendering))
        for index in _trained(messages, train_on)
    ]
    dumped = [dump_message(message, forms) for message in messages]
    memos: list[tuple[Mapping[str, Any], Memo]] = []
    found, before = Found(), ""
    shown: _Shown = []
    untrained = 0
    calls = [message.get("tool_calls") for message in dumped]
    with rendering.template.unchanged([conversation.tools, calls]):
        for index, variables in asked:
            memo = None
            if rendering.remember and len(asked) >= WORTH_A_MEMO:
                memo = _memo(memos, variables, dumped, conversation.tools, rendering)
            prompt, full = _render(conversation, rendering, dumped, index, variables, memo)
            text = _text(messages[index], prompt, full, index, rendering)
            if text is None:
                untrained += 1
                yield None
                continue
            history = messages[:index]
            same = common_beginning(before, text.prompt)
            found = find_messages(text.prompt, history, rendering.behaviour, found, same)
            shown = _check_context(text.prompt, history, rendering, shown, same)
            spans = _spans(text, found, index, rendering)
            before = text.prompt
            yield View(index, text.prompt, text.completion, spans, same)
    if untrained == len(asked):
        left = f"; {untrained} lack the reasoning that their prompt opens" if untrained else ""
        raise RecordError(
            "nothing-to-train",
            "messages",
            f"no assistant message is to be trained{left}, expected at least one",
            fix="train a message, see --missing-reasoning, or leave the conversation out",
        )


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


def _variables(conversation: Conversation, index: int, rendering: Rendering) -> Mapping[str, Any]:
    """Return the template's variables for one view."""
    switch = rendering.behaviour.not_thinking
    if _is_reasoned(conversation.messages[index]):
        switch = rendering.behaviour.thinking
    return {**switch, **rendering.variables, **conversation.template_kwargs}


def _memo(
    memos: list[tuple[Mapping[str, Any], Memo]],
    variables: Mapping[str, Any],
    dumped: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None,
    rendering: Rendering,
) -> Memo | None:
    """Return the memo of the renderings with these variables."""
    sites = rendering.template.sites
    if not sites:
        return None
    for known, memo in memos:
        if repr(known) == repr(variables):  # true is not 1
            return memo
    memos.append((variables, Memo(sites, dumped, tools or ())))
    return memos[-1][1]


def _is_reasoned(message: Message) -> bool:
    return bool((message.reasoning or "").strip())


def _render(
    conversation: Conversation,
    rendering: Rendering,
    dumped: Sequence[Mapping[str, Any]],
    index: int,
    variables: Mapping[str, Any],
    memo: Memo | None,
) -> tuple[str, str]:
    """Render what comes before an answer, with the generation prompt, and what ends with it.

    Both from the start: what a template makes of the beginning may depend on all of it.
    """
    template, tools = rendering.template, conversation.tools
    try:
        prompt = template.render(
            dumped[:index], tools=tools, kwargs=variables, add_generation_prompt=True, memo=memo
        )
        return prompt, template.render(
            dumped[: index + 1], tools=tools, kwargs=variables, memo=memo
        )
    except RecordError as error:
        error.path = f"messages[0:{index + 1}]"
        raise


@dataclass(frozen=True, slots=True)
class _Text:
    """A view without its spans; the reasoning is `completion[:reasoning]`."""

    prompt: str
    completion: str
    reasoning: int


def _text(
    message: Message, prompt: str, full: str, index: int, rendering: Rendering
) -> _Text | None:
    """Find the prompt and completion of one view; None where it is to be left untrained."""
    reasoned = _is_reasoned(message)
    found = find_completion(prompt, full, message, rendering.behaviour)
    if found is None:
        raise _misfit(rendering, index, prompt, full, message)
    completion, response = found.text, found.response
    if found.block and not reasoned:
        if rendering.missing_reasoning == "skip-loss":
            return None
        if rendering.missing_reasoning == "error":
            raise _unfit(
                rendering,
                index,
                "makes the model write an empty block of reasoning, and the message has none",
                reason="missing-reasoning",
            )
        if not rendering.train_empty_think:
            prompt, completion = prompt + completion[:response], completion[response:]
    return _Text(prompt, completion, response if reasoned else 0)


def _spans(text: _Text, found: Found, index: int, rendering: Rendering) -> tuple[Span, ...]:
    prompt, completion, behaviour = text.prompt, text.completion, rendering.behaviour
    own = completion_spans(prompt, completion, index, behaviour, response=text.reasoning)
    return (*found.spans, *own)


_Shown = list[tuple[int, int]]
"""For each message, where it and all before it are over, and where the last of a user is."""


def _check_context(
    prompt: str, messages: Sequence[Message], rendering: Rendering, before: _Shown, same: int
) -> _Shown:
    """Refuse a template that leaves out what a user or a system message says.

    What was found in the prompt before stands in this one too, as far as they are the same.
    """
    kept = bisect_right(before, (same, math.inf))
    ends = before[:kept]
    over, at = ends[-1] if ends else (0, 0)
    for index, message in enumerate(messages[kept:], kept):
        if message.role not in {"assistant", "tool"}:
            content = (message.content or "").strip()
            # What users say comes in order; a system message may be put anywhere.
            found = prompt.find(content, at if message.role == "user" else 0)
            if found < 0:
                raise _unfit(
                    rendering, index, f"does not show the content of this {message.role} message"
                )
            over = max(over, found + len(content))
            if message.role == "user":
                at = found + len(content)
        ends.append((over, at))
    return ends


def _misfit(
    rendering: Rendering, index: int, prompt: str, full: str, message: Message
) -> RecordError:
    """Say why no completion was found."""
    behaviour = rendering.behaviour
    content, fix = (message.content or "").strip(), ""
    missing = [call.name for call in message.tool_calls if call.name not in full]
    if (message.reasoning or "").strip() and not behaviour.closer:
        what = "has no place for reasoning, which this message has"
        fix = "remove the reasoning, or say with --template-behaviour what opens and closes it"
    elif content and content not in full:
        what = "does not show the content of this message"
    elif missing:
        what = f"does not show this message's call of {missing[0]!r}"
    elif message.tool_calls and not behaviour.call_stop.token:
        what = "ends a message with tool calls in no way that can be relied on"
    elif (message.reasoning or "").strip() and (message.reasoning or "").strip() not in full:
        what = "neither shows the reasoning of this message nor has its prompt open it"
    else:
        difference = _difference(prompt, full)
        what = f"does not show the message whole, or not after its prompt {difference}"
    return _unfit(rendering, index, what, fix=fix)


def _unfit(
    rendering: Rendering, index: int, what: str, *, reason: str = "view", fix: str = ""
) -> RecordError:
    return RecordError(
        reason,
        f"messages[{index}]",
        f"the chat template ({rendering.template.name}) {what}, expected what the model would "
        "have seen and written",
        fix=fix
        or 'set "train": false on the message to keep it as context, or use another template',
    )


def _difference(prompt: str, full: str) -> str:
    """Show where two texts part, with a little of what each has there."""
    at = common_length(full, 0, prompt)
    if at == len(prompt):
        return f"({full[at : at + 40]!r} follows)"
    return f"({full[at : at + 30]!r} instead of {prompt[at : at + 30]!r} after {at:,} characters)"
