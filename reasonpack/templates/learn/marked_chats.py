r"""Small conversations of marked texts, and their renderings, from which `learn` reads a template.

    user zquserqz, assistant zqanswerqz  ──→  <|im_start|>user\nzquserqz<|im_end|>\n…

Marks are words that no template contains or changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.message import Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.templates.forms import Forms, dump_message
from reasonpack.templates.template import ChatTemplate

USER, REASON, ANSWER, CALL, CALLED, RESULT, NEXT, _TOOL = (
    f"zq{name}qz"
    for name in ("user", "reason", "answer", "call", "called", "result", "next", "tool")
)
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "thought")
INLINE = ("<think>\n{}\n</think>\n\n", "{}\n</think>\n\n")
"""Forms of reasoning within the content; in the second the template writes the opening tag."""
THINKING: tuple[dict[str, Any], ...] = ({}, {"thinking": True, "enable_thinking": True})
"""Sets of variables under one of which a template may show reasoning."""
_ID = "call00000"
_PARAMETERS = {"type": "object", "properties": {"key": {"type": "string", "description": "key"}}}
_FUNCTION = {"name": _TOOL, "description": "probe", "parameters": _PARAMETERS}
_TOOLS = [{"type": "function", "function": _FUNCTION}]


class Probe(Struct, frozen=True):
    """A template, and the settings with which it is rendered.

    Attributes:
        template: the chat template.
        fixed: variables that the user set; they win over `variables`.
        forms: the message fields that the template reads.
        added_tokens: texts of the tokenizer's added tokens, except for white space, and think
            tags; no text is cut inside one.
        stops: the added tokens that can stop the model.
        eos: tokens that the model's files list as eos.
        needs_tools: whether to pass tools to conversations without calls, too.
        variables: template variables, such as those for a message with reasoning.
    """

    template: ChatTemplate
    fixed: Mapping[str, Any] = field(default_factory=dict)
    forms: Forms = field(default_factory=Forms)
    added_tokens: Sequence[str] = ()
    stops: Sequence[str] = ()
    eos: Sequence[str] = ()
    needs_tools: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)

    def given(self, variables: Mapping[str, Any]) -> Probe:
        """Return the same probe with other variables to render with."""
        return replace(self, variables=variables)

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """Render `messages`, with a tool if they have calls; '' if the template refuses them."""
        return self.render_dumped(self.dump(messages), prompt=prompt)

    def render_dumped(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool = False) -> str:
        """Render messages that `dump` returned, as `render` does."""
        try:
            return self._render(messages, prompt=prompt)
        except RecordError:
            return ""

    def refusal(self, messages: Sequence[Message]) -> str:
        """Return why the template refuses to answer `messages`; '' if it does not."""
        try:
            self._render(self.dump(messages), prompt=True)
        except RecordError as error:
            return error.what
        return ""

    def _render(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool) -> str:
        calls = any("tool_calls" in message for message in messages)
        return self.template.render(
            messages,
            add_generation_prompt=prompt,
            kwargs={**self.variables, **self.fixed},
            tools=_TOOLS if calls or self.needs_tools else None,
        )

    def dump(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Return the messages as dicts in the template's forms, call ids included."""
        if self.forms.name_in_ids:
            messages = [_with_name_in_ids(message) for message in messages]
        return [dump_message(message, self.forms) for message in messages]


def _with_name_in_ids(message: Message) -> Message:
    calls = tuple(replace(call, id=f"{call.name}:{call.id}") for call in message.tool_calls)
    extra = dict(message.extra)
    if "tool_call_id" in extra:
        extra["tool_call_id"] = f"{CALL}:{extra['tool_call_id']}"
    return replace(message, tool_calls=calls, extra=extra)


def user(text: str = USER) -> Message:
    """Return a user message."""
    return Message("user", text)


def answer(*, reasoning: bool) -> Message:
    """Return an assistant message with an answer."""
    return Message("assistant", ANSWER, REASON if reasoning else None)


def call(
    content: str | None = None, reasoning: str | None = None, *, ids: Sequence[str] = (_ID,)
) -> Message:
    """Return an assistant message that calls a tool once for each id."""
    arguments = {"key": CALLED}
    calls = tuple(ToolCall(CALL, arguments, None, id_) for id_ in ids)
    return Message("assistant", content, reasoning, calls)


def result(text: str = RESULT) -> Message:
    """Return a tool message."""
    return Message("tool", text, extra={"tool_call_id": _ID, "name": CALL})


def before(probe: Probe, text: str, mark: str) -> str:
    """Return the text between the end of the user message and `mark`; '' if `mark` is missing."""
    between, found, _ = text.rpartition(USER)[2].partition(mark)
    if not found:
        return ""
    starts = []
    for tools in (False, True):  # some templates list the tools in the user message
        end = replace(probe, needs_tools=tools).render([user()]).rpartition(USER)[2]
        starts.append(common_start([between, end], probe.added_tokens))
    return between[len(max(starts, key=len)) :]


def prompt_end(probe: Probe) -> str:
    """Return the generation prompt: the text that it adds after a user message."""
    return before(probe, probe.render([user()], prompt=True) + NEXT, NEXT)


def common_length(text: str, start: int, other: str) -> int:
    """Return how many leading characters of `other` equal those of `text` from `start` on.

    >>> common_length("abcd", 1, "bcx")
    2
    """
    low, high = 0, min(len(other), len(text) - start)
    while low < high:
        middle = (low + high + 1) // 2
        if text.startswith(other[low:middle], start + low):
            low = middle
        else:
            high = middle - 1
    return low


def common_start(texts: Sequence[str], added_tokens: Sequence[str]) -> str:
    """Return the longest common start of `texts` that does not end inside an added token.

    >>> common_start(["<a><think>", "<a></think>"], ["<a>", "<think>", "</think>"])
    '<a>'
    """
    low, high = min(texts), max(texts)
    pairs = enumerate(zip(low, high, strict=False))
    start = low[: next((at for at, (a, b) in pairs if a != b), len(low))]
    for token in added_tokens:
        for text in texts:
            cut = text.rfind(token, 0, len(start) + len(token) - 1)
            if cut < len(start) < cut + len(token) and cut >= 0:
                start = start[:cut]
    return start


def common_end(texts: Sequence[str], added_tokens: Sequence[str]) -> str:
    """Return the longest common end of `texts` that does not begin inside an added token.

    >>> common_end(["</think><call>", "<bot><call>"], ["</think>", "<bot>"])
    '<call>'
    """
    backwards = [token[::-1] for token in added_tokens]
    return common_start([text[::-1] for text in texts], backwards)[::-1]


def find_forms(probe: Probe) -> Forms:
    """Return the forms in which the template's output shows reasoning and tool calls."""
    reads = _find_reasoning(probe)
    for in_ids, as_text in product((False, True), (False, True)):
        shown: list[tuple[int, Forms]] = []
        for empty in ("", None):
            forms = replace(
                reads, empty_content=empty, arguments_as_text=as_text, name_in_ids=in_ids
            )
            text = replace(probe, forms=forms).render([user(), call()])
            told = text.rpartition(USER)[2]
            if CALL in told and CALLED in told and "None" not in told:
                shown.append((len(text), forms))
        if shown:  # if both work, one may add an empty message to the call: take the shorter
            found = min(shown, key=lambda each: each[0])[1]
            written = found.empty_content is None and len(shown) > 1
            return replace(found, empty_as_written=written)
    return reads


def _find_reasoning(probe: Probe) -> Forms:
    fields = tuple(name for name in REASONING_FIELDS if name in probe.template.words)
    shows_fields = bool(fields) and _shows_reasoning(probe, Forms(fields))
    parts = Forms(parts=True)
    if "thinking" in fields and not shows_fields and _shows_reasoning(probe, parts):
        return parts
    if not shows_fields:
        looks = "</think>" in probe.template.source
        inline = INLINE if looks else _as_the_prompt_opens(probe)
        shown = (
            Forms(inline=text) for text in inline if _shows_reasoning(probe, Forms(inline=text))
        )
        return replace(next(shown, Forms()), inline_as_written=looks or passes_through(probe))
    # The tags are the template's own only if it drops them from the history like the field.
    history = [user(), Message("assistant", _tagged()), user(NEXT)]
    own = passes_through(probe) and REASON not in probe.render(history)
    return Forms(fields, inline_as_written=own and "</think>" in probe.template.source)


def _as_the_prompt_opens(probe: Probe) -> tuple[str, ...]:
    """Return the forms of inline reasoning if only the generation prompt has a think tag."""
    prompt = probe.render([user()], prompt=True)
    if not prompt.rstrip().endswith("<think>"):
        return ()
    return ("<think>{}</think>",) if prompt.endswith("<think>") else INLINE[:1]


def passes_through(probe: Probe) -> bool:
    """Return whether the template shows an answer with think tags unchanged."""
    return _tagged() in probe.given({}).render([user(), Message("assistant", _tagged())])


def reads_content_alone(probe: Probe) -> bool:
    """Return whether the template shows content unchanged and reads reasoning nowhere else."""
    forms = probe.forms
    return not forms.reasoning_fields and not forms.parts and passes_through(probe)


def _tagged() -> str:
    return f"<think> {REASON} \n</think> \n {ANSWER}"


def keys_read(*probes: Probe) -> frozenset[str]:
    """Return the keys that a template looks up in messages of any role."""
    asked: set[str] = set()

    class Asked(dict[str, Any]):
        """A message that records which keys are looked up."""

        def __getitem__(self, key: str) -> Any:
            asked.add(key)
            return super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            asked.add(key)
            return super().get(key, default)

        def __contains__(self, key: object) -> bool:
            asked.add(str(key))
            return super().__contains__(key)

    called = (call(ANSWER, REASON), result(), answer(reasoning=True))
    stories = [[user(), *called, user(NEXT)], [user(), answer(reasoning=True)], [user(), called[0]]]
    stories.append([Message("system", USER), user(NEXT)])
    for story, probe, prompt, tools in product(stories, probes, (True, False), (_TOOLS, None)):
        with contextlib.suppress(RecordError):
            probe.template.render(
                [Asked(message) for message in probe.dump(story)],
                add_generation_prompt=prompt,
                kwargs={**probe.variables, **probe.fixed},
                tools=tools,
            )
    return frozenset(asked)


def find_dumped(probe: Probe) -> tuple[str, ...]:
    """Return of `tool_calls` and `tool_calls.function` those that are shown with all fields."""
    messages = probe.dump([user(), call()])
    (called,) = messages[1]["tool_calls"]
    called["zqbesideqz"] = called["function"]["zqinsideqz"] = ""
    text = probe.render_dumped(messages)
    marks = {"zqbesideqz": "tool_calls", "zqinsideqz": "tool_calls.function"}
    return tuple(name for mark, name in marks.items() if mark in text)


def _shows_reasoning(probe: Probe, forms: Forms) -> bool:
    """Return whether the template shows reasoning as text, with at most one opening tag."""
    stories = [answer(reasoning=True)]
    if forms.reasoning_fields:  # the content of calls may be shown unchanged, with think tags
        stories.append(call(None, REASON))
    for variables in THINKING:
        tried = replace(probe, forms=forms, variables=variables)
        for message in stories:
            told = tried.render([user(), message]).rpartition(USER)[2]
            start, found, _ = told.partition(REASON)
            if found and start.count("<think>") <= 1 and "{'type'" not in start:
                return True
    return False
