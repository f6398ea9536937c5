r"""A conversation → its renderings: for each answer its prompt, and the text that ends with it.

    prompt   …<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n
    full     …<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n

Both are rendered from the start, for what a template writes first may depend on all messages; a
memo saves what that repeats (`templates.loops`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reasonpack.choices import MissingReasoning, OnMessageError
from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.message import Message
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.forms import dump_message
from reasonpack.templates.loops import Memo
from reasonpack.templates.template import ChatTemplate

WORTH_A_MEMO = 12
"""Views from which a memo is used: what it saves grows with the square of their number."""


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


def each_rendering(
    conversation: Conversation, rendering: Rendering, answers: Sequence[int]
) -> Generator[tuple[int, str, str]]:
    """Yield for each answer its index, its prompt, and the rendering that ends with it.

    Raises:
        RecordError: the template refuses the messages.
    """
    template, tools, forms = rendering.template, conversation.tools, rendering.behaviour.forms
    dumped = [dump_message(each, forms) for each in conversation.messages]
    memo: Memo | None = None
    memos: dict[str, Memo] = {}
    remembers = rendering.remember and bool(template.sites) and len(answers) >= WORTH_A_MEMO
    with template.unchanged([tools, [message.get("tool_calls") for message in dumped]]):
        for index in answers:
            variables = _variables(conversation, index, rendering)
            if remembers:
                key = repr(variables)  # true is not 1
                memo = memos[key] = memos.get(key) or Memo(template.sites, dumped, tools or ())
            before, whole = dumped[:index], dumped[: index + 1]
            try:
                prompt = template.render(
                    before, tools=tools, kwargs=variables, add_generation_prompt=True, memo=memo
                )
                own = memo
                if forms.empty_as_written and conversation.messages[index].content == "":
                    bare = replace(conversation.messages[index], content=None)
                    whole, own = [*before, dump_message(bare, forms)], None
                full = template.render(whole, tools=tools, kwargs=variables, memo=own)
            except RecordError as error:
                error.path = f"messages[0:{index + 1}]"
                raise
            yield index, prompt, full


def _variables(conversation: Conversation, index: int, rendering: Rendering) -> Mapping[str, Any]:
    """Return the template's variables for one view."""
    switch = rendering.behaviour.not_thinking
    if is_reasoned(conversation.messages[index]):
        switch = rendering.behaviour.thinking
    return {**switch, **rendering.variables, **conversation.template_kwargs}


def is_reasoned(message: Message) -> bool:
    """Whether a message has reasoning other than white space."""
    return bool((message.reasoning or "").strip())
