r"""What a chat template does to reasoning: a type that `learn` fills, and a user overrides.

    ChatTemplate ── user U, assistant(reasoning R, response C), … ──→ Behaviour

    <|im_start|>assistant\n <think>\n R \n</think>\n\n C <|im_end|> \n
    └────── header ───────┘ └opener─┘   └── closer ──┘   └─ stop ─┘ └ after_stop

No name of a model is written down here: everything is read off the template's own
output. Views are checked again one by one when they are built, so a template that
behaves otherwise in some conversation is refused there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from reasonpack.errors import TemplateError
from reasonpack.records.message import Message
from reasonpack.templates.forms import Forms
from reasonpack.templates.stop import Stop

Variables = Mapping[str, Any]
_STRIPPED: Mapping[str, str | None] = {"nothing": "", "newlines": "\n", "white space": None}


class Behaviour(Struct, frozen=True):
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


_OBJECTS = ("forms", "answer_stop", "call_stop")


def override(behaviour: Behaviour, changes: Mapping[str, Any]) -> Behaviour:
    r"""Replace what was learned by what the user knows better.

    Args:
        behaviour: as learned.
        changes: by the name of a field; stops and forms are objects of what changes in
            them, e.g. `{"closer": "</think>", "answer_stop": {"token": "<|eot|>"}}`.

    Raises:
        TemplateError: an unknown name, a value of another type than it has, or an opener that
            the generation prompt writes.
    """
    changed = _merged(msgspec.to_builtins(behaviour), changes, "")
    begun = str(changed["prompt_opener"])
    if begun.strip() and str(changes.get("opener", "")).lstrip().startswith(begun.strip()):
        raise TemplateError(
            "--template-behaviour",
            f"opener: begins with {begun!r}, which the generation prompt writes already",
            "what the model writes behind that",
            "leave it out of the opener; what is left may be empty",
        )
    forms = changed["forms"]
    if changes.keys() & {"opener", "closer"} and "forms" not in changes:
        # Reasoning has a place of its own then, also where it stands in the content.
        forms["inline_as_written"] = False
        if forms["inline"]:
            opener = "" if forms["inline"].startswith("{}") else changed["opener"]
            forms["inline"] = f"{opener}{{}}{changed['closer']}"
    try:
        return msgspec.convert(changed, Behaviour)
    except msgspec.ValidationError as error:
        # Expected `bool`, got `str` - at `$.kept_in_loop`
        what, _, path = str(error).replace("`", "").partition(" - at $.")
        expected, _, found = what.removeprefix("Expected ").partition(", got ")
        fix = "write it as `reasonpack template --json` does"
        raise TemplateError("--template-behaviour", f"{path}: {found}", expected, fix) from error


def _merged(old: dict[str, Any], changes: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the fields of a dataclass with the changes made."""
    if unknown := sorted(changes.keys() - old.keys()):
        what = f"{path}{unknown[0]}: unknown"
        expected = f"one of {', '.join(sorted(old))}"
        raise TemplateError("--template-behaviour", what, expected, "check the spelling")
    nested = {
        name: _merged(old[name], new, f"{path}{name}.")
        for name, new in changes.items()
        if name in _OBJECTS and isinstance(new, dict)
    }
    return {**old, **changes, **nested}
