"""A chat template's loops → what the body of each reads and sets outside itself.

    {% for message in messages %}                     the message
    {%- if loop.index0 > ns.last %} … {% endif %}     i > v0       a comparison
    {{- loop.index }}                                 (i + 1)      a number
    {{- messages[loop.index0 + 1].role }}             v1[i + 1]    which message stands there
    {%- set ns.count = ns.count + 1 %}{% endfor %}    ns.count     set, and read

Each of these is a fact: an expression of the item's place `i` and of what is the same for all
items. For equal facts and an equal state the body writes and sets the same: a namespace is the only
thing outside itself that it can change. A loop whose body does anything that is not understood here
has no site, and stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jinja2
import jinja2.nodes as n
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context

EACH = "each of the memo"
"""A filter, and the variable that it calls, `Memo.each`; no template can name them."""
Part: TypeAlias = "str | Callable[[Any], bool]"
"""What counts of something read: its "value", which has to be the same, a "number", its "length",
a "list" of messages, or the place of the last message there for which a condition holds."""
_RESERVED = frozenset({"caller", "kwargs", "loop", "self", "super", "varargs"})
"""Names that mean something to Jinja or here, and would mean something else if they were set."""
_ELSEWHERE = (n.Block, n.EvalContextModifier, n.Extends, n.FromImport, n.Import, n.Include)
_NUMBERS = {"index": "(i + 1)", "index0": "i", "length": "n", "revindex": "(n - i)"}
_NUMBERS |= {"revindex0": "(n - 1 - i)"}
_BESIDE = {"first": "i == 0", "last": "i == n - 1", "previtem": "items[i - 1] if i else None"}
_BESIDE |= {"nextitem": "items[i + 1] if i < n - 1 else None"}
_SIGNS = {"eq": "==", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "ne": "!="}


class Site(NamedTuple):
    """A loop, and what its body reads and sets outside itself.

    Attributes:
        reads: variables, or attributes of namespaces, and what counts of them.
        spaces: the namespaces of which it sets attributes.
        state: which of these attributes it reads.
        keys: (number of items, items, *reads) → for each item what its text depends on; messages
            are given as their identities.
    """

    reads: tuple[tuple[str, str | None, Part], ...]
    spaces: tuple[str, ...]
    state: tuple[tuple[str, str], ...]
    keys: Callable[..., list[Any]]


def find_sites(tree: n.Template, environment: jinja2.Environment) -> tuple[Site, ...]:
    """Find the loops of a template that are understood, and let them run over `Memo.each`.

    Where the body of such a loop is over, the code of the template yields None.

    >>> env = jinja2.Environment()
    >>> tree = env.parse("{% for m in messages %}{% if loop.last %}{{ m }}{% endif %}{% endfor %}")
    >>> find_sites(tree, env)[0].keys(2, ["m0", "m1"])
    [('m0', False), ('m1', True)]
    """
    macros = {node.name: node for node in tree.body if isinstance(node, n.Macro)}
    made, sites = _made(tree), list[Site]()
    environment.filters[EACH] = _each
    for loop in () if _is_strange(tree, macros) else _statements(tree):
        match loop:
            case n.For(target=n.Name(), test=None, else_=[]):
                try:
                    sites.append(_Body(loop, made, macros).site(loop))
                except n.Impossible:
                    continue
                number = n.Const(len(sites) - 1)
                loop.iter = n.Filter(loop.iter, EACH, [number], [], None, None)
                loop.iter.set_lineno(loop.lineno).set_environment(environment)
                loop.body.append(n.ExprStmt(n.Const(None), lineno=loop.lineno))
    return tuple(sites)


@jinja2.pass_context
def _each(context: Context, items: Any, number: int) -> Any:
    """Let the memo that renders say what a loop goes over."""
    each = context.parent[EACH]
    return each(context, number, items) if each else items


def _is_strange(tree: n.Template, macros: Mapping[str, n.Macro]) -> bool:
    """Tell whether names, or which of two equal objects it is, may mean more than is seen here."""
    given = {name.name for name in tree.find_all(n.Name) if name.ctx != "load"}
    asked = {repr(test.args) for test in tree.find_all(n.Test) if test.name == "sameas"}
    asked -= {repr([n.Const(value)]) for value in (True, False, None)}  # there is one of each
    return bool(
        asked
        or any(constant.value == "sameas" for constant in tree.find_all(n.Const))
        or any(loop.recursive for loop in tree.find_all(n.For))
        or len(macros) != len([*tree.find_all(n.Macro)])
        or _RESERVED & (given | macros.keys())
        or [*tree.find_all(_ELSEWHERE)]
    )


def _statements(node: n.Node) -> Iterator[n.Node]:
    """Yield the statements that see and set the variables of the whole template."""
    for child in node.iter_child_nodes():
        yield from _statements(child) if isinstance(child, n.If) else (child,)


def _made(tree: n.Template) -> dict[str, bool]:
    """Return what differs between renderings with one memo, and whether it is a namespace."""
    made = {"messages": False, "add_generation_prompt": False}
    for node in _statements(tree):
        match node:
            case n.Assign(target=n.Name(name=name), node=n.Call(node=n.Name(name="namespace"))):
                made.setdefault(name, True)
            case n.Assign() | n.AssignBlock():
                made.update((x.name, False) for x in n.List([node.target]).find_all(n.Name))
    return {name: is_one and "namespace" not in made for name, is_one in made.items()}


class _Body:
    """What the body of a loop reads and sets.

    In its methods, `own` tells whether a node's `loop` is that of this loop.
    """

    def __init__(
        self, loop: n.For, made: Mapping[str, bool], macros: Mapping[str, n.Macro]
    ) -> None:
        inside = n.List([loop, *macros.values()])
        bound = {name.name for name in inside.find_all(n.Name) if name.ctx != "load"}
        self.environment: Any = loop.environment
        self.macros = dict(macros)
        self.spaces = {name for name, is_one in made.items() if is_one}
        self.made = made.keys() - self.spaces
        self.single = made.keys() - bound  # which have one meaning, wherever they stand
        self.variables = self.single - self.spaces
        self.written = {(x.name, x.attr) for x in inside.find_all(n.NSRef) if x.name in made}
        self.reads: dict[tuple[str, str | None, Part], str] = {}
        self.state: dict[tuple[str, str], None] = {}
        self.facts: dict[str, None] = {}
        if self.made & {name for name, _ in self.written}:
            raise n.Impossible

    def site(self, loop: n.For) -> Site:
        """Look at the body; raise Impossible if more may count in it."""
        for node in loop.body:
            self.visit(node, own=True)
        names = ", ".join(["n", "items", *self.reads.values()])
        facts = ", ".join(["item", *self.facts])
        keys = f"[({facts}) for i, item in enumerate(items)]" if self.facts else "items"
        # Made of operators, numbers and names of this file, and of no text of the template.
        code = f"lambda {names}: {keys}"
        made = eval(code, {"__builtins__": {}, "enumerate": enumerate})  # noqa: S307
        spaces = tuple(sorted({name for name, _ in self.written}))
        return Site((*self.reads,), spaces, (*self.state,), made)

    def visit(self, node: n.Node, *, own: bool) -> None:
        """Add what counts of a node."""
        match node:
            case n.Const():
                return
            case n.Name(name=name, ctx="load") if name in self.made:
                self.read(name, None, "value")
            case n.Name(name=name, ctx="load") if macro := self.macros.pop(name, None):
                for each in (*macro.defaults, *macro.body):
                    self.visit(each, own=False)
            case n.Name(name=name, ctx="load") if name in _RESERVED | self.spaces and (
                own or name != "loop"
            ):
                raise n.Impossible
            case n.Name():
                return
            case n.Getattr(node=n.Name(name=name), attr=attr) if (name, attr) in self.written:
                self.state[name, attr] = None
            case n.Getattr(node=n.Name(name=name), attr=attr) if name in self.spaces:
                self.read(name, attr, "value")
            case n.Break() | n.Continue() if own:
                raise n.Impossible
            case _:
                reads = dict(self.reads)
                try:
                    self.facts[self.fact(node, own)] = None
                except n.Impossible:
                    self.reads = reads
                    inner = {id(each) for each in node.body} if isinstance(node, n.For) else ()
                    for each in node.iter_child_nodes():
                        self.visit(each, own=own and id(each) not in inner)

    def fact(self, node: n.Node, own: bool) -> str:
        """Write what counts of a node in Python; raise Impossible for what is no fact."""
        match node:
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if own and attr in _BESIDE:
                return _BESIDE[attr]
            case n.Compare() if _SIGNS.keys() >= {each.op for each in node.ops}:
                found = self.number(node.expr, own)
                return found + "".join(
                    f" {_SIGNS[each.op]} {self.number(each.expr, own)}" for each in node.ops
                )
            case n.Getitem(node=n.Name(name=name)) if name in self.variables:
                items, place = self.read(name, None, "list"), self.number(node.arg, own)
                return f"{items}[{place}] if {place} < {self.read(name, None, 'length')} else None"
            case n.For():
                return self.is_any_behind(node, own)
        return self.number(node, own)

    def number(self, node: n.Node | None, own: bool) -> str:
        """Write an expression of numbers in Python; raise Impossible for any other."""
        match node:
            case n.Const(value=int() as value):
                return repr(value)
            case n.Name(name=name) if name in self.variables:
                return self.read(name, None, "number")
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if own and attr in _NUMBERS:
                return _NUMBERS[attr]
            case n.Getattr(node=n.Name(name=name), attr=attr) if (
                name in self.single & self.spaces and (name, attr) not in self.written
            ):
                return self.read(name, attr, "number")
            case n.Filter(name="length", node=n.Name(name=name)) if name in self.variables:
                return self.read(name, None, "length")
            case n.Add() | n.Sub():
                left, right = self.number(node.left, own), self.number(node.right, own)
                return f"({left} {node.operator} {right})"
        raise n.Impossible

    def is_any_behind(self, loop: n.For, own: bool) -> str:
        """Write whether a loop that notes one thing of the messages behind an item notes it at all.

        {% for m in messages[loop.index:] %}{% if … m … %}{% set space.x = true %}{% endif %}…
        """
        match loop.iter, *loop.body, *loop.else_:
            case (
                n.Getitem(node=n.Name(name=name), arg=n.Slice(start=start, stop=None, step=None)),
                n.If(test=test, body=[n.Assign(target=n.NSRef(), node=n.Const())]) as note,
            ) if name in self.variables and not (loop.test or note.elif_ or note.else_):
                item, place = getattr(loop.target, "name", ""), self.number(start, own)
                # A place that is neither below 0, which is counted from the end, nor of another.
                if {x.name for x in test.find_all(n.Name)} == {item} and not {*"-v"} & {*place}:
                    result = n.Template([n.Assign(n.Name("result", "store"), test)], lineno=1)
                    holds = TemplateExpression(self.environment.from_string(result), False)
                    last = self.read(name, None, lambda message: bool(holds({item: message})))
                    return f"{place} <= {last}"
        raise n.Impossible

    def read(self, name: str, attribute: str | None, what: Part) -> str:
        """Return the name of something read."""
        return self.reads.setdefault((name, attribute, what), f"v{len(self.reads)}")
