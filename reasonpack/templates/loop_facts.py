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

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.nodes as n
from jinja2.compiler import operators

EACH = "each of the memo"
"""A filter, and the variable that it calls, `Memo.each`; no template can name them."""
_LOOP = {"index": "(i + 1)", "index0": "i", "first": "(i == 0)", "last": "(i == n - 1)"}
_LOOP |= {"length": "n", "revindex": "(n - i)", "revindex0": "(n - 1 - i)"}
_LOOP |= {"previtem": "items[i - 1]", "nextitem": "items[i + 1]"}  # behind the last is None


def find_sites(tree: n.Template, environment: jinja2.Environment) -> tuple[Site, ...]:
    """Find the loops of a template that are understood, and let them run over `Memo.each`.

    The code of the template yields what the body of such a loop writes in one piece.

    >>> env = jinja2.Environment()
    >>> tree = env.parse("{% for m in messages %}{% if loop.last %}{{ m }}{% endif %}{% endfor %}")
    >>> find_sites(tree, env)[0].keys(2, ["m0", "m1", None])
    [('m0', False), ('m1', True)]
    """
    outside: list[n.Node] = [*tree.body]
    for node in outside:  # all that see and set the variables of the whole template
        outside += node.iter_child_nodes() if isinstance(node, n.If) else ()
    targets = n.List([x.target for x in outside if isinstance(x, n.Assign | n.AssignBlock)])
    # What may differ between renderings with one memo.
    made = {"messages", "add_generation_prompt", *[x.name for x in targets.find_all(n.Name)]}
    macros = {x.name: x for x in tree.body if isinstance(x, n.Macro)}
    # Names, or which of two equal objects it is, may mean more than is seen here.
    is_strange = (
        any(test.name == "sameas" for test in tree.find_all(n.Test))
        or any(constant.value == "sameas" for constant in tree.find_all(n.Const))
        or len(macros) != len([*tree.find_all(n.Macro)])
        or [*tree.find_all((n.Block, n.EvalContextModifier))]
    )
    # The memo that renders, which is in the context `c`, says what a loop goes over.
    environment.filters[EACH] = jinja2.pass_context(lambda c, *loop: c.parent[EACH](c, *loop))
    loops = [x for x in outside if isinstance(x, n.For) and not (x.test or x.else_ or x.recursive)]
    sites = list[Site]()
    for loop in () if is_strange else loops:
        with contextlib.suppress(n.Impossible):
            sites.append(Site(loop, made, macros))
            loop.iter = n.Filter(loop.iter, EACH, [n.Const(len(sites) - 1)], [], None, None)
            loop.body = [n.FilterBlock(loop.body, n.Filter(None, "string", [], [], None, None))]
            loop.set_lineno(loop.lineno).set_environment(environment)
    return tuple(sites)


class Site:
    """A loop, and what its body reads and sets outside itself.

    Attributes:
        values: variables, or attributes of namespaces, that have to be the same.
        reads: others, what counts of them, and their names in code: a "number", a "length", a
            "list" of messages, or the place of the last of them for which a condition holds.
        names: these variables, and those of which it sets attributes.
        keys: (number of items, items, *reads) → for each item its facts; messages are given as
            their identities, and behind the items is None.

    Raises:
        Impossible: more may count in the body.
    """

    def __init__(self, loop: n.For, made: set[str], macros: Mapping[str, n.Macro]) -> None:
        inside = n.List([loop, *macros.values()])
        bound = {name.name for name in inside.find_all(n.Name) if name.ctx != "load"}
        self._environment: Any = loop.environment
        self._macros, self._made = dict(macros), made
        self._variables = made - bound  # which have one meaning, wherever they stand
        self._sets = {(x.name, x.attr) for x in inside.find_all(n.NSRef) if x.name in made}
        self._facts: dict[str, None] = {}
        self.reads: dict[tuple[str, str | None, Any], str] = {}
        self.values: set[tuple[str, str | None]] = set()
        for node in loop.body:
            self._visit(node, own=True)
        self.names: set[Any] = {each[0] for each in (*self._sets, *self.values, *self.reads)}
        facts = ", ".join(["item", *self._facts])
        keys = f"[({facts}) for i, item in enumerate(items[:n])]" if self._facts else "items[:n]"
        code = f"lambda {', '.join(['n', 'items', *self.reads.values()])}: {keys}"
        # Made of operators, numbers and names of this file, and of no text of the template.
        known = {"__builtins__": {}, "enumerate": enumerate}
        self.keys: Callable[..., list[Any]] = eval(code, known)  # noqa: S307

    def _visit(self, node: n.Node, *, own: bool) -> None:
        """Add what counts of a node; `own` tells whether its `loop` is that of this loop."""
        match node:
            case n.Const() | n.Name(ctx="store" | "param"):
                return
            case n.Name(name="loop") | n.Break() | n.Continue() if own:
                raise n.Impossible
            case n.Name(name=name) | n.Getattr(node=n.Name(name=name)) if name in self._made:
                self.values.add((name, getattr(node, "attr", None)))
            case n.Name(name=name) if macro := self._macros.pop(name, None):
                self._visit(macro, own=False)
            case _:
                reads = dict(self.reads)
                try:
                    self._facts[self._fact(node, own)] = None
                except n.Impossible:
                    self.reads = reads
                    inner = {id(each) for each in node.body} if isinstance(node, n.For) else ()
                    for each in node.iter_child_nodes():
                        self._visit(each, own=own and id(each) not in inner)

    def _fact(self, node: n.Node | None, own: bool) -> str:  # noqa: PLR0911
        """Write what counts of a node in Python; raise Impossible for what is no fact."""
        match node:
            case n.Const(value=int() as value):
                return repr(value)
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if own and attr in _LOOP:
                return _LOOP[attr]
            case n.Name(name=name) | n.Getattr(node=n.Name(name=name)) if name in self._variables:
                return self._read(name, getattr(node, "attr", None), "number")
            case n.Filter(name="length", node=n.Name(name=name)) if name in self._variables:
                return self._read(name, None, "length")
            case n.Getitem(node=n.Name(name=name)) if name in self._variables:
                items, place = self._read(name, None, "list"), self._number(node.arg, own)
                return f"{items}[{place}] if {place} < {self._read(name, None, 'length')} else None"
            case n.Add() | n.Sub():
                left, right = self._number(node.left, own), self._number(node.right, own)
                return f"({left} {node.operator} {right})"
            case n.Compare(ops=[n.Operand(op=op, expr=other)]):
                left, right = self._number(node.expr, own), self._number(other, own)
                return f"({left} {operators[op]} {right})"
            case n.For(
                target=n.Name(name=item),
                iter=n.Getitem(node=n.Name(name=name), arg=n.Slice(start=start) as behind),
                body=[n.If(body=[n.Assign(target=n.NSRef(), node=n.Const())], test=test) as note],
            ) if name in self._variables and {x.name for x in test.find_all(n.Name)} == {item}:
                # Whether one thing is noted of any of the messages behind a place, which is not
                # below 0, that is counted from the end, nor of another list.
                place = self._number(start, own)
                more = [behind.stop, behind.step, node.test, *node.else_, *note.elif_, *note.else_]
                if any(more) or {*"-v"} & {*place}:
                    raise n.Impossible
                shown = n.If(test, [n.Output([n.TemplateData("it holds")])], [], [])
                holds = self._environment.from_string(n.Template([shown], lineno=1)).render
                return f"{place} <= {self._read(name, None, lambda each: holds({item: each}))}"
        raise n.Impossible

    def _number(self, node: n.Node | None, own: bool) -> str:
        """Write a number in Python; raise Impossible for anything else, such as a message."""
        fact = self._fact(node, own)
        if "[" in fact:
            raise n.Impossible
        return fact

    def _read(self, name: str, attribute: str | None, what: Any) -> str:
        """Return the name of something read, unless it is set too."""
        if (name, attribute) in self._sets:
            raise n.Impossible
        return self.reads.setdefault((name, attribute, what), f"v{len(self.reads)}")
