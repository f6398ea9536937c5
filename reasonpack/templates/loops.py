"""Renderings of longer and longer beginnings of a conversation, each message written once.

    {% for message in messages %}          the first message   nothing differs for it: its text
    {%- if message.role == "user" … %}  →  the second          nothing differs: its text
    {% endfor %}                           the last            new: the body of the loop runs

Every view of a conversation is rendered from its start, and nearly all of a rendering is what the
one before it was. Each outermost loop goes over `Memo.each(messages)`, which gives its body only
those messages for which a fact of `loop_facts` differs from the last time; for the others it writes
and sets what the body did then. The messages are not looked at one by one for that: what is as it
was at both ends of a stretch was so between. It takes a few comparisons for each rendering.

A memo also says which text a loop wrote of which message, whether it was written again or not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeAlias

import jinja2
from jinja2.nodes import Impossible
from jinja2.runtime import Context
from jinja2.utils import missing

from reasonpack.templates.code import Some, attributes
from reasonpack.templates.loop_facts import EACH, Facts, Part, Site
from reasonpack.templates.written import Written

_ELSEWHERE = 1 << 40
"""The first place of what is no message of the conversation."""


def same_beginning(one: Sequence[object], other: Sequence[object]) -> int:
    """Count the objects that two lists begin with, both the same."""
    for count, (mine, its) in enumerate(zip(one, other, strict=False)):
        if mine is not its:
            return count
    return min(len(one), len(other))


class _Run(NamedTuple):
    """What a loop did with each of its items.

    Attributes:
        reads: the places of the items in the conversation, and what else the facts come from.
        facts: of the place of an item in the loop.
        texts: what it wrote.
        states: what it reads of what it sets, before.
        sets: attributes of namespaces that it set.
    """

    reads: list[Any]
    facts: Facts
    texts: list[str]
    states: list[tuple[Any, ...]]
    sets: list[list[tuple[tuple[str, str], Any]]]

    def same_until(self, last: _Run, shift: int, at: int, state: tuple[Any, ...]) -> int:
        """Return until where, from `at` on, all is as it was in another run, `shift` before."""
        stop, less = min(len(self.reads[0]), len(last.reads[0]) + shift), 1
        if not shift <= at < stop or last.states[at - shift] != state:
            return at
        if self.reads == last.reads:
            return stop
        if (first := self.facts(at)) != last.facts(at - shift):
            return at
        while (end := self.facts(stop - 1))[0] != first[0] or end != last.facts(stop - 1 - shift):
            stop, less = max(at + 1, stop - less), 2 * less
        return stop


class _Space(dict[str, Any]):
    """The attributes of a namespace, which notes in `sets` what a template sets."""

    def __init__(self, space: Any, name: str, sets: dict[tuple[str, str], Any]) -> None:
        super().__init__(attributes(space))
        self.name, self.sets = name, sets
        space._Namespace__attrs = self

    def __setitem__(self, attribute: str, value: Any) -> None:
        self.sets[self.name, attribute] = value
        super().__setitem__(attribute, value)


_Start: TypeAlias = tuple[
    tuple[Any, ...], _Run, Site, dict[str, _Space], dict[tuple[str, str], Any], tuple[Any, ...]
]


class Memo:
    """What the loops of a template gave for the messages of one conversation.

    All renderings with one memo have the same variables, apart from the messages, which
    are the first of those given here, and `add_generation_prompt`.

    Args:
        sites: of the template.
        messages: of the conversation; whoever keeps a memo keeps them unchanged.
        others: what else is the same object in each rendering: tools.
        remembers: write what was written before, where nothing differs; else all bodies run.

    Attributes:
        runs: how often the body of a loop was run.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        messages: Sequence[Any],
        others: Sequence[Any] = (),
        *,
        remembers: bool = True,
    ) -> None:
        self.runs, self._sites, self._remembers = 0, sites, remembers
        self._items = [*messages]  # kept: nothing else can come to have their identity
        self._others = [*others]
        self._ids, self._other_ids = [*map(id, messages)], [*map(id, others)]
        self._place = {each: place for place, each in enumerate(self._ids)}
        self._place |= {each: place for place, each in enumerate(self._other_ids, _ELSEWHERE)}
        self._holds: dict[Part, list[bool]] = {}
        self._last: dict[Any, _Run] = {}
        self._out, self._text = list[str](), ""
        self._loops: list[tuple[range, list[int]]] = []
        self._whole: tuple[Any, range] = self, range(0)

    def go_on(self, messages: Sequence[Any]) -> None:
        """Let the conversation be this one; what was rendered of what it begins with is kept.

        Whoever calls this keeps the messages before, too.
        """
        same, new = same_beginning(self._items, messages), [*map(id, messages)]
        self._last = {
            outer: run
            for outer, run in self._last.items()
            if all(_is_before(same, each) for each in run.reads)
        }
        for holds in self._holds.values():
            del holds[same:]
        for each in self._ids[same:]:
            self._place.pop(each, None)
        self._place |= {each: place for place, each in enumerate(new[same:], same)}
        self._items, self._ids = [*messages], new

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Render what the next rendering does not go on with."""
        last = dict(self._last)
        try:
            yield
        finally:
            self._last = last

    def render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render a template whose loops run over `Memo.each`."""
        render = template.root_render_func
        self._loops = []
        self._out = out = []
        self._whole = self, range(0)
        with contextlib.suppress(Impossible):
            self._whole = variables["messages"], self._range(variables["messages"])
        for piece in render(template.new_context({**variables, EACH: self.each})):
            # One at a time: when a loop asks for its next item, all before it is there.
            out.append(piece)  # noqa: PERF402
        self._text = "".join(out)
        return self._text

    def each(self, context: Context, number: int, items: Any) -> Any:
        """Return what a loop goes over: `items`, or those for which its body has to run."""
        try:
            places, begun = self._range(items), list[int]()
        except Impossible:
            return items
        self._loops.append((places, begun))
        if self._remembers:
            with contextlib.suppress(Impossible):
                return Some(items, self._run_some(self._start(context, number, places), begun))
        return Some(items, self._run_all(begun, range(len(places))))

    def written(self) -> Written:
        """Return what the loops of the last rendering wrote of which message."""
        return Written(self._text, self._out, self._loops)

    def _run_all(self, begun: list[int], places: range) -> Iterator[int]:
        """Yield all places, and note where each begins."""
        for place in places:
            begun.append(len(self._out))
            yield place
        begun.append(len(self._out))
        self.runs += len(places)

    def _start(self, context: Context, number: int, mine: range) -> _Start:
        """Read what the body of a loop reads; raise Impossible if it has to run for all."""
        site, sets = self._sites[number], dict[tuple[str, str], Any]()
        try:
            reads = [mine, *[self._read(context, *each) for each in site.reads]]
            run = _Run(reads, site.facts(*reads), [], [], [])
            spaces = {name: _Space(context.resolve(name), name, sets) for name in site.spaces}
            state = self._state(site, spaces)
        except MemoryError:
            raise
        except Exception as error:  # whatever it is: Jinja decides what it means
            raise Impossible from error
        outer = (number, *[each for each in reads if type(each) is tuple])
        return outer, run, site, spaces, sets, state

    def _run_some(self, start: _Start, begun: list[int]) -> Iterator[int]:
        """Yield where the body has to run; write and set for each other item what it did before.

        Not all that a body sets can be kept: a generator may be used up by whoever reads it. From
        there on the body runs for all.
        """
        outer, run, site, spaces, sets, state = start
        out, at, mine, last = self._out, 0, run.reads[0], self._last.pop(outer, None)
        last = last or _Run([mine[:0]], run.facts, [], [], [])
        shift = (last.reads[0].start - mine.start) * mine.step
        while at < len(mine):
            first = len(out)
            if (stop := run.same_until(last, shift, at, state)) > at:
                before = slice(at - shift, stop - shift)
                out += last.texts[before]
                begun.extend(range(first, len(out)))
                run.texts.extend(last.texts[before])
                run.states.extend(last.states[before])
                run.sets.extend(last.sets[before])
                changes = dict(chain.from_iterable(last.sets[before])) if spaces else {}
                for (name, attribute), value in changes.items():
                    spaces[name][attribute] = value
            else:
                sets.clear()
                begun.append(first)
                self.runs, stop = self.runs + 1, at + 1
                yield at
                if sets and not all(map(self._is_known, sets.values())):
                    yield from self._run_all(begun, range(stop, len(mine)))
                    return
                run.texts.append("".join(out[first:]))
                run.states.append(state)
                run.sets.append([*sets.items()])
                changes = sets
            if changes:
                state = self._state(site, spaces)
            at = stop
        self._last[outer] = run
        if len(self._last) > 4 * len(self._sites):  # some have a value that is always new
            del self._last[next(iter(self._last))]
        begun.append(len(out))

    def _is_known(self, value: Any) -> bool:
        """Tell whether a value can be kept."""
        try:
            return bool(self._value(value))
        except Impossible:
            return False

    def _state(self, site: Site, spaces: Mapping[str, _Space]) -> tuple[Any, ...]:
        """Return what the body reads of what it sets."""
        return tuple([self._value(spaces[name].get(key, missing)) for name, key in site.state])

    def _read(self, context: Context, name: str, attribute: str | None, what: Part) -> Any:
        """Return what counts of a variable, or of an attribute of a namespace."""
        value: Any = context.resolve(name)
        if attribute is not None:
            value = attributes(value).get(attribute, missing)
        if what == "value":
            return self._value(value)
        if what == "number":
            if type(value) not in {bool, int}:
                raise Impossible
            return value
        places = self._range(value)
        if isinstance(what, str):
            return places
        holds = self._holds.setdefault(what, [])
        holds.extend(map(what, self._items[len(holds) : max(places[0], places[-1]) + 1]))
        return next((at for at in range(len(places) - 1, -1, -1) if holds[places[at]]), -1)

    def _range(self, items: Any) -> range:
        """Return the places of a list's items in the conversation: it is a part of it, or back."""
        if items is self._whole[0]:
            return self._whole[1]
        ids = list(map(id, items)) if type(items) is list else [0]
        if not ids:
            return range(0)
        first, last = self._place.get(ids[0], -1), self._place.get(ids[-1], -1)
        step = 1 if first <= last else -1
        known, begin = (self._ids, 0) if first < _ELSEWHERE else (self._other_ids, _ELSEWHERE)
        if ids != known[min(first, last) - begin : max(first, last) - begin + 1][::step]:
            raise Impossible
        return range(first, last + step, step)

    def _value(self, value: Any) -> tuple[Any, ...]:
        """Return what stands for a value: true is not one, and a message is itself alone."""
        if type(value) in {bool, int, str, type(None)}:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # which an error would tell from others
            return type(value), value._undefined_message, value._undefined_exception
        if value is missing or id(value) in self._place:
            return (id(value),)
        raise Impossible


def _is_before(place: int, read: Any) -> bool:
    """Tell whether what was read has no message of the conversation from a place on."""
    if type(read) is not range or not read:
        return True
    return max(read[0], read[-1]) < place or min(read[0], read[-1]) >= _ELSEWHERE
