"""A conversation → its views: what the model saw and wrote, one per trained message.

    system user assistant user assistant        messages
                   │             │
                 view 1        view 2           prompt text + completion text

A view's prompt is the rendering of the messages before the answer, with the generation prompt.
Its completion is what the model then wrote, up to and including the stop token. If the rendering
with the answer begins with the prompt, the completion is the rest of it. Often it does not:
templates drop the reasoning of a complete answer, or render the history differently once an answer
follows. Then the answer is taken from the end of that rendering, and reasoning and delimiters, as
learned from the template, are put before it. Either way the completion must contain all of the
message, or the conversation is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.message import NOTHING_WRITTEN, Message
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.views.chosen import read_train_on
from reasonpack.views.completion import find_completion
from reasonpack.views.earlier_calls import Past, Prompt
from reasonpack.views.refused import (
    check_context,
    hidden_answers,
    no_completion,
    refuse_rendered,
    refuse_stop_inside,
    without_reasoning,
)
from reasonpack.views.rendering import Rendering, each_rendering, is_reasoned
from reasonpack.views.spans import Span, common_beginning, completion_spans, find_messages


class View(Struct, frozen=True):
    """What the model saw and wrote for one assistant message.

    Attributes:
        message: index of that message in the conversation.
        prompt: the text that the model saw.
        completion: the text that it wrote, stop token included.
        spans: tile `prompt + completion`.
        hidden: how many earlier answers, new in this prompt, have text or calls that it lacks.
    """

    message: int
    prompt: str
    completion: str
    spans: tuple[Span, ...]
    hidden: int = 0


def build_views(
    conversation: Conversation, rendering: Rendering, *, train_on: str = "all"
) -> tuple[View, ...]:
    """Build the view of every message that is trained, in their order; at least one.

    Raises:
        RecordError: a message has no exact view with this template, or nothing is trained.
    """
    with ready_for_bounds():
        built = each_view(conversation, rendering, train_on=train_on)
        return tuple(view for view in built if isinstance(view, View))


def each_view(
    conversation: Conversation,
    rendering: Rendering,
    *,
    train_on: str = "all",
    past: Past | None = None,
) -> Iterator[View | str]:
    """Yield the view of every message that is to be trained, or why it stays context.

    That is `missing-reasoning` if its prompt opens reasoning that the message does not have, else
    the reason of the error for which it has no exact view.
    One at a time, because together they hold the conversation's text many times. `past` is given
    for a call, of which only the last message is trained; its view has indices of messages in the
    conversation, others in the record.

    Raises:
        RecordError: a message has no exact view with this template, or nothing was trained.
    """
    sources = conversation.sources
    try:
        for view in _each_view(conversation, rendering, train_on, past):
            yield _of_source(view, sources) if sources and past is None else view
    except RecordError as error:
        if sources:
            own = re.compile(r"(?<=^messages\[)\d+")
            error.path = own.sub(lambda index: str(sources[int(index[0])]), error.path)
        raise


def _of_source(view: View | str, sources: Sequence[int]) -> View | str:
    """Return `view` with message indices of the record instead of the conversation read from it."""
    if isinstance(view, str):
        return view
    spans = tuple(
        span if span.message < 0 else span._replace(message=sources[span.message])
        for span in view.spans
    )
    return replace(view, message=sources[view.message], spans=spans)


def _each_view(
    conversation: Conversation, rendering: Rendering, train_on: str, past: Past | None
) -> Iterator[View | str]:
    messages, behaviour = conversation.messages, rendering.behaviour
    refuse_rendered(messages, behaviour)
    chosen = read_train_on(train_on)
    asked = chosen.messages(messages)
    before = past.known_prompt() if past else Prompt()
    untrained: list[str] = []
    with closing(each_rendering(conversation, rendering, asked, past)) as renderings:
        for index, prompt, full, written in renderings:
            text = _text_or_reason(messages[index], prompt, full, index, rendering)
            if isinstance(text, str):
                untrained.append(text)
                yield text
                continue
            history, same = messages[:index], common_beginning(before.text, text.prompt)
            found = find_messages(text.prompt, history, behaviour, written, before.found, same)
            context = text.prompt, history, rendering.template, before.shown, same
            shown = check_context(*context, shows_results="tool" in behaviour.ends)
            hidden = hidden_answers(text.prompt, history, len(before.shown), shown)
            before = Prompt(text.prompt, found, shown)
            if past:
                past.end(before)
            parts = chosen.stretches(text.completion, messages, index, text.reasoning)
            if not any(is_trained for _, is_trained in parts):
                untrained.append("none of the parts to train")
                continue
            own = completion_spans(text.prompt, parts, index, behaviour)
            yield View(index, text.prompt, text.completion, (*found.spans, *own), hidden)
    if len(untrained) == len(asked):
        untrained += [NOTHING_WRITTEN for each in messages if NOTHING_WRITTEN in each.noticed]
        left = "".join(f"; {n} stay context ({why})" for why, n in Counter(untrained).items())
        what = f"no assistant message is to be trained{left}"
        see = ", see --missing-reasoning" if "missing-reasoning" in untrained else ""
        fix = f"train a message{see}, or leave the conversation out (--on-error skip)"
        raise RecordError("nothing-to-train", "messages", what, "at least one", fix)


def _text_or_reason(
    message: Message, prompt: str, full: str, index: int, rendering: Rendering
) -> _ViewText | str:
    """Return a view's text, or the reason why its message stays context."""
    try:
        return _view_text(message, prompt, full, index, rendering) or "missing-reasoning"
    except RecordError as error:
        shown = ((message.content or "").strip(), *(call.name for call in message.tool_calls))
        if rendering.on_message_error == "reject" or any(text not in full for text in shown):
            raise
        return error.reason


class _ViewText(NamedTuple):
    """A view without its spans; the reasoning is `completion[:reasoning]`."""

    prompt: str
    completion: str
    reasoning: int


def _view_text(
    message: Message, prompt: str, full: str, index: int, rendering: Rendering
) -> _ViewText | None:
    """Return the text of one view; None if its message lacks reasoning and stays context."""
    reasoned, behaviour, name = is_reasoned(message), rendering.behaviour, rendering.template.name
    refuse_stop_inside(message, index, behaviour)
    found = find_completion(prompt, full, message, behaviour)
    if found is None:
        raise no_completion(name, index, prompt, full, message, behaviour)
    completion, response = found.text, found.response
    if found.block and not reasoned:
        if rendering.missing_reasoning == "skip-loss":
            return None
        if rendering.missing_reasoning == "error":
            raise without_reasoning(name, index)
        if not rendering.train_empty_think:
            prompt, completion = prompt + completion[:response], completion[response:]
    return _ViewText(prompt, completion, response if reasoned else 0)
