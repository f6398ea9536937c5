"""A chat template, compiled in a sandbox and rendered within bounds; `find` reads its source.

    source ── compile ──→ ChatTemplate ── render(messages, …) ──→ text

The tokenizer's special tokens are variables of the template, as in transformers.

Templates are untrusted. The sandbox refuses unsafe attributes; every compilation and every
rendering has a time limit and, where the operating system enforces one, a memory limit.
"""

from __future__ import annotations

import copy
import datetime
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.meta
import jinja2.nodes

from reasonpack.errors import ReasonpackError, RecordError, TemplateError
from reasonpack.templates import sandbox
from reasonpack.templates.limits import bounds, out_of_memory
from reasonpack.templates.loop_facts import EACH, Site, find_sites
from reasonpack.templates.loops import Memo
from reasonpack.templates.sandbox import JSON_TEXTS, environment
from reasonpack.wording import one_line

SOURCE_LIMIT = 4 << 20
"""Longest template source, in characters; real ones have up to 30,000."""


@dataclass(frozen=True)
class ChatTemplate:
    """A compiled chat template.

    Attributes:
        name: where the template comes from, for error messages.
        source: the Jinja source.
        sha256: of the source's UTF-8 bytes.
        variables: names that it reads and does not define, e.g. `enable_thinking`.
        words: every attribute, key and string constant in the source, to look up whether it
            mentions e.g. `reasoning_content`.
        choices: variable → the texts and numbers that the template compares it with.
        removed: words that the template deletes from a text, e.g. `/no_think`.
        special_tokens: variables such as `bos_token`, from the tokenizer.
        sites: the loops whose output a `Memo` can reuse.

    >>> hello = ChatTemplate.compile("{{ messages[0].content }}", name="hello")
    >>> hello.render([{"role": "user", "content": "Hi"}])
    'Hi'
    """

    name: str
    source: str
    sha256: str
    variables: frozenset[str]
    words: frozenset[str]
    choices: Mapping[str, tuple[str | int, ...]] = field(repr=False)
    removed: tuple[str, ...] = field(repr=False)
    special_tokens: Mapping[str, Any] = field(repr=False)
    sites: tuple[Site, ...] = field(repr=False, compare=False)
    _environment: sandbox.Environment = field(repr=False, compare=False)
    _compiled: jinja2.Template = field(repr=False, compare=False)

    @classmethod
    def compile(
        cls,
        source: str,
        *,
        name: str,
        special_tokens: Mapping[str, Any] | None = None,
        date: datetime.date | None = None,
    ) -> ChatTemplate:
        """Compile `source`; a template that calls `strftime_now` is refused without a `date`.

        Raises:
            TemplateError: not a Jinja template, too large, too slow to compile.
        """
        if len(source) > SOURCE_LIMIT:
            what = f"the template has {len(source):,} characters"
            raise TemplateError(name, what, f"at most {SOURCE_LIMIT:,}", "pass a chat template")
        env = environment(name, date)
        try:
            with bounds(name):
                tree = env.parse(source)
                variables = {*jinja2.meta.find_undeclared_variables(tree), *_tested_variables(tree)}
                words = frozenset(_words(tree))
                choices = _choices(tree)
                removed = tuple(dict.fromkeys(_removed(tree)))
                env.may_change = bool(words & _MUTATING)
                sites = () if env.may_change else find_sites(tree, env)
                compiled = env.template_class.from_code(env, env.compile(tree), env.globals)
        except jinja2.TemplateSyntaxError as error:
            what = f"line {error.lineno}: {error.message}"
            expected = "a Jinja chat template"
            raise TemplateError(name, what, expected, "correct the template") from error
        except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
            what = f"{type(error).__name__} while compiling"
            fix = "use the template that the model was published with"
            raise TemplateError(name, what, "a chat template", fix) from error
        sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(
            name=name,
            source=source,
            sha256=sha256,
            variables=frozenset(variables),
            words=words,
            choices=choices,
            removed=removed,
            special_tokens=dict(special_tokens or {}),
            sites=sites,
            _environment=env,
            _compiled=compiled,
        )

    def json_texts(self, values: Any) -> dict[int, list[Any]]:
        """Return what lets `render` encode each dict and list in `values` once if none changes."""
        if self._environment.may_change:
            return {}
        return {id(value): [value, None] for value in _containers(values, 5)}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        memo: Memo | None = None,
        json_texts: Mapping[int, list[Any]] = MappingProxyType({}),
    ) -> str:
        """Render `messages` as the model would see them.

        Args:
            messages: a conversation from its start.
            tools: definitions of the tools that the model may call.
            add_generation_prompt: whether to add the beginning of the model's answer.
            kwargs: further variables of the template.
            memo: texts of earlier renderings of this conversation with these variables, which
                are not rendered again. The result is the same without it.
            json_texts: the JSON of values, kept between renderings; see the method of this name.

        Raises:
            RecordError: the template refuses these messages (`raise_exception`), or
                fails on them; the reason is `template`.
            TemplateError: the template ran out of time or memory, or tried to leave
                the sandbox.
        """
        env, template = self._environment, self._compiled
        # The caller's variables outrank the tokenizer's special tokens, as in transformers.
        variables = {**env.globals, **self.special_tokens, **(kwargs or {})}
        if env.may_change:
            messages, tools = copy.deepcopy((messages, tools))
        variables.update(
            messages=messages,
            tools=list(tools) if tools is not None else None,
            documents=variables.get("documents"),
            add_generation_prompt=add_generation_prompt,
        )
        variables[JSON_TEXTS] = json_texts
        variables[EACH] = memo.each if memo else lambda _, items, *__: items
        context = env.context_class(env, variables, template.name, template.blocks)
        try:
            with bounds(self.name):
                pieces = template.root_render_func(context)
                return memo.render(pieces) if memo else "".join(pieces)
        except MemoryError as error:
            raise out_of_memory(self.name) from error
        except (jinja2.TemplateError, *_DATA_FAULTS) as error:
            raise _refusal(self.name, error, tools or ()) from error


def _refusal(name: str, error: Exception, tools: Sequence[Any]) -> ReasonpackError:
    """Return the error for a template that failed on messages, or on `tools`, or refused them."""
    if isinstance(error, jinja2.exceptions.SecurityError):
        expected = "a template that only reads its messages"
        fix = "do not use this template, or remove what it reaches for"
        return TemplateError(name, error, expected, fix)
    if isinstance(error, jinja2.TemplateError):
        what, takes = f"refuses them: {one_line(error).rstrip('.')}", "accepts"
    else:
        what, takes = f"fails on them: {type(error).__name__}: {one_line(error)}", "can render"
    fix = f"change the conversation so that the model's template {takes} it"
    if "'function'" in str(error) and any("function" not in tool for tool in tools):
        fix = 'write each tool as {"type": "function", "function": {…}}, as --field '
        fix += "tools=functions does"
    what = f"the chat template ({name}) {what}"
    return RecordError("template", "messages", what, f"messages that it {takes}", fix)


def _containers(value: Any, depth: int) -> Iterator[Any]:
    """Yield `value` and the dicts and lists in it, down to `depth` levels."""
    if depth and isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _containers(each, depth - 1)


_MUTATING = frozenset(
    {"append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault"}
    | {"sort", "update"}
)
_DATA_FAULTS = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    AssertionError,
)


# --- what the source of a template mentions -------------------------------------------


def _words(tree: jinja2.nodes.Template) -> Iterator[str]:
    for node in tree.find_all((jinja2.nodes.Getattr, jinja2.nodes.Const)):
        if isinstance(node, jinja2.nodes.Getattr):
            yield node.attr
        elif isinstance(node, jinja2.nodes.Const) and isinstance(node.value, str):
            yield node.value


def _tested_variables(tree: jinja2.nodes.Template) -> Iterator[str]:
    """Yield the variables that the template tests with `is defined` or `is undefined`."""
    for test in tree.find_all(jinja2.nodes.Test):
        if test.name in {"defined", "undefined"} and isinstance(test.node, jinja2.nodes.Name):
            yield test.node.name


def _removed(tree: jinja2.nodes.Template) -> Iterator[str]:
    """Yield texts that the template deletes, as in `text.replace("/no_think", "")`."""
    methods = (
        call.args
        for call in tree.find_all(jinja2.nodes.Call)
        if isinstance(call.node, jinja2.nodes.Getattr) and call.node.attr == "replace"
    )
    filters = (each.args for each in tree.find_all(jinja2.nodes.Filter) if each.name == "replace")
    for args in (*methods, *filters):
        texts = [arg.value for arg in args if isinstance(arg, jinja2.nodes.Const)]
        if len(texts) == 2 and texts[1] == "" and isinstance(texts[0], str) and texts[0].strip():
            yield texts[0]


def _choices(tree: jinja2.nodes.Template) -> dict[str, tuple[str | int, ...]]:
    """Return the constants that variables are compared with: `mode == "on"`, `mode in [...]`."""
    found: dict[str, list[str | int]] = {}
    for compare in tree.find_all(jinja2.nodes.Compare):
        if isinstance(compare.expr, jinja2.nodes.Name):
            values = [value for operand in compare.ops for value in _constants(operand.expr)]
            found.setdefault(compare.expr.name, []).extend(values)
    return {name: tuple(dict.fromkeys(values)) for name, values in found.items()}


def _constants(expression: jinja2.nodes.Expr) -> list[str | int]:
    try:
        value = expression.as_const()
    except (jinja2.nodes.Impossible, ArithmeticError, TypeError, ValueError):
        return []
    values = value if isinstance(value, list | tuple) else [value]
    # `learn` tries True and False for every variable without choices.
    return [each for each in values if isinstance(each, str | int) and not isinstance(each, bool)]
