"""Earlier calls of a group, kept so that the messages with which several begin are rendered once.

    call 1   system user                        past: system user
    call 2   system user answer tool                  system user answer tool
    call 3   system user' …                     another past, if they share less than half

Messages that two calls share are the same objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, NamedTuple

from msgspec import Struct, field

from reasonpack.records.conversation import Conversation
from reasonpack.records.message import Message
from reasonpack.records.prompt_memo import alike
from reasonpack.records.repeated_items import AGENTS
from reasonpack.templates.loops import Memo
from reasonpack.views.refused import Shown
from reasonpack.views.spans import Found

Story = list[dict[str, Any]]
BothForms = tuple[dict[str, Any], dict[str, Any]]
"""A message as the template reads it, and the same without an empty reasoning block."""


class Prompt(NamedTuple):
    """The prompt of a view, and where its messages are found and shown in it."""

    text: str = ""
    found: Found = Found()
    shown: Shown = ()


class Past(Struct):
    """An earlier call, and what was computed for its messages.

    Attributes:
        tools: the tools that the template was given.
        messages: the messages of the call's prompt.
        common: how many leading messages the next call shares with it.
        memos: what was rendered, by story and template variables.
    """

    tools: Any = None
    messages: Sequence[Message] = ()
    common: int = 0
    memos: dict[tuple[int, str | bool], Memo] = field(default_factory=dict)
    _prompt: Prompt = Prompt()
    _next: Sequence[Message] = ()
    _stories: tuple[Story, Story] = field(default_factory=lambda: ([], []))
    _next_stories: tuple[Story, Story] = field(default_factory=lambda: ([], []))
    _written: dict[int, tuple[Message, BothForms]] = field(default_factory=dict)

    def has(self, tools: Any) -> bool:
        """Return whether `tools` equal this call's, with keys in the same order."""
        return self.tools is tools or (self.tools == tools and alike(self.tools, tools))

    def begin(self, messages: Sequence[Message]) -> None:
        """Begin the next call; the last of `messages` is its answer."""
        self._next = messages[:-1]
        self.common = same_beginning(self.messages, self._next)

    def end(self, prompt: Prompt) -> None:
        """End the call: keep its prompt and its messages for the next."""
        self.messages, self._prompt, self._stories = self._next, prompt, self._next_stories

    def known_prompt(self) -> Prompt:
        """Return the earlier call's prompt, with spans and offsets of the common messages only."""
        text, found, shown = self._prompt
        ends = found.ends[: self.common]
        spans = found.spans[: ends[-1][1]] if ends else ()
        return Prompt(text, Found(spans, ends), shown[: self.common])

    def stories(
        self, messages: Sequence[Message], write: Callable[[Message], BothForms]
    ) -> tuple[Story, Story]:
        """Return `messages` in both forms, reusing what was written for earlier calls.

        A message object that occurs twice is written twice: a memo identifies messages by object.
        """
        wholes, bares = (story[: self.common] for story in self._stories)
        there = {*map(id, wholes)}
        for message in messages[self.common :]:
            known = self._written.get(id(message))
            if known is None or id(known[1][0]) in there:
                known = self._written[id(message)] = message, write(message)
            wholes.append(known[1][0])
            bares.append(known[1][1])
            there.add(id(known[1][0]))
        self._next_stories = wholes, bares
        return wholes, bares


def same_beginning(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many leading objects of two lists are identical."""
    return [*map(is_, one, other), False].index(False)


class Pasts:
    """The pasts of a group, one for each agent whose calls alternate in the log."""

    def __init__(self) -> None:
        self._pasts: list[Past] = []

    def of(self, call: Conversation) -> Past:
        """Return the past that shares most messages with `call`, or a new one, begun for it."""
        history = call.messages[:-1]
        best, most = None, 0
        for past in self._pasts:
            common = same_beginning(past.messages, history)
            if common > most and past.has(call.tools):
                best, most = past, common
        if best is None or 2 * most < min(len(best.messages), len(history)):
            best = Past(tools=call.tools)
        else:
            self._pasts.remove(best)
        self._pasts = [*self._pasts[-AGENTS + 1 :], best]
        best.begin(call.messages)
        return best
