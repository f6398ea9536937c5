"""The Jinja environment in which chat templates run; `limits` bounds its time and memory.

    environment(name, date) ──→ a Jinja sandbox as transformers documents it for chat templates

The sandbox has `trim_blocks` and `lstrip_blocks`, loop controls, `{% generation %}`
blocks, `tojson` without HTML escapes, `raise_exception` and `strftime_now`. Functions that
would make two renderings differ (clock, random choice) are refused.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable
from types import BuiltinMethodType
from typing import Any, NoReturn

import jinja2
import jinja2.exceptions
import jinja2.ext
import jinja2.filters
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
from jinja2.utils import Namespace

from reasonpack.errors import TemplateError
from reasonpack.templates.compiler import DICT_ATTRIBUTES, STR_METHODS, CodeGenerator, Template

JSON_TEXTS = "JSON of what does not change"
"""Name of a variable that `tojson` reads; no template can use this name.

Its value: id of a value that does not change → [the value, its JSON or None before the first use].
Keeping the value there prevents the reuse of its id.
"""


def environment(name: str, date: datetime.date | None) -> Environment:
    """Return the environment for the template `name`; `strftime_now` in it shows `date`."""

    def raise_exception(message: object) -> None:
        raise jinja2.TemplateError(str(message))

    def strftime_now(pattern: str) -> str:
        if date is None:
            raise TemplateError(
                name,
                "reads the clock (strftime_now)",
                "a rendering that is the same on every day",
                "pass --date YYYY-MM-DD, or set the template's own variable for the date "
                "with --chat-template-kwargs",
            )
        return date.strftime(pattern)

    def by_chance(*_args: object, **_kwargs: object) -> NoReturn:
        fix = "use the template that the model was published with"
        raise TemplateError(name, "draws at random", "the same rendering every time", fix)

    made = Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = strftime_now
    made.filters["sum"] = _sum
    made.filters["random"] = by_chance
    made.globals["lipsum"] = by_chance
    return made


class Environment(jinja2.sandbox.SandboxedEnvironment):
    """A sandbox that also refuses `*` and `**` with results that are too large.

    Unlike the sandbox of transformers, it lets a template that names a method such as `append`
    change lists; such a template is given copies of the caller's.

    Attributes:
        may_change: whether the template names such a method.
    """

    code_generator_class = CodeGenerator
    template_class = Template
    may_change = False
    intercepted_binops = frozenset({"*", "**"})
    longest = 1 << 24

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Multiply or raise to a power; refuse a result that is too large."""
        too_much = False
        if operator == "*":
            sized, times = (left, right) if hasattr(left, "__len__") else (right, left)
            if hasattr(sized, "__len__") and isinstance(times, int):
                too_much = len(sized) * times > self.longest
            elif isinstance(left, int) and isinstance(right, int):
                too_much = left.bit_length() + right.bit_length() > 1 << 16
        elif isinstance(left, int) and isinstance(right, int):
            too_much = left.bit_length() * right > 1024
        if too_much:
            raise jinja2.exceptions.SecurityError(f"a result of {operator!r} that is too large")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function; `Namespace` and methods in `STR_METHODS` skip the sandbox's checks."""
        is_text = type(function) is BuiltinMethodType and type(function.__self__) is str
        if function is Namespace or (is_text and function.__name__ in STR_METHODS):
            kwargs.pop("_block_vars", None)  # Jinja adds these for functions that take the context
            kwargs.pop("_loop_vars", None)
            return function(*args, **kwargs)
        return super().call(context, function, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may read `attr`; methods that change lists: see the class."""
        allowed = self.may_change or not jinja2.sandbox.modifies_known_mutable(obj, attr)
        return allowed and super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Read `obj.attribute`, directly from a dict if dicts have no attribute of this name."""
        if type(obj) is dict and attribute not in DICT_ATTRIBUTES:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks assistant text; only its body is rendered."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja's base class declares it)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block has its own scope, as the block has in transformers.
        call = jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body)
        return call.set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


@jinja2.pass_environment
def _sum(
    environment: jinja2.Environment,
    iterable: Iterable[Any],
    attribute: str | int | None = None,
    start: Any = 0,
) -> Any:
    """Add up as Jinja's filter does, but in Python: a timer cannot interrupt the built-in `sum`."""
    take = jinja2.filters.make_attrgetter(environment, attribute) if attribute is not None else None
    for item in iterable:
        start = start + (take(item) if take else item)
    return start


@jinja2.pass_context
def _tojson(
    context: jinja2.runtime.Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    if ensure_ascii or sort_keys or indent is not None or separators is not None:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )
    known = context.parent[JSON_TEXTS].get(id(value))
    if known is None:
        return _JSON.encode(value)
    if known[1] is None:
        known[1] = _JSON.encode(value)
    return str(known[1])


_JSON = json.JSONEncoder(ensure_ascii=False)
