"""Refuses templates from which no view can be built, before the first conversation is read.

The first 1, 3, 5 and 7 of 7 messages, rendered  ──→  all shown, in order, history unchanged
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from reasonpack.errors import TemplateError
from reasonpack.records.message import Message
from reasonpack.templates.forms import Forms
from reasonpack.templates.learn.marked_chats import (
    ANSWER,
    CALLED,
    REASON,
    USER,
    Probe,
    answer,
    before,
    call,
    common_end,
    prompt_end,
    reads_content_alone,
    user,
)
from reasonpack.templates.learn.thinking_switch import opens_reasoning
from reasonpack.wording import count

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
_FIX = "use the template and the tokenizer that the model was published with"


def _refused(probe: Probe, what: str, expected: str, fix: str = _FIX) -> TemplateError:
    return TemplateError(probe.template.name, what, expected, fix)


def check_repeatable(probe: Probe) -> None:
    """Refuse a template whose output differs between processes or renderings.

    Raises:
        TemplateError: it shows a memory address, or renders the same messages differently.
    """
    story = [user(), answer(reasoning=True)]
    text = probe.render(story)
    if _ADDRESS.search(text):
        what = "shows an address in memory, which differs from run to run"
        raise _refused(probe, what, "the same text in every run")
    if text != probe.render(story):
        what = "renders the same messages differently the second time"
        raise _refused(probe, what, "the same text")


def check_order(probe: Probe) -> None:
    """Refuse a template that does not show all messages, in order, with a history that stays.

    Raises:
        TemplateError: it refuses a plain conversation, drops or reorders messages, or renders
            earlier messages differently once more messages follow.
    """
    marks = [f"zq{number}{who}qz" for number in range(4) for who in ("user", "answer")]
    story = [
        Message("assistant" if number % 2 else "user", mark) for number, mark in enumerate(marks)
    ]
    earlier = ""
    for length in range(1, len(story), 2):
        text = probe.render(story[:length], prompt=True)
        if not text:
            why = probe.refusal(story[:length])
            raise _refused(
                probe,
                f"refuses a plain conversation of {count(length, 'message')}",
                "a chat template" + (f" ({why})" if why else ""),
                "name another one with --chat-template",
            )
        places = [text.find(mark) for mark in marks[:length]]
        if min(places) < 0:
            lost = places.index(-1)
            what = f"leaves out message {lost + 1} of {length} ({story[lost].role})"
            raise _refused(probe, what, "all messages")
        if places != sorted(places):
            what = f"shows {count(length, 'message')} in another order"
            raise _refused(probe, what, "the order of the conversation")
        # Further messages must not change the text up to the last user message.
        if not text.startswith(earlier):
            first = count(length - 2, "message")
            what = f"renders the first {first} differently once there are {length}"
            raise _refused(probe, what, "the same text")
        earlier = text[: places[-1] + len(marks[length - 1])]


def check_prompt(probe: Probe) -> None:
    """Refuse a generation prompt that is not the beginning of an assistant message.

    Raises:
        TemplateError: it is not, or the template writes it without being asked to.
    """
    bare = probe.render([user(), answer(reasoning=False)])
    asked = probe.render([user()], prompt=True)
    unasked = probe.render([user()])
    ends = [asked.rpartition(USER)[2], bare.rpartition(ANSWER)[2]]
    if asked == unasked and common_end(ends, probe.added_tokens).strip():
        what = "writes the generation prompt where none is asked for"
        raise _refused(probe, what, "a rendering that ends with the answer")
    end = prompt_end(probe)
    answers = (answer(reasoning=True), call(None, REASON))
    starts = [before(probe, probe.render([user(), a]), REASON) for a in answers]
    starts.append(before(probe, bare, ANSWER))
    if reads_content_alone(probe) and any(end.startswith(start) for start in starts if start):
        return  # the content of an answer may begin with the rest of the prompt
    if not any(start.startswith(end) for start in starts) and not opens_reasoning(probe):
        expected = f"what the template writes before an answer, {max(starts, key=len)!r}"
        raise _refused(probe, f"the generation prompt ends in {end!r}", expected)


def check_stated_forms(probe: Probe, stated: Forms) -> None:
    """Refuse forms that the user states, if the template shows less in them than in the probe's.

    Raises:
        TemplateError: it shows no reasoning, content or call that it shows in the learned forms.
    """
    marks = {REASON: "reasoning", ANSWER: "content", CALLED: "arguments of a call"}
    for message in (answer(reasoning=True), call(None, REASON)):
        learned, text = (
            replace(probe, forms=forms).render([user(), message]) for forms in (probe.forms, stated)
        )
        for mark, name in marks.items():
            if mark in learned and mark not in text:
                what = f"forms: the chat template ({probe.template.name}) shows no {name} in them"
                fix = "leave forms out; `reasonpack template` shows what was learned of them"
                raise TemplateError("--template-behaviour", what, "forms that it reads", fix)
