r"""Finds the token with which the model stops, in what a template writes after an answer.

    …ANSWER<|im_end|>\n                                   after the last answer
    …ANSWER<|im_end|>\n<|im_start|>user\nNEXT…            in the history
           └─ stop ─┘

Only an added token that is special, or that the model's files list as an eos, can stop a model;
white space never does. The rules, in this order:

1. what the user states (`--template-behaviour`);
2. the one such token between the answer and the next message;
3. of several, the first that is listed as an eos; else, after an answer, the last that also ends
   user messages (Kimi-K3 closes an answer with four tokens); after calls, which have closing
   tokens of their own, the last;
4. if none follows the last answer: the token that begins the next message (GLM).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from msgspec import Struct

from reasonpack.errors import TemplateError
from reasonpack.records.message import Message
from reasonpack.templates.learn.marked_chats import (
    ANSWER,
    CALL,
    CALLED,
    NEXT,
    RESULT,
    USER,
    Probe,
    answer,
    call,
    common_start,
    result,
    user,
)
from reasonpack.templates.stop import Stop
from reasonpack.wording import listed

STATED = "stated"
FOLLOWS = "follows the message"
LISTED = "a listed eos that follows the message"
ENDS_ALL = "ends messages of the user too"
BEGINS = "begins the next message"


def find_answer_stop(probe: Probe, stated: str | None = None) -> tuple[Stop, str]:
    """Return the stop of an answer, and what the model writes between content and stop token.

    `probe` is for answers without reasoning; `stated` is the token that the user states, if any.

    Raises:
        TemplateError: no token ends an answer, or several might.
    """
    plain = answer(reasoning=False)
    tail = probe.render([user(), plain]).rpartition(ANSWER)[2]
    story = probe.render([user(), plain, user(NEXT)])
    gap = story.rpartition(ANSWER)[2].rpartition(NEXT)[0]
    if stated is not None:
        if not any(token in stated for token in probe.added_tokens):
            what = f"answer_stop.token: {stated!r} is no added token of the tokenizer"
            fix = f"write the token as the tokenizer has it: {listed(probe.added_tokens) or 'none'}"
            raise TemplateError("--template-behaviour", what, "one", fix)
        _, found, behind = tail.partition(stated)
        stop = Stop(stated, bool(found), behind, STATED)
    else:
        _refuse_unknown_eos(probe, gap)
        stop = _find_stop(tail, gap, _Candidates.of(probe))
    if not stop.token:
        what = f"{tail or gap!r} follows an answer"
        expected = "a special token of the tokenizer that ends it"
        listed_first = sorted(probe.added_tokens, key=lambda token: token not in probe.eos)
        fix = _how_to_state(listed_first)
        raise TemplateError(probe.template.name, what, expected, fix)
    return stop, tail.rpartition(stop.token + stop.after)[0] if stop.shown else tail


def _refuse_unknown_eos(probe: Probe, gap: str) -> None:
    """Refuse a template that ends answers with a listed eos that is not an added token."""
    for token in probe.eos:
        if token in gap and token not in probe.added_tokens:
            what = f"{token!r} follows an answer, which the model's files name as an eos"
            expected = "it among the added tokens of the tokenizer"
            raise TemplateError(probe.template.name, what, expected, _how_to_state([]))


def _how_to_state(tokens: Sequence[str]) -> str:
    """Return the text of a fix that tells how to state one of `tokens` as the stop token."""
    check = "check that template and tokenizer belong to the same model"
    if not tokens:
        return check
    file = json.dumps({"answer_stop": {"token": tokens[0]}}, ensure_ascii=False)
    name = f"name the stop token with --template-behaviour FILE, where FILE holds {file}"
    return f"{check}, or {name}" + (f" or another of {listed(tokens)}" if tokens[1:] else "")


def find_call_stop(probe: Probe, answer_stop: Stop) -> Stop:
    """Return the stop of a message with tool calls; empty if it differs for one and two calls."""
    one, two = (
        _end_of_calls(probe, call(ids=ids), answer_stop)
        for ids in (["call00000"], ["call00000", "call00001"])
    )
    if one is not None and two is not None and one.token != two.token:
        return Stop("")
    return one or Stop("")


def _end_of_calls(probe: Probe, message: Message, answer_stop: Stop) -> Stop | None:
    """Return the stop of a message with calls; None if the template does not show all calls."""
    text = probe.render([user(), message]).rpartition(USER)[2]
    calls = len(message.tool_calls)
    if text.count(CALLED) < calls or text.count(CALL) < calls:
        return None
    tail = text.rpartition(CALLED)[2]
    results = [result() for _ in message.tool_calls]
    gap = probe.render([user(), message, *results]).partition(RESULT)[0]
    gap = gap.rpartition(CALLED)[2]
    if answer_stop.token in tail:
        return Stop(answer_stop.token, after=tail.partition(answer_stop.token)[2])
    ends = _Candidates.of(probe, closes_calls=True)
    if answer_stop.shown:
        return _find_stop(tail, gap, ends)
    begins = gap.removeprefix(tail)
    return _find_stop("", begins, ends) if begins != gap or not tail else None


class _Candidates(Struct, frozen=True):
    """Tokens that can stop the model, and what decides between several.

    Attributes:
        name: the template's name.
        tokens: the added tokens that can stop the model.
        eos: the tokens that the model's files list as eos.
        of_user: the text after a user message.
        first: the token that begins a message: the first in a conversation but bos.
        closes_calls: whether to look after tool calls, whose closing tokens come first.
    """

    name: str
    tokens: Sequence[str]
    eos: Sequence[str] = ()
    of_user: str = ""
    first: str = ""
    closes_calls: bool = False

    @classmethod
    def of(cls, probe: Probe, *, closes_calls: bool = False) -> _Candidates:
        before, _, after = probe.render([user()]).partition(USER)
        begins = _tokens_in(before, probe.stops)
        bos = probe.template.special_tokens.get("bos_token")
        first = next((token for _, token in begins if token != bos), "")
        return cls(probe.template.name, probe.stops, probe.eos, after, first, closes_calls)


def _find_stop(tail: str, gap: str, ends: _Candidates) -> Stop:
    r"""Find the stop token in the text after an answer.

    `tail` follows the answer if it is the last message; `gap` stands between the answer and the
    content of the next message.

    The stop token is searched in the common start of the two, then in `tail`. If neither has one,
    the model stops by beginning the next message. An empty token: nothing was found.

    Raises:
        TemplateError: there are several, and no rule decides between them.

    >>> ends = _Candidates("chat", ["<end>", "<user>", "<eos>"])
    >>> _find_stop("<end>\n<eos>", "<end>\n<user>", ends)
    Stop(token='<end>', shown=True, after='\n<eos>', source='follows the message')
    >>> _find_stop("", "\n<user>", ends)
    Stop(token='\n<user>', shown=False, after='', source='begins the next message')
    """
    for text in (common_start([tail, gap], ends.tokens), tail):
        found = _up_to_next_message(_tokens_in(text, ends.tokens), ends)
        if found:
            end, token, source = _choose(found, ends)
            return Stop(token, shown=True, after=tail[end:], source=source)
    begins = _tokens_in(gap, ends.tokens)
    if not begins or not gap.startswith(tail):
        return Stop("")
    return Stop(gap[len(tail) : begins[0][0]], shown=False, source=BEGINS)


def _up_to_next_message(found: list[tuple[int, str]], ends: _Candidates) -> list[tuple[int, str]]:
    """Return the tokens before the first that begins another message."""
    begins = (at for at, (_, token) in enumerate(found) if at and token == ends.first)
    return found[: next(begins, len(found))]


def _choose(found: Sequence[tuple[int, str]], ends: _Candidates) -> tuple[int, str, str]:
    """Return the stop token among those after an answer: its end, its text, the rule."""
    if len(found) == 1:
        return (*found[0], FOLLOWS)
    listed = [one for one in found if one[1] in ends.eos]
    if listed:
        return (*listed[0], LISTED)
    if ends.closes_calls:
        return (*found[-1], FOLLOWS)
    of_user = [one for one in found if one[1] in ends.of_user]
    if of_user:
        return (*of_user[-1], ENDS_ALL)
    tokens = " and ".join(repr(token) for _, token in found)
    raise TemplateError(
        ends.name,
        f"{tokens} follow an answer",
        "one token, or one that the tokenizer's eos_token or eos_token_id in "
        "generation_config.json names",
        _how_to_state([token for _, token in found]),
    )


def _tokens_in(text: str, tokens: Sequence[str]) -> list[tuple[int, str]]:
    """Return (end, token) of each token in a text; where several begin, the longest.

    >>> _tokens_in("a<end><user>", ["<end>", "<user>"])
    [(6, '<end>'), (12, '<user>')]
    """
    found: list[tuple[int, str]] = []
    at = 0
    while True:
        places = [(text.find(token, at), -len(token), token) for token in tokens]
        start, _, token = min((one for one in places if one[0] >= 0), default=(-1, 0, ""))
        if start < 0:
            return found
        at = start + len(token)
        found.append((at, token))
