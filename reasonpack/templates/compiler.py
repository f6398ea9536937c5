r"""Compiles a template to Python, with fast paths for the values that chat templates use most.

    message.role             message["role"] for a dict with this key, else Jinja's own code
    text.strip("\n")          the method for a str, else Jinja's own code
    loop.last, ns.x, x[-1]   likewise
    {% for x in a_list %}    a generator over the list instead of Jinja's iterator

A fast path gives the same result as Jinja's sandbox; `tests/templates/test_compiler.py` compares
them. This module and `loops` use private names of Jinja, so the package requires Jinja 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.nodes as n
import jinja2.runtime
from jinja2.compiler import optimizeconst
from jinja2.utils import Namespace, missing

DICT_ATTRIBUTES = frozenset(dir(dict))
STR_METHODS = frozenset({"endswith", "lstrip", "rstrip", "split", "startswith", "strip"})
LOOP_ATTRIBUTES = frozenset({"first", "index", "index0", "last", "length", "nextitem", "previtem"})
held = object.__getattribute__


def attributes(space: Namespace) -> dict[str, Any]:
    """Return the dict that holds the attributes of a namespace.

    >>> attributes(Namespace(a=1))
    {'a': 1}
    """
    # Faster than `space.name`, which calls a method written in Python.
    found: dict[str, Any] = held(space, "_Namespace__attrs")
    return found


class Selected:
    """The items of a list at selected places: a loop runs over these instead of the list."""

    def __init__(self, items: list[Any], places: Iterable[int]) -> None:
        self.items, self.places = items, places

    def __iter__(self) -> Iterator[Any]:
        return map(self.items.__getitem__, self.places)


class LoopContext(jinja2.runtime.LoopContext):
    """The variable `loop` of a loop over a list that does not change; stores only the index."""

    _iterable: list[Any]

    @property
    def last(self) -> bool:
        """Whether this is the last item."""
        return self.index0 + 1 >= len(self._iterable)

    def _peek_next(self) -> Any:
        return missing if self.last else self._iterable[self.index0 + 1]

    @property
    def _before(self) -> Any:
        return self._iterable[self.index0 - 1]


def loop_over(iterable: Any, undefined: type[jinja2.Undefined], *more: Any) -> Iterable[Any]:
    """Return an iterable of (item, variable `loop`) for a loop over `iterable`."""
    if type(iterable) is Selected:
        return _with_loop(iterable.items, iterable.places, undefined)
    if type(iterable) is list and not more:
        return _with_loop(iterable, range(len(iterable)), undefined)
    return jinja2.runtime.LoopContext(iterable, undefined, *more)


def _with_loop(
    items: list[Any], places: Iterable[int], undefined: type[jinja2.Undefined]
) -> Iterator[tuple[Any, LoopContext]]:
    loop = LoopContext(items, undefined)
    for place in places:
        loop.index0 = place
        yield items[place], loop


class Template(jinja2.Template):
    """A template whose code has access to the names that `CodeGenerator` writes."""

    @classmethod
    def from_code(cls, environment: Any, code: Any, *more: Any) -> jinja2.Template:
        """Make a template; its loops run by `loop_over` unless it may change lists."""
        made = super().from_code(environment, code, *more)
        names = made.root_render_func.__globals__
        names.update(Loop=LoopContext, held=held)
        if not environment.may_change:
            names["LoopContext"] = loop_over
        return made


class CodeGenerator(jinja2.compiler.CodeGenerator):
    """Writes the fast paths."""

    def _case(self, node: n.Node, frame: Any, value: str, is_: str, then: str) -> None:
        """Write `(then if type(value) is is_ else `; the caller writes the other case."""
        self.write(f"({then} if type({value} := ")
        self.visit(node, frame)
        self.write(f") is {is_} else ")

    @optimizeconst
    def visit_Getattr(self, node: n.Getattr, frame: Any) -> None:  # noqa: N802
        """Write code that reads an attribute."""
        attr, name, v = node.attr, repr(node.attr), self.temporary_identifier()
        if attr in DICT_ATTRIBUTES:
            super().visit_Getattr(node, frame)
            return
        match node.node:
            case n.Name(name="loop") if attr in LOOP_ATTRIBUTES:
                self._case(node.node, frame, v, "Loop", f"{v}.{attr}")
            case _:
                self._case(node.node, frame, v, f"dict and {name} in {v}", f"{v}[{name}]")
        if isinstance(node.node, n.Name) and not attr.startswith("_"):
            space = f"held({v}, '_Namespace__attrs')"
            self.write(f"{space}[{name}] if type({v}) is Namespace and {name} in {space} else ")
        self.write(f"environment.getattr({v}, {name}))")

    @optimizeconst
    def visit_Getitem(self, node: n.Getitem, frame: Any) -> None:  # noqa: N802
        """Write code that reads an item."""
        v = self.temporary_identifier()
        match node.arg:
            case n.Const(value=str() as key):
                self._case(node.node, frame, v, f"dict and {key!r} in {v}", f"{v}[{key!r}]")
            case n.Const(value=int() as key):
                least = key + 1 if key >= 0 else -key
                self._case(node.node, frame, v, f"list and len({v}) >= {least}", f"{v}[{key}]")
            case _:
                super().visit_Getitem(node, frame)
                return
        self.write(f"environment.getitem({v}, {key!r}))")

    @optimizeconst
    def visit_Call(  # noqa: N802
        self, node: n.Call, frame: Any, forward_caller: bool = False
    ) -> None:
        """Write code that calls a function or method."""
        texts = [
            repr(each.value)
            for each in node.args
            if isinstance(each, n.Const) and isinstance(each.value, str)
        ]
        match node:
            case n.Call(node=n.Getattr() as of, kwargs=[], dyn_args=None, dyn_kwargs=None) if (
                of.attr in STR_METHODS and len(texts) == len(node.args)
            ):
                v, args = self.temporary_identifier(), ", ".join(texts)
                self._case(of.node, frame, v, "str", f"{v}.{of.attr}({args})")
                method = f"environment.getattr({v}, {of.attr!r})"
                self.write(f"environment.call(context, {method}, {args}))")
            case _:
                super().visit_Call(node, frame, forward_caller=forward_caller)
