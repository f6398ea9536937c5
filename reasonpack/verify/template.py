r"""A chat template, as transformers documents it: renders it, and finds the forms that it reads.

    messages, variables ─→ jinja2's own sandbox ─→ text

Renderings are independent of each other. The only things learned by trial renderings are the forms
in which the template takes reasoning, calls and empty contents.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import SandboxedEnvironment
from msgspec import Struct

from reasonpack.errors import TemplateError
from reasonpack.templates.limits import bounds
from reasonpack.verify.chat import Arguments, Json, Message, NotChecked
from reasonpack.verify.record_names import END, REASONING, TAG

WHITE = None  # all of it, as Python strips
THOUGHT, ANSWER = "zqthoughtqz", "zqanswerqz"
"""Reasoning and answer of the messages that are rendered on trial."""
SAMPLE_TOOL: Json = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up.",
        "parameters": {"type": "object", "properties": {"key": {"type": "string"}}},
    },
}
FAILURES = (jinja2.TemplateError, TypeError, ValueError, LookupError, RecursionError)
"""Errors that a template may raise for messages that it does not support."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` renders its body."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja's base class declares it)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Forms(Struct, frozen=True):
    """The form in which a template takes messages.

    Attributes:
        field: the key under which it reads reasoning; empty without one.
        parts: it reads reasoning from a `thinking` part of the content.
        inline: it shows reasoning between tags in the content; not used with `field` or `parts`.
        opens: it writes the opening tag of such reasoning itself.
        as_written: it gets a content with reasoning between tags as the record has it.
        arguments_as_text: it takes a call's arguments as JSON text.
        empty: the content it needs for a message with calls and no content.
        null: it takes null as the content of such a message.
        strips: characters that it strips from the start and from the end of reasoning; `WHITE` is
            all white space.
    """

    field: str = ""
    parts: bool = False
    inline: bool = False
    opens: bool = False
    as_written: bool = False
    arguments_as_text: bool = False
    empty: str | None = ""
    null: bool = False
    strips: tuple[str | None, str | None] = ("", "")

    def given(self, message: Message, opener: str, closer: str) -> Json:
        """Return a message in the form in which the template takes it."""
        made: Json = {"role": message.role, **message.more, "content": message.content}
        if self.keeps_block(message):
            made["content"] = message.verbatim
            if self.opens and str(message.verbatim).lstrip().startswith(TAG):
                made["content"] = re.sub(rf"^\s*{TAG}\n?", "", str(message.verbatim))
        elif self.field and (message.reasoning or END in message.content):
            made[self.field] = message.reasoning  # set, if empty, lest the content is split
        elif message.reasoning and self.parts:
            made["content"] = [
                {"type": "thinking", "thinking": message.reasoning},
                {"type": "text", "text": message.content},
            ]
        elif message.reasoning and self.inline and closer.strip():
            before = "" if self.opens else opener
            made["content"] = f"{before}{message.reasoning}{closer}{message.content}"
        if message.calls:
            made["tool_calls"] = [self._call(call) for call in message.calls]
            empty = None if message.null and self.null else self.empty
            made["content"] = made["content"] or empty
        return made

    def keeps_block(self, message: Message) -> bool:
        """Return whether a message is given with its reasoning in the content, unchanged."""
        return self.as_written and message.verbatim is not None

    def _call(self, call: Json) -> Json:
        arguments = call["function"]["arguments"]
        if self.arguments_as_text:
            written = arguments.text if isinstance(arguments, Arguments) else ""
            arguments = written or json.dumps(arguments, ensure_ascii=False)
        return {**call, "function": {**call["function"], "arguments": arguments}}


@dataclass(frozen=True, slots=True)
class Template:
    """A chat template.

    Attributes:
        variables: the tokenizer's special tokens.
        date: the date that `strftime_now` formats; if None, templates that call it fail.
    """

    name: str
    source: str
    variables: Mapping[str, Any]
    date: datetime.date | None = None

    def render(
        self,
        messages: Sequence[Json],
        tools: Sequence[Json],
        variables: Mapping[str, Any],
        *,
        prompt: bool = False,
    ) -> str:
        """Render messages; with `prompt`, the generation prompt follows them.

        Raises:
            NotChecked: the template cannot render them.
        """
        names = {"tools": list(tools) or None, "documents": None, **self.variables, **variables}
        names |= {"messages": list(messages), "add_generation_prompt": prompt}
        try:
            with bounds(self.name):
                # Copies, as a template may change the lists that it gets.
                return _compile(self.source, self.date).render(copy.deepcopy(names))
        except (*FAILURES, TemplateError) as error:
            said = " ".join(str(error).split())[:200]
            raise NotChecked(f"the template cannot render its messages ({said})") from error


@lru_cache(maxsize=8)
def _compile(source: str, date: datetime.date | None) -> jinja2.Template:
    def raise_exception(message: object) -> None:
        raise jinja2.TemplateError(str(message))

    def strftime_now(pattern: str) -> str:
        if date is None:
            raise jinja2.TemplateError("reads the clock, and the manifest names no date")
        return date.strftime(pattern)

    made = SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    return made.from_string(source)


def _tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


# --- forms -----------------------------------------------------------------------------


def learn_forms(
    template: Template, switched: Mapping[str, Any], opener: str, *, stated: bool = False
) -> Forms:
    """Find the form in which a template takes messages, by trial renderings.

    `switched` switches thinking on; `opener` precedes reasoning, and may be `stated` by the user.
    """

    def rendered(*more: Json, prompt: bool = False) -> str:
        chat = [{"role": "user", "content": "Go."}, *more]
        for tools in ([], [SAMPLE_TOOL]):  # some templates need tools
            with contextlib.suppress(NotChecked):
                return template.render(chat, tools, switched, prompt=prompt)
        return ""

    def shown(answer: Json, *after: Json) -> str:
        return rendered({"role": "assistant", **answer}, *after)

    def reads(name: str) -> bool:
        beside: tuple[Json, ...] = ({}, {"tool_calls": [_sample_call({})]})
        return any(THOUGHT in shown({"content": ANSWER, name: THOUGHT, **more}) for more in beside)

    field_ = next(filter(reads, REASONING), "")
    thought = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]
    before = shown({"content": thought}).partition(THOUGHT)[0].rstrip()
    parts = bool(opener.strip()) and before.endswith(opener.strip())
    tagged = shown({"content": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"})
    inline = THOUGHT in tagged and opener.strip() in ("", "<think>")
    as_it_is = f"<think> {THOUGHT} \n</think> \n {ANSWER}"
    passes, looks = as_it_is in shown({"content": as_it_is}), "</think>" in template.source
    as_written = passes or looks
    if field_:
        history = shown({"content": as_it_is}, {"role": "user", "content": "On."})
        as_written = passes and looks and THOUGHT not in history
    if stated or parts:
        begun = rendered(prompt=True), shown({"content": ANSWER}).partition(ANSWER)[0]
        inline = THOUGHT in tagged and _goes_in_content(*begun, looks=looks)
        as_written = False
    opens = tagged.partition(THOUGHT)[0].replace("\n", "").endswith("<think><think>")
    before = "" if opens else "<think>\n"

    def shown_with(thought: str) -> str:
        if field_:
            return shown({"content": ANSWER, field_: thought})
        return shown({"content": f"{before}{thought}\n</think>\n\n{ANSWER}"})

    strips = _strips(shown_with)
    return Forms(field_, parts, inline, opens, as_written, *_call_forms(shown), strips)


def _goes_in_content(prompt: str, header: str, *, looks: bool) -> bool:
    """Return whether reasoning between delimiters that the user stated is part of the content.

    It is if the generation prompt opens a think tag; or if that is only the header, and the
    template `looks` for a tag in the content.
    """
    return prompt.rstrip().endswith(TAG) or (looks and prompt.rstrip() == header.rstrip())


def _strips(shown: Callable[[str], str]) -> tuple[str | None, str | None]:
    """Return the characters that a template strips from the start and from the end of reasoning."""
    before, known, after = shown(THOUGHT).partition(THOUGHT)
    if not known:
        return "", ""
    start, _, end = shown(f"\n {THOUGHT} \n").partition(THOUGHT)
    at_start = {before: WHITE, f"{before} ": "\n"}.get(start, "")
    return at_start, {after: WHITE, f" {after}": "\n"}.get(end, "")


def _call_forms(shown: Callable[..., str]) -> tuple[bool, str | None, bool]:
    """Return `arguments_as_text`, `empty` and `null` of the template's `Forms`."""
    for as_text in (False, True):
        value: Any = {"key": ANSWER}
        calls = [_sample_call(json.dumps(value) if as_text else value)]
        texts = {empty: shown({"content": empty, "tool_calls": calls}) for empty in ("", None)}
        able = [each for each, text in texts.items() if ANSWER in text and "{'key'" not in text]
        if able:
            null = None in able and "None" not in texts[None]
            if null and not _in_history(shown, calls, None):
                null = not _in_history(shown, calls, "")
            return as_text, able[0], null
    return False, "", False


def _in_history(shown: Callable[..., str], calls: list[Json], content: str | None) -> str:
    """Render calls with this content and a result; empty if the template cannot render them."""
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "name": "look_up", "content": "Done."}
    return shown({"content": content, "tool_calls": calls}, result)


def _sample_call(arguments: Any) -> Json:
    return {
        "id": "functions.look_up:0",
        "type": "function",
        "function": {"name": "look_up", "arguments": arguments},
    }
