"""A chat template's loops → what the body of each depends on, read off its syntax tree.

    {% for message in messages %}
    {{- message.content }}                  the message itself
    {%- if loop.index0 > ns.last %}         whether it stands behind `ns.last`
    {%- if loop.last %} … {% endfor %}      whether it is the last
                                  ──→ Site: a key, which is the same where the text is the same

Of numbers as little as can be is kept: in `loop.index0 > ns.last` the answer counts and not the
numbers, so that a further request does not make everything new. The same holds where a body
looks at all messages behind its own, only to note whether one of them is of some kind: what comes
of it counts. A namespace is the only thing outside itself that a body can change.

A loop whose body does anything that is not understood here has no site, and stays as it is. The
sites are what `reasonpack.memo` goes by.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

import jinja2
import jinja2.nodes as n

from reasonpack.inlined import internal_name

__all__ = ["ITEMS", "LOOP", "SCALARS", "Site", "Tail", "remembering"]

LOOP = "_reasonpack_each"
"""The variable of the template that stands for `Memo.each`."""
ITEMS = "_reasonpack_items"
"""The variable of the template of a tail that has the items."""

_RESERVED = frozenset({"caller", "kwargs", "self", "super", "varargs", LOOP})
_NEVER_SET = _RESERVED | {"loop"}
"""Names that mean something to Jinja or here, and would mean something else if they were set."""
_ELSEWHERE = (n.Block, n.Extends, n.FromImport, n.Import, n.Include)
_COMPARISONS = {"eq": "==", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "ne": "!="}
SCALARS = frozenset({bool, int, str, type(None)})
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
        outside: the argument or state that it is, as ("e" or "s", index); None if it is none.
    """

    code: str
    start: int
    end: int
    offset: int | None
    outside: tuple[str, int] | None = None


_PLACES = {
    "index": _Number("(i + 1)", 1, 0, 1),
    "index0": _Number("i", 1, 0, 0),
    "length": _Number("n", 0, 1, None),
    "revindex": _Number("(n - i)", -1, 1, None),
    "revindex0": _Number("(n - 1 - i)", -1, 1, None),
}


class Tail(NamedTuple):
    """A loop in a body over all items of a list from a place on, which only notes constants.

    Attributes:
        over: which of the arguments is the list.
        offset: how far behind the item the place is.
        template: the loop alone, over `ITEMS`.
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
        reach: for each of these, and each of `counted`: how far behind the place of an item the
            places are that it is compared with; None if more is done with it.
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
    reach: tuple[int | None, ...]
    lists: tuple[int, ...]
    state: tuple[tuple[int, str], ...]
    raw: tuple[int, ...]
    counted: tuple[int, ...]
    written: tuple[int, ...]
    unread: tuple[int, ...]
    tails: tuple[Tail, ...]
    key: Callable[..., Any]
    low: int
    high: int | None
    beside: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int], ...]
    from_end: bool


def remembering(tree: n.Template) -> tuple[Site, ...]:
    """Let the loops of a template run over `Memo.each`; return what it must know of them.

    Args:
        tree: of the template, which is changed; without a site it stays as it is.

    >>> from reasonpack.memo import Memo, prepare
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
        places: see `Site.reach`.
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
    tails: list[Tail] = field(default_factory=list)
    places: dict[tuple[str, int], int | None] = field(default_factory=dict)
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
            reach=tuple(map(self.places.__getitem__, _outside(self))),
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
        alone = n.For(node.target, n.Name(ITEMS, "load"), node.body, [], None, False)
        tree = n.Template([alone], lineno=1).set_environment(self.environment)
        code = self.environment.compile(cast("n.Template", tree))
        template = jinja2.Template.from_code(self.environment, code, {})
        self.guards[f"t[{len(self.tails)}][min({place.code}, len(p[{index}]))]"] = None
        attributes = tuple(dict.fromkeys(filter(None, noted)))
        self.tails.append(Tail(index, place.offset, template, attributes))
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
        self._found(found, _compared(numbers))
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

    def _found(
        self,
        found: _Found,
        places: Mapping[tuple[str, int], int] = MappingProxyType({}),
    ) -> None:
        """Add what an expression reads; `places` has what is only compared with one."""
        self.numbers |= found.numbers
        self.lists |= found.lists
        self.counted |= found.counted
        for each in _outside(found):
            reach, before = places.get(each), self.places.get(each, 0)
            self.places[each] = None if reach is None or before is None else max(reach, before)

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
                number = _Number(f"e[{index}]", 0, 0, None, ("e", index))
            case n.Getattr():
                attribute = self._attribute(node, bound)
                index = -1 if attribute is None else self._state(attribute)
                if index >= 0 and index not in self.written:
                    found.counted.add(index)
                    number = _Number(f"s[{index}]", 0, 0, None, ("s", index))
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


def _noted(body: Iterable[n.Node], item: str) -> Iterator[tuple[str, str] | None]:
    """Yield which attributes a body sets to constants; None if it does or reads anything else."""
    for node in body:
        match node:
            case n.If():
                if any(name.name != item for name in _and_below(node.test, n.Name)):
                    yield None
                yield from _noted([*node.body, *node.elif_, *node.else_], item)
            case n.Assign(target=n.NSRef(name=name, attr=attribute), node=n.Const(value=value)):
                yield (name, attribute) if type(value) in SCALARS else None
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


def _outside(reads: _Reads | _Found) -> list[tuple[str, int]]:
    """Name the numbers from outside as `_Number.outside` does: arguments, then state."""
    return [*(("e", index) for index in reads.numbers), *(("s", index) for index in reads.counted)]


def _compared(numbers: Sequence[_Number]) -> dict[tuple[str, int], int]:
    """Tell of a number from outside how far behind the place is what alone it is compared with."""
    for number, place in (numbers, numbers[::-1]) if len(numbers) == 2 else ():
        if number.outside and place.start == 1 and place.offset is not None:
            return {number.outside: max(0, place.offset)}
    return {}


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
