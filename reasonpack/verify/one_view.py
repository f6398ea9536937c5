r"""One message → its view in text, by rules that are written for this check.

    prompt       = the messages before, rendered with the generation prompt
    whole        = the same messages and this one, rendered
    completion   = the part of `whole` after `prompt`, up to the stop token

If `whole` does not begin with `prompt`, the completion is looked for at the end of `whole`, or put
together from the delimiters, the record's reasoning and the answer at the end of `whole`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.verify.answer_parts import (
    as_shown,
    before,
    begins_with_block,
    contains_token,
    find_reasoning_end,
    holds,
    last_place,
    opened_tag,
    shown_end,
    tool_name_end,
)
from reasonpack.verify.chat import Chat, Json, NotChecked, Refused
from reasonpack.verify.marked_messages import Marked
from reasonpack.verify.record_names import END, NOWHERE
from reasonpack.verify.stop import CUT_OFF
from reasonpack.verify.view_rules import Rules


class TextView(Struct, frozen=True):
    """A view in text: in the completion, reasoning ends at `reasoning_end`, at least and at most.

    `trained` are stretches of the completion, `history` those of the prompt with messages' texts.
    """

    message: int
    prompt: str
    completion: str
    reasoning_end: tuple[int, int]
    trained: tuple[tuple[int, int], ...] = ()
    history: tuple[tuple[int, int, int, int], ...] = ()


class OneView:
    """The view of message `number` of a chat; `given` are its messages for the template."""

    def __init__(
        self,
        chat: Chat,
        given: Sequence[Json],
        number: int,
        rules: Rules,
        marks: Marked | None = None,
    ) -> None:
        self.rules, self.number, self.original = rules, number, chat.messages[number]
        self.chat, self.given, self.marks = chat, given, marks
        self.message = marks.message if marks else self.original
        switch = rules.thinking[0 if self.message.thinks else 1]
        self.variables: Mapping[str, Any] = {**switch, **rules.given, **chat.variables}
        self.stop, self.stop_from = NOWHERE, "files"
        self.prompt = self._render(number, prompt=True)
        self.opened, self.opener = rules.split_opener(self.prompt)
        self.begun = "" if rules.closer else opened_tag(self.prompt, self.message.content)
        if self.begun and not self.message.content.startswith(self.begun.rstrip()):
            self.message = replace(self.message, content=self.begun + self.message.content)
            self.given = [*given[:number], rules.written(self.message)]
        self.whole = self._render(number + 1)
        if self.whole == self.prompt.rstrip():  # the template strips before an empty answer
            self.whole = self.prompt

    def _render(self, upto: int, *more: Json, prompt: bool = False) -> str:
        messages = [*self.given[:upto], *more]
        template = self.rules.template
        return template.render(messages, self.chat.tools, self.variables, prompt=prompt)

    def view(self) -> TextView | None:
        """Return the view; None for an answer that is untrained because it lacks reasoning."""
        view = self._build()
        if view is None or self.marks is None:
            return view
        text = self.marks.unmarked
        least, most = (len(text(view.completion[:end])) for end in view.reasoning_end)
        made = text(view.prompt), text(view.completion), (least, most)
        return TextView(view.message, *made)

    def _build(self) -> TextView | None:
        message, rules = self.message, self.rules
        if message.thinks and self.closed():
            raise NotChecked("a prompt that closes the reasoning which the message has")
        completion = self._completion()
        none = message.thinks or self.closed()  # a further tag would belong to the content
        block = None if none else rules.empty_block.match(completion)
        if block is None and (message.thinks or not self.opened):
            thought = find_reasoning_end(message, completion, rules.closer)
            return TextView(message.source, self.prompt, completion, thought)
        # The prompt opens reasoning or the template writes an empty block: the message has none.
        if rules.missing_reasoning == "error":
            raise Refused(f"messages[{self.number}]: no reasoning, where the template expects it")
        if rules.missing_reasoning == "skip-loss":
            return None
        if block is None:
            rest = rules.rest_of_block(self.prompt)
            completion, end = rest + completion, len(rest)
        else:
            end = self._closed_for(completion) or block.end()
            if rules.forms.keeps_block(message):  # the record's block, with line breaks after it
                end = len(completion) - len(completion.partition(END)[2].lstrip("\n"))
        if rules.train_empty:  # its tags may count as reasoning or as response
            return TextView(message.source, self.prompt, completion, (0, end))
        return TextView(message.source, self.prompt + completion[:end], completion[end:], (0, 0))

    # --- prompts -----------------------------------------------------------------------

    def closed(self) -> bool:
        """Return whether the generation prompt closes a think block."""
        closer = self.rules.closer.strip()
        may_be = bool(closer) and self.prompt.rstrip().endswith(closer)
        return may_be and self._begin().rstrip().endswith(closer)

    def _closed_for(self, completion: str) -> int:
        """Return how much of a completion the prompt has when thinking is off; 0 if none of it.

        That prompt closes an empty think block, and the model writes what follows.
        """
        begin, variables = self._begin(), {**self.rules.thinking[1], **self.rules.given}
        closed, closer = self._begin(variables), self.rules.closer.strip()
        fits = closer and closed.rstrip().endswith(closer)
        if not fits or not (begin + completion).startswith(closed):
            return 0
        return max(0, len(closed) - len(begin))

    def _begin(self, variables: Json | None = None) -> str:
        """Return the generation prompt, which `prompt` adds to the messages; '' if unknown."""
        render = partial(self.rules.template.render, self.given[: self.number], self.chat.tools)
        try:
            before = render(self.variables if variables is None else variables)
            prompt = self.prompt if variables is None else render(variables, prompt=True)
        except NotChecked:
            return ""
        return prompt[len(before) :] if prompt.startswith(before) else ""

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
        if rules.forms.keeps_block(message) and (written := self._as_written(end, tail)):
            return self._checked(written)
        if message.thinks and (at := last_place(whole[:end], message.reasoning.strip())) >= 0:
            opener = rules.opener.strip()
            begin = len(whole[:at].rstrip()) - len(opener) if opener else at
            if whole.startswith(opener, begin) and self._is_one(whole[begin:end]):
                space = rules.opener[: len(rules.opener) - len(rules.opener.lstrip())]
                lead = "" if self.opened else space
                return self._checked(self._less_begun(lead + whole[begin:end] + tail))
        if alone:
            return self._lead()
        if message.thinks:
            bare = replace(message, reasoning="", verbatim=None)
            self.whole = self._render(self.number, rules.forms.given(bare, "", ""))
            end, tail = self._end(0)
        answer = self._answer(end, tail)
        if message.thinks:
            white = answer[: answer.find(as_shown(answer, message.content))]
            if rules.closer[-1:].isspace() and white.isspace():  # white space is not repeated
                answer = answer[len(white) :]
            answer = self._lead() + rules.closer + answer
        return self._checked(answer)

    def _lead(self) -> str:
        """Return the completion's opener and reasoning, as in the record or by the template."""
        if self.rules.forms.keeps_block(self.message):
            lead = str(self.message.verbatim).removesuffix(self.message.content)
            return self._less_begun((lead.rpartition(END)[0] or lead).rstrip("\n"))
        if not (self.rules.opener and self.rules.closer):
            raise NotChecked("reasoning that the template does not show, and no delimiters known")
        start, end = self.rules.forms.strips
        return self.opener + self.message.reasoning.lstrip(start).rstrip(end)

    def _answer(self, end: int, tail: str) -> str:
        return self.whole[self._answer_start(end) : end] + tail

    def _as_written(self, end: int, tail: str) -> str:
        """Return the completion with the record's own think block; empty if it has another stop."""
        message, rules = self.message, self.rules
        written = self._written(self._answer(end, tail))
        is_bare = bool(message.calls) and not message.content.strip()
        if self.stop in written[: -len(self.stop)] and is_bare:
            # The template writes the reasoning before the calls as a separate message.
            bare = replace(message, reasoning="", verbatim=None, null=True)
            self.whole = self._render(self.number, rules.written(bare))
            written = self._written(self._answer(*self._end(0)))
        return "" if self.stop in written[: -len(self.stop)] else written

    def _written(self, answer: str) -> str:
        """Return the answer with the record's own think block, less what the prompt has of it."""
        message = self.message
        shown = holds(before(answer, message.content), message.reasoning)
        if not (shown if message.thinks else END in answer):
            text = message.verbatim or ""
            bare = answer.lstrip()
            space = message.content[: len(message.content) - len(message.content.lstrip())]
            shown = answer[: len(answer) - len(bare)].endswith(space)
            answer = text[: len(text) - len(message.content)] + (space if shown else "") + bare
        return self._less_begun(answer)

    def _less_begun(self, answer: str) -> str:
        """Return an answer without the opener that its prompt ends with."""
        if not self.opened:
            return answer
        opener = self.opened.strip()
        begun = self.prompt[self.prompt.rfind(opener) :]
        if answer.startswith(begun):
            return answer[len(begun) :]
        bare = answer.lstrip()
        return bare.removeprefix(opener) if bare.startswith(opener) else answer

    def _is_one(self, text: str) -> bool:
        """Return whether a text can be one completion: with the reasoning, and no stop within."""
        message, empty = self.message, self.rules.empty_block
        shown = not message.thinks or holds(before(text, message.content), message.reasoning)
        if block := empty.match(text):  # the template's own may not precede reasoning or a block
            shown = shown and not (message.thinks or empty.match(text, block.end()))
        return shown and self.stop not in text[: len(text) - len(self.stop)]

    def _answer_start(self, end: int) -> int:
        """Return where the answer begins in `whole`, after its header."""
        begin = self._begin() or self.prompt
        bare = begin.rstrip().removesuffix(self.rules.split_opener(begin)[0])
        bare = self.rules.last_block.sub("", begin) if bare == begin.rstrip() else bare
        for head in (self.prompt, self.prompt.removesuffix(begin) + bare):
            if self.whole.startswith(head):
                return self._after_block(len(head))
        content, begin = self.message.content, bare
        shown = last_place(self.whole[:end], content) if content.strip() else end
        at = self.whole.rfind(begin, 0, shown) if begin and shown >= 0 else -1
        if at < 0:
            raise NotChecked("a rendering that rewrites what came before an answer")
        return self._after_block(at + len(begin))

    def _after_block(self, at: int) -> int:
        """Return the end of an empty think block that the template adds at `at`, else `at`.

        Such a block is skipped only if the prompt begins one or the answer has reasoning.
        """
        begun = self.message.thinks or self.opened or self.closed()
        found = self.rules.empty_block.match(self.whole, at) if begun else None
        if found is None or not self.rules.forms.keeps_block(self.message):
            return found.end() if found else at
        first, behind = (begins_with_block(self.whole[i:], self.message) for i in (at, found.end()))
        return at if first and not behind else found.end()

    def _end(self, start: int) -> tuple[int, str]:
        """Return where the completion ends in `whole`, and text to add, such as a stop token."""
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
        if contains_token(self.original, token):
            raise Refused(f"messages[{self.number}]: the stop token {token!r} in its text or calls")
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
        """Return a listed token that begins the next message, and the text to add up to its end."""
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
        """Return where the last text of the message ends in a rendering, `whole` by default."""
        message, whole = self.message, self.whole if text is None else text
        parts = [message.content] if message.content.strip() else [message.reasoning]
        if self.message.calls:
            parts = [message.calls[-1]["function"]["name"]]
        if not parts[0].strip():
            return start or self._answer_start(0)
        for token in (*self.rules.stops.listed, self.rules.ending):
            if token and token not in parts[0]:  # a short text could be found within the token
                whole = whole.replace(token, NOWHERE * len(token))
        place = last_place(whole, parts[0], start - len(self.begun))
        if place < 0:
            raise NotChecked(f"{'a call' if message.calls else 'text'} that the rendering lacks")
        return shown_end(whole, parts[0], place)

    def _checked(self, completion: str) -> str:
        message = self.message
        if message.content.strip() and not holds(self.begun + completion, message.content):
            raise NotChecked("content that the completion does not show")
        shown = as_shown(completion, message.reasoning) if message.thinks else ""
        at = max(0, completion.find(shown)) + len(shown)
        for name in (call["function"]["name"] for call in message.calls):
            if (at := tool_name_end(completion, name, at)) < 0:
                raise NotChecked("a call that the completion does not show")
        return completion
