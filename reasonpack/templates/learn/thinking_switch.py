r"""Finds the template variables that switch the model's reasoning on and off.

    {"enable_thinking": True}    …<|im_start|>assistant\n
    {"enable_thinking": False}   …<|im_start|>assistant\n<think>\n\n</think>\n\n

Candidates are the variables that the template reads and does not define, with the values that it
compares them with. Renderings show what each does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from reasonpack.templates.learn.marked_chats import (
    ANSWER,
    REASON,
    USER,
    Probe,
    answer,
    call,
    prompt_end,
    user,
)

Variables = Mapping[str, Any]
Pair = tuple[dict[str, Any], dict[str, Any]]
SWITCHES = frozenset({"enable_thinking", "thinking"})
"""Variables that count as switches even if they change only the system text."""
_CLOSING_TAG = re.compile(r"</(\w*:?think[\w:]*)>")


def find_switch(probe: Probe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the variables to set for messages with reasoning, and those for messages without."""
    settings = list(_settings(probe))
    # Two values of one variable are tried before one value against the unset variable, except for
    # numbers (budgets), where unset means no limit.
    unset: list[Pair] = []
    for one in settings:
        unset += [({}, one), (one, {})]
    numbers = [(on, off) for on, off in unset if any(map(_is_number, off.values()))]
    pairs = product(settings, settings)
    both = [(on, off) for on, off in pairs if on != off and on.keys() == off.keys()]
    for tried in ([*numbers, *both], unset):
        found = _find_pair(probe, tried)
        if found is not None:
            return found
    fitting = (item for item in ({}, *settings) if _around_reasoning(probe.given(item)))
    thinking = next(fitting, {})
    closer = (_around_reasoning(probe.given(thinking)) or ("", ""))[1].strip()
    plain = (item for item in (thinking, {}, *settings) if _fits_plain(probe.given(item), closer))
    return thinking, next(plain, thinking)


def _find_pair(probe: Probe, pairs: Sequence[Pair]) -> Pair | None:
    """Return the first pair whose settings switch reasoning on and off; None if no pair does."""
    for thinking, not_thinking in pairs:
        reasoned = _around_reasoning(probe.given(thinking))
        if reasoned is not None and _fits_plain(probe.given(not_thinking), reasoned[1].strip()):
            return thinking, not_thinking
    # Templates that do not show the last reasoning: only the first prompt opens it, or the second
    # prompt extends the first, by an empty block.
    for thinking, not_thinking in pairs:
        on, off = probe.given(thinking), probe.given(not_thinking)
        open_, closed = prompt_end(on), prompt_end(off)
        if opens_reasoning(on) and not opens_reasoning(off):
            return thinking, not_thinking
        if closed.startswith(open_) and closed != open_:
            return thinking, not_thinking
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _settings(probe: Probe) -> Iterator[dict[str, Any]]:
    """Yield settings of one variable that changes the generation prompt or is in `SWITCHES`.

    The values are the texts and numbers that the template compares the variable with, else True
    and False.
    """
    known = {"messages", "tools", "documents", "add_generation_prompt", *probe.fixed}
    known.update(probe.template.special_tokens)
    for name in sorted(probe.template.variables - known):
        values = probe.template.choices.get(name) or (True, False)
        prompts = [probe.given({name: value}).render([user()], prompt=True) for value in values]
        default = probe.render([user()], prompt=True)
        ends = {text.rpartition(USER)[2] for text in (*prompts, default) if text}
        if len(ends) > 1 or (name in SWITCHES and len(set(prompts)) > 1):
            for value, text in zip(values, prompts, strict=True):
                if text and not (_is_number(value) and text == default):
                    yield {name: value}


def _completion(probe: Probe, *, reasoning: bool) -> str:
    """Return the text of an answer after its prompt; empty if the prompt is no prefix of it."""
    prompt = probe.render([user()], prompt=True)
    full = probe.render([user(), answer(reasoning=reasoning)])
    return full[len(prompt) :] if prompt and full.startswith(prompt) else ""


def _around_reasoning(probe: Probe) -> tuple[str, str] | None:
    """Return the text before the reasoning in a completion, and that before the response.

    None if reasoning or response is missing in it.
    """
    opener, shown, rest = _completion(probe, reasoning=True).partition(REASON)
    closer, found, _ = rest.partition(ANSWER)
    return (opener, closer) if shown and found else None


def _fits_plain(probe: Probe, closer: str) -> bool:
    """Return whether an answer without reasoning fits and is written without an empty block."""
    lead, found, _ = _completion(probe, reasoning=False).partition(ANSWER)
    return bool(found) and not (closer and closer in lead)


def opens_reasoning(probe: Probe) -> bool:
    """Return whether the generation prompt ends with the tag that opens reasoning."""
    opener, _ = think_tag(probe)
    prompt = probe.render([user()], prompt=True)
    return bool(opener) and prompt.rstrip().endswith(opener)


def think_tag(probe: Probe) -> tuple[str, str]:
    """Return the opening and the closing think tag of the template; empty if it has none."""
    stories = [[user(), answer(reasoning=True)], [user(), call(None, REASON)]]
    texts = [probe.given({}).render(story).rpartition(USER)[2] for story in stories]
    closed = (_CLOSING_TAG.search(text) for text in (*texts, probe.template.source))
    found = next((match for match in closed if match), None)
    return (f"<{found[1]}>", found[0]) if found else ("", "")
