"""Renderings of longer and longer beginnings of a conversation, each message rendered once.

    {% for message in messages %}          the first message   seen in these circumstances: its text
    {%- if message.role == "user" … %}  →  the second          seen: its text
    {% endfor %}                           the last            new: the body of the loop runs

Every view of a conversation is rendered from its start, and nearly all of a rendering is what
the one before it was. What the body of a loop makes of a message depends on the message and
on what else the body reads: whether it is the last, where the last request stands, what the
message beside it is. `reasonpack.loops` finds for each outermost loop all that its body reads from
outside, and lets it run over `Memo.each(messages)`, which gives it only those messages that it did
not yet see with these values, and writes for the others what it gave then. What a body set of
namespaces is kept beside the text, and set again; what it notes of each message behind its own is
found once. So the text is the same by construction, not by comparison.

Where a loop begins, or goes on, as it did the last time, not even that is looked up for each
message: the texts of the last time are taken over as far as nothing the body reads can differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jinja2
from jinja2.runtime import Context, LoopContext
from jinja2.utils import Namespace

from reasonpack.inlined import attributes
from reasonpack.loops import ITEMS, LOOP, SCALARS, Site

__all__ = ["Loop", "Memo", "prepare"]


class Loop:
    """Jinja's variable `loop`, as far as a body that is remembered can read it."""

    __slots__ = ("_items", "first", "index0", "last")

    def __init__(self, at: int, items: Sequence[Any]) -> None:
        self._items, self.index0 = items, at
        self.first, self.last = at == 0, at == len(items) - 1

    @property
    def index(self) -> int:
        """The place, from 1."""
        return self.index0 + 1

    @property
    def length(self) -> int:
        """How many items there are."""
        return len(self._items)

    @property
    def revindex0(self) -> int:
        """The place from the end, from 0."""
        return len(self._items) - self.index0 - 1

    @property
    def revindex(self) -> int:
        """The place from the end, from 1."""
        return len(self._items) - self.index0

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

    __slots__ = ("_at", "_site", "values")

    def __init__(self, site: Site, read: Sequence[Any]) -> None:
        self._site = site
        self._at = [(attributes(read[space]), attribute) for space, attribute in site.state]
        self.values = [space.get(attribute, _MISSING) for space, attribute in self._at]

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
            space, attribute = self._at[index]
            before, value = self.values[index], space.get(attribute, _MISSING)
            if value is _UNSET:
                space[attribute] = before
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
    tails: list[list[_Noted]]
    known: list[_Known]
    texts: list[str]
    changes: list[tuple[int, _Changes]]

    def take_over(self, before: _Run, items: slice) -> int:
        """Add what some items gave in a run before; return how many."""
        start, stop = items.start, items.stop
        for at, changes in before.changes:
            if start <= at < stop:
                self.state.set(changes)
                self.changes.append((at + len(self.texts) - start, changes))
        self.known += before.known[items]
        self.texts += before.texts[items]
        return int(stop - start)


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
        self._whole: Any = None
        self._whole_ordinals: list[int] | None = None

    def render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render a template to which `remembering` and `prepare` were applied."""
        context = template.new_context({**variables, LOOP: self.each})
        self._out = out = []
        self._whole = None
        self._whole_ordinals = self._known_ordinals(variables.get("messages"))
        self._whole = variables.get("messages")
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
        before = self._last.get(number)
        if before is not None and not site.names and before.items == self._known_ordinals(iterable):
            self._out += before.texts  # nothing but the items counts, as with tools
            return _Pass(iterable, iter(()))
        read = tuple(map(context.resolve, site.names))
        run = self._started(site, iterable, read)
        outer = self._outer(number, site, read) if site.scalars else (number,)
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
            items = {ITEMS: [self._kept[ordinal]]}
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
        state, values, items, places = run.state, run.state.values, run.items, run.places
        read, tails, low, make_key, length = run.read, run.tails, site.low, site.key, len(items)
        at, known = 0, self._known_in(outer, site, state)
        while at < length and known is not None:
            if before is not None:
                again = None
                if low <= at < start and before.known[at] is known:
                    again = slice(at, start)
                elif shift is not None and at >= shift and before.known[at - shift] is known:
                    again = slice(at - shift, len(before.texts))
                if again is not None:
                    out += before.texts[again]
                    at += run.take_over(before, again)
                    if site.raw:
                        known = self._known_in(outer, site, state)
                    continue
            key = make_key(items[at], items, at, length, _at, places, read, values, tails)
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
        if over is None:
            return None
        places: dict[int, list[int]] = {}
        for index in site.lists:
            ordinals = over if read[index] is items else self._known_ordinals(read[index])
            if ordinals is None:
                return None
            places[index] = ordinals
        for space, _ in site.state:
            if type(read[space]) is not Namespace:
                return None
        state = _State(site, read)
        numbers: tuple[Any, ...] = ()
        if site.reach:
            numbers = (*(read[x] for x in site.numbers), *(state.values[x] for x in site.counted))
            if not all(type(number) in {bool, int} for number in numbers):
                return None
        return _Run(over, places, read, state, numbers, [], [], [], [])

    def _known_ordinals(self, items: Any) -> list[int] | None:
        """Tell which messages these are; None if it is no list of messages alone."""
        if type(items) is not list:
            return None
        if items is self._whole:
            return self._whole_ordinals
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
        if type(value) in SCALARS:
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
    old, new = before.items, run.items
    more, kept = len(new) - len(old), _common(old, new)
    same = {-1: kept}
    for index in site.lists:
        was, now = before.places[index], run.places[index]
        if len(now) - len(was) != more:
            return 0, None
        same[index] = kept if was is old and now is new else _common(was, now)
    like = _alike(site, before.numbers, run.numbers) if site.reach else None
    if site.high is not None and all(place < same[index] for index, place in site.fixed):
        start = min(kept, len(old) - site.high, len(new) - site.high)
        if like is not None:
            start = min(start, like)
        for index, distance in site.beside:
            start = min(start, same[index] - distance)
        for tail, was_noted, is_noted in zip(site.tails, before.tails, run.tails, strict=True):
            start = min(start, _common(was_noted, is_noted) - tail.offset)
    if site.from_end and more >= 0 and like is None and new[more:] == old:
        shift = more
    return start, shift


def _alike(site: Site, before: tuple[Any, ...], now: tuple[Any, ...]) -> int | None:
    """Count the items whose places lie the same way of all numbers as before; None for all.

    A place that is below both the old number and the new compares the same with them.
    """
    counts = [
        0 if reach is None else max(0, min(old, new) - reach)
        for reach, old, new in zip(site.reach, before, now, strict=True)
        if type(old) is not type(new) or old != new
    ]
    return min(counts, default=None)


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
