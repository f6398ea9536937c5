r"""What a chat template does to reasoning, learned by rendering marked conversations.

    ChatTemplate ── user U, assistant(reasoning R, response C), … ──→ Behaviour

    <|im_start|>assistant\n <think>\n R \n</think>\n\n C <|im_end|> \n
    └────── header ───────┘ └opener─┘   └── closer ──┘   └─ stop ─┘ └ after_stop

No name of a model is written down here: everything is read off the template's own
output. Views are checked again one by one when they are built, so a template that
behaves otherwise in some conversation is refused there.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from reasonpack.errors import TemplateError
from reasonpack.records.conversation import Message
from reasonpack.templates.forms import Forms
from reasonpack.templates.learn.marked_chats import (
    NEXT,
    REASON,
    USER,
    Probe,
    answer,
    asked_keys,
    call,
    find_forms,
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
from reasonpack.templates.learn.refusals import check_order, check_prompt, check_repeatable
from reasonpack.templates.learn.stop_token import Stop, find_answer_stop, find_call_stop
from reasonpack.templates.learn.thinking_switch import find_switch, opens
from reasonpack.templates.limits import bounds_together
from reasonpack.templates.template import ChatTemplate

__all__ = ["Behaviour", "Stop", "learn", "override"]

Variables = Mapping[str, Any]
_STRIPPED: Mapping[str, str | None] = {"nothing": "", "newlines": "\n", "white space": None}
_TAG = re.compile(r"</?\w*:?think[\w:]*>")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What was learned about one chat template.

    The text of a message, after its header, is
    `[prompt_opener opener REASONING closer] answer[0] CONTENT answer[1] stop`, and
    with tool calls `[…] call CALLS stop` or `[…] text_call[0] CONTENT text_call[1] CALLS stop`.

    Attributes:
        forms: the fields and forms that it reads.
        thinking: variables to set for a message with reasoning.
        not_thinking: variables to set for a message without.
        header: what begins every message of the assistant.
        prompt_opener: what the generation prompt adds to it, opening the reasoning.
        prompt_closed: what it adds to it for a message without reasoning.
        opener: what the model writes before its reasoning; empty if the prompt
            opened it.
        closer: what the model writes after its reasoning; empty if the template has no
            place for reasoning.
        shows_reasoning: it shows the reasoning of the last answer, so that openers
            and closers were seen and not composed from the tags in its source.
        strips: what it strips from the start and the end of reasoning: `nothing`, `newlines` or
            `white space`.
        answer: what the model writes before and after the content of an answer.
        call: what it writes before the name (or the id) of the first tool called.
        text_call: what it writes before the content of a message that calls tools, and
            between this and the first call.
        answer_stop: the end of an answer.
        call_stop: the end of a message that calls tools.
        ends: by role other than the assistant's, what follows a message's content.
        kept_after_user: it shows reasoning once the user has spoken again.
        kept_in_loop: it shows reasoning between tool calls.
        kept_after_loop: it shows that reasoning still once the answer is there.
        ends_generation: tokens that no message can hold: the stops, the listed eos, and what ends
            messages of the user.
        writes_none: it writes a null among the arguments of a call as the word None.
        asked: the keys that it asks messages for.
    """

    forms: Forms
    thinking: Variables
    not_thinking: Variables
    header: str
    prompt_opener: str
    prompt_closed: str
    opener: str
    closer: str
    shows_reasoning: bool
    strips: tuple[str, str]
    answer: tuple[str, str]
    call: str
    text_call: tuple[str, str]
    answer_stop: Stop
    call_stop: Stop
    ends: Mapping[str, str]
    kept_after_user: bool
    kept_in_loop: bool
    kept_after_loop: bool
    ends_generation: tuple[str, ...]
    writes_none: bool
    asked: tuple[str, ...]

    def strip(self, reasoning: str) -> str:
        r"""Strip reasoning as the template does.

        White space at the ends is the record's own, unless the template takes it away.
        """
        start, end = (_STRIPPED[each] for each in self.strips)
        return reasoning.lstrip(start).rstrip(end)

    def stop(self, message: Message) -> Stop:
        """Return how `message` ends."""
        return self.call_stop if message.tool_calls else self.answer_stop


@bounds_together()
def learn(
    template: ChatTemplate,
    added_tokens: Sequence[str],
    variables: Variables | None = None,
    *,
    special: AbstractSet[str] | None = None,
    eos: Sequence[str] = (),
    stated: Mapping[str, Any] | None = None,
) -> Behaviour:
    """Learn what `template` does to reasoning.

    Args:
        template: the chat template.
        added_tokens: texts of the tokenizer's added tokens.
        variables: what the user sets for every conversation.
        special: those of the added tokens that are special; None where that is not known.
        eos: tokens that the model's files list as the end of a generation.
        stated: what the user knows better; see `override`.

    Raises:
        TemplateError: it cannot render a question and an answer, no token that can stop the
            model follows an answer, it does what no view can be built from, or it is slow.
            What the user states is not looked for, so it is not missed.
    """
    stated = dict(stated or {})
    able = [token for token in added_tokens if special is None or token in special or token in eos]
    probe = _probe(template, added_tokens, able, eos, dict(variables or {}))
    check_repeatable(probe)
    check_order(probe)
    thinking, not_thinking = find_switch(probe)
    header = stated.get("header", find_header(probe, thinking, not_thinking))
    prompt_opener = prompt_end(probe, thinking).removeprefix(header)
    if not stated.keys() & {"header", "prompt_opener"}:
        check_prompt(probe, thinking)
    opener, closer, seen = find_delimiters(probe, thinking, header, prompt_opener)
    if prompt_opener.strip() and reads_content_alone(probe) and not opens(probe, thinking):
        # The content goes on from the prompt, which opens something else than reasoning.
        probe = dataclasses.replace(probe, forms=dataclasses.replace(probe.forms, inline=""))
        opener, closer, seen = "", "", False
    tag = first_tag(closer, probe.added_tokens)
    before_answer = before_content(probe, not_thinking, Lead(header, prompt_opener, tag))
    closer = _without_end(closer, before_answer)
    lead = Lead(header, prompt_opener, closer.strip())
    strips = find_strips(probe, thinking, closer) if seen else ("nothing", "nothing")
    stop, after_answer = find_answer_stop(probe, not_thinking, _stated_token(stated))
    before_call = around_calls(probe, not_thinking, lead)
    text_call = around_text_and_calls(probe, not_thinking, lead)
    # A call behind a stop token is another message: the model has stopped before it.
    call_stop = find_call_stop(probe, not_thinking, stop)
    call_stop = Stop("") if stop.token in before_call else call_stop
    ends = _ends(probe, not_thinking)
    learned = Behaviour(
        forms=probe.forms,
        thinking=thinking,
        not_thinking=not_thinking,
        header=header,
        prompt_opener=prompt_opener,
        prompt_closed=prompt_end(probe, not_thinking).removeprefix(header),
        opener=opener,
        closer=closer,
        shows_reasoning=seen,
        strips=strips,
        answer=(before_answer, after_answer),
        call=before_call,
        text_call=("", "") if stop.token in text_call[1] else text_call,
        answer_stop=stop,
        call_stop=call_stop,
        ends=ends,
        **_what_is_kept(probe, thinking),
        ends_generation=_ends_generation(probe, stop, call_stop, ends.get("user", "")),
        writes_none=writes_none(probe, not_thinking),
        asked=tuple(sorted(asked_keys(probe, [thinking, not_thinking]))),
    )
    return override(learned, stated)


def _stated_token(stated: Mapping[str, Any]) -> str | None:
    """Return the token that the user states as the end of an answer."""
    stop = stated.get("answer_stop")
    token = stop.get("token") if isinstance(stop, dict) else None
    return token if isinstance(token, str) else None


def _without_end(text: str, end: str) -> str:
    r"""Remove `end`, which stands there without `text` too, but for white space.

    >>> _without_end("<end><start>final", "final")
    '<end><start>'
    """
    core = end.strip()
    if not core or not text.rstrip().endswith(core):
        return text
    return text.removesuffix(end) if text.endswith(end) else text.rstrip()[: -len(core)]


def _probe(
    template: ChatTemplate,
    added_tokens: Sequence[str],
    stops: Sequence[str],
    eos: Sequence[str],
    fixed: Variables,
) -> Probe:
    # Nor is a border put inside a think tag that is no token of this tokenizer.
    whole = dict.fromkeys((*filter(str.strip, added_tokens), *_TAG.findall(template.source)))
    probe = Probe(template, fixed, Forms(), tuple(whole), tuple(filter(str.strip, stops)), eos)
    with_tools = dataclasses.replace(probe, needs_tools=True)
    if not probe.render([user()], {}) and with_tools.render([user()], {}):
        probe = with_tools
    return dataclasses.replace(probe, forms=find_forms(probe))


def _ends(probe: Probe, variables: Variables) -> dict[str, str]:
    """Learn what ends a message of each role but the assistant's."""
    stories = {
        "system": [Message("system", USER)],
        "developer": [Message("developer", USER)],
        "user": [user()],
        "tool": [user(""), call(), result(USER)],
    }
    texts = {role: probe.render(story, variables) for role, story in stories.items()}
    return {role: text.rpartition(USER)[2] for role, text in texts.items() if USER in text}


def _ends_generation(
    probe: Probe, answer_stop: Stop, call_stop: Stop, end_of_user: str
) -> tuple[str, ...]:
    """List the tokens that end a message: where one stands inside, it is another message's."""
    ending = [token for token in probe.stops if token in end_of_user]
    texts = (answer_stop.token.strip(), call_stop.token.strip(), *probe.eos, *ending)
    return tuple(dict.fromkeys(filter(None, texts)))


# --- history --------------------------------------------------------------------------


def _what_is_kept(probe: Probe, variables: Variables) -> dict[str, bool]:
    loop = [user(), call(None, REASON), result()]

    def shows(*story: Message) -> bool:
        return REASON in probe.render(story, variables)

    return {
        "kept_after_user": shows(user(), answer(reasoning=True), user(NEXT)),
        "kept_in_loop": shows(*loop),
        "kept_after_loop": shows(*loop, answer(reasoning=False)),
    }


# --- what the user knows better -------------------------------------------------------


def override(behaviour: Behaviour, changes: Mapping[str, Any]) -> Behaviour:
    r"""Replace what was learned by what the user knows better.

    Args:
        behaviour: as learned.
        changes: by the name of a field; stops and forms are objects of what changes in
            them, e.g. `{"closer": "</think>", "answer_stop": {"token": "<|eot|>"}}`.

    Raises:
        TemplateError: an unknown name, or a value of another type than it has.
    """
    changed = dict(_checked(behaviour, changes, ""))
    if changes.keys() & {"opener", "closer"} and "forms" not in changes:
        # Reasoning has a place of its own then, also where it stands in the content.
        forms = dataclasses.replace(behaviour.forms, inline_as_written=False)
        behaviour = dataclasses.replace(behaviour, forms=forms)
    if behaviour.forms.inline and changes.keys() & {"opener", "closer"} and "forms" not in changes:
        opener = changed.get("opener", behaviour.opener)
        opener = "" if behaviour.forms.inline.startswith("{}") else opener
        inline = opener + "{}" + changed.get("closer", behaviour.closer)
        changed["forms"] = dataclasses.replace(behaviour.forms, inline=inline)
    return dataclasses.replace(behaviour, **changed)


def _checked(value: Any, changes: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the changes to a dataclass, each of the type that it replaces."""
    known = {field.name for field in dataclasses.fields(value)}
    unknown = sorted(changes.keys() - known)
    if unknown:
        raise TemplateError(
            f"--template-behaviour: {path}{unknown[0]}: unknown, expected one of "
            f"{', '.join(sorted(known))}. Fix: check the spelling."
        )
    for name, new in changes.items():
        old: Any = getattr(value, name)
        if isinstance(old, Stop | Forms) and isinstance(new, dict):
            yield name, dataclasses.replace(old, **dict(_checked(old, new, f"{path}{name}.")))
            continue
        kind, right = _kind(name, old, new)
        if not right:
            raise TemplateError(
                f"--template-behaviour: {path}{name}: {new!r}, expected {kind}. "
                "Fix: write it as `reasonpack template --json` does."
            )
        yield name, tuple(new) if isinstance(new, list) else new


def _kind(name: str, old: Any, new: Any) -> tuple[str, bool]:
    """Say of what type a field is, and whether `new` is of it."""
    if isinstance(old, bool):
        return "true or false", isinstance(new, bool)
    if name == "empty_content":
        return "a text or null", new is None or isinstance(new, str)
    if isinstance(old, str):
        return "a text", isinstance(new, str)
    if isinstance(old, tuple):
        texts = isinstance(new, list | tuple) and all(isinstance(each, str) for each in new)
        pair = name in {"answer", "text_call"}
        return ("two texts" if pair else "texts"), texts and (not pair or len(new) == 2)
    if name == "ends":
        right = isinstance(new, dict) and all(isinstance(each, str) for each in new.values())
        return "an object of texts", right
    return "an object", isinstance(new, dict)
