r"""What a chat template does to reasoning, learned by rendering marked conversations.

    ChatTemplate ── user U, assistant(reasoning R, response C), … ──→ Behaviour
                    <|im_start|>assistant\n<think>\nR\n</think>\n\nC<|im_end|>\n
                                          └opener┘ └───closer────┘ └──stop──┘└after

No name of a model and no tag is written down here: everything is read off the
template's own output. Views are checked again one by one when they are built, so a
template that behaves otherwise on some conversation is refused there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reasonpack.conversation import Message, ToolCall
from reasonpack.errors import RecordError, TemplateError
from reasonpack.template import ChatTemplate

__all__ = ["Behaviour", "dump_message", "learn"]

REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "thought")
SWITCHES = frozenset({"enable_thinking", "thinking"})
"""Variables that switch thinking even where they change nothing but the system text."""

_USER, _REASON, _ANSWER, _CALL, _VALUE = (
    f"zq{name}qz" for name in ("user", "reason", "answer", "call", "value")
)
_CALL_ID = {"tool_call_id": "call00000"}
_PARAMETERS = {"type": "object", "properties": {"key": {"type": "string"}}}
_TOOLS = [
    {
        "type": "function",
        "function": {"name": _CALL, "description": _CALL, "parameters": _PARAMETERS},
    }
]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What was learned about one chat template.

    Attributes:
        reasoning_fields: message fields it reads reasoning from; empty if it never
            shows reasoning.
        empty_content: what stands for no content beside tool calls: `""` or None.
        arguments_as_text: it wants tool arguments as JSON text, not as an object.
        thinking: variables to set for a message with reasoning.
        not_thinking: variables to set for a message without.
        prompt_opener: end of the generation prompt that opens the reasoning.
        opener: what the model writes before its reasoning.
        closer: what it writes between reasoning and response.
        stop: the stop token of an answer.
        after_stop: what the template adds after an answer's stop token.
        call_stop: the stop token of a message that calls tools.
        call_after_stop: what the template adds after that.
        ends: by role other than the assistant's, what follows a message's content.
    """

    reasoning_fields: tuple[str, ...]
    empty_content: str | None
    arguments_as_text: bool
    thinking: Mapping[str, Any]
    not_thinking: Mapping[str, Any]
    prompt_opener: str
    opener: str
    closer: str
    stop: str
    after_stop: str
    call_stop: str
    call_after_stop: str
    ends: Mapping[str, str]


def dump_message(
    message: Message,
    *,
    reasoning_fields: Sequence[str],
    empty_content: str | None,
    arguments_as_text: bool,
) -> dict[str, Any]:
    """Write a message with the fields and forms that a template reads.

    >>> dump_message(Message("assistant", "Hi", "Greet."), reasoning_fields=("thinking",),
    ...              empty_content="", arguments_as_text=False)
    {'role': 'assistant', 'content': 'Hi', 'thinking': 'Greet.'}
    """
    dumped: dict[str, Any] = {"role": message.role, **message.extra}
    dumped["content"] = message.content or (empty_content if message.tool_calls else "")
    if message.reasoning:
        dumped.update(dict.fromkeys(reasoning_fields, message.reasoning))
    if message.tool_calls:
        dumped["tool_calls"] = [_dump_call(call, arguments_as_text) for call in message.tool_calls]
    return dumped


def _dump_call(call: ToolCall, as_text: bool) -> dict[str, Any]:
    arguments = call.arguments
    if as_text:
        arguments = call.arguments_text or json.dumps(arguments, ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    identity = {} if call.id is None else {"id": call.id}
    return {**identity, "type": "function", "function": function}


def learn(
    template: ChatTemplate,
    added_tokens: Sequence[str],
    variables: Mapping[str, Any] | None = None,
) -> Behaviour:
    """Learn what `template` does to reasoning.

    Args:
        template: the chat template.
        added_tokens: texts of the tokenizer's added tokens; one of them has to end
            an answer.
        variables: what the user sets for every conversation.

    Raises:
        TemplateError: it cannot render a user's question and an answer, or nothing
            that follows an answer is a token.
    """
    base = dict(variables or {})
    probe = _Probe(template, base, *_forms(template, base))
    thinking, not_thinking = _find_switch(probe)
    prompt = probe.prompt(thinking)
    reasoned = probe.fit(thinking, reasoning=True)
    opener, closer = reasoned or ("", "")
    plain = probe.answer(not_thinking, reasoning=False)
    stop, after_stop = _split_tail(plain.rpartition(_ANSWER)[2], added_tokens, ())
    if not stop:
        raise TemplateError(
            f"{template.name}: {plain.rpartition(_ANSWER)[2]!r} follows an answer, expected an "
            "added token of the tokenizer that ends it. Fix: check that template and tokenizer "
            "belong to the same model."
        )
    _, called, call_tail = probe.call(not_thinking).rpartition(_VALUE)
    call_stop, call_after = _split_tail(call_tail, added_tokens, (stop,)) if called else ("", "")
    return Behaviour(
        reasoning_fields=probe.fields if reasoned else (),
        empty_content=probe.empty_content,
        arguments_as_text=probe.arguments_as_text,
        thinking=thinking,
        not_thinking=not_thinking,
        prompt_opener="" if opener else _last_from(prompt, added_tokens, closer),
        opener=opener,
        closer=closer,
        stop=stop,
        after_stop=after_stop,
        call_stop=call_stop or stop,
        call_after_stop=call_after if call_stop else after_stop,
        ends=_ends(probe, not_thinking),
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    template: ChatTemplate
    base: Mapping[str, Any]
    fields: tuple[str, ...]
    empty_content: str | None
    arguments_as_text: bool

    def render(
        self,
        messages: Sequence[Message],
        variables: Mapping[str, Any],
        *,
        prompt: bool = False,
        tools: bool = False,
    ) -> str:
        """Render, or return '' where the template refuses."""
        dumped = [
            dump_message(
                message,
                reasoning_fields=self.fields,
                empty_content=self.empty_content,
                arguments_as_text=self.arguments_as_text,
            )
            for message in messages
        ]
        try:
            return self.template.render(
                dumped,
                add_generation_prompt=prompt,
                kwargs={**variables, **self.base},
                tools=_TOOLS if tools else None,
            )
        except RecordError:
            return ""

    def prompt(self, variables: Mapping[str, Any]) -> str:
        return self.render([_user(_USER)], variables, prompt=True)

    def answer(self, variables: Mapping[str, Any], *, reasoning: bool) -> str:
        answer = Message("assistant", _ANSWER, _REASON if reasoning else None)
        return self.render([_user(_USER), answer], variables)

    def call(self, variables: Mapping[str, Any]) -> str:
        return self.render([_user(_USER), _call()], variables, tools=True)

    def fit(self, variables: Mapping[str, Any], *, reasoning: bool) -> tuple[str, str] | None:
        """Return what the completion has before and between reasoning and response.

        None where the prompt is no prefix of the rendering with the answer, or where
        the answer is not shown whole.
        """
        prompt = self.prompt(variables)
        full = self.answer(variables, reasoning=reasoning)
        if not prompt or not full.startswith(prompt):
            return None
        completion = full[len(prompt) :]
        if not reasoning:
            lead, found, _ = completion.partition(_ANSWER)
            return (lead, "") if found else None
        opener, shown, rest = completion.partition(_REASON)
        closer, found, _ = rest.partition(_ANSWER)
        return (opener, closer) if shown and found else None


def _user(text: str) -> Message:
    return Message("user", text)


def _call(content: str | None = None) -> Message:
    call = ToolCall(_CALL, {"key": _VALUE}, None, _CALL_ID["tool_call_id"])
    return Message("assistant", content, None, (call,))


def _forms(
    template: ChatTemplate, base: Mapping[str, Any]
) -> tuple[tuple[str, ...], str | None, bool]:
    """Find which fields and forms the template reads, from what it then shows."""
    fields = tuple(name for name in REASONING_FIELDS if name in template.words)
    for as_text in (False, True):
        for empty in ("", None):
            text = _Probe(template, base, fields, empty, as_text).call({})
            if _CALL in text and _VALUE in text.rpartition(_USER)[2] and "None" not in text:
                return fields, empty, as_text
    return fields, "", False


def _find_switch(probe: _Probe) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the variables for messages with and without reasoning."""
    variables = sorted(_switch_candidates(probe))
    for name in variables:
        for on in (True, False):
            thinking, not_thinking = {name: on}, {name: not on}
            if _fits_both(probe, thinking, not_thinking):
                return thinking, not_thinking
    settings: list[dict[str, Any]] = [{}]
    settings += [{name: value} for name in variables for value in (True, False)]
    fitting = (item for item in settings if probe.fit(item, reasoning=True))
    thinking = next(fitting, {})
    closer = (probe.fit(thinking, reasoning=True) or ("", ""))[1].strip()
    plain = (item for item in settings if _plain(probe, item, closer))
    return thinking, next(plain, thinking)


def _switch_candidates(probe: _Probe) -> Iterator[str]:
    """Yield variables that change the generation prompt, or bear a switch's name."""
    known = {"messages", "tools", "documents", "add_generation_prompt", *probe.base}
    for name in probe.template.variables - known - probe.template.special_tokens.keys():
        on, off = (probe.prompt({name: value}) for value in (True, False))
        ends = (text.rpartition(_USER)[2] for text in (on, off))
        if on != off and (name in SWITCHES or len(set(ends)) > 1):
            yield name


def _fits_both(probe: _Probe, thinking: dict[str, Any], not_thinking: dict[str, Any]) -> bool:
    reasoned = probe.fit(thinking, reasoning=True)
    return reasoned is not None and _plain(probe, not_thinking, reasoned[1].strip())


def _plain(probe: _Probe, variables: dict[str, Any], closer: str) -> bool:
    """Whether an answer without reasoning fits, and is not made to show an empty block."""
    fit = probe.fit(variables, reasoning=False)
    return fit is not None and not (closer and closer in fit[0])


def _split_tail(
    tail: str, added_tokens: Sequence[str], preferred: Sequence[str]
) -> tuple[str, str]:
    r"""Split what follows an answer into everything up to its stop token, and the rest.

    The stop is the preferred token where it occurs, else the first added token.

    >>> _split_tail("<|im_end|>\n", ["<|im_end|>", "<|im"], ())
    ('<|im_end|>', '\n')
    """
    for group in (preferred, added_tokens):
        found = [(tail.find(token), -len(token), token) for token in group if token in tail]
        if found:
            start, _, token = min(found)
            return token, tail[start + len(token) :]
    return "", tail


def _last_from(prompt: str, added_tokens: Sequence[str], closer: str) -> str:
    """Return the end of `prompt` from its last added token, if a closer will follow it."""
    starts = [prompt.rfind(token) for token in added_tokens if token in prompt]
    return prompt[max(starts) :] if starts and closer else ""


def _ends(probe: _Probe, variables: Mapping[str, Any]) -> dict[str, str]:
    """Learn what ends a message of each role but the assistant's."""
    system, result = Message("system", "zqsystemqz"), Message("tool", "zqtoolqz", extra=_CALL_ID)
    stories = {
        "system": [system],
        "developer": [Message("developer", "zqsystemqz")],
        "user": [_user(_USER)],
        "tool": [_user(_USER), _call(), result],
    }
    ends = {}
    for role, story in stories.items():
        content = story[-1].content or ""
        _, shown, end = probe.render(story, variables, tools=role == "tool").rpartition(content)
        ends[role] = end if shown else ""
    return ends
