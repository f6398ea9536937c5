"""What a chat template may do: the environment it runs in. `limits` has its bounds.

    environment(name, date) ──→ a Jinja sandbox as transformers documents it for chat templates

The sandbox has `trim_blocks` and `lstrip_blocks`, loop controls, `{% generation %}`
blocks, `tojson` without HTML escapes, `raise_exception` and `strftime_now`. What would
make two renderings differ (the clock, chance) is refused.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinMethodType, MappingProxyType
from typing import Any, NoReturn

import jinja2
import jinja2.compiler
import jinja2.exceptions
import jinja2.ext
import jinja2.filters
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
from jinja2.utils import Namespace

from reasonpack.errors import TemplateError


def environment(name: str, date: datetime.date | None) -> Environment:
    """Make the environment of the template `name`, where `strftime_now` shows `date`."""

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
        raise TemplateError(
            name,
            "draws at random",
            "the same rendering every time",
            "use the template that the model was published with",
        )

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


class _Code(jinja2.compiler.CodeGenerator):
    """Writes out, for a dict that has the item, what `Environment.getattr` does."""

    @jinja2.compiler.optimizeconst
    def visit_Getattr(self, node: jinja2.nodes.Getattr, frame: Any) -> None:  # noqa: N802
        name, value = repr(node.attr), self.temporary_identifier()
        if node.attr in _DICT_ATTRIBUTES:
            super().visit_Getattr(node, frame)
            return
        self.write(f"({value}[{name}] if type({value} := ")
        self.visit(node.node, frame)
        self.write(f") is dict and {name} in {value} else environment.getattr({value}, {name}))")


class Environment(jinja2.sandbox.SandboxedEnvironment):
    """Refuses the two operators that make much out of little in one step.

    Unlike the sandbox of transformers it lets a template append to lists of its own, if the
    template names the method: then the caller's are copied.

    Attributes:
        may_change: whether it does.
        json_texts: by identity, values that do not change, each with its JSON once it was asked
            for. They are kept here so that no other value can come to have their identity.
    """

    code_generator_class = _Code
    may_change = False
    json_texts: Mapping[int, list[Any]] = MappingProxyType({})
    intercepted_binops = frozenset({"*", "**"})
    longest = 1 << 24

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Multiply, or raise to a power, unless too much comes of it."""
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
        """Call a function; for a method of text that does not format it nothing is to be asked."""
        is_text = type(function) is BuiltinMethodType and type(function.__self__) is str
        if is_text and function.__name__ in _HARMLESS[str]:
            kwargs.pop("_block_vars", None)  # which Jinja's code adds for functions of the context
            kwargs.pop("_loop_vars", None)
            return function(*args, **kwargs)
        return super().call(context, function, *args, **kwargs)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse a method that changes a list where nobody could see it in the template."""
        allowed = self.may_change or not jinja2.sandbox.modifies_known_mutable(obj, attr)
        return allowed and super().is_safe_attribute(obj, attr, value)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Read `obj.attribute`; what chat templates read most does not take the long way.

        That way ends in the same for a dict and a name that is no attribute of dicts, for what
        a loop or a namespace holds, and for methods of text that do not format it.
        """
        kind = type(obj)
        if kind is dict:
            if attribute not in _DICT_ATTRIBUTES:
                try:
                    return obj[attribute]
                except KeyError:
                    return self.undefined(obj=obj, name=attribute)
        elif kind is Namespace and not attribute.startswith("_"):
            held = attributes(obj)
            if attribute in held:
                return held[attribute]
            return self.undefined(obj=obj, name=attribute)
        elif attribute in _HARMLESS.get(kind, ()):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


_DICT_ATTRIBUTES = frozenset(dir(dict))
_HARMLESS: dict[type, frozenset[str]] = {
    jinja2.runtime.LoopContext: frozenset(
        {"first", "index", "index0", "last", "length", "nextitem", "previtem"}
    ),
    str: frozenset({"endswith", "lstrip", "rstrip", "split", "startswith", "strip"}),
}


def attributes(space: Namespace) -> dict[str, Any]:
    """Return the dict in which a namespace has its attributes.

    >>> attributes(Namespace(a=1))
    {'a': 1}
    """
    # Reading them one by one ends in a method written in Python.
    found: dict[str, Any] = object.__getattribute__(space, "_Namespace__attrs")
    return found


class _Generation(jinja2.ext.Extension):
    """`{% generation %}…{% endgeneration %}` marks what assistants write; its body renders."""

    tags = {"generation"}  # noqa: RUF012 (as Jinja's base class declares it)

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A call block gives the body the scope of its own that it has in transformers.
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
    """Add up as Jinja's filter does, but step by step: no timer stops Python's `sum`."""
    take = jinja2.filters.make_attrgetter(environment, attribute) if attribute is not None else None
    for item in iterable:
        start = start + (take(item) if take else item)
    return start


@jinja2.pass_environment
def _tojson(
    environment: Environment,
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
    known = environment.json_texts.get(id(value))
    if known is None:
        return _JSON.encode(value)
    if known[1] is None:
        known[1] = _JSON.encode(value)
    return str(known[1])


_JSON = json.JSONEncoder(ensure_ascii=False)
