"""A model's chat template: found, compiled in a sandbox, rendered within bounds.

    tokenizer directory ─┐
    --chat-template ─────┴→ ChatTemplate ── render(messages, …) → text

The tokenizer's special tokens are variables of the template, as in transformers.

Templates come from strangers. The sandbox keeps them from attributes they
have no business with; every compilation and every rendering runs under a time
limit and, where the operating system enforces one, a memory limit.
"""

from __future__ import annotations

import contextlib
import copy
import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.meta
import jinja2.nodes

from reasonpack.errors import RecordError, TemplateError, UsageError
from reasonpack.loops import Site, remembering
from reasonpack.memo import Memo, prepare
from reasonpack.records.strict_json import quoted
from reasonpack.storage import check_regular
from reasonpack.templates import sandbox
from reasonpack.templates.sandbox import bounds, environment, out_of_bounds

__all__ = ["ChatTemplate", "load_template", "read_templates"]

SOURCE_LIMIT = 4 << 20
"""Longest template source, in characters; real ones have up to 30,000."""


@dataclass(frozen=True)
class ChatTemplate:
    """A compiled chat template.

    Attributes:
        name: where it came from, for messages to people.
        source: the Jinja source.
        sha256: of the source's UTF-8 bytes.
        variables: what it reads and does not itself define, e.g. `enable_thinking`.
        words: every attribute, key and string constant in it, so that one can
            ask whether it mentions `reasoning_content`.
        choices: for a variable, the texts and numbers that it is compared with.
        removed: words that it takes out of a text, e.g. `/no_think`.
        special_tokens: `bos_token` and the like, visible to the template.
        date: what `strftime_now` shows; None refuses a template that asks.
        sites: the loops that a memo can run.

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
    date: datetime.date | None
    sites: tuple[Site, ...] = field(repr=False, compare=False)
    _environment: sandbox.Environment = field(repr=False, compare=False)
    _plain: jinja2.Template = field(repr=False, compare=False)
    _remembering: jinja2.Template = field(repr=False, compare=False)

    @classmethod
    def compile(
        cls,
        source: str,
        *,
        name: str,
        special_tokens: Mapping[str, Any] | None = None,
        date: datetime.date | None = None,
    ) -> ChatTemplate:
        """Compile `source`.

        Raises:
            TemplateError: not a Jinja template, too large, too slow to compile.
        """
        if len(source) > SOURCE_LIMIT:
            raise TemplateError(
                f"{name}: the template has {len(source):,} characters, "
                f"expected at most {SOURCE_LIMIT:,}. Fix: pass a chat template."
            )
        env = environment(name, date)
        try:
            with bounds(name):
                tree = env.parse(source)
                variables = frozenset(jinja2.meta.find_undeclared_variables(tree))
                variables |= frozenset(_optional(tree))
                words = frozenset(_words(tree))
                choices = _choices(tree)
                removed = tuple(dict.fromkeys(_removed(tree)))
                env.may_change = bool(words & _MUTATING)
                plain = with_memo = _compiled(env, tree)
                sites = () if env.may_change else remembering(tree)
                if sites:
                    with_memo = _compiled(env, tree)
                    prepare(with_memo)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(
                f"{name}: line {error.lineno}: {error.message}, expected a Jinja chat template. "
                "Fix: correct the template."
            ) from error
        except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
            raise TemplateError(
                f"{name}: {type(error).__name__} while compiling, expected a chat template. "
                "Fix: use the template that the model was published with."
            ) from error
        sha256 = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        return cls(
            name=name,
            source=source,
            sha256=sha256,
            variables=variables,
            words=words,
            choices=choices,
            removed=removed,
            special_tokens=dict(special_tokens or {}),
            date=date,
            sites=sites,
            _environment=env,
            _plain=plain,
            _remembering=with_memo,
        )

    @contextlib.contextmanager
    def unchanged(self, values: Any) -> Iterator[None]:
        """Write the JSON of what is in `values` once: nobody changes it in this block."""
        env = self._environment
        if not env.may_change:
            env.json_texts = {id(value): [value, None] for value in _containers(values, 5)}
        try:
            yield
        finally:
            env.json_texts = {}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        memo: Memo | None = None,
    ) -> str:
        """Render `messages` as the model would see them.

        Args:
            messages: of a conversation, from its start.
            tools: that the model may call.
            add_generation_prompt: whether to add what the model's answer begins with.
            kwargs: further variables of the template.
            memo: of this conversation with these variables; what was rendered with it
                before is not rendered again. The text is the same with it and without.

        Raises:
            RecordError: the template refuses these messages (`raise_exception`), or
                fails on them; the reason is `template`.
            TemplateError: the template ran out of time or memory, or tried to leave
                the sandbox.
        """
        # The special tokens of the tokenizer give way to the caller's, as in transformers.
        variables = {**self.special_tokens, **(kwargs or {})}
        if self.words & _MUTATING:
            messages, tools = copy.deepcopy((messages, tools))
        variables.update(
            messages=messages,
            tools=list(tools) if tools is not None else None,
            documents=variables.get("documents"),
            add_generation_prompt=add_generation_prompt,
        )
        try:
            with bounds(self.name):
                if memo is None:
                    return self._plain.render(variables)
                return memo.render(self._remembering, variables)
        except jinja2.exceptions.SecurityError as error:
            raise TemplateError(
                f"{self.name}: {error}, expected a template that only reads its messages. "
                "Fix: do not use this template, or remove what it reaches for."
            ) from error
        except jinja2.TemplateError as error:
            raise RecordError(
                "template",
                "messages",
                f"the chat template ({self.name}) refuses them: {_one_line(error)}",
                fix="change the conversation so that the model's template accepts it",
            ) from error
        except MemoryError as error:
            raise TemplateError(
                out_of_bounds(self.name, f"{sandbox.HEADROOM / 2**30:g} GiB more")
            ) from error
        except _DATA_FAULTS as error:
            raise RecordError(
                "template",
                "messages",
                f"the chat template ({self.name}) fails on them: "
                f"{type(error).__name__}: {_one_line(error)}",
                fix="change the conversation so that the model's template can render it",
            ) from error


def _containers(value: Any, depth: int) -> Iterator[Any]:
    """Yield the dicts and lists in a value, down to some depth."""
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


def _compiled(env: sandbox.Environment, tree: jinja2.nodes.Template) -> jinja2.Template:
    # Globals in a plain dict: a rendering copies them, and `make_globals` gives a slower mapping.
    return env.template_class.from_code(env, env.compile(tree), dict(env.globals))


def load_template(
    choice: str | None,
    *,
    directory: Path | None,
    config: Mapping[str, Any],
    special_tokens: Mapping[str, Any] | None = None,
    date: datetime.date | None = None,
) -> tuple[ChatTemplate, ChatTemplate]:
    """Find and compile the chat template, and the one for conversations with tools.

    The two are the same object unless the tokenizer names a `tool_use` template
    beside its `default` one and `choice` is None, as in transformers.

    Args:
        choice: a file, the name of one of the tokenizer's templates, or a template's
            text; None takes the tokenizer's default.
        directory: the tokenizer's directory, if it has one.
        config: the tokenizer's `tokenizer_config.json`.
        special_tokens: variables such as `bos_token`.
        date: what `strftime_now` is to show.

    Raises:
        UsageError: there is no such template.
        TemplateError: it does not compile.
    """

    def compile_(name: str, source: str) -> ChatTemplate:
        return ChatTemplate.compile(source, name=name, special_tokens=special_tokens, date=date)

    if choice is not None and ("{{" in choice or "{%" in choice):
        only = compile_("--chat-template", choice)
        return only, only
    named = read_templates(directory, config)
    if choice is None:
        if "default" not in named:
            known = f"; it has {', '.join(sorted(named))}" if named else ""
            raise UsageError(
                f"{directory or 'tokenizer'}: no chat template{known}, expected one. "
                "Fix: pass --chat-template FILE, NAME or TEXT."
            )
        default = compile_("chat template", named["default"])
        tools = named.get("tool_use")
        return default, compile_("chat template tool_use", tools) if tools else default
    if choice in named:
        only = compile_(f"chat template {choice}", named[choice])
        return only, only
    path = Path(choice)
    try:
        there = path.is_file()
    except OSError:  # text that is too long for a name
        there = False
    if not there:
        known = f" or one of the tokenizer's: {', '.join(sorted(named))}" if named else ""
        raise UsageError(
            f"--chat-template {quoted(choice, limit=200)}: no such file, expected a file, a "
            f"template's text{known}. Fix: check the spelling."
        )
    only = compile_(path.name, _read_text(path))
    return only, only


def read_templates(directory: Path | None, config: Mapping[str, Any]) -> dict[str, str]:
    """Read every chat template that a tokenizer's directory names, by name.

    `chat_template.jinja` outranks `chat_template` in `tokenizer_config.json`, as in
    transformers; `additional_chat_templates/NAME.jinja` are further ones.

    >>> read_templates(None, {"chat_template": [{"name": "default", "template": "x"}]})
    {'default': 'x'}
    """
    named: dict[str, str] = {}
    inline = config.get("chat_template")
    if isinstance(inline, str):
        named["default"] = inline
    elif isinstance(inline, list):
        for entry in inline:
            if not (isinstance(entry, dict) and {"name", "template"} <= entry.keys()):
                raise TemplateError(
                    "tokenizer_config.json: chat_template: an entry without name and template, "
                    "expected both. Fix: pass --chat-template."
                )
            named[str(entry["name"])] = str(entry["template"])
    if directory is None:
        return named
    legacy = directory / "chat_template.json"
    if os.path.lexists(legacy):  # so that a link to nothing is not taken for no file
        try:
            content = json.loads(_read_text(legacy))["chat_template"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise TemplateError(
                f"{legacy}: no text under chat_template, expected one. Fix: pass --chat-template."
            ) from error
        named["default"] = str(content)
    main = directory / "chat_template.jinja"
    if os.path.lexists(main):
        named["default"] = _read_text(main)
    for path in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        named[path.stem] = _read_text(path)
    return named


def _read_text(path: Path) -> str:
    try:
        check_regular(path)
        if path.stat().st_size > 4 * SOURCE_LIMIT:
            raise TemplateError(
                f"{path}: {path.stat().st_size:,} bytes, expected at most {4 * SOURCE_LIMIT:,}. "
                "Fix: pass a chat template."
            )
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(
            f"{path}: {error}, expected a readable UTF-8 file. Fix: check the file."
        ) from error


# --- what a template mentions ---------------------------------------------------------


def _words(tree: jinja2.nodes.Template) -> Iterator[str]:
    for node in tree.find_all((jinja2.nodes.Getattr, jinja2.nodes.Const)):
        if isinstance(node, jinja2.nodes.Getattr):
            yield node.attr
        elif isinstance(node, jinja2.nodes.Const) and isinstance(node.value, str):
            yield node.value


def _optional(tree: jinja2.nodes.Template) -> Iterator[str]:
    """Yield the variables that the template sets only where the caller does not."""
    for test in tree.find_all(jinja2.nodes.Test):
        if test.name in {"defined", "undefined"} and isinstance(test.node, jinja2.nodes.Name):
            yield test.node.name


def _removed(tree: jinja2.nodes.Template) -> Iterator[str]:
    """Yield what the template replaces by nothing, as `text.replace("/no_think", "")`."""
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
    """Return what each variable is compared with, as `mode == "on"`, `budget == 0`, `in [...]`."""
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
    # True and False are tried anyway.
    return [each for each in values if isinstance(each, str | int) and not isinstance(each, bool)]


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "…"
