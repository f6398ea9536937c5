"""Renderings of longer and longer beginnings of a conversation, each message written once.

    {% for message in messages %}          the first message   nothing differs for it: its text
    {%- if message.role == "user" … %}  →  the second          nothing differs: its text
    {% endfor %}                           the last            new: the body of the loop runs

Every view of a conversation is rendered from its start, and nearly all of a rendering is what the
one before it was. Each outermost loop goes over `Memo.each(messages)`, which gives its body only
those messages whose facts (`loop_facts`) are new; for the others it writes and sets what the body
did. A rendering asks for the facts of every message, which takes about 0.2 µs for each.

A memo also says which text a loop wrote of which message, whether it was written again or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

import jinja2
from jinja2.nodes import Impossible
from jinja2.runtime import Context
from jinja2.utils import missing

from reasonpack.templates.code import Some, attributes
from reasonpack.templates.loop_facts import Part, Site
from reasonpack.templates.written import Written

_MOST = 8
"""Texts of each message and loop after which all are dropped: some loops write ever new ones."""
_Sets: TypeAlias = dict[tuple[str, str], Any]
"""(namespace, attribute) → what it was set to."""
_Done: TypeAlias = dict[Any, Any]
"""The key of an item → its text, or (text, what was set, the `_Done` that holds from there on)."""


class _Space(dict[str, Any]):
    """The attributes of a namespace, which notes in `sets` what a template sets."""

    def __init__(self, space: Any, name: str, sets: _Sets) -> None:
        super().__init__(attributes(space))
        self.name, self.sets = name, sets
        space._Namespace__attrs = self

    def __setitem__(self, attribute: str, value: Any) -> None:
        self.sets[self.name, attribute] = value
        super().__setitem__(attribute, value)


_Spaces: TypeAlias = dict[str, _Space]


class Memo:
    """What the loops of a template gave for the messages of one conversation.

    All renderings with one memo have the same variables, apart from the messages, which
    are the first of those given here, and `add_generation_prompt`.

    Args:
        sites: of the template; none where all bodies are to run.
        messages: of the conversation; nobody changes them.
        others: what else is the same object in each rendering: tools.

    Attributes:
        runs: how often the body of a loop was run that may not have had to.
    """

    def __init__(
        self, sites: Sequence[Site], messages: Sequence[Any], others: Sequence[Any] = ()
    ) -> None:
        self.runs, self._room, self._sites, self._others = 0, -1, sites, [*others]
        self._kept: dict[int, Any] = {}
        self._done: dict[tuple[Any, ...], _Done] = {}
        self._holds: dict[tuple[Part, int], bool] = {}
        self._out, self._text, self._sets = list[str](), "", _Sets()
        self._loops: list[tuple[range, list[int]]] = []
        self._asked: tuple[Any, tuple[range, list[int]]] = self, (range(0), [])
        self.go_on(messages)

    def go_on(self, messages: Sequence[Any]) -> None:
        """Let the conversation be this one; what was written of the same messages is kept."""
        items = [*messages, *self._others]
        self._ids = [*map(id, items)]
        self._place = {each: place for place, each in enumerate(self._ids)}
        self._kept.update(zip(self._ids, items, strict=True))  # so that no other has their identity

    def render(self, pieces: Iterable[str | None]) -> str:
        """Take a rendering in its pieces; None stands where a loop is over with an item."""
        if self.runs > self._room:
            self._room = self.runs + _MOST * len(self._sites) * len(self._ids)
            self._kept = {each: self._kept[each] for each in self._ids}
            self._done, self._holds = {}, {}
        self._loops, self._asked = [], (self, (range(0), []))
        self._out = out = list[str]()
        # One at a time: when a loop asks for its next item, all before it is there.
        for piece in pieces:
            if piece is None:
                self._loops[-1][1].append(len(out))
            else:
                out.append(piece)
        self._text = "".join(out)
        return self._text

    def written(self) -> Written:
        """Return what the loops of the last rendering wrote of which message."""
        return Written(self._text, self._out, self._loops)

    def each(self, context: Context, number: int, items: Any) -> Any:
        """Return what a loop goes over: `items`, or those for which its body has to run."""
        begun = [len(self._out)]
        try:
            places, ids = self._list(items)
        except Impossible:
            places, ids = range(0), []
        self._loops.append((places, begun))
        if not (ids and self._sites):
            return items
        site = self._sites[number]
        try:
            keys, spaces, done_now = self._start(context, number, site, ids)
            return Some(items, self._run(keys, spaces, done_now, done_now(), begun))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (whatever it is: Jinja decides what it means)
            return items

    def _start(
        self, context: Context, number: int, site: Site, ids: list[int]
    ) -> tuple[list[Any], _Spaces, Callable[[], _Done]]:
        """Return the keys of the items, the namespaces of the body, and what gives its `_Done`.

        Raises:
            Impossible: what the body reads, or later what it set, cannot be kept: of a generator
                nothing is left when it was read. The body has to run for all.
        """
        self._sets.clear()
        reads = [self._read(context, *each) for each in site.reads]
        spaces = {name: _Space(context.resolve(name), name, self._sets) for name in site.spaces}
        values = number, *[each for each in reads if type(each) is tuple]

        def done_now() -> _Done:
            for value in self._sets.values():
                self._value(value)
            state = [self._value(spaces[name].get(key, missing)) for name, key in site.state]
            return self._done.setdefault((*values, *state), {})

        return site.keys(len(ids), ids, *reads), spaces, done_now

    def _run(
        self,
        keys: list[Any],
        spaces: _Spaces,
        done_now: Callable[[], _Done],
        done: _Done,
        begun: list[int],
    ) -> Iterator[int]:
        """Yield where the body has to run; write and set for each other item what it did before."""
        out, sets, late, at = self._out, self._sets, _Sets(), 0
        while True:
            first = len(out)
            for key in islice(keys, at, None):
                if type(found := done.get(key)) is str:
                    out.append(found)
                elif found:
                    text, changes, done = found
                    out.append(text)
                    late.update(changes)
                else:
                    break
            begun.extend(range(first + 1, len(out) + 1))
            at += len(out) - first
            for (name, attribute), value in late.items():
                spaces[name][attribute] = value
            if at == len(keys):
                return
            self.runs += 1
            sets.clear()
            late.clear()
            yield at
            at += 1
            text = "".join(out[begun[-2] :])
            if not sets:
                done[key] = text
                continue
            try:
                after = done_now()
            except Impossible:
                yield from range(at, len(keys))
                return
            done[key] = text, {**sets}, after
            done = after

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
        if what == "length":
            return len(value)
        _, ids = self._list(value)
        return ids if what == "list" else self._last(what, ids)

    def _last(self, holds: Any, ids: list[int]) -> int:
        """Return the last place where a message has a property, or -1; each is asked once."""
        for place in range(len(ids) - 1, -1, -1):
            key = holds, ids[place]
            if key not in self._holds:
                self._holds[key] = holds(self._kept[ids[place]])
            if self._holds[key]:
                return place
        return -1

    def _list(self, items: Any) -> tuple[range, list[int]]:
        """Return of a list the places of its items in the conversation, and their identities.

        Raises:
            Impossible: it is not a part of the conversation, in its order or back.
        """
        if items is self._asked[0]:
            return self._asked[1]
        ids = [*map(id, items)] if type(items) is list else [0]
        if not ids:
            return range(0), ids
        first, last = self._place.get(ids[0], -1), self._place.get(ids[-1], -1)
        step = 1 if first <= last else -1
        if ids != self._ids[min(first, last) : max(first, last) + 1][::step]:
            raise Impossible
        self._asked = items, (range(first, last + step, step), ids)
        return self._asked[1]

    def _value(self, value: Any) -> tuple[Any, ...]:
        """Return what stands for a value: true is not one, and a message is itself alone."""
        if type(value) in {bool, int, str, type(None)}:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # which an error would tell from others
            return type(value), value._undefined_message, value._undefined_exception
        if value is missing or id(value) in self._place:
            return (id(value),)
        raise Impossible
