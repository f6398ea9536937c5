"""Renderings of longer and longer beginnings of a conversation, each message rendered once.

    {% for message in messages %}          the first message   seen in these circumstances: its text
    {%- if message.role == "user" … %}  →  the second          seen: its text
    {% endfor %}                           the last            new: the body of the loop runs

Every view of a conversation is rendered from its start, and nearly all of a rendering is what
the one before it was. What the body of a loop makes of a message depends on the message and
on what else the body reads: whether it is the last, where the last request stands, what the
message beside it is. That can be read off the template: `remembering` finds for each outermost
loop all that its body reads from outside, and lets it run over `Memo.each(messages)`, which
gives it only those messages that it did not yet see with these values, and writes for the others
what it gave then. So the text is the same by construction, not by comparison; a loop whose body
does anything that is not understood here stays as it is.

What the body reads of numbers is kept as small as it can be: in `loop.index0 > ns.last_query`
the answer counts and not the numbers, so that a further request does not make everything new.
The same holds where a body looks at all messages behind its own, only to note whether one of
them is of some kind: what it notes of each message is found once, and what comes of them counts.
A namespace is the only thing outside itself that a body can change: what it sets is kept
beside the text, and set again.

Where a loop begins, or goes on, as it did the last time, not even that is looked up for each
message: the texts of the last time are taken over as far as nothing the body reads can differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar, cast

import jinja2
import jinja2.nodes as n
from jinja2.runtime import Context, LoopContext
from jinja2.utils import Namespace

from reasonpack.inlined import internal_name

__all__ = ["LOOP", "Loop", "Memo", "Site", "prepare", "remembering"]

LOOP = "_reasonpack_each"
"""The variable of the template that stands for `Memo.each`."""

_RESERVED = frozenset({"caller", "kwargs", "self", "super", "varargs", LOOP})
_NEVER_SET = _RESERVED | {"loop"}
"""Names that mean something to Jinja or here, and would mean something else if they were set."""
_ELSEWHERE = (n.Block, n.Extends, n.FromImport, n.Import, n.Include)
_COMPARISONS = {"eq": "==", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "ne": "!="}
_SCALARS = frozenset({bool, int, str, type(None)})
_Node = TypeVar("_Node", bound=n.Node)


class _NotUnderstoodError(Exception):
    """The loop is left as it is."""


class _Number(NamedTuple):
    """A number that a body reads, as an expression of Python.

    Attributes:
        code: of `i`, the place of the item; `n`, how many there are; `p`, the lists; `e`, the
            arguments; and `s`, the state.
        start: how much it grows with the place.
        end: how much it grows with the length of all lists.
        offset: it is `start * i` and this; None where it is something else.
    """

    code: str
    start: int
    end: int
    offset: int | None


_PLACES = {
    "index": _Number("(i + 1)", 1, 0, 1),
    "index0": _Number("i", 1, 0, 0),
    "length": _Number("n", 0, 1, None),
    "revindex": _Number("(n - i)", -1, 1, None),
    "revindex0": _Number("(n - 1 - i)", -1, 1, None),
}


class _Tail(NamedTuple):
    """A loop in a body over all items of a list from a place on, which only notes constants.

    Attributes:
        over: which of the arguments is the list.
        offset: how far behind the item the place is.
        template: the loop alone, over `_ITEMS`.
        noted: attributes of the body's own namespaces that it sets, as (name, attribute).
    """

    over: int
    offset: int
    template: jinja2.Template
    noted: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Site:
    """A loop, and what its body reads and sets outside itself.

    Attributes:
        names: variables that it reads, in the order of what is called the arguments.
        scalars: which of them are read as they are.
        numbers: which of them are only compared and counted with.
        lists: which of them are only measured, or looked up at a place.
        state: attributes of namespaces that it reads or sets, as (name, attribute).
        raw: which of the state are read as they are.
        counted: which of the state are only compared and counted with.
        written: which of the state are set.
        unread: which of these are never read.
        tails: loops over what is behind an item.
        key: (ordinal, items, i, n, o, p, e, s, t) → the ordinal, and what else the body depends
            on, where `o(list, place)` tells which message stands at a place, and `t` has for each
            of the tails and each place what is noted from there on.
        low: the first items that may depend on where the lists end.
        high: the last items that may; None if all may.
        beside: as (list, distance), what stands beside an item is read: −1 for the items.
        fixed: as (list, place), what stands at a place from the start is read.
        from_end: whether nothing depends on how far from the start an item stands.
    """

    names: tuple[str, ...]
    scalars: tuple[int, ...]
    numbers: tuple[int, ...]
    lists: tuple[int, ...]
    state: tuple[tuple[int, str], ...]
    raw: tuple[int, ...]
    counted: tuple[int, ...]
    written: tuple[int, ...]
    unread: tuple[int, ...]
    tails: tuple[_Tail, ...]
    key: Callable[..., Any]
    low: int
    high: int | None
    beside: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int], ...]
    from_end: bool


# --- what a loop depends on -----------------------------------------------------------


def remembering(tree: n.Template) -> tuple[Site, ...]:
    """Let the loops of a template run over `Memo.each`; return what it must know of them.

    Args:
        tree: of the template, which is changed; without a site it stays as it is.

    >>> env = jinja2.Environment()
    >>> tree = env.parse("{% for m in messages %}{{ m }}{{ ',' if not loop.last }}{% endfor %}")
    >>> sites = remembering(tree)
    >>> template = jinja2.Template.from_code(env, env.compile(tree), {})
    >>> prepare(template)
    >>> memo = Memo(sites, chat := ["a", "b", "c"])
    >>> [memo.render(template, {"messages": chat[:stop]}) for stop in (1, 2, 3)]
    ['a', 'a,b', 'a,b,c']
    >>> memo.runs  # "a" and "b" with and without a comma, "c"
    5
    """
    macros = {node.name: node for node in tree.body if isinstance(node, n.Macro)}
    named = {name.name for name in tree.find_all(n.Name)}
    given = {name.name for name in tree.find_all(n.Name) if name.ctx != "load"}
    if next(tree.find_all(_ELSEWHERE), None) or _asks_for_identity(tree):
        return ()
    if LOOP in named or (given | macros.keys()) & _NEVER_SET:
        return ()
    if len(macros) != sum(1 for _ in tree.find_all(n.Macro)):
        return ()
    sites: list[Site] = []
    _replace_loops(tree, tree, macros, sites)
    return tuple(sites)


def _asks_for_identity(tree: n.Template) -> bool:
    """Tell whether the template asks for the same object, where an equal one may be."""
    named = any(constant.value == "sameas" for constant in tree.find_all(n.Const))
    asked = [test.args for test in tree.find_all(n.Test) if test.name == "sameas"]
    # Of true, false and none there is one object each.
    single = [repr([n.Const(value)]) for value in (True, False, None)]
    return named or any(repr(args) not in single for args in asked)


def _replace_loops(
    node: n.Node, tree: n.Template, macros: dict[str, n.Macro], sites: list[Site]
) -> None:
    """Let the outermost loops below `node` run over what `Memo.each` gives."""
    for _, value in node.iter_fields():
        for child in value if isinstance(value, list) else ():
            if isinstance(child, n.For):
                _replace(child, tree, macros, sites)
            elif isinstance(child, n.If):
                _replace_loops(child, tree, macros, sites)


def _replace(loop: n.For, tree: n.Template, macros: dict[str, n.Macro], sites: list[Site]) -> None:
    """Let a loop run over what `Memo.each` gives, if its body is understood."""
    if loop.test or loop.recursive or loop.else_ or not isinstance(loop.target, n.Name):
        return
    outside = _assigned(tree) | {"messages", "add_generation_prompt"}
    assert tree.environment is not None
    reads = _Reads(outside, macros, _namespaces(tree), tree.environment)
    try:
        reads.find_written(loop.body)
        reads.visit_all(loop.body, frozenset({loop.target.name}))
    except _NotUnderstoodError:
        return
    sites.append(reads.site())
    # What else is read is no argument: naming it here could change what Jinja makes of the name.
    arguments = [n.Const(len(sites) - 1), loop.iter]
    # Nothing that a template writes becomes an internal name, so that it cannot call this itself.
    each = internal_name(f"context.resolve({LOOP!r})", loop)
    loop.iter = n.Call(each, arguments, [], None, None)
    loop.iter.set_lineno(loop.lineno)
    loop.iter.set_environment(tree.environment)


def _sets(node: n.Node) -> Iterator[n.Assign | n.AssignBlock]:
    """Yield what sets variables of the whole template, outside of loops, macros and blocks."""
    for child in node.iter_child_nodes():
        if isinstance(child, n.Assign | n.AssignBlock):
            yield child
        elif isinstance(child, n.If):
            yield from _sets(child)


def _assigned(tree: n.Template) -> set[str]:
    return set().union(*(_names([node.target]) for node in _sets(tree)))


def _namespaces(tree: n.Template) -> set[str]:
    """Return the variables that are set to namespaces, and to nothing else."""
    made: dict[str, bool] = {}
    for node in _sets(tree):
        for name in _names([node.target]):
            call = node.node if isinstance(node, n.Assign) else None
            is_one = (
                isinstance(node.target, n.Name)
                and isinstance(call, n.Call)
                and isinstance(call.node, n.Name)
                and call.node.name == "namespace"
            )
            made[name] = made.get(name, True) and is_one
    return {name for name, is_one in made.items() if is_one and "namespace" not in made}


def _names(nodes: Iterable[n.Node]) -> frozenset[str]:
    """Return the variables that these nodes are, or consist of."""
    return frozenset(
        name.name
        for node in nodes
        for name in ([node] if isinstance(node, n.Name) else node.find_all(n.Name))
    )


@dataclass
class _Reads:
    """What the body of a loop reads from outside itself; see `Site`.

    Attributes:
        outside: variables that the template sets, or that differ between views. All others
            are the same in each rendering with one memo.
        macros: of the template, by name.
        namespaces: those of `outside` that are namespaces.
        environment: of the template.
        guards: expressions of what is read of numbers and places.
        entered: macros that were looked at.
    """

    outside: set[str]
    macros: dict[str, n.Macro]
    namespaces: set[str]
    environment: jinja2.Environment
    names: dict[str, int] = field(default_factory=dict)
    scalars: set[int] = field(default_factory=set)
    numbers: set[int] = field(default_factory=set)
    lists: set[int] = field(default_factory=set)
    state: dict[tuple[str, str], int] = field(default_factory=dict)
    raw: set[int] = field(default_factory=set)
    counted: set[int] = field(default_factory=set)
    written: set[int] = field(default_factory=set)
    tails: list[_Tail] = field(default_factory=list)
    guards: dict[str, None] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)
    low: int = 0
    high: int | None = 0
    beside: set[tuple[int, int]] = field(default_factory=set)
    fixed: set[tuple[int, int]] = field(default_factory=set)
    from_end: bool = True

    def site(self) -> Site:
        """Put together what was found."""
        state = tuple((self._name(space), attribute) for space, attribute in self.state)
        key = f"lambda ordinal, items, i, n, o, p, e, s, t: (ordinal, {', '.join(self.guards)})"
        return Site(
            names=tuple(self.names),
            scalars=tuple(self.scalars),
            numbers=tuple(self.numbers),
            lists=tuple(self.lists),
            state=state,
            raw=tuple(self.raw),
            counted=tuple(self.counted),
            written=tuple(self.written),
            unread=tuple(self.written - self.raw),
            tails=tuple(self.tails),
            # Made of the operators, numbers and names that stand in this file, and of no text
            # of the template.
            key=eval(key, {"__builtins__": {}, "len": len, "min": min}),  # noqa: S307
            low=self.low,
            high=self.high,
            beside=tuple(self.beside),
            fixed=tuple(self.fixed),
            from_end=self.from_end,
        )

    def find_written(self, body: Sequence[n.Node]) -> None:
        """Find what a body, or a macro that it calls, sets of namespaces."""
        seen: set[str] = set()
        waiting = list(body)
        while waiting:
            node = waiting.pop()
            waiting += node.iter_child_nodes()
            if isinstance(node, n.NSRef) and node.name in self.outside:
                if node.name not in self.namespaces:
                    raise _NotUnderstoodError
                self.written.add(self._state((node.name, node.attr)))
            if isinstance(node, n.Name) and node.name in self.macros and node.name not in seen:
                seen.add(node.name)
                waiting.append(self.macros[node.name])

    def visit_all(self, nodes: Iterable[n.Node], bound: frozenset[str]) -> None:
        """Look at nodes in which the variables `bound` are the body's own."""
        for node in nodes:
            self.visit(node, bound)

    def visit(self, node: n.Node, bound: frozenset[str]) -> None:
        """Look at one node and all below it."""
        match node:
            case n.For() if self._visit_tail(node, bound):
                pass
            case n.For(recursive=False):
                inner = bound | _names([node.target])
                self.visit(node.iter, bound)
                self.visit_all(node.else_, bound)
                self.visit_all([node.test] if node.test else [], inner)  # with the outer `loop`
                self.visit_all(node.body, inner | {"loop"})
            case n.With():
                self.visit_all(node.values, bound)
                self.visit_all(node.body, bound | _names(node.targets))
            case n.CallBlock():
                self.visit(node.call, bound)
                self.visit_all(node.defaults, bound)
                self.visit_all(node.body, bound | _names(node.args))
            case n.Name():
                self._visit_name(node, bound)
            case n.Break() | n.Continue() if "loop" not in bound:
                raise _NotUnderstoodError
            case n.Macro() | n.EvalContextModifier() | n.For():
                raise _NotUnderstoodError
            case n.Expr() if self._visit_reading(node, bound):
                pass
            case _:
                self.visit_all(node.iter_child_nodes(), bound)

    def _visit_tail(self, node: n.For, bound: frozenset[str]) -> bool:
        """Note a loop over what is behind the item; False for any other."""
        match node:
            case n.For(
                target=n.Name(name=item),
                iter=n.Getitem(
                    node=n.Name(name=name),
                    arg=n.Slice(start=n.Expr() as start, stop=None, step=None),
                ),
                else_=[],
                test=None,
                recursive=False,
            ) if self._is_outside(name, bound):
                pass
            case _:
                return False
        place = self._number(start, bound, found := _Found())
        noted = list(_noted(node.body, item))
        own = {name for name, _ in filter(None, noted)}
        if place is None or place.start != 1 or place.offset is None or place.offset < 0:
            return False
        if None in noted or own & (self.outside | self.macros.keys() | _NEVER_SET | {item}):
            return False
        self._found(found)
        self.lists.add(index := self._name(name))
        alone = n.For(node.target, n.Name(_ITEMS, "load"), node.body, [], None, False)
        tree = n.Template([alone], lineno=1).set_environment(self.environment)
        code = self.environment.compile(cast("n.Template", tree))
        template = jinja2.Template.from_code(self.environment, code, {})
        self.guards[f"t[{len(self.tails)}][min({place.code}, len(p[{index}]))]"] = None
        attributes = tuple(dict.fromkeys(filter(None, noted)))
        self.tails.append(_Tail(index, place.offset, template, attributes))
        self.from_end = False
        return True

    def _visit_name(self, node: n.Name, bound: frozenset[str]) -> None:
        name = node.name
        if name in bound or node.ctx != "load":
            return
        if name in _RESERVED or name == "loop" or name in self.namespaces:
            raise _NotUnderstoodError
        if name in self.outside:
            self.scalars.add(self._name(name))
        elif name in self.macros and name not in self.entered:
            self.entered.add(name)
            macro = self.macros[name]
            self.visit_all([*macro.defaults, *macro.body], _names(macro.args) | {"loop"})

    def _visit_reading(self, node: n.Expr, bound: frozenset[str]) -> bool:
        """Note what an expression reads, if less than all that stands in it counts."""
        attribute = self._attribute(node, bound)
        if attribute is not None:
            self.raw.add(self._state(attribute))
            return True
        return (
            self._visit_loop(node, bound)
            or self._visit_compared(node, bound)
            or self._visit_counted(node, bound)
            or self._visit_looked_up(node, bound)
        )

    def _visit_loop(self, node: n.Expr, bound: frozenset[str]) -> bool:
        """Note that the body asks for the first item, the last, or the one beside."""
        if not isinstance(node, n.Getattr) or not _is_loop(node.node, bound):
            return False
        match node.attr:
            case "first":
                self._guard("(i == 0)", [(1, 0)])
            case "last":
                self._guard("(i == n - 1)", [(0, 0)])
                self._ends_matter(1)
            case "nextitem":
                self._guard("(o(items, i + 1) if i < n - 1 else None)", [(1, 0)])
                self.beside.add((-1, 1))
            case "previtem":
                self._guard("(o(items, i - 1) if i else None)", [(1, 0)])
            case _ if node.attr not in _PLACES:
                raise _NotUnderstoodError
            case _:
                return False
        return True

    def _visit_compared(self, node: n.Expr, bound: frozenset[str]) -> bool:
        """Note a comparison of numbers: only what comes out of it counts."""
        if not isinstance(node, n.Compare):
            return False
        found = _Found()
        operands = [self._number(each, bound, found) for each in (node.expr, *_operands(node))]
        operators = [_COMPARISONS.get(each.op) for each in node.ops]
        if None in operands or None in operators:
            return False
        numbers = [number for number in operands if number is not None]
        code = numbers[0].code
        for operator, number in zip(operators, numbers[1:], strict=True):
            code += f" {operator} {number.code}"
        differences = [
            (left.start - right.start, left.end - right.end)
            for left, right in itertools.pairwise(numbers)
        ]
        self._guard(f"({code})", differences)
        self._found(found)
        return True

    def _visit_counted(self, node: n.Expr, bound: frozenset[str]) -> bool:
        """Note a number that is made of others."""
        if isinstance(node, n.Name | n.Const):
            return False
        found = _Found()
        number = self._number(node, bound, found)
        if number is None:
            return False
        self._guard(number.code, [(number.start, number.end)])
        self._found(found)
        return True

    def _visit_looked_up(self, node: n.Expr, bound: frozenset[str]) -> bool:
        """Note which message stands at a place: it is known which that is."""
        if not isinstance(node, n.Getitem) or not isinstance(node.node, n.Name):
            return False
        found = _Found()
        outside = self._is_outside(node.node.name, bound)
        place = self._number(node.arg, bound, found) if outside else None
        if place is None:
            return False
        self._found(found)
        self.lists.add(index := self._name(node.node.name))
        self._guard(f"o(p[{index}], {place.code})", [(0, place.end)])
        self.from_end = False
        if place.start == 1 and place.offset is not None:
            self.beside.add((index, place.offset))
            self.low = max(self.low, -place.offset)
        elif place.start == 0 and place.offset is not None and place.offset >= 0:
            self.fixed.add((index, place.offset))
        else:
            self._ends_matter(None)
        return True

    def _guard(self, code: str, differences: Iterable[tuple[int, int]]) -> None:
        """Add what counts, and how it goes with the place of the item and the end."""
        self.guards[code] = None
        for start, end in differences:
            if end:
                self._ends_matter(None)
            if start + end:
                self.from_end = False

    def _ends_matter(self, items: int | None) -> None:
        """Note that the last items depend on where the end is; None for all."""
        known = self.high is None or items is None
        self.high = None if known else max(self.high or 0, items or 0)

    def _found(self, found: _Found) -> None:
        self.numbers |= found.numbers
        self.lists |= found.lists
        self.counted |= found.counted

    def _number(self, node: n.Node | None, bound: frozenset[str], found: _Found) -> _Number | None:
        """Write an expression of numbers as one of Python; None for any other."""
        number: _Number | None = None
        match node:
            case n.Const() if type(node.value) is int:
                number = _Number(repr(node.value), 0, 0, node.value)
            case n.Getattr() if _is_loop(node.node, bound):
                number = _PLACES.get(node.attr)
            case n.Filter(name="length", node=n.Name(name=name)) if self._is_outside(name, bound):
                found.lists.add(index := self._name(name))
                number = _Number(f"len(p[{index}])", 0, 1, None)
            case n.Name(name=name) if self._is_outside(name, bound):
                found.numbers.add(index := self._name(name))
                number = _Number(f"e[{index}]", 0, 0, None)
            case n.Getattr():
                attribute = self._attribute(node, bound)
                index = -1 if attribute is None else self._state(attribute)
                if index >= 0 and index not in self.written:
                    found.counted.add(index)
                    number = _Number(f"s[{index}]", 0, 0, None)
            case n.Add() | n.Sub():
                left = self._number(node.left, bound, found)
                right = self._number(node.right, bound, found)
                number = left and right and _sum(left, right, 1 if isinstance(node, n.Add) else -1)
        return number

    def _is_outside(self, name: str, bound: frozenset[str]) -> bool:
        # What is a list, and what a number, shows only when the loop runs.
        return name in self.outside and name not in bound | self.namespaces

    def _attribute(self, node: n.Expr, bound: frozenset[str]) -> tuple[str, str] | None:
        """Return the namespace and the attribute that an expression reads; None for others."""
        if not isinstance(node, n.Getattr) or not isinstance(node.node, n.Name):
            return None
        name = node.node.name
        return (name, node.attr) if name in self.namespaces and name not in bound else None

    def _state(self, attribute: tuple[str, str]) -> int:
        return self.state.setdefault(attribute, len(self.state))

    def _name(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))


_ITEMS = "_reasonpack_items"


def _noted(body: Iterable[n.Node], item: str) -> Iterator[tuple[str, str] | None]:
    """Yield which attributes a body sets to constants; None if it does or reads anything else."""
    for node in body:
        match node:
            case n.If():
                if any(name.name != item for name in _and_below(node.test, n.Name)):
                    yield None
                yield from _noted([*node.body, *node.elif_, *node.else_], item)
            case n.Assign(target=n.NSRef(name=name, attr=attribute), node=n.Const(value=value)):
                yield (name, attribute) if type(value) in _SCALARS else None
            case _:
                yield None


def _and_below(node: n.Node, type_: type[_Node]) -> Iterator[_Node]:
    """Yield the nodes of a type in a tree, its root included."""
    if isinstance(node, type_):
        yield node
    yield from node.find_all(type_)


@dataclass
class _Found:
    """What an expression of numbers reads, as long as it may turn out to be none."""

    numbers: set[int] = field(default_factory=set)
    lists: set[int] = field(default_factory=set)
    counted: set[int] = field(default_factory=set)


def _sum(left: _Number, right: _Number, sign: int) -> _Number:
    offset = None
    if left.offset is not None and right.offset is not None:
        offset = left.offset + sign * right.offset
    return _Number(
        f"({left.code} {'+' if sign > 0 else '-'} {right.code})",
        left.start + sign * right.start,
        left.end + sign * right.end,
        offset,
    )


def _operands(node: n.Compare) -> list[n.Expr]:
    return [each.expr for each in node.ops]


def _is_loop(node: n.Node, bound: frozenset[str]) -> bool:
    return isinstance(node, n.Name) and node.name == "loop" and "loop" not in bound


# --- what a loop gave -----------------------------------------------------------------


class Loop:
    """Jinja's variable `loop`, as far as a body that is remembered can read it."""

    __slots__ = ("_items", "first", "index", "index0", "last", "length", "revindex", "revindex0")

    def __init__(self, at: int, items: Sequence[Any]) -> None:
        self._items = items
        self.index0, self.index, self.length = at, at + 1, len(items)
        self.revindex0, self.revindex = self.length - at - 1, self.length - at
        self.first, self.last = at == 0, at == self.length - 1

    @property
    def previtem(self) -> Any:
        """The item before, undefined for the first."""
        if self.first:
            return jinja2.Undefined("there is no previous item")
        return self._items[self.index0 - 1]

    @property
    def nextitem(self) -> Any:
        """The item behind, undefined for the last."""
        if self.last:
            return jinja2.Undefined("there is no next item")
        return self._items[self.index0 + 1]


class _Mark:
    """A value that no template has."""


class _Failed:
    """What is no value, and like nothing else."""


_UNSET, _MISSING = _Mark(), _Mark()
_Changes = tuple[tuple[int, Any], ...]
"""What a body set of the state, as (index, value)."""
_Noted = tuple[Any, ...]
"""What a tail sets its attributes to, each as (type, value), or `_UNSET`."""
_Known = dict[Any, tuple[str, _Changes]]
"""What a body gave in one state: for its key, the text and the changes."""


class _State:
    """The attributes of namespaces that the body of one loop reads or sets."""

    def __init__(self, site: Site, read: Sequence[Any]) -> None:
        self.values: list[Any] = [_MISSING] * len(site.state)
        self._site = site
        self._at = [(read[space], attribute) for space, attribute in site.state]
        for index in range(len(self._at)):
            self._fetch(index)

    def _fetch(self, index: int) -> Any:
        space, attribute = self._at[index]
        self.values[index] = getattr(space, attribute, _MISSING)
        return self.values[index]

    def set(self, changes: _Changes) -> None:
        """Set what a body set."""
        for index, value in changes:
            space, attribute = self._at[index]
            space[attribute] = self.values[index] = value

    def before_run(self) -> None:
        """Prepare to see what the body sets, even if it is what is there already."""
        for index in self._site.unread:
            if self.values[index] is not _MISSING:
                space, attribute = self._at[index]
                space[attribute] = _UNSET

    def after_run(self) -> _Changes:
        """Return what the body has set."""
        changes = []
        for index in self._site.written:
            before, value = self.values[index], self._fetch(index)
            if value is _UNSET:
                self.set(((index, before),))
            elif value is not before or (index in self._site.unread and value is not _MISSING):
                changes.append((index, value))
        return tuple(changes)


@dataclass(slots=True)
class _Run:
    """What a loop did, item for item.

    Attributes:
        items: ordinals of what it was over.
        places: for each argument that is a list, the ordinals of what is in it.
        read: the arguments.
        state: as it is now.
        numbers: what the body compares with, the same for all items.
        tails: for each of the site's, what is noted from each place on, and from the end.
        known: what the body gives in the state before each item.
        texts: of each item.
        changes: what was set, as (item, changes).
    """

    items: list[int]
    places: dict[int, list[int]]
    read: tuple[Any, ...]
    state: _State
    numbers: tuple[Any, ...]
    tails: list[list[_Noted]] = field(default_factory=list)
    known: list[_Known] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    changes: list[tuple[int, _Changes]] = field(default_factory=list)

    def take_over(self, before: _Run, items: slice) -> int:
        """Add what some items gave in a run before; return how many."""
        further = len(self.texts) - items.start
        for at, changes in before.changes:
            if items.start <= at < items.stop:
                self.state.set(changes)
                self.changes.append((at + further, changes))
        self.known += before.known[items]
        self.texts += before.texts[items]
        return int(items.stop - items.start)


class _Pass:
    """What a loop goes over in place of its messages: those for which its body has to run."""

    __slots__ = ("_items", "_steps")

    def __init__(self, items: list[Any], steps: Iterator[int]) -> None:
        self._items, self._steps = items, steps

    def __iter__(self) -> Iterator[Any]:
        """Give the items, for a body that does not read `loop`."""
        return map(self._items.__getitem__, self._steps)

    def with_loop(self) -> Iterator[tuple[Any, Loop]]:
        """Give the items, each with its `loop`."""
        items = self._items
        return ((items[at], Loop(at, items)) for at in self._steps)


def _loop_context(iterable: Any, *more: Any) -> Any:
    """Make what Jinja's code goes over where a body reads `loop`."""
    return iterable.with_loop() if type(iterable) is _Pass else LoopContext(iterable, *more)


def prepare(template: jinja2.Template) -> None:
    """Let the code of a template, whose loops are over `Memo.each`, take what that gives."""
    template.root_render_func.__globals__["LoopContext"] = _loop_context


class Memo:
    """What the loops of a template gave for the messages of one conversation.

    All renderings with one memo have the same variables, apart from the messages, which
    are the first of those given here, and `add_generation_prompt`.

    Args:
        sites: of the template, from `remembering`.
        messages: of the conversation; whoever keeps a memo keeps them unchanged.
        others: what else is the same object in each rendering: tools.

    Attributes:
        runs: how often the body of a loop was run.
    """

    def __init__(
        self, sites: Sequence[Site], messages: Sequence[Any], others: Sequence[Any] = ()
    ) -> None:
        self.runs = 0
        self._sites = sites
        self._kept = [*messages, *others]  # nothing else can come to have their identity
        self._ordinals = {id(item): number for number, item in enumerate(self._kept)}
        self._known: dict[Any, _Known] = {}
        self._last: dict[int, _Run] = {}
        self._items_noted: dict[tuple[int, int, int], _Noted] = {}
        self._out: list[str] = []

    def render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render a template to which `remembering` and `prepare` were applied."""
        context = template.new_context({**variables, LOOP: self.each})
        self._out = out = []
        for piece in template.root_render_func(context):
            # One at a time: when a loop asks for its next item, all before it is there.
            out.append(piece)  # noqa: PERF402
        return "".join(out)

    @jinja2.pass_context
    def each(self, context: Context, number: int, iterable: Any) -> Any:
        """Return what a loop goes over; for what it leaves out the text is written meanwhile.

        Args:
            context: of the rendering, which has what the body reads.
            number: of the site.
            iterable: what the loop is over.
        """
        site = self._sites[number]
        read = tuple(map(context.resolve, site.names))
        run, outer = self._started(site, iterable, read), self._outer(number, site, read)
        if run is None or outer is None:
            return iterable
        before = self._last.pop(number, None)
        for tail in range(len(site.tails)):
            run.tails.append(self._tail(number, tail, run, before))
        return _Pass(iterable, self._steps(number, outer, run, before))

    def _tail(self, number: int, tail: int, run: _Run, before: _Run | None) -> list[_Noted]:
        """Find what is noted from each place of a list on, from its end to where it is known."""
        index = self._sites[number].tails[tail].over
        ordinals, known, same = run.places[index], [], 0
        if before is not None:
            known, same = before.tails[tail], _common(before.places[index], ordinals)
        nothing = (_UNSET,) * len(self._sites[number].tails[tail].noted)
        found, at = [nothing], len(ordinals)
        while at and not (at <= same and known[at] == found[-1]):
            at -= 1
            own = self._noted(number, tail, ordinals[at])
            later = found[-1]
            found.append(own if later is nothing else _over(own, later))
        return known[:at] + found[::-1]

    def _noted(self, number: int, tail: int, ordinal: int) -> _Noted:
        """Find what is noted of one item, by the loop alone; something new if it fails."""
        known = self._items_noted.get((number, tail, ordinal))
        if known is None:
            site = self._sites[number].tails[tail]
            spaces = {name: Namespace() for name, _ in site.noted}
            items = {_ITEMS: [self._kept[ordinal]]}
            try:
                for _ in site.template.root_render_func(site.template.new_context(items | spaces)):
                    pass
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001 (it fails again where the body runs)
                return (_Failed(),)
            values = (getattr(spaces[name], attribute, _UNSET) for name, attribute in site.noted)
            known = tuple(_UNSET if value is _UNSET else (type(value), value) for value in values)
            self._items_noted[number, tail, ordinal] = known
        return known

    def _steps(
        self, number: int, outer: tuple[Any, ...], run: _Run, before: _Run | None
    ) -> Iterator[int]:
        """Yield where the body has to run; write for each other item what it gave before.

        Not all that a body reads and sets can be kept: a generator may be used up by whoever
        reads it. From there on the body is run as if there were no memo.
        """
        site, out = self._sites[number], self._out
        start, shift = (0, None) if before is None else _same(site, before, run)
        state, length = run.state, len(run.items)
        at, known = 0, self._known_in(outer, site, state)
        while at < length and known is not None:
            if before is not None:
                again = None
                if site.low <= at < start and before.known[at] is known:
                    again = slice(at, start)
                elif shift is not None and at >= shift and before.known[at - shift] is known:
                    again = slice(at - shift, len(before.texts))
                if again is not None:
                    out += before.texts[again]
                    at += run.take_over(before, again)
                    known = self._known_in(outer, site, state)
                    continue
            key = site.key(
                run.items[at],
                run.items,
                at,
                length,
                _at,
                run.places,
                run.read,
                state.values,
                run.tails,
            )
            found = known.get(key)
            if found is None:
                self.runs += 1
                state.before_run()
                written = len(out)
                yield at
                found = "".join(out[written:]), state.after_run()
                if found[1] and any(self._value(value) is None for _, value in found[1]):
                    at, known = at + 1, None
                    break
                known[key] = found
            else:
                out.append(found[0])
            run.known.append(known)
            run.texts.append(found[0])
            if found[1]:
                run.changes.append((at, found[1]))
                state.set(found[1])
                known = self._known_in(outer, site, state)
            at += 1
        self.runs += length - at
        yield from range(at, length)
        if known is not None:
            self._last[number] = run

    def _started(self, site: Site, items: Any, read: tuple[Any, ...]) -> _Run | None:
        """Begin a run; None if the loop is over anything but messages, or reads what it may not."""
        over = self._known_ordinals(items)
        places: dict[int, list[int]] = {}
        for index in site.lists:
            ordinals = over if read[index] is items else self._known_ordinals(read[index])
            if ordinals is None:
                return None
            places[index] = ordinals
        if over is None or any(type(read[space]) is not Namespace for space, _ in site.state):
            return None
        state = _State(site, read)
        numbers = (*(read[x] for x in site.numbers), *(state.values[x] for x in site.counted))
        plain = all(type(number) in {bool, int} for number in numbers)
        return _Run(over, places, read, state, numbers) if plain else None

    def _known_ordinals(self, items: Any) -> list[int] | None:
        """Tell which messages these are; None if it is no list of messages alone."""
        if type(items) is not list:
            return None
        ordinals = list(map(self._ordinals.get, map(id, items)))
        return None if None in ordinals else cast("list[int]", ordinals)

    def _outer(self, number: int, site: Site, read: Sequence[Any]) -> tuple[Any, ...] | None:
        """Return what is the same for all items, None where it cannot be told."""
        scalars = tuple(self._value(read[index]) for index in site.scalars)
        return None if None in scalars else (number, *scalars)

    def _known_in(self, outer: tuple[Any, ...], site: Site, state: _State) -> _Known | None:
        """Return what the bodies gave in this state, None where it cannot be told."""
        raw = tuple(self._value(state.values[index]) for index in site.raw)
        return None if None in raw else self._known.setdefault((outer, raw), {})

    def _value(self, value: Any) -> tuple[Any, ...] | None:
        """Return what stands for a value; None for what is not a plain one."""
        if type(value) in _SCALARS:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # which an error would tell from others
            return type(value), value._undefined_message, value._undefined_exception
        if value is _MISSING:
            return (_Mark,)
        ordinal = self._ordinals.get(id(value))
        return None if ordinal is None else (_Mark, ordinal)


def _at(ordinals: Sequence[int], place: int) -> int | None:
    """Tell which message stands at a place; None where there is none."""
    try:
        return ordinals[place]
    except IndexError:
        return None


def _same(site: Site, before: _Run, run: _Run) -> tuple[int, int | None]:
    """Find what of a run before must come out the same, if the state does.

    Returns:
        How many items from the start; and by how many more items the others, up to the end,
        now stand behind: None if that is not so.
    """
    start, shift = 0, None
    more = len(run.items) - len(before.items)
    lengths = [(len(before.places[index]), len(run.places[index])) for index in site.lists]
    if before.numbers != run.numbers or any(new - old != more for old, new in lengths):
        return 0, None
    same = {-1: _common(before.items, run.items)}
    same |= {index: _common(before.places[index], run.places[index]) for index in site.lists}
    if site.high is not None and all(place < same[index] for index, place in site.fixed):
        start = min(
            same[-1],
            len(before.items) - site.high,
            len(run.items) - site.high,
            *(same[index] - distance for index, distance in site.beside),
            *(
                _common(old, new) - tail.offset
                for tail, old, new in zip(site.tails, before.tails, run.tails, strict=True)
            ),
        )
    if site.from_end and more >= 0:
        shift = more if run.items[more:] == before.items else None
    return start, shift


def _over(own: _Noted, later: _Noted) -> _Noted:
    """Return what is noted in the end, where the later has the last word."""
    if any(type(value) is _Failed for value in own + later):
        return (_Failed(),)
    return tuple(new if new is not _UNSET else old for old, new in zip(own, later, strict=True))


def _common(a: list[Any], b: list[Any]) -> int:
    """Return how many leading elements are equal."""
    length = min(len(a), len(b))
    if a[:length] == b[:length]:
        return length
    return next(at for at in range(length) if a[at] != b[at])
