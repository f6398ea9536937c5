r"""What a chat template does to reasoning: a type that `learn` fills and a user can override.

ChatTemplate ── user U, assistant(reasoning R, response C), … ──→ Behaviour

<|im_start|>assistant\n <think>\n R \n</think>\n\n C <|im_end|> \n
└────── header ───────┘ └opener─┘   └── closer ──┘   └─ stop ─┘ └ after_stop
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
        forms: the message fields that the template reads, and their forms.
        thinking: template variables to set for a message with reasoning.
        not_thinking: template variables to set for a message without reasoning.
        header: the text that begins every assistant message.
        prompt_opener: what the generation prompt writes after the header, to open the reasoning.
        prompt_closed: what it writes there for a message without reasoning.
        opener: what the model writes before its reasoning; empty if the prompt
            opened it.
        closer: what the model writes after its reasoning; empty if the template has no
            place for reasoning.
        shows_reasoning: whether the template shows the reasoning of the last answer; if not,
            the closer is composed from the think tag in the template's source.
        strips: what the template strips from the start and from the end of reasoning: `nothing`,
            `newlines` or `white space`.
        answer: what the model writes before and after the content of an answer.
        call: what the model writes before the name (or the id) of the first tool called.
        text_call: what the model writes before the content of a message that calls tools, and
            between this content and the first call.
        answer_stop: the end of an answer.
        call_stop: the end of a message that calls tools.
        ends: for each role but the assistant's, the text after a message's content.
        kept_after_user: whether the template shows reasoning after the next user message.
        kept_in_loop: whether it shows the reasoning of a tool call after the tool's result.
        kept_after_loop: whether it shows this reasoning after the answer, too.
        ends_generation: tokens that no message may contain: the stop tokens, the listed eos
            tokens, and tokens that end user messages.
        writes_none: whether it writes a null argument of a call as the word None.
        dumped: of `tool_calls` and `tool_calls.function`, those that it writes with all fields.
        asked: the message keys that it reads.
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
    dumped: tuple[str, ...]
    asked: tuple[str, ...]

    def strip(self, reasoning: str) -> str:
        """Return `reasoning` with the white space removed that the template strips."""
        start, end = (_STRIPPED[each] for each in self.strips)
        return reasoning.lstrip(start).rstrip(end)

    def stop(self, message: Message) -> Stop:
        """Return how the assistant's `message` ends."""
        return self.call_stop if message.tool_calls else self.answer_stop


UNKNOWN = Behaviour(
    forms=Forms(),
    thinking={},
    not_thinking={},
    header="",
    prompt_opener="",
    prompt_closed="",
    opener="",
    closer="",
    shows_reasoning=False,
    strips=("nothing", "nothing"),
    answer=("", ""),
    call="",
    text_call=("", ""),
    answer_stop=Stop(""),
    call_stop=Stop(""),
    ends={},
    kept_after_user=False,
    kept_in_loop=False,
    kept_after_loop=False,
    ends_generation=(),
    writes_none=False,
    dumped=(),
    asked=(),
)
"""In place of what would be learned of a template, if there is none."""
_OBJECTS = ("forms", "answer_stop", "call_stop")


def override(behaviour: Behaviour, changes: Mapping[str, Any]) -> Behaviour:
    r"""Return `behaviour` with the values that the user states.

    Args:
        behaviour: as learned.
        changes: new values by field name; for stops and forms an object of the fields that
            change, e.g. `{"closer": "</think>", "answer_stop": {"token": "<|eot|>"}}`.

    Raises:
        TemplateError: a name is unknown, a value has the wrong type, or the opener repeats what
            the generation prompt writes.
    """
    changed = _merged(msgspec.to_builtins(behaviour), changes, "")
    begun = str(changed["prompt_opener"])
    if begun.strip() and str(changes.get("opener", "")).lstrip().startswith(begun.strip()):
        raise TemplateError(
            "--template-behaviour",
            f"opener: begins with {begun!r}, which the generation prompt writes already",
            "what the model writes after that",
            "remove it from the opener, which may then be empty",
        )
    forms = changed["forms"]
    if changes.keys() & {"opener", "closer"} and "forms" not in changes:
        # Reasoning is then written between the stated delimiters, even within the content.
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
    """Return the fields `old`, with `changes` merged in; a change of an unknown field raises."""
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
