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
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import jinja2
import jinja2.nodes as n
from jinja2.environment import TemplateExpression
from jinja2.runtime import Context

EACH = "each of the memo"
"""A filter, and the variable that it calls, `Memo.each`; no template can name them."""
Part: TypeAlias = "str | Callable[[Any], bool]"
"""What counts of something read: its "value", which has to be the same, a "number", its "length",
a "list" of messages, or the place of the last message there for which a condition holds."""
Keys: TypeAlias = Callable[..., list[Any]]
_RESERVED = frozenset({"caller", "kwargs", "loop", "self", "super", "varargs"})
"""Names that mean something to Jinja or here, and would mean something else if they were set."""
_ELSEWHERE = (n.Block, n.EvalContextModifier, n.Extends, n.FromImport, n.Import, n.Include)
_SINGLE = {repr([n.Const(value)]) for value in (True, False, None)}
"""Arguments of `sameas` of which there is one object each."""
_NUMBERS = {"index": "(i + 1)", "index0": "i", "first": "(i == 0)", "last": "(i == n - 1)"}
_NUMBERS |= {"length": "n", "revindex": "(n - i)", "revindex0": "(n - 1 - i)"}
_BESIDE = {"previtem": "items[i - 1] if i else None"}
_BESIDE |= {"nextitem": "items[i + 1] if i < n - 1 else None"}
_SIGNS = {"eq": "==", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "ne": "!="}


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
                with contextlib.suppress(n.Impossible):
                    sites.append(Site(loop, made, macros))
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
    set_here = {name.name for name in tree.find_all(n.Name) if name.ctx != "load"}
    return bool(
        any(t.name == "sameas" and repr(t.args) not in _SINGLE for t in tree.find_all(n.Test))
        or any(constant.value == "sameas" for constant in tree.find_all(n.Const))
        or any(loop.recursive for loop in tree.find_all(n.For))
        or len(macros) != len([*tree.find_all(n.Macro)])
        or _RESERVED & (set_here | macros.keys())
        or [*tree.find_all(_ELSEWHERE)]
    )


def _statements(node: n.Node) -> Iterator[n.Node]:
    """Yield the statements that see and set the variables of the whole template."""
    for child in node.iter_child_nodes():
        yield from _statements(child) if isinstance(child, n.If) else (child,)


def _made(tree: n.Template) -> set[str]:
    """Return the variables that may differ between renderings with one memo."""
    sets = [each for each in _statements(tree) if isinstance(each, n.Assign | n.AssignBlock)]
    names = n.List([each.target for each in sets]).find_all(n.Name)
    return {"messages", "add_generation_prompt", *[each.name for each in names]}


class Site:
    """A loop, and what its body reads and sets outside itself.

    In its methods, `own` tells whether a node's `loop` is that of this loop.

    Attributes:
        reads: variables, or attributes of namespaces, what counts of them, and their names in code.
        spaces: the namespaces of which it sets attributes.
        names: these, and the variables of which it reads attributes.
        state: which of these attributes it reads.
        keys: (number of items, items, *reads) → for each item its facts; messages are given as
            their identities.

    Raises:
        Impossible: more may count in the body.
    """

    def __init__(self, loop: n.For, made: set[str], macros: Mapping[str, n.Macro]) -> None:
        inside = n.List([loop, *macros.values()])
        bound = {name.name for name in inside.find_all(n.Name) if name.ctx != "load"}
        self._environment: Any = loop.environment
        self._macros = dict(macros)
        self._made = made
        self._variables = made - bound  # which have one meaning, wherever they stand
        self._sets = {(x.name, x.attr) for x in inside.find_all(n.NSRef) if x.name in made}
        self._facts: dict[str, None] = {}
        self.spaces = {name for name, _ in self._sets}
        self.reads: dict[tuple[str, str | None, Part], str] = {}
        self.state: dict[tuple[str, str], None] = {}
        self.keys = self._keys(loop.body)
        self.names = self.spaces | {name for name, attribute, _ in self.reads if attribute}

    def _keys(self, body: list[n.Node]) -> Keys:
        """Look at the body; write what gives the facts of its items."""
        for node in body:
            self._visit(node, own=True)
        names = ", ".join(["n", "items", *self.reads.values()])
        facts = ", ".join(["item", *self._facts])
        keys = f"[({facts}) for i, item in enumerate(items)]" if self._facts else "items"
        # Made of operators, numbers and names of this file, and of no text of the template.
        code = f"lambda {names}: {keys}"
        return cast("Keys", eval(code, {"__builtins__": {}, "enumerate": enumerate}))  # noqa: S307

    def _visit(self, node: n.Node, *, own: bool) -> None:
        """Add what counts of a node."""
        match node:
            case n.Name(name=name, ctx="load") if name in self._made:
                self._read(name, None, "value")
            case n.Name(name=name, ctx="load") if macro := self._macros.pop(name, None):
                for each in (*macro.defaults, *macro.body):
                    self._visit(each, own=False)
            case n.Name(name=name, ctx="load") if name in _RESERVED:
                if own or name != "loop":
                    raise n.Impossible
            case n.Name() | n.Const():
                return
            case n.Getattr(node=n.Name(name=name), attr=attr) if (name, attr) in self._sets:
                self.state[name, attr] = None
            case n.Getattr(node=n.Name(name=name), attr=attr) if name in self._made:
                self._read(name, attr, "value")
            case n.Break() | n.Continue() if own:
                raise n.Impossible
            case _:
                reads = dict(self.reads)
                try:
                    self._facts[self._fact(node, own)] = None
                except n.Impossible:
                    self.reads = reads
                    inner = {id(each) for each in node.body} if isinstance(node, n.For) else ()
                    for each in node.iter_child_nodes():
                        self._visit(each, own=own and id(each) not in inner)

    def _fact(self, node: n.Node, own: bool) -> str:
        """Write what counts of a node in Python; raise Impossible for what is no fact."""
        match node:
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if own and attr in _BESIDE:
                return _BESIDE[attr]
            case n.Getitem(node=n.Name(name=name)) if name in self._variables:
                items, place = self._read(name, None, "list"), self._number(node.arg, own)
                return f"{items}[{place}] if {place} < {self._read(name, None, 'length')} else None"
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
                result = n.Template([n.Assign(n.Name("result", "store"), test)], lineno=1)
                holds = TemplateExpression(self._environment.from_string(result), False)
                last = self._read(name, None, lambda message: bool(holds({item: message})))
                return f"{place} <= {last}"
        return self._number(node, own)

    def _number(self, node: n.Node | None, own: bool) -> str:  # noqa: PLR0911
        """Write an expression of numbers in Python; raise Impossible for any other."""
        match node:
            case n.Const(value=int() as value):
                return repr(value)
            case n.Name(name=name) if name in self._variables:
                return self._read(name, None, "number")
            case n.Getattr(node=n.Name(name="loop"), attr=attr) if own and attr in _NUMBERS:
                return _NUMBERS[attr]
            case n.Getattr(node=n.Name(name=name), attr=attr) if (
                name in self._variables and (name, attr) not in self._sets
            ):
                return self._read(name, attr, "number")
            case n.Filter(name="length", node=n.Name(name=name)) if name in self._variables:
                return self._read(name, None, "length")
            case n.Add() | n.Sub():
                left, right = self._number(node.left, own), self._number(node.right, own)
                return f"({left} {node.operator} {right})"
            case n.Compare(ops=ops) if _SIGNS.keys() >= {each.op for each in ops}:
                more = [f" {_SIGNS[each.op]} {self._number(each.expr, own)}" for each in ops]
                return f"({self._number(node.expr, own)}{''.join(more)})"
        raise n.Impossible

    def _read(self, name: str, attribute: str | None, what: Part) -> str:
        """Return the name of something read."""
        return self.reads.setdefault((name, attribute, what), f"v{len(self.reads)}")
