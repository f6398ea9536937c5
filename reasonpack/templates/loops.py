"""Renderings of longer and longer beginnings of a conversation, each message written once.

    {% for message in messages %}          the first message   nothing differs for it: its text
    {%- if message.role == "user" … %}  →  the second          nothing differs: its text
    {% endfor %}                           the last            new: the body of the loop runs

Every view of a conversation is rendered from its start, and nearly all of a rendering is what the
one before it was. `loop_facts` finds what the body of each outermost loop reads, and lets the loop
run over `Memo.each(messages)`. That gives the body only those messages for which something differs
from the last time; for the others it writes and sets what the body did then, so that the text is
the same by construction. The messages are not looked at one by one for that: what is as it was at
both ends of a stretch was so between, since a comparison of linear numbers changes once. It takes a
few comparisons of lists for each rendering. A loop over anything but messages runs as Jinja has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jinja2
from jinja2.runtime import Context, LoopContext
from jinja2.utils import Namespace, missing

from reasonpack.templates.loop_facts import EACH, Facts, Site
from reasonpack.templates.sandbox import attributes

_KEPT = 4
"""Runs that a memo keeps of a site: with other variables, such as the generation prompt."""
_MISSING = object()
_Slot: TypeAlias = "tuple[dict[str, Any], str, bool]"
"""Where a body sets an attribute: the namespace, the attribute, and whether the body reads it."""
_Changes: TypeAlias = "list[tuple[int, Any]]"
"""What a body sets: the slot, and the value."""


class _PlainError(Exception):
    """The loop runs as Jinja has it."""


class _Run(NamedTuple):
    """What a loop did.

    Attributes:
        lists: what it ran over, and then what else it looks into.
        facts: of the place of each item, the comparisons and the numbers that the body reads.
        texts: what it wrote of each item.
        states: what it reads of what it sets, before each item; empty if it sets nothing.
        sets: what it set of each; as `states`.
    """

    lists: list[list[int]]
    facts: Facts
    states: list[tuple[Any, ...]]
    texts: list[str]
    sets: list[_Changes]

    def alike(self, other: _Run) -> list[tuple[int, int]]:
        """Return as (shift, stop) where the same items stand in another run, so much further on."""
        (mine, *looked), (its, *also) = self.lists, other.lists
        if self is other or not all(map(_begin_alike, looked, also)):
            return []
        shift, both = len(its) - len(mine), min(len(mine), len(its))
        from_start = [(0, both)] if _begin_alike(mine, its) else []
        ends = mine[len(mine) - both :] == its[len(its) - both :]
        return from_start + ([(shift, len(mine))] if shift and ends else [])

    def same_until(self, other: _Run, shift: int, start: int, stop: int) -> int:
        """Return until where the facts are those of the places `shift` further on, or less far."""
        first, less = self.facts(start), 1
        if first != other.facts(start + shift):
            return start
        while True:
            last = self.facts(stop - 1)
            if last[0] == first[0] and last == other.facts(stop - 1 + shift):
                return stop
            stop, less = max(start + 1, stop - less), 2 * less


class _Some:
    """What a loop goes over in place of its messages: those for which its body has to run."""

    def __init__(self, items: list[Any], places: Iterator[int]) -> None:
        self.items, self.places = items, places

    def __iter__(self) -> Iterator[Any]:
        return map(self.items.__getitem__, self.places)


def _loop_context(iterable: Any, undefined: type[jinja2.Undefined], *more: Any) -> Any:
    """Give the items of a loop, each with its variable `loop`."""
    if type(iterable) is not _Some:
        return LoopContext(iterable, undefined, *more)
    loop, items = LoopContext((), undefined), [*iterable.items, missing]
    loop._length = len(iterable.items)

    def at(place: int) -> tuple[Any, LoopContext]:
        loop.index0, loop._before, loop._after = place, items[place - 1], items[place + 1]
        return items[place], loop

    return map(at, iterable.places)


class Memo:
    """What the loops of a template gave for the messages of one conversation.

    All renderings with one memo have the same variables, apart from the messages, which
    are the first of those given here, and `add_generation_prompt`.

    Args:
        sites: of the template.
        messages: of the conversation; whoever keeps a memo keeps them unchanged.
        others: what else is the same object in each rendering: tools.

    Attributes:
        runs: how often the body of a loop was run.
    """

    def __init__(
        self, sites: Sequence[Site], messages: Sequence[Any], others: Sequence[Any] = ()
    ) -> None:
        self.runs, self._sites = 0, sites
        # Kept, so that nothing else can come to have their identity.
        self._items = {id(item): item for item in (*messages, *others)}
        self._all_ids = frozenset(self._items)
        self._holds: dict[tuple[jinja2.Template, int], bool] = {}
        self._last: dict[Any, _Run] = {}
        self._out: list[str] = []

    def render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render a template whose loops run over `Memo.each`."""
        template.root_render_func.__globals__["LoopContext"] = _loop_context
        self._out = out = []
        for piece in template.root_render_func(
            template.new_context({**variables, EACH: self.each})
        ):
            # One at a time: when a loop asks for its next item, all before it is there.
            out.append(piece)  # noqa: PERF402
        return "".join(out)

    @jinja2.pass_context
    def each(self, context: Context, number: int, items: Any) -> Any:
        """Return what a loop goes over: `items`, or those for which its body has to run."""
        site = self._sites[number]
        try:
            ids = self._ids(items)
            last = self._last.get((number, ()))
            if last and not site.reads and not site.written and last.lists == [ids]:
                self._out += last.texts  # as that of tools
                return ()
            reads = [self._read(context, *read) for read in site.reads]
            slots = [(_held(context, name), attr, is_read) for name, attr, is_read in site.written]
            values, lists, facts = site.facts(ids, *reads)
            run = _Run(lists, facts, [], [], [])
            places = self._places((number, values), run, slots, self._state(slots))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (whatever it is: Jinja decides what it means)
            return items
        return _Some(items, places)

    def _places(
        self, outer: tuple[Any, ...], run: _Run, slots: Sequence[_Slot], state: tuple[Any, ...]
    ) -> Iterator[int]:
        """Yield where the body has to run; write and set for each other item what it did before.

        Not all that a body sets can be kept: a generator may be used up by whoever reads it. From
        there on the body runs for all.
        """
        out, size, at, last = self._out, len(run.lists[0]), 0, self._last.pop(outer, run)
        alike = last.alike(run)
        while at < size:
            stop = at
            for shift, end in alike:
                if 0 <= at - shift < end and (not slots or last.states[at - shift] == state):
                    stop = last.same_until(run, shift, at - shift, end) + shift
                    again = slice(at - shift, stop - shift)
                    if stop > at:
                        break
            if stop > at:
                out += last.texts[again]
                run.texts.extend(last.texts[again])
                changes = list(itertools.chain.from_iterable(last.sets[again]))
                run.states.extend(last.states[again])
                run.sets.extend(last.sets[again])
                for index, value in changes:
                    slots[index][0][slots[index][1]] = value
            else:
                stop, start, before = at + 1, len(out), _set_aside(slots) if slots else []
                self.runs += 1
                yield at
                changes = _changes(slots, before) if slots else []
                try:
                    _ = [self._value(value) for _, value in changes]
                except _PlainError:
                    break
                run.texts.append(out[start] if len(out) == start + 1 else "".join(out[start:]))
                if slots:
                    run.states.append(state)
                    run.sets.append(changes)
            at, state = stop, self._state(slots) if changes else state
        else:
            self._last[outer] = run
            if len(self._last) > _KEPT * len(self._sites):
                del self._last[next(iter(self._last))]
        self.runs += max(0, size - at - 1)
        yield from range(at + 1, size)

    def _state(self, slots: Sequence[_Slot]) -> tuple[Any, ...]:
        """Return what the body reads of what it sets."""
        return tuple(
            self._value(space.get(attr, _MISSING)) for space, attr, is_read in slots if is_read
        )

    def _read(
        self, context: Context, name: str, attribute: str | None, what: str | jinja2.Template
    ) -> Any:
        """Return what the facts take of a variable or an attribute."""
        value = context.resolve(name)
        if attribute is not None:
            value = _held(context, name).get(attribute, _MISSING)
        if what == "value":
            return self._value(value)
        if what == "number" and type(value) in {bool, int}:
            return value
        ids = self._ids(value)
        return ids if isinstance(what, str) else self._last_place(what, ids)

    def _value(self, value: Any) -> tuple[Any, ...]:
        """Return what stands for a value: true is not one, and a message is itself alone."""
        if type(value) in {bool, int, str, type(None)}:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # which an error would tell from others
            return type(value), value._undefined_message, value._undefined_exception
        if value is _MISSING or id(value) in self._items:
            return (id(value),)
        raise _PlainError

    def _ids(self, items: Any) -> list[int]:
        """Tell which messages these are."""
        ids = list(map(id, items)) if type(items) is list else [0]
        if not self._all_ids.issuperset(ids):
            raise _PlainError
        return ids

    def _last_place(self, condition: jinja2.Template, ids: list[int]) -> int:
        """Return the place of the last message that fulfills a condition; -1 if none does."""
        for place in range(len(ids) - 1, -1, -1):
            key = condition, ids[place]
            if key not in self._holds:
                context = condition.new_context({"messages": [self._items[ids[place]]]})
                self._holds[key] = "".join(condition.root_render_func(context)) != ""
            if self._holds[key]:
                return place
        return -1


def _held(context: Context, name: str) -> dict[str, Any]:
    """Return the attributes of a namespace."""
    space = context.resolve(name)
    if type(space) is not Namespace:
        raise _PlainError
    return attributes(space)


def _set_aside(slots: Sequence[_Slot]) -> list[Any]:
    """Return what the slots hold; those that are not read are emptied, to see if they are set."""
    return [(space.get if read else space.pop)(attr, _MISSING) for space, attr, read in slots]


def _changes(slots: Sequence[_Slot], before: Sequence[Any]) -> _Changes:
    """Return what was set since `_set_aside`."""
    changes = []
    for index, (space, attr, is_read) in enumerate(slots):
        value, old = space.get(attr, _MISSING), before[index]
        if value is _MISSING and old is not _MISSING:
            space[attr] = old
        elif value is not (old if is_read else _MISSING):
            changes.append((index, value))
    return changes


def _begin_alike(one: list[int], other: list[int]) -> bool:
    """Tell whether one of two lists is the beginning of the other."""
    size = min(len(one), len(other))
    return one[:size] == other[:size]
