"""A chat template's loops → what the body of each reads and sets outside itself.

    {% for message in messages %}                     the message
    {%- if loop.index0 > ns.last %} … {% endif %}     i > v0       a comparison
    {{- loop.index }}                                 i + 1        a number
    {{- messages[loop.index0 + 1].role }}             which message stands at i + 1 in v1
    {%- set ns.count = ns.count + 1 %}{% endfor %}    ns.count     set, and read

All numbers are sums of the item's place `i` and of what is the same for all items. So they are
linear in `i`, and a comparison of two changes once: `templates.loops` goes by that. A namespace is
the only thing outside itself that a body can change. A loop whose body does anything that is not
understood here has no site, and stays as it is.
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
"""What counts of something read: its "value", which has to be the same, a "number", a "list" of
messages, or the place of the last message there for which a condition holds."""
Facts: TypeAlias = Callable[[int], tuple[tuple[int, ...], tuple[int, ...]]]
"""The place of an item → comparisons, numbers."""
_RESERVED = frozenset({"caller", "kwargs", "loop", "self", "super", "varargs"})
"""Names that mean something to Jinja or here, and would mean something else if they were set."""
_ELSEWHERE = (n.Block, n.EvalContextModifier, n.Extends, n.FromImport, n.Import, n.Include)
_NUMBERS = {"index": "(i + 1)", "index0": "i", "length": "n", "revindex": "(n - i)"}
_NUMBERS |= {"revindex0": "(n - 1 - i)"}
_ENDS = {"first": "i <= 0", "last": "i >= n - 1", "previtem": "i <= 0", "nextitem": "i >= n - 1"}
_SIGNS = {"gt": [">"], "gteq": [">="], "lt": ["<"], "lteq": ["<="]}
_SIGNS |= {"eq": ["<=", ">="], "ne": ["<=", ">="]}


class Site(NamedTuple):
    """A loop, and what its body reads and sets outside itself.

    Attributes:
        reads: variables, or attributes of namespaces, and what counts of them.
        spaces: the namespaces of which it sets attributes.
        state: which of these attributes it reads.
        facts: (items, *reads) → `Facts`; a list of messages is the range of their places.
    """

    reads: tuple[tuple[str, str | None, Part], ...]
    spaces: tuple[str, ...]
    state: tuple[tuple[str, str], ...]
    facts: Callable[..., Facts]


def find_sites(tree: n.Template, environment: jinja2.Environment) -> tuple[Site, ...]:
    """Find the loops of a template that are understood, and let them run over `Memo.each`.

    >>> env = jinja2.Environment()
    >>> tree = env.parse("{% for m in messages %}{% if loop.last %}{{ m }}{% endif %}{% endfor %}")
    >>> facts = find_sites(tree, env)[0].facts(range(2))
    >>> facts(0), facts(1)
    (((False,), (0,)), ((True,), (1,)))
    """
    macros = {node.name: node for node in tree.body if isinstance(node, n.Macro)}
    made, sites = _made(tree), list[Site]()
    environment.filters[EACH] = _each
    for loop in () if _is_strange(tree, macros) else _statements(tree):
        match loop:
            case n.For(target=n.Name(), test=None, else_=[]):
                try:
                    sites.append(_Body(loop, made, macros, environment).site(loop))
                except n.Impossible:
                    continue
                number = n.Const(len(sites) - 1)
                loop.iter = n.Filter(loop.iter, EACH, [number], [], None, None)
                loop.iter.set_lineno(loop.lineno).set_environment(environment)
    return tuple(sites)


@jinja2.pass_context
def _each(context: Context, items: Any, number: int) -> Any:
    """Let the memo that renders say what a loop goes over."""
    return context.parent[EACH](context, number, items)


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
        self,
        loop: n.For,
        made: Mapping[str, bool],
        macros: Mapping[str, n.Macro],
        environment: jinja2.Environment,
    ) -> None:
        inside = n.List([loop, *macros.values()])
        bound = {name.name for name in inside.find_all(n.Name) if name.ctx != "load"}
        self.environment, self.macros = environment, dict(macros)
        self.spaces = {name for name, is_one in made.items() if is_one}
        self.made = made.keys() - self.spaces
        self.single = made.keys() - bound  # which have one meaning, wherever they stand
        self.variables = self.single - self.spaces
        self.written = {(x.name, x.attr) for x in inside.find_all(n.NSRef) if x.name in made}
        self.reads: dict[tuple[str, str | None, Part], str] = {}
        self.state: dict[tuple[str, str], None] = {}
        self.comparisons: dict[str, None] = {}
        self.numbers: dict[str, None] = {"items[i]": None}
        if self.made & {name for name, _ in self.written}:
            raise n.Impossible

    def site(self, loop: n.For) -> Site:
        """Look at the body; raise Impossible if more may count in it."""
        for node in loop.body:
            self.visit(node, own=True)
        names = ", ".join(["items", *self.reads.values()])
        compared, counted = ("".join(f"{x}, " for x in y) for y in (self.comparisons, self.numbers))
        # Made of operators, numbers and names of this file, and of no text of the template.
        code = f"lambda {names}: lambda i, n=len(items): (({compared}), ({counted}))"
        made = eval(code, {"__builtins__": {}, "len": len})  # noqa: S307
        spaces = tuple(sorted({name for name, _ in self.written}))
        return Site((*self.reads,), spaces, (*self.state,), made)

    def visit(self, node: n.Node, *, own: bool) -> None:
        """Add what counts of a node."""
        match node:
            case n.Const():
                return
            case n.Name(name=name, ctx="load"):
                self.visit_name(name, own=own)
            case n.Getattr(node=n.Name(name=name), attr=attr) if (name, attr) in self.written:
                self.state[name, attr] = None
            case n.Getattr(node=n.Name(name=name), attr=attr) if name in self.spaces:
                self.read(name, attr, "value")
            case n.Break() | n.Continue() if own:
                raise n.Impossible
            case _ if not self.is_fact(node, own):
                inner = {id(each) for each in node.body} if isinstance(node, n.For) else ()
                for each in node.iter_child_nodes():
                    self.visit(each, own=own and id(each) not in inner)

    def visit_name(self, name: str, *, own: bool) -> None:
        """Add a variable, or what a macro reads."""
        if name in self.made:
            self.read(name, None, "value")
        elif macro := self.macros.pop(name, None):
            for each in (*macro.defaults, *macro.body):
                self.visit(each, own=False)
        elif name in _RESERVED | self.spaces and (own or name != "loop"):
            raise n.Impossible

    def is_fact(self, node: n.Node, own: bool) -> bool:
        """Add what counts of a node; tell whether that is less than all that is read below it."""
        reads = dict(self.reads)
        try:
            comparisons, numbers = self.facts(node, own)
        except n.Impossible:
            self.reads = reads
            return False
        self.comparisons |= dict.fromkeys(comparisons)
        self.numbers |= dict.fromkeys(numbers)
        return True

    def facts(self, node: n.Node, own: bool) -> tuple[list[str], list[str]]:
        """Write the comparisons and the numbers that count of a node."""
        match node:
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if own and attr in _ENDS:
                return [_ENDS[attr]], []
            case n.Compare() if _SIGNS.keys() >= {each.op for each in node.ops}:
                left, found = self.number(node.expr, own), list[str]()
                for each in node.ops:
                    right = self.number(each.expr, own)
                    found += [f"{left} {sign} {right}" for sign in _SIGNS[each.op]]
                    left = right
                return found, []
            case n.Getitem(node=n.Name(name=name)) if name in self.variables:
                place, items = self.number(node.arg, own), self.read(name, None, "list")
                numbers = [place, f"{items}.start", f"{items}.step"]
                # Below 0 it counts from the end.
                return [f"{place} < 0 and len({items})", f"{place} < len({items})"], numbers
            case n.For():
                return [self.is_any_behind(node, own)], []
        return [], [self.number(node, own)]

    def is_any_behind(self, loop: n.For, own: bool) -> str:
        """Write whether a loop that notes one thing of the messages behind an item notes it at all.

        {% for m in messages[loop.index:] %}{% if … m … %}{% set space.x = true %}{% endif %}…
        """
        match loop:
            case n.For(
                target=n.Name(name=item),
                iter=n.Getitem(
                    node=n.Name(name=name), arg=n.Slice(start=start, stop=None, step=None)
                ),
                body=[
                    n.If(
                        test=test,
                        body=[n.Assign(target=n.NSRef(), node=n.Const())],
                        elif_=[],
                        else_=[],
                    )
                ],
                else_=[],
                test=None,
            ) if name in self.variables and {x.name for x in test.find_all(n.Name)} == {item}:
                place = self.number(start, own)
            case _:
                raise n.Impossible
        if {*"-v"} & {*place}:  # otherwise it is not below 0, from the end
            raise n.Impossible
        result = n.Template([n.Assign(n.Name("result", "store"), test)], lineno=1)
        holds = TemplateExpression(self.environment.from_string(result), False)
        last = self.read(name, None, lambda message: bool(holds({item: message})))
        return f"{place} <= {last}"

    def read(self, name: str, attribute: str | None, what: Part) -> str:
        """Return the name of something read."""
        return self.reads.setdefault((name, attribute, what), f"v{len(self.reads)}")

    def number(self, node: n.Node | None, own: bool) -> str:
        """Write an expression of numbers, linear in the place; raise Impossible for any other."""
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
                return f"len({self.read(name, None, 'list')})"
            case n.Add() | n.Sub():
                left, right = self.number(node.left, own), self.number(node.right, own)
                return f"({left} {node.operator} {right})"
        raise n.Impossible
