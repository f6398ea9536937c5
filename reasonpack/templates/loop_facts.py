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

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import jinja2
import jinja2.nodes as n

EACH = "_reasonpack_each"
"""The variable of the template that stands for `Memo.each`."""
Facts: TypeAlias = Callable[[int], tuple[tuple[int, ...], tuple[int, ...]]]
"""The place of an item → comparisons, numbers."""
_Names: TypeAlias = frozenset[str]
_RESERVED = frozenset({"caller", "kwargs", "loop", "self", "super", "varargs", EACH})
"""Names that mean something to Jinja or here, and would mean something else if they were set."""
_ELSEWHERE = (n.Block, n.Extends, n.FromImport, n.Import, n.Include)
_NUMBERS = {"index": "(i + 1)", "index0": "i", "revindex": "(n - i)", "revindex0": "(n - 1 - i)"}
_NUMBERS |= {"length": "n"}
_ENDS = {"first": "i <= 0", "last": "i >= n - 1", "previtem": "i <= 0", "nextitem": "i >= n - 1"}
_SIGNS = {"gt": [">"], "gteq": [">="], "lt": ["<"], "lteq": ["<="]}
_SIGNS |= {"eq": ["<=", ">="], "ne": ["<=", ">="]}


class _NotUnderstoodError(Exception):
    """The loop has no site."""


class Site(NamedTuple):
    """A loop, and what its body reads and sets outside itself.

    Attributes:
        reads: variables, or attributes of namespaces, and what of each counts: all its "value", a
            "number", the "list" of messages, or the last of these that fulfills a condition.
        written: attributes of namespaces that it sets, and whether it reads them.
        facts: (items, *reads) → the values, the lists, and `Facts`.
    """

    reads: tuple[tuple[str, str | None, str | jinja2.Template], ...]
    written: tuple[tuple[str, str, bool], ...]
    facts: Callable[..., tuple[tuple[Any, ...], list[list[int]], Facts]]


def find_sites(tree: n.Template, environment: jinja2.Environment) -> tuple[Site, ...]:
    """Find the loops of a template that are understood, and let them run over `Memo.each`.

    >>> env = jinja2.Environment()
    >>> tree = env.parse("{% for m in messages %}{% if loop.last %}{{ m }}{% endif %}{% endfor %}")
    >>> [site] = find_sites(tree, env)
    >>> values, lists, facts = site.facts(["a", "b"])
    >>> facts(0), facts(1)
    (((False,), ()), ((True,), ()))
    """
    macros = {node.name: node for node in tree.body if isinstance(node, n.Macro)}
    made, sites = _made(tree), list[Site]()
    for loop in () if _is_strange(tree, macros) else _statements(tree):
        if not isinstance(loop, n.For) or loop.test or loop.recursive or loop.else_:
            continue
        try:
            sites.append(_Body(made, macros, environment).site(loop))
        except _NotUnderstoodError:
            continue
        arguments = [n.Const(len(sites) - 1), loop.iter]
        loop.iter = n.Call(n.Name(EACH, "load"), arguments, [], None, None)
        loop.iter.set_lineno(loop.lineno).set_environment(environment)
    return tuple(sites)


def _is_strange(tree: n.Template, macros: Mapping[str, n.Macro]) -> bool:
    """Tell whether names, or which of two equal objects it is, may mean more than is seen here."""
    given = {name.name for name in tree.find_all(n.Name) if name.ctx != "load"} | macros.keys()
    asked = [test.args for test in tree.find_all(n.Test) if test.name == "sameas"]
    single = [repr([n.Const(value)]) for value in (True, False, None)]  # there is one of each
    return bool(
        next(tree.find_all(_ELSEWHERE), None)
        or any(constant.value == "sameas" for constant in tree.find_all(n.Const))
        or any(repr(arguments) not in single for arguments in asked)
        or len(macros) != len([*tree.find_all(n.Macro)])
        or given & _RESERVED
        or EACH in _names([tree])
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
                made.update(dict.fromkeys(_names([node.target]), False))
    return {name: is_one and "namespace" not in made for name, is_one in made.items()}


def _names(nodes: Iterable[n.Node]) -> _Names:
    """Return the variables that these nodes are, or consist of."""
    return _Names(name.name for name in n.List([*nodes]).find_all(n.Name))


class _Body:
    """What the body of a loop reads and sets.

    Comparisons and numbers are expressions of Python, in which `i` is the place of an item, `n`
    how many there are, and `v0`, `v1`, … are what is read.
    """

    def __init__(
        self, made: Mapping[str, bool], macros: Mapping[str, n.Macro], env: jinja2.Environment
    ) -> None:
        self.made, self.macros, self.environment = made, macros, env
        self.outside = _RESERVED | made.keys() | macros.keys()
        self.reads: dict[tuple[str, str | None, str | jinja2.Template], str] = {}
        self.written: dict[tuple[str, str], bool] = {}
        self.comparisons: dict[str, None] = {}
        self.numbers: dict[str, None] = {}
        self.entered: set[str] = set()

    def site(self, loop: n.For) -> Site:
        """Look at a loop; raise _NotUnderstoodError if more may count in it."""
        if not isinstance(loop.target, n.Name):
            raise _NotUnderstoodError
        for target in n.List([loop, *self.macros.values()]).find_all(n.NSRef):
            if self.made.get(target.name):
                self.written[target.name, target.attr] = False
            elif target.name in self.made:
                raise _NotUnderstoodError
        self.visit(loop.body, self.outside - {loop.target.name})
        values, lists = (
            "".join(f"{name}, " for (*_, what), name in self.reads.items() if what == wanted)
            for wanted in ("value", "list")
        )
        compared, counted = ("".join(f"{x}, " for x in y) for y in (self.comparisons, self.numbers))
        facts = f"lambda i, n=len(items): (({compared}), ({counted}))"
        names = ", ".join(["items", *self.reads.values()])
        # Made of operators, numbers and names of this file, and of no text of the template.
        code = f"lambda {names}: (({values}), [items, {lists}], {facts})"
        made = eval(code, {"__builtins__": {}, "len": len})  # noqa: S307
        written = tuple((*attribute, is_read) for attribute, is_read in self.written.items())
        return Site((*self.reads,), written, made)

    def visit(self, nodes: Iterable[n.Node], seen: _Names) -> None:
        """Add what nodes read, where the names `seen` mean what they mean outside."""
        for node in nodes:
            match node:
                case n.Const():
                    pass
                case n.Expr() | n.For() if self.counts(node, seen):
                    pass
                case n.For(recursive=False):
                    inner = seen - _names([node.target])
                    self.visit([node.iter, *node.else_], seen)
                    self.visit([node.test] if node.test else [], inner)  # with the outer `loop`
                    self.visit(node.body, inner - {"loop"})
                case n.With():
                    self.visit(node.values, seen)
                    self.visit(node.body, seen - _names(node.targets))
                case n.CallBlock():
                    self.visit([node.call, *node.defaults], seen)
                    self.visit(node.body, seen - _names(node.args))
                case n.Getattr(node=n.Name(name=name)) if name in seen and self.made.get(name):
                    self.written[name, node.attr] = True
                case n.Name(name=name, ctx="load") if name in seen - self.entered:
                    if name in _RESERVED or name in self.made:
                        raise _NotUnderstoodError
                    self.entered.add(name)
                    macro = self.macros[name]
                    inner = self.outside - _names(macro.args) - {"loop"}
                    self.visit([*macro.defaults, *macro.body], inner)
                case n.Break() | n.Continue() if "loop" in seen:
                    raise _NotUnderstoodError
                case n.Macro() | n.EvalContextModifier() | n.For():
                    raise _NotUnderstoodError
                case _:
                    self.visit(node.iter_child_nodes(), seen)

    def read(self, name: str, attribute: str | None, what: str | jinja2.Template) -> str:
        """Return the name of something read."""
        return self.reads.setdefault((name, attribute, what), f"v{len(self.reads)}")

    def counts(self, node: n.Node, seen: _Names) -> bool:
        """Add what counts of a node; tell whether that is less than all that is read below it."""
        found: Iterable[str] | None = ()
        match node:
            case n.Name(name=name, ctx="load") if self.is_outside(name, seen):
                self.read(name, None, "value")
            case n.Getattr(node=n.Name(name=name), attr=attr) if self.is_kept(name, attr, seen):
                self.read(name, attr, "value")
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if "loop" in seen and attr in _ENDS:
                found = [_ENDS[attr]]
            case n.Compare():
                found = self.compared(node, seen)
            case n.Getitem(node=n.Name(name=name)) if self.is_outside(name, seen):
                found = self.looked_up(name, self.number(node.arg, seen))
            case n.For():
                found = self.is_any_behind(node, seen)
            case _:
                number = self.number(node, seen)
                self.numbers |= {number: None} if number else {}
                return number is not None
        self.comparisons |= dict.fromkeys(found or ())
        return found is not None

    def looked_up(self, name: str, place: str | None) -> list[str] | None:
        """Write what tells which of a list's items stands at a place, apart from the list."""
        if place is None:
            return None
        self.numbers[place] = None
        size = f"len({self.read(name, None, 'list')})"
        return [f"{place} < 0 and {size}", f"{place} < {size}"]  # below 0 it counts from the end

    def compared(self, node: n.Compare, seen: _Names) -> list[str] | None:
        """Write the comparisons of numbers next to each other; None if there are others."""
        left, found = self.number(node.expr, seen), []
        for each in node.ops:
            right = self.number(each.expr, seen)
            if left is None or right is None or each.op not in _SIGNS:
                return None
            found += [f"{left} {sign} {right}" for sign in _SIGNS[each.op]]
            left = right
        return found

    def is_any_behind(self, loop: n.For, seen: _Names) -> list[str] | None:
        """Write whether a loop does what it does at all; None if that depends on anything else.

        {% for m in messages[loop.index:] %}{% if … m … %}{% set own.x = true %}{% endif %}…
        """
        match loop:
            case n.For(
                iter=n.Getitem(node=n.Name(name=name), arg=n.Slice(stop=None, step=None) as rest),
                body=[n.If(test=test, body=[set_], elif_=[], else_=[])],
                else_=[],
                test=None,
                recursive=False,
            ) if self.is_outside(name, seen):
                place = rest.start and self.number(rest.start, seen)
            case _:
                return None
        item = _names([loop.target])
        if not place or re.search("[-v]", place) or not _names([test]) <= item:
            return None  # without a difference the place is not below 0, from the end
        match set_:
            case n.Assign(target=n.NSRef(name=own), node=n.Const()) if not (
                self.outside & {own, *item}
            ):
                pass
            case _:
                return None
        writing = n.If(test, [n.Output([n.TemplateData("x")])], [], [])
        alone = n.For(loop.target, n.Name("messages", "load"), [writing], [], None, False)
        tree = n.Template([alone], lineno=1)
        tree.set_environment(self.environment)
        code = self.environment.compile(tree)
        condition = jinja2.Template.from_code(self.environment, code, {})
        return [f"{place} <= {self.read(name, None, condition)}"]

    def is_outside(self, name: str, seen: _Names) -> bool:
        """Tell whether this is a variable that is no namespace."""
        return name in seen and self.made.get(name) is False

    def is_kept(self, name: str, attribute: str, seen: _Names) -> bool:
        """Tell whether this is an attribute of a namespace that the body does not set."""
        return name in seen and self.made.get(name, False) and (name, attribute) not in self.written

    def number(self, node: n.Node, seen: _Names) -> str | None:
        """Write an expression of numbers, linear in the place; None for any other."""
        number: str | None = None
        match node:
            case n.Const(value=value) if type(value) is int:
                number = repr(value)
            case n.Name(name=name) if self.is_outside(name, seen):
                number = self.read(name, None, "number")
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if "loop" in seen:
                number = _NUMBERS.get(attr)
            case n.Getattr(node=n.Name(name=name), attr=attr) if self.is_kept(name, attr, seen):
                number = self.read(name, attr, "number")
            case n.Filter(name="length", node=n.Name(name=name)) if self.is_outside(name, seen):
                number = f"len({self.read(name, None, 'list')})"
            case n.Add() | n.Sub():
                left, right = self.number(node.left, seen), self.number(node.right, seen)
                number = left and right and f"({left} {node.operator} {right})"
        return number
