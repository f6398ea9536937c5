r"""A chat template as transformers documents it: rendered plainly, and asked what it reads.

    messages, variables ─→ jinja2's own sandbox ─→ text

Nothing is remembered between two renderings, and nothing is learned but which name of the
reasoning, which form of the calls and which form of an empty content the template understands.
"""

from __future__ import annotations

import contextlib
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
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from msgspec import Struct

from reasonpack.errors import TemplateError
from reasonpack.templates.limits import bounds
from reasonpack.verify.chat import Arguments, Json, Message, NotChecked
from reasonpack.verify.names import END, REASONING, TAG

WHITE = " \t\r\n"
THOUGHT, ANSWER = "zqthoughtqz", "zqanswerqz"
"""Stand for reasoning and answer where a template is asked what it reads."""
SAMPLE_TOOL: Json = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look up.",
        "parameters": {"type": "object", "properties": {"key": {"type": "string"}}},
    },
}
FAILURES = (jinja2.TemplateError, TypeError, ValueError, LookupError, RecursionError)
"""What a template raises at messages that it was not written for."""
_OF_DICT = frozenset(dir(dict))
_OF_TEXT = frozenset(name for name in dir(str) if name[0] != "_" and "format" not in name)
"""Methods of texts that show nothing but the text."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` renders its body."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja's base class declares it)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Strict(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which asks of what templates read most, by its type, only once."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict and attribute not in _OF_DICT:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if type(obj) is str and attribute in _OF_TEXT:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


class Forms(Struct, frozen=True):
    """In which form a template takes what a message has.

    Attributes:
        field: the name under which it reads reasoning; empty for none.
        parts: it reads reasoning from a part of the content.
        inline: it shows reasoning that stands in the content between tags, too.
        opens: it writes the first of these tags itself.
        as_written: it is given such a content as the record has it.
        arguments_as_text: it takes a call's arguments as JSON text.
        empty: the content of a message that has none.
        null: beside a call it takes null for no content.
        strips: the characters that it takes from the start and from the end of reasoning.
    """

    field: str = ""
    parts: bool = False
    inline: bool = False
    opens: bool = False
    as_written: bool = False
    arguments_as_text: bool = False
    empty: str | None = ""
    null: bool = False
    strips: tuple[str, str] = ("", "")

    def given(self, message: Message, opener: str, closer: str) -> Json:
        """Write a message as the template takes it."""
        made: Json = {"role": message.role, **message.more, "content": message.content}
        if self.takes(message):
            made["content"] = message.verbatim
            if self.opens and str(message.verbatim).lstrip().startswith(TAG):
                made["content"] = re.sub(rf"^\s*{TAG}\n?", "", str(message.verbatim))
        elif self.field and (message.reasoning or END in message.content):
            made[self.field] = message.reasoning  # an empty one keeps a tag in the content
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
            made["content"] = made["content"] or (
                None if message.null and self.null else self.empty
            )
        return made

    def takes(self, message: Message) -> bool:
        """Whether a message is given with its reasoning in the content, as the record has it."""
        return self.as_written and message.verbatim is not None

    def _call(self, call: Json) -> Json:
        arguments = call["function"]["arguments"]
        if self.arguments_as_text and not isinstance(arguments, str):
            written = arguments.text if isinstance(arguments, Arguments) else ""
            arguments = written or json.dumps(arguments, ensure_ascii=False)
        return {**call, "function": {**call["function"], "arguments": arguments}}


@dataclass(frozen=True, slots=True)
class Template:
    """A template.

    Attributes:
        variables: the tokenizer's special tokens, and what the run set for every record.
        date: what `strftime_now` shows.
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
        """Render messages, with what begins the next answer where `prompt` is set.

        Raises:
            NotChecked: the template refuses them.
        """
        names = {"tools": list(tools) or None, "documents": None, **self.variables, **variables}
        names |= {"add_generation_prompt": prompt}
        try:
            with bounds(self.name):
                try:
                    return self._compiled(_Strict).render(messages=messages, **names)
                except jinja2.exceptions.SecurityError:
                    # It changes a list: one of its own, or of these copies.
                    copies = json.loads(json.dumps([list(messages), names]))
                    lenient = self._compiled(SandboxedEnvironment)
                    return lenient.render(messages=copies[0], **copies[1])
        except (*FAILURES, TemplateError) as error:
            said = " ".join(str(error).split())[:200]
            raise NotChecked(f"the template cannot render its messages ({said})") from error

    def _compiled(self, kind: Callable[..., SandboxedEnvironment]) -> jinja2.Template:
        return _compile(kind, self.source, self.date)


@lru_cache(maxsize=8)
def _compile(
    kind: Callable[..., SandboxedEnvironment], source: str, date: datetime.date | None
) -> jinja2.Template:
    def raise_exception(message: object) -> None:
        raise jinja2.TemplateError(str(message))

    def strftime_now(pattern: str) -> str:
        if date is None:
            raise jinja2.TemplateError("reads the clock, and the manifest names no date")
        return date.strftime(pattern)

    made = kind(
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
    """Try out what a template reads.

    `switched` are the variables that switch thinking on, `opener` is what the model or the prompt
    writes before reasoning. Where the user `stated` what opens or closes it, it has a place of its
    own.
    """

    def shown(answer: Json, *after: Json) -> str:
        chat = [{"role": "user", "content": "Go."}, {"role": "assistant", **answer}, *after]
        for tools in ([], [SAMPLE_TOOL]):  # some render nothing without tools
            with contextlib.suppress(NotChecked):
                return template.render(chat, tools, switched)
        return ""

    def reads(name: str) -> bool:
        beside: tuple[Json, ...] = ({}, {"tool_calls": [_sample_call({})]})
        return any(THOUGHT in shown({"content": ANSWER, name: THOUGHT, **more}) for more in beside)

    field_ = next(filter(reads, REASONING), "")
    thought = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]
    before = shown({"content": thought}).partition(THOUGHT)[0].rstrip()
    parts = bool(opener.strip()) and before.endswith(opener.strip())
    tagged = shown({"content": f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"})
    inline = THOUGHT in tagged and opener.strip() in ("", "<think>")
    if field_:
        inline = inline and tagged == shown({"content": ANSWER, field_: THOUGHT})
    opens = tagged.partition(THOUGHT)[0].replace("\n", "").endswith("<think><think>")
    as_it_is = f"<think> {THOUGHT} \n</think> \n {ANSWER}"
    passes, looks = as_it_is in shown({"content": as_it_is}), "</think>" in template.source
    as_written = passes or looks
    if field_:
        history = shown({"content": as_it_is}, {"role": "user", "content": "On."})
        as_written = passes and looks and THOUGHT not in history
    if stated or parts:
        as_written = inline = False
    before = "" if opens else "<think>\n"
    strips = _strips(
        lambda thought: shown(
            {"content": ANSWER, field_: thought}
            if field_
            else {"content": f"{before}{thought}\n</think>\n\n{ANSWER}"}
        )
    )
    return Forms(field_, parts, inline, opens, as_written, *_call_forms(shown), strips)


def _strips(shown: Callable[[str], str]) -> tuple[str, str]:
    """Find which characters a template takes from the start and from the end of reasoning."""
    before, known, after = shown(THOUGHT).partition(THOUGHT)
    if not known:
        return "", ""
    start, _, end = shown(f"\n {THOUGHT} \n").partition(THOUGHT)
    at_start = {before: WHITE, f"{before} ": "\n"}.get(start, "")
    return at_start, {after: WHITE, f" {after}": "\n"}.get(end, "")


def _call_forms(shown: Callable[..., str]) -> tuple[bool, str | None, bool]:
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
    """Show calls with such a content before a result; empty where the template cannot."""
    result = {"role": "tool", "tool_call_id": calls[0]["id"], "name": "look_up", "content": "Done."}
    return shown({"content": content, "tool_calls": calls}, result)


def _sample_call(arguments: Any) -> Json:
    return {
        "id": "functions.look_up:0",
        "type": "function",
        "function": {"name": "look_up", "arguments": arguments},
    }
