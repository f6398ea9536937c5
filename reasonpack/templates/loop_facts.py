"""A chat template's loops → everything on which the output of each loop's body depends.

    {% for message in messages %}                     the message
    {%- if loop.index0 > ns.last %} … {% endif %}     i > v0       a comparison
    {{- loop.index }}                                 (i + 1)      a number
    {{- messages[loop.index0 + 1].role }}             v1[i + 1]    the identity of a message
    {%- set ns.count = ns.count + 1 %}{% endfor %}    ns.count     a value that is read and set

The first four are facts: expressions of the item's index `i` and of variables that are the same for
all items. Given equal facts and equal values, the body writes the same text and sets the same
attributes; namespaces are all that a body can change. A loop whose body does anything else has no
`Site` and runs unchanged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.nodes as n
from jinja2.compiler import operators

EACH = "each of the memo"
"""Name of a filter, and of the variable it calls, `Memo.each`; no template can use this name."""
_LOOP = {"index": "(i + 1)", "index0": "i", "first": "(i == 0)", "last": "(i == n - 1)"}
_LOOP |= {"length": "n", "revindex": "(n - i)", "revindex0": "(n - 1 - i)"}
_LOOP |= {"previtem": "items[i - 1]", "nextitem": "items[i + 1]"}  # None after the last


def find_sites(tree: n.Template, environment: jinja2.Environment) -> tuple[Site, ...]:
    """Return the loops of a template that a `Memo` can run, and make them run over `Memo.each`.

    Changes `tree`: a body of such a loop then yields its text as one piece.

    >>> env = jinja2.Environment()
    >>> tree = env.parse("{% for m in messages %}{% if loop.last %}{{ m }}{% endif %}{% endfor %}")
    >>> find_sites(tree, env)[0].keys(2, ["m0", "m1", None])
    [('m0', False), ('m1', True)]
    """
    outside: list[n.Node] = [*tree.body]
    for node in outside:  # all nodes in the scope of the whole template
        outside += node.iter_child_nodes() if isinstance(node, n.If) else ()
    targets = n.List([x.target for x in outside if isinstance(x, n.Assign | n.AssignBlock)])
    # Variables that may differ between renderings with one memo.
    varying = {"messages", "add_generation_prompt", *[x.name for x in targets.find_all(n.Name)]}
    macros = {x.name: x for x in tree.body if isinstance(x, n.Macro)}
    # Such templates are not analysed: names or the identity of objects may have further effects.
    is_unknown = (
        any(test.name == "sameas" for test in tree.find_all(n.Test))
        or any(constant.value == "sameas" for constant in tree.find_all(n.Const))
        or len(macros) != len([*tree.find_all(n.Macro)])
        or [*tree.find_all((n.Block, n.EvalContextModifier))]
    )
    # The current memo, found in the context `c`, decides over which items a loop runs.
    environment.filters[EACH] = jinja2.pass_context(lambda c, *loop: c.parent[EACH](c, *loop))
    loops = [x for x in outside if isinstance(x, n.For) and not (x.test or x.else_ or x.recursive)]
    sites = list[Site]()
    for loop in () if is_unknown else loops:
        with contextlib.suppress(n.Impossible):
            sites.append(Site(loop, varying, macros))
            loop.iter = n.Filter(loop.iter, EACH, [n.Const(len(sites) - 1)], [], None, None)
            loop.body = [n.FilterBlock(loop.body, n.Filter(None, "string", [], [], None, None))]
            loop.set_lineno(loop.lineno).set_environment(environment)
    return tuple(sites)


class Site:
    """A loop, and the outside variables that its body reads and sets.

    Attributes:
        values: variables, and attributes of namespaces, on whose whole value the body depends.
        reads: (variable, attribute, what the facts use of it) → its name in `keys`. The last is a
            "number", a "length", a "list" of messages, or a condition, for which the index of the
            last message that meets it is used.
        names: the variables in `values` and `reads`, and those whose attributes the body sets.
        keys: (number of items, items, *reads) → the facts of each item. Messages are given as
            their ids; the items are followed by None.

    Raises:
        Impossible: the body may depend on something else.
    """

    def __init__(self, loop: n.For, varying: set[str], macros: Mapping[str, n.Macro]) -> None:
        inside = n.List([loop, *macros.values()])
        bound = {name.name for name in inside.find_all(n.Name) if name.ctx != "load"}
        self._environment: Any = loop.environment
        self._macros, self._varying = dict(macros), varying
        self._variables = varying - bound  # never shadowed by a variable of the body
        self._sets = {(x.name, x.attr) for x in inside.find_all(n.NSRef) if x.name in varying}
        self._facts: dict[str, None] = {}
        self.reads: dict[tuple[str, str | None, Any], str] = {}
        self.values: set[tuple[str, str | None]] = set()
        for node in loop.body:
            self._visit(node, own=True)
        self.names: set[Any] = {each[0] for each in (*self._sets, *self.values, *self.reads)}
        facts = ", ".join(["item", *self._facts])
        keys = f"[({facts}) for i, item in enumerate(items[:n])]" if self._facts else "items[:n]"
        code = f"lambda {', '.join(['n', 'items', *self.reads.values()])}: {keys}"
        # The code consists of operators, numbers and names from this file, no template text.
        known = {"__builtins__": {}, "enumerate": enumerate}
        self.keys: Callable[..., list[Any]] = eval(code, known)  # noqa: S307

    def _visit(self, node: n.Node, *, own: bool) -> None:
        """Record what a node depends on; `own`: whether the name `loop` in it means this loop."""
        match node:
            case n.Const() | n.Name(ctx="store" | "param"):
                return
            case n.Name(name="loop") | n.Break() | n.Continue() if own:
                raise n.Impossible
            case n.Name(name=name) | n.Getattr(node=n.Name(name=name)) if name in self._varying:
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
        """Return a node as a Python expression; raise Impossible if it is not a fact."""
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
                # Sets an attribute to a constant if any message from an index on meets a condition:
                # equal to comparing this index, if not negative, with the last such message's.
                place = self._number(start, own)
                more = [behind.stop, behind.step, node.test, *node.else_, *note.elif_, *note.else_]
                if any(more) or {*"-v"} & {*place}:
                    raise n.Impossible
                shown = n.If(test, [n.Output([n.TemplateData("it holds")])], [], [])
                holds = self._environment.from_string(n.Template([shown], lineno=1)).render
                return f"{place} <= {self._read(name, None, lambda each: holds({item: each}))}"
        raise n.Impossible

    def _number(self, node: n.Node | None, own: bool) -> str:
        """Return a number as a Python expression; raise Impossible for other nodes."""
        fact = self._fact(node, own)
        if "[" in fact:
            raise n.Impossible
        return fact

    def _read(self, name: str, attribute: str | None, what: Any) -> str:
        """Return the name in `keys` of a variable; raise Impossible if the body also sets it."""
        if (name, attribute) in self._sets:
            raise n.Impossible
        return self.reads.setdefault((name, attribute, what), f"v{len(self.reads)}")
