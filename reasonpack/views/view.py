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

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reasonpack.choices import MissingReasoning, OnMessageError, TrainOn
from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, Message
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.forms import dump_message
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.templates.loops import Memo
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.completion import find_completion
from reasonpack.views.refused import (
    Shown,
    check_context,
    misfit,
    refuse_stop_inside,
    without_reasoning,
)
from reasonpack.views.spans import Found, Span, common_beginning, completion_spans, find_messages

__all__ = ["Rendering", "Untrained", "View", "Views", "build_views", "each_view"]


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
class Untrained:
    """A message that stays context although it was to be trained.

    Attributes:
        message: its index.
        reason: `missing-reasoning` where its prompt opens reasoning that it does not have, or
            that for which it could not be had exactly.
    """

    message: int
    reason: str


@dataclass(frozen=True, slots=True)
class Views:
    """The views of a conversation.

    Attributes:
        views: in the order of the messages; at least one.
        untrained: messages that were left untrained.
    """

    views: tuple[View, ...]
    untrained: tuple[Untrained, ...]


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
        on_message_error: what to do with a message that cannot be had exactly: reject the
            conversation, or keep the message as untrained context if the template shows it.
        remember: render each message once in the same circumstances; see `templates.loops`.
    """

    template: ChatTemplate
    behaviour: Behaviour
    variables: Mapping[str, Any]
    missing_reasoning: MissingReasoning = "skip-loss"
    train_empty_think: bool = False
    on_message_error: OnMessageError = "reject"
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
    views = tuple(view for view in built if isinstance(view, View))
    return Views(views, tuple(view for view in built if isinstance(view, Untrained)))


def each_view(
    conversation: Conversation, rendering: Rendering, *, train_on: TrainOn = "all"
) -> Iterator[View | Untrained]:
    """Yield the view of every message that is to be trained, one at a time.

    All together have the text of the conversation many times over.

    Raises:
        RecordError: a view cannot be had exactly from this template, or there was
            nothing to train.
    """
    sources = conversation.sources
    try:
        for view in _each_view(conversation, rendering, train_on):
            yield _of_source(view, sources) if sources else view
    except RecordError as error:
        error.path = _source_path(error.path, sources)
        raise


def _of_source(view: View | Untrained, sources: Sequence[int]) -> View | Untrained:
    """Name the messages of the record, not those that were read from them."""
    if isinstance(view, Untrained):
        return replace(view, message=sources[view.message])
    spans = tuple(
        span if span.message < 0 else replace(span, message=sources[span.message])
        for span in view.spans
    )
    return replace(view, message=sources[view.message], spans=spans)


def _source_path(path: str, sources: Sequence[int]) -> str:
    """Name the message of the record where a message is named."""
    if not sources:
        return path
    return re.sub(r"(?<=^messages\[)\d+", lambda index: str(sources[int(index[0])]), path)


def _each_view(
    conversation: Conversation, rendering: Rendering, train_on: TrainOn
) -> Iterator[View | Untrained]:
    messages, forms = conversation.messages, rendering.behaviour.forms
    asked = [
        (index, _variables(conversation, index, rendering))
        for index in _trained(messages, train_on)
    ]
    dumped = [dump_message(message, forms) for message in messages]
    memos: list[tuple[Mapping[str, Any], Memo]] = []
    found, before = Found(), ""
    shown: Shown = []
    untrained: Counter[str] = Counter()
    calls = [message.get("tool_calls") for message in dumped]
    with rendering.template.unchanged([conversation.tools, calls]):
        for index, variables in asked:
            memo = None
            if rendering.remember and len(asked) >= WORTH_A_MEMO:
                memo = _memo(memos, variables, dumped, conversation.tools, rendering)
            prompt, full = _render(conversation, rendering, dumped, index, variables, memo)
            text = _text_or_reason(messages[index], prompt, full, index, rendering)
            if isinstance(text, str):
                untrained[text] += 1
                yield Untrained(index, text)
                continue
            history = messages[:index]
            same = common_beginning(before, text.prompt)
            found = find_messages(text.prompt, history, rendering.behaviour, found, same)
            shown = check_context(text.prompt, history, rendering.template, shown, same)
            spans = _spans(text, found, index, rendering)
            before = text.prompt
            yield View(index, text.prompt, text.completion, spans, same)
    if untrained.total() == len(asked):
        left = "".join(f"; {count} stay context ({why})" for why, count in untrained.items())
        raise RecordError(
            "nothing-to-train",
            "messages",
            f"no assistant message is to be trained{left}, expected at least one",
            fix="train a message, see --missing-reasoning, or leave the conversation out",
        )


def _text_or_reason(
    message: Message, prompt: str, full: str, index: int, rendering: Rendering
) -> _Text | str:
    """Return a view's text, or the reason for which its message stays context."""
    try:
        return _text(message, prompt, full, index, rendering) or "missing-reasoning"
    except RecordError as error:
        if rendering.on_message_error == "reject" or not _is_shown(message, full):
            raise
        return error.reason


def _is_shown(message: Message, full: str) -> bool:
    """Whether a rendering shows the content of a message, and its calls."""
    names = [call.name for call in message.tool_calls]
    return all(text in full for text in ((message.content or "").strip(), *names))


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
    reasoned, behaviour, name = _is_reasoned(message), rendering.behaviour, rendering.template.name
    refuse_stop_inside(message, index, behaviour)
    found = find_completion(prompt, full, message, behaviour)
    if found is None:
        raise misfit(name, index, prompt, full, message, behaviour)
    completion, response = found.text, found.response
    if found.block and not reasoned:
        if rendering.missing_reasoning == "skip-loss":
            return None
        if rendering.missing_reasoning == "error":
            raise without_reasoning(name, index)
        if not rendering.train_empty_think:
            prompt, completion = prompt + completion[:response], completion[response:]
    return _Text(prompt, completion, response if reasoned else 0)


def _spans(text: _Text, found: Found, index: int, rendering: Rendering) -> tuple[Span, ...]:
    prompt, completion, behaviour = text.prompt, text.completion, rendering.behaviour
    own = completion_spans(prompt, completion, index, behaviour, response=text.reasoning)
    return (*found.spans, *own)
