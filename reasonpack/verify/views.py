r"""A chat → what the model saw and wrote for each trained message, by a rule of this check's own.

    prompt       = the messages before, rendered with what begins an answer
    whole        = these and the message, rendered
    completion   = what `whole` has beyond `prompt`, up to the token that stops the model

Where `whole` does not go on from `prompt`, the completion is looked for at the end of `whole`, or
put together from the delimiters, the record's reasoning and the answer as `whole` ends with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reasonpack.verify.chat import Chat, NotChecked, Refused
from reasonpack.verify.names import END, TAG
from reasonpack.verify.rules import Rules
from reasonpack.verify.stop import CUT_OFF, contradiction
from reasonpack.verify.texts import fitting, holds, in_calls, last_place, named, start_of

__all__ = ["TextView", "TextViews", "build_views"]

Json = dict[str, Any]
NO_BLOCK = re.compile("")


@dataclass(frozen=True, slots=True)
class TextView:
    """A view in text; `thought` is where in the completion reasoning ends: at least, at most."""

    message: int
    prompt: str
    completion: str
    thought: tuple[int, int]


@dataclass(slots=True)
class TextViews:
    """The views of a chat, and how they came about.

    Attributes:
        views: of the messages that are trained.
        untrained: messages without the reasoning that their prompt opens.
        context: messages whose views cannot be had, where the run kept such as context.
        stops: how often a stop token came from where.
        contradictions: stop tokens of which the manifest says something else, in words.
    """

    views: list[TextView] = field(default_factory=list)
    untrained: int = 0
    context: int = 0
    stops: dict[str, int] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)


def build_views(chat: Chat, rules: Rules) -> TextViews:
    """Build the views of a chat.

    Raises:
        NotChecked: a view cannot be had by these rules.
        Refused: pack must have refused it.
    """
    made, unknown = TextViews(), False
    given = [rules.forms.given(each, rules.opener, rules.closer) for each in chat.messages]
    for number, message in enumerate(chat.messages):
        if not message.trained:
            continue
        try:
            one = _One(chat, given, number, rules)
            view = one.build()
        except (NotChecked, Refused) as error:
            if not rules.keep_as_context:
                raise
            unknown = unknown or isinstance(error, NotChecked)
            made.context += 1
            continue
        if view is None:
            made.untrained += 1
            continue
        made.views.append(view)
        made.stops[one.stop_from] = made.stops.get(one.stop_from, 0) + 1
        if what := contradiction(rules.claimed, one.stop, one.stop_from, calls=bool(message.calls)):
            made.contradictions.append(what)
    if unknown and not made.views:
        raise NotChecked("no message whose view can be had")
    if not made.views:
        raise Refused("no message of it is trained")
    return made


class _One:
    """The view of one message."""

    def __init__(self, chat: Chat, given: Sequence[Json], number: int, rules: Rules) -> None:
        self.rules, self.number, self.message = rules, number, chat.messages[number]
        self.chat, self.given = chat, given
        switch = rules.thinking[0 if self.message.thinks else 1]
        self.variables: Mapping[str, Any] = {**switch, **rules.given, **chat.variables}
        self.stop, self.stop_from = "\0", "files"
        self.prompt = self._render(number, prompt=True)
        self.whole = self._render(number + 1)
        opener = rules.opener.strip()
        self.opened = bool(opener) and self.prompt.rstrip().endswith(opener)

    def _render(self, upto: int, *more: Json, prompt: bool = False) -> str:
        messages = [*self.given[:upto], *more]
        template = self.rules.template
        return template.render(messages, self.chat.tools, self.variables, prompt=prompt)

    def build(self) -> TextView | None:
        """Build it; None for an answer that is left untrained, for it lacks reasoning."""
        message, rules = self.message, self.rules
        if message.thinks and self._closed():
            raise NotChecked("a prompt that closes the reasoning which the message has")
        completion = self._completion()
        block = None if message.thinks else rules.empty_block.match(completion)
        if block is None and (message.thinks or not self.opened):
            return TextView(message.source, self.prompt, completion, self._thought(completion))
        # The template makes the model reason, and the message has no reasoning.
        if rules.missing_reasoning == "error":
            raise Refused(f"messages[{self.number}]: no reasoning, where the template expects it")
        if rules.missing_reasoning == "skip-loss":
            return None
        if block is None:
            rest = rules.rest_of_block(self.prompt)
            completion, end = rest + completion, len(rest)
        else:
            end = self._closed_for(completion) or start_of(message, completion, block.end())
        if rules.train_empty:  # whose tags are reasoning or response: there is neither in them
            return TextView(message.source, self.prompt, completion, (0, end))
        return TextView(message.source, self.prompt + completion[:end], completion[end:], (0, 0))

    # --- prompts -----------------------------------------------------------------------

    def _closed(self) -> bool:
        """Whether what begins the answer closes a think block."""
        closer = self.rules.closer.strip()
        return bool(closer) and self._begin().rstrip().endswith(closer)

    def _closed_for(self, completion: str) -> int:
        """Find where in a completion the prompt of an answer without thinking ends; 0 if nowhere.

        There the template closes an empty block, and the model writes what is behind it.
        """
        variables = {**self.rules.thinking[1], **self.rules.given}
        try:
            before, tools = self.given[: self.number], self.chat.tools
            closed = self.rules.template.render(before, tools, variables, prompt=True)
        except NotChecked:
            return 0
        ends = self.rules.closer.strip() and closed.rstrip().endswith(self.rules.closer.strip())
        fits = ends and (self.prompt + completion).startswith(closed)
        return max(0, len(closed) - len(self.prompt)) if fits else 0

    def _begin(self) -> str:
        """Return what the prompt has beyond the messages before: it begins the answer."""
        try:
            before = self._render(self.number)
        except NotChecked:
            return ""
        return self.prompt[len(before) :] if self.prompt.startswith(before) else ""

    # --- completions -------------------------------------------------------------------

    def _completion(self) -> str:
        message, rules, whole = self.message, self.rules, self.whole
        alone = message.cut and message.thinks and not (message.content.strip() or message.calls)
        start = len(self.prompt) if whole.startswith(self.prompt) else -1
        if alone and not holds(whole[max(start, 0) :], message.reasoning):
            self.stop_from = CUT_OFF
            return self._lead()
        end, tail = self._end(max(start, 0))
        if start >= 0 and self._is_one(whole[start:end]):
            return self._checked(whole[start:end] + tail)
        if rules.forms.takes(message):
            return self._checked(self._written(self._answer(end, tail)))
        if message.thinks and (at := last_place(whole[:end], message.reasoning)) >= 0:
            lead = "" if self.opened else rules.opener
            if whole[:at].rstrip().endswith(rules.opener.strip()) and self._is_one(whole[at:end]):
                return self._checked(lead + whole[at:end] + tail)
        if alone:
            return self._lead()
        if message.thinks:
            bare = replace(message, reasoning="", verbatim=None)
            self.whole = self._render(self.number, rules.forms.given(bare, "", ""))
            end, tail = self._end(0)
        answer = self._answer(end, tail)
        return self._checked((self._lead() + rules.closer if message.thinks else "") + answer)

    def _lead(self) -> str:
        """Return the reasoning behind its opener, as the record has it or as the template does."""
        if self.rules.forms.takes(self.message):
            return self._less_begun(str(self.message.verbatim).partition(END)[0].rstrip("\n"))
        if not (self.rules.opener and self.rules.closer):
            raise NotChecked("reasoning that the template does not show, and no delimiters known")
        start, end = self.rules.forms.strips
        opener = "" if self.opened else self.rules.opener
        return opener + self.message.reasoning.lstrip(start).rstrip(end)

    def _answer(self, end: int, tail: str) -> str:
        return self.whole[self._answer_start(end) : end] + tail

    def _written(self, answer: str) -> str:
        """Return the answer with its reasoning as the record has it, less what the prompt wrote."""
        message = self.message
        if not holds(answer, message.reasoning):
            text = message.verbatim or ""
            bare = answer.lstrip()
            space = message.content[: len(message.content) - len(message.content.lstrip())]
            shown = answer[: len(answer) - len(bare)].endswith(space)
            answer = text[: len(text) - len(message.content)] + (space if shown else "") + bare
        return self._less_begun(answer)

    def _less_begun(self, answer: str) -> str:
        """Leave out of an answer as the record has it what the prompt wrote already."""
        begun = self.prompt[self.prompt.rfind(TAG) :] if self.opened else ""
        if not self.opened or answer.startswith(begun):
            return answer[len(begun) :]
        return answer.lstrip().removeprefix(TAG)

    def _is_one(self, text: str) -> bool:
        """Whether a text can be what the model wrote at once: with the reasoning, and one stop."""
        message = self.message
        content = last_place(text, message.content) if message.content.strip() else len(text)
        shown = not message.thinks or holds(text[: max(0, content)], message.reasoning)
        return shown and self.stop not in text[: len(text) - len(self.stop)]

    def _answer_start(self, end: int) -> int:
        """Find where the answer itself begins in the rendering, behind its header.

        An empty block belongs to it, unless the prompt begins one or the answer has reasoning.
        """
        begun = self.message.thinks or self.opened or self._closed()
        block = self.rules.empty_block if begun else NO_BLOCK
        begin = self._begin() or self.prompt
        bare = self.rules.last_block.sub("", begin)
        for head in (self.prompt, self.prompt.removesuffix(begin) + bare):
            if self.whole.startswith(head):
                found = block.match(self.whole, len(head))
                return found.end() if found else len(head)
        content, begin = self.message.content, bare
        shown = last_place(self.whole[:end], content) if content.strip() else end
        at = self.whole.rfind(begin, 0, shown) if begin and shown >= 0 else -1
        if at < 0:
            raise NotChecked("a rendering that rewrites what came before an answer")
        found = block.match(self.whole, at + len(begin))
        return found.end() if found else at + len(begin)

    def _end(self, start: int) -> tuple[int, str]:
        """Find where what the model wrote ends, and what the rendering lacks of it."""
        message, whole = self.message, self.whole
        at = self._text_end(start)
        if message.cut:
            self.stop_from = CUT_OFF
            return at, ""
        stated = self.rules.stated[bool(message.calls)]
        if stated:
            self.stop_from = "stated"
            found = whole.find(stated, at)
            place, token, gap = (found, stated, "") if found >= 0 else (len(whole), stated, stated)
        else:
            place, token, gap = self._stop(at)
        self.stop = token
        if token in message.content or token in message.reasoning or in_calls(token, message):
            raise Refused(f"messages[{self.number}]: the stop token {token!r} in what it says")
        return (place, gap) if gap else (place + len(token), "")

    def _stop(self, at: int) -> tuple[int, str, str]:
        stops, whole, calls = self.rules.stops, self.whole, bool(self.message.calls)
        if found := stops.after(whole, at):
            return found[1], found[0], ""
        if following := self._next_role():
            self.stop_from = "files, next role"
            return len(whole), following[0], following[1]
        ending = self.rules.ending
        if ending and (place := whole.find(ending, at)) >= 0:
            self.stop_from = "rendering"
            return place, ending, ""
        token = self.rules.claimed[calls].token
        if not token.strip():
            raise NotChecked("no stop token, in the model's files, the rendering or the manifest")
        self.stop_from = "manifest"
        place = whole.find(token, at)
        return (place, token, "") if place >= 0 else (len(whole), token, token)

    def _next_role(self) -> tuple[str, str] | None:
        """Find a listed token that begins the message after; with what stands before it."""
        following: Json = {"role": "user", "content": "Go on."}
        if self.message.calls:
            named = self.message.calls[-1]
            following = {"role": "tool", "content": "Done.", "name": named["function"]["name"]}
            following |= {"tool_call_id": named["id"]} if "id" in named else {}
        try:
            more = self._render(self.number + 1, following)
            at = self._text_end(0, more)
        except NotChecked:
            return None
        found = self.rules.stops.after(more, at)
        if found is None or (not self.message.calls and more[at : found[1]].strip()):
            return None
        return found[0], more[at : found[1]] + found[0] if not self.message.calls else found[0]

    def _text_end(self, start: int, text: str | None = None) -> int:
        """Find where the text of the message ends in a rendering."""
        message, whole = self.message, self.whole if text is None else text
        parts = [message.content] if message.content.strip() else [message.reasoning]
        if self.message.calls:
            parts = [message.calls[-1]["function"]["name"]]
        if not parts[0].strip():
            if not start:
                raise NotChecked("an answer without text that does not go on from its prompt")
            return start
        for token in (*self.rules.stops.listed, self.rules.ending):
            if token and token not in parts[0]:  # else a short text is found in it
                whole = whole.replace(token, "\0" * len(token))
        place = last_place(whole, parts[0], start)
        if place < 0:
            raise NotChecked(f"{'a call' if message.calls else 'text'} that is not shown")
        return place + len(fitting(whole, parts[0], start))

    def _checked(self, completion: str) -> str:
        message = self.message
        if message.content.strip() and not holds(completion, message.content):
            raise NotChecked("content that the completion does not show")
        at = max(0, last_place(completion, message.reasoning)) if message.thinks else 0
        at += len(fitting(completion, message.reasoning)) if message.thinks else 0
        for name in (call["function"]["name"] for call in message.calls):
            if (at := named(completion, name, at)) < 0:
                raise NotChecked("a call that the completion does not show")
        return completion

    def _thought(self, completion: str) -> tuple[int, int]:
        """Find where reasoning ends in a completion: between the closer and the white space on."""
        if not self.message.thinks:
            return 0, 0
        reasoning = self.message.reasoning
        place = last_place(completion, reasoning)
        closer = self.rules.closer.strip()
        behind = max(place, 0) + len(fitting(completion, reasoning))
        at = completion.find(closer, behind) if closer else -1
        if place < 0 or at < 0:
            return 0, len(completion)
        least = at + len(closer)
        return least, least + len(completion[least:]) - len(completion[least:].lstrip())
