"""A chat template → `Behaviour`: what it does to reasoning, read from small marked conversations.

No model names are listed here: everything is read from the template's own output. Each view is
checked again when it is built, so a template that behaves differently in some conversation is
refused there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from types import MappingProxyType
from typing import Any, NamedTuple

from msgspec.structs import replace

from reasonpack.records.message import Message
from reasonpack.templates.behaviour import Behaviour, Variables, override
from reasonpack.templates.forms import Forms
from reasonpack.templates.learn.marked_chats import (
    NEXT,
    REASON,
    USER,
    Probe,
    answer,
    call,
    find_dumped,
    find_forms,
    keys_read,
    prompt_end,
    reads_content_alone,
    result,
    user,
)
from reasonpack.templates.learn.message_parts import (
    Lead,
    around_calls,
    around_text_and_calls,
    before_content,
    find_delimiters,
    find_header,
    find_strips,
    first_tag,
    writes_none,
)
from reasonpack.templates.learn.refusals import (
    check_order,
    check_prompt,
    check_repeatable,
    check_stated_forms,
)
from reasonpack.templates.learn.stop_token import find_answer_stop, find_call_stop
from reasonpack.templates.learn.thinking_switch import find_switch, opens_reasoning
from reasonpack.templates.limits import bounds_together
from reasonpack.templates.stop import Stop
from reasonpack.templates.template import ChatTemplate

_TAG = re.compile(r"</?\w*:?think[\w:]*>")


@bounds_together()
def learn(
    template: ChatTemplate,
    added_tokens: Sequence[str],
    variables: Variables | None = None,
    *,
    special: AbstractSet[str] | None = None,
    eos: Sequence[str] = (),
    stated: Mapping[str, Any] = MappingProxyType({}),
) -> Behaviour:
    """Learn what `template` does to reasoning.

    `variables` are set by the user. `special` are the added tokens that are special, None if that
    is unknown. `eos` are tokens that the model's files list as the end of a generation. `stated`
    are fields of `Behaviour` that the user states; they replace what is learned.

    Raises:
        TemplateError: no view can be built from the template, no token stops the model, or
            rendering is too slow.
    """
    probe = _make_probe(template, added_tokens, special, eos, dict(variables or {}))
    thinking, not_thinking = find_switch(probe)
    begin = _find_beginning(probe.given(thinking), probe.given(not_thinking), stated)
    probe = replace(probe, forms=begin.forms)
    reasoned, plain = map(probe.given, (thinking, not_thinking))
    stop, after = find_answer_stop(plain, _stated_token(stated))
    calls = _find_calls(plain, begin, stop)
    learned = Behaviour(
        forms=begin.forms,
        thinking=thinking,
        not_thinking=not_thinking,
        header=begin.header,
        prompt_opener=begin.prompt_opener,
        prompt_closed=prompt_end(plain).removeprefix(begin.header),
        opener=begin.opener,
        closer=begin.closer,
        shows_reasoning=begin.seen,
        strips=find_strips(reasoned, begin.closer) if begin.seen else ("nothing", "nothing"),
        answer=(begin.before_answer, after),
        **calls,
        answer_stop=stop,
        ends=(ends := _texts_after(plain)),
        **_what_is_kept(reasoned),
        ends_generation=_ends_generation(probe, stop, calls["call_stop"], ends.get("user", "")),
        writes_none=writes_none(plain),
        dumped=find_dumped(plain),
        asked=tuple(sorted(keys_read(reasoned, plain))),
    )
    if "forms" in stated:
        check_stated_forms(reasoned, override(learned, stated).forms)
    return override(learned, stated)


class _Beginning(NamedTuple):
    """What an answer begins with: `header prompt_opener opener REASONING closer before_answer`.

    `seen`: whether a rendering showed opener and closer. `forms`: see `_find_beginning`.
    """

    forms: Forms
    header: str
    prompt_opener: str
    opener: str
    closer: str
    seen: bool
    before_answer: str


def _find_beginning(reasoned: Probe, plain: Probe, stated: Mapping[str, Any]) -> _Beginning:
    """Find what an answer begins with.

    The forms are the probe's, without `inline` if the generation prompt opens the content itself.
    """
    header = stated.get("header", find_header(reasoned, plain))
    prompt_opener = prompt_end(reasoned).removeprefix(header)
    if not stated.keys() & {"header", "prompt_opener"}:
        check_prompt(reasoned)
    opener, closer, seen = find_delimiters(reasoned, header, prompt_opener)
    if prompt_opener.strip() and reads_content_alone(plain) and not opens_reasoning(reasoned):
        # The generation prompt opens something other than reasoning; the content continues it.
        plain = replace(plain, forms=replace(plain.forms, inline=""))
        opener, closer, seen = "", "", False
    lead = Lead(header, prompt_opener, first_tag(closer, plain.added_tokens))
    before_answer = before_content(plain, lead)
    closer = _without_end(closer, before_answer)
    return _Beginning(plain.forms, header, prompt_opener, opener, closer, seen, before_answer)


def _find_calls(probe: Probe, begin: _Beginning, stop: Stop) -> dict[str, Any]:
    """Find the fields of `Behaviour` for tool calls: call, text_call and call_stop.

    If a stop token precedes the call, which is then another message, the fields affected are empty.
    """
    lead = Lead(begin.header, begin.prompt_opener, begin.closer.strip())
    call = around_calls(probe, lead)
    text_call = around_text_and_calls(probe, lead)
    call_stop = find_call_stop(probe, stop)
    return {
        "call": call,
        "text_call": ("", "") if stop.token in text_call[1] else text_call,
        "call_stop": Stop("") if stop.token in call else call_stop,
    }


def _stated_token(stated: Mapping[str, Any]) -> str | None:
    """Return the stop token of answers that the user states, if any."""
    stop = stated.get("answer_stop")
    token = stop.get("token") if isinstance(stop, dict) else None
    return token if isinstance(token, str) else None


def _without_end(text: str, end: str) -> str:
    r"""Return `text` without `end` at its end; white space around `end` may differ.

    >>> _without_end("<end><start>final", "final")
    '<end><start>'
    """
    core = end.strip()
    if not core or not text.rstrip().endswith(core):
        return text
    return text.removesuffix(end) if text.endswith(end) else text.rstrip()[: -len(core)]


def _make_probe(
    template: ChatTemplate,
    added_tokens: Sequence[str],
    special: AbstractSet[str] | None,
    eos: Sequence[str],
    fixed: Variables,
) -> Probe:
    stops = [each for each in added_tokens if special is None or each in special or each in eos]
    # Think tags are never cut either, even if they are no tokens of this tokenizer.
    whole = dict.fromkeys((*filter(str.strip, added_tokens), *_TAG.findall(template.source)))
    probe = Probe(template, fixed, Forms(), tuple(whole), tuple(filter(str.strip, stops)), eos)
    with_tools = replace(probe, needs_tools=True)
    if not probe.render([user()]) and with_tools.render([user()]):
        probe = with_tools
    probe = replace(probe, forms=find_forms(probe))
    check_repeatable(probe)
    check_order(probe)
    return probe


def _texts_after(probe: Probe) -> dict[str, str]:
    """Return, for each role but the assistant's, the text after a message's content."""
    stories = {
        "system": [Message("system", USER)],
        "developer": [Message("developer", USER)],
        "user": [user()],
        "tool": [user(""), call(), result(USER)],
    }
    texts = {role: probe.render(story) for role, story in stories.items()}
    return {role: text.rpartition(USER)[2] for role, text in texts.items() if USER in text}


def _ends_generation(
    probe: Probe, answer_stop: Stop, call_stop: Stop, end_of_user: str
) -> tuple[str, ...]:
    """Return the tokens that end messages, so no message's text may contain one."""
    ending = [token for token in probe.stops if token in end_of_user]
    texts = (answer_stop.token.strip(), call_stop.token.strip(), *probe.eos, *ending)
    return tuple(dict.fromkeys(filter(None, texts)))


def _what_is_kept(probe: Probe) -> dict[str, Any]:
    loop = [user(), call(None, REASON), result()]

    def shows(*story: Message) -> bool:
        return REASON in probe.render(story)

    return {
        "kept_after_user": shows(user(), answer(reasoning=True), user(NEXT)),
        "kept_in_loop": shows(*loop),
        "kept_after_loop": shows(*loop, answer(reasoning=False)),
    }
