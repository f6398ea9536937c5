r"""A conversation → two renderings per answer: its prompt, and the text that ends with it.

    prompt   …<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n
    full     …<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n

Both are rendered from the start, because the beginning of the text may depend on all messages; a
memo saves most of the repeated work (`templates.loops`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.choices import MissingReasoning, OnMessageError
from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.message import Message
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.forms import as_written, dump_message
from reasonpack.templates.loops import Memo
from reasonpack.templates.message_places import MessagePlaces
from reasonpack.templates.template import ChatTemplate
from reasonpack.views.completion import closes_reasoning
from reasonpack.views.earlier_calls import Past, Story, same_beginning

WORTH_A_MEMO = 20
"""Least number of views, or of messages of a call that no earlier one begins with, for which a memo
is used: its gain grows with the square of the views."""


class Rendering(Struct, frozen=True):
    """How conversations become text.

    Attributes:
        template: the chat template.
        behaviour: what was learned about it.
        variables: template variables that the user set for all conversations.
        missing_reasoning: what to do with a message without reasoning if the template makes the
            model reason: leave it untrained, train it after an empty block, or refuse it.
        train_empty_think: whether to train such an empty block too.
        on_message_error: what to do with a message that has no exact view: reject the
            conversation, or keep the message as untrained context if the template shows it.
    """

    template: ChatTemplate
    behaviour: Behaviour
    variables: Mapping[str, Any]
    missing_reasoning: MissingReasoning = "skip-loss"
    train_empty_think: bool = False
    on_message_error: OnMessageError = "reject"


def each_rendering(
    conversation: Conversation,
    rendering: Rendering,
    answers: Sequence[int],
    past: Past | None = None,
) -> Generator[tuple[int, str, str, MessagePlaces]]:
    """Yield (index, prompt, rendering that ends with the answer, written) for each answer.

    `written` says where in the prompt the text of each message is. `past` is given for a call,
    whose answer is its last message.

    Raises:
        RecordError: the template refuses the messages.
    """
    template, tools = rendering.template, past.tools if past else conversation.tools
    stories = _stories(conversation.messages, rendering.behaviour, past)
    goes_on = past is not None and past.common > 0
    remembers = goes_on or len(conversation.messages if past else answers) >= WORTH_A_MEMO
    memos = past.memos if past and remembers else {}

    def memo_of(number: int, story: Story, variables: Mapping[str, Any]) -> Memo:
        key, items = (number, remembers and repr(variables)), [*story, *(tools or ())]
        if key not in memos:  # repr, unlike ==, tells True from 1
            memos[key] = Memo(template.sites if remembers else (), items)
        elif past:
            memos[key].set_items(items)
        return memos[key]

    new = stories[0][past.common if past else 0 :]
    new = [message["tool_calls"] for message in new if "tool_calls" in message]
    kept = template.json_texts([tools, new]) if tools or new else {}
    for index in answers:
        variables = _variables(conversation, index, rendering)
        render = partial(template.render, tools=tools, kwargs=variables, json_texts=kept)
        try:
            story, memo, prompt, written = _prompt(
                stories, index, render, rendering, partial(memo_of, variables=variables)
            )
            last = _own_form(conversation.messages[index], prompt, rendering.behaviour)
            whole = story[: index + 1] if last is None else [*story[:index], last]
            if memo and past:
                memo.set_items([*whole, *(tools or ())])
            full = render(whole, memo=memo if remembers and (past or last is None) else None)
        except RecordError as error:
            error.path = f"messages[0:{index + 1}]"
            raise
        yield index, prompt, full, written


def _prompt(
    stories: Sequence[Story],
    index: int,
    render: partial[str],
    rendering: Rendering,
    memo_of: Callable[[int, Story], Memo],
) -> tuple[Story, Memo | None, str, MessagePlaces]:
    """Render an answer's prompt from the first story whose prompt does not close the reasoning.

    Returns:
        That story, or else the last one; its memo, if the template has sites; the prompt; where
        in the prompt each message is.
    """
    for number, story in enumerate(stories):
        memo = memo_of(number, story) if rendering.template.sites else None
        prompt = render(story[:index], add_generation_prompt=True, memo=memo)
        if story is stories[-1] or not closes_reasoning(prompt, rendering.behaviour):
            break
    return story, memo, prompt, memo.written if memo else MessagePlaces()


def _own_form(message: Message, prompt: str, behaviour: Behaviour) -> dict[str, Any] | None:
    """Return the answer as a dict if it differs from its form in the history, else None.

    White space alone is no reasoning after a prompt that closes it, and an empty content is left
    out if the template would write an empty message for it.
    """
    forms, bare = behaviour.forms, message
    if message.reasoning and not is_reasoned(message) and closes_reasoning(prompt, behaviour):
        bare = replace(message, reasoning=None, verbatim=None)
    if forms.empty_as_written and message.content == "":
        # `find_completion` puts reasoning within the content before the calls, as recorded.
        reasoning = None if as_written(message, forms) is not None else bare.reasoning
        bare = replace(bare, content=None, verbatim=None, reasoning=reasoning)
    return None if bare is message else dump_message(bare, forms)


def _stories(
    messages: Sequence[Message], behaviour: Behaviour, past: Past | None = None
) -> tuple[list[dict[str, Any]], ...]:
    """Return the messages as dicts that the template reads: one story or two.

    The second has no empty reasoning blocks, for prompts that close the reasoning. It is the only
    one if the two are the same or the template has no place for reasoning.
    """

    def write(message: Message) -> tuple[dict[str, Any], dict[str, Any]]:
        whole = dump_message(message, behaviour.forms)
        if message.verbatim is None or is_reasoned(message):
            return whole, whole
        return whole, dump_message(replace(message, verbatim=None), behaviour.forms)

    if past:
        wholes, bares = past.stories(messages, write)
    else:
        wholes, bares = map(list, zip(*map(write, messages), strict=True))
    is_one = not behaviour.closer or same_beginning(wholes, bares) == len(messages)
    return (bares,) if is_one else (wholes, bares)


def _variables(conversation: Conversation, index: int, rendering: Rendering) -> Mapping[str, Any]:
    """Return the template variables for the view of message `index`."""
    switch = rendering.behaviour.not_thinking
    if is_reasoned(conversation.messages[index]):
        switch = rendering.behaviour.thinking
    return {**switch, **rendering.variables, **conversation.template_kwargs}


def is_reasoned(message: Message) -> bool:
    """Return whether a message has reasoning other than white space."""
    return bool((message.reasoning or "").strip())
