"""Renderings of longer and longer beginnings of a conversation, each message written once.

    {% for message in messages %}          the first message   nothing differs for it: its text
    {%- if message.role == "user" … %}  →  the second          nothing differs: its text
    {% endfor %}                           the last            new: the body of the loop runs

Each outermost loop goes over `Memo.each(messages)`, which gives its body only those messages whose
facts (`loop_facts`) are new; for the others it writes and sets what the body did. A rendering asks
for the facts of every message, which takes about 0.3 µs for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import Any

import jinja2
from jinja2.nodes import Impossible
from jinja2.runtime import Context
from jinja2.utils import Namespace, missing

from reasonpack.templates.code import Some, attributes
from reasonpack.templates.loop_facts import Site
from reasonpack.templates.written import Written

_MOST = 8
"""Texts of each message and loop after which all are dropped: some loops write ever new ones."""
_set_again = dict[str, Any].__setitem__


class _Space(dict[str, Any]):
    """The attributes of a namespace, which notes in `sets` what a template sets."""

    def __init__(self, space: Any, name: str, sets: dict[tuple[str, str], Any]) -> None:
        super().__init__(attributes(space))
        if getattr(attributes(space), "sets", None) is sets:
            raise Impossible  # a namespace has two names
        self.name, self.sets = name, sets
        space._Namespace__attrs = self

    def __setitem__(self, attribute: str, value: Any) -> None:
        self.sets[self.name, attribute] = value
        super().__setitem__(attribute, value)


class Memo:
    """What the loops of a template gave for the messages of one conversation.

    All renderings with one memo have the same variables, apart from `add_generation_prompt` and the
    messages, which are the first of those given here.

    Args:
        sites: of the template; none where all bodies are to run.
        items: the messages, then what else is the same object in each rendering: tools. Nobody
            changes them.

    Attributes:
        written: which texts of the last rendering its loops wrote of which message.
        runs: how often the body of a loop was run that may not have had to.
    """

    def __init__(self, sites: Sequence[Site], items: Sequence[Any]) -> None:
        self.written, self.runs = Written(), 0
        self._sites, self._room, self._kept = sites, -1, dict[int, Any]()
        self._out, self._loops = list[str](), list[tuple[range, int]]()
        # What has to be the same → facts of an item → its text, or (text, what is set, what is done
        # behind it).
        self._done: dict[Any, dict[Any, Any]] = {}
        self.go_on(items)

    def go_on(self, items: Sequence[Any]) -> None:
        """Let the conversation be this one; what was written of the same messages is kept."""
        self._ids = [*map(id, items)]
        self._place = {each: place for place, each in enumerate(self._ids)}
        self._kept.update(zip(self._ids, items, strict=True))  # so that no other has their identity

    def render(self, pieces: Iterable[str]) -> str:
        """Take a rendering in its pieces."""
        if self.runs > self._room:
            self._room = self.runs + _MOST * len(self._sites) * len(self._ids)
            self._kept = {each: self._kept[each] for each in self._ids}
            self._done = {}
        self._out, self._loops = [], []
        # One at a time: when a loop asks for its next item, all before it is there.
        for piece in pieces:
            self._out.append(piece)
        self.written = Written("".join(self._out), self._out, self._loops)
        return self.written.text

    def each(self, context: Context, items: Any, number: int) -> Any:
        """Return what a loop goes over: `items`, or those for which its body has to run."""
        places, ids = self._part(items)
        self._loops.append((places, len(self._out)))
        return Some(items, self._run(context, number, ids)) if ids and self._sites else items

    def _run(self, context: Context, number: int, ids: list[int]) -> Iterator[int]:
        """Yield where the body has to run; write and set for each other item what it did before.

        Once something that it reads or sets cannot be kept, it runs for all that are left.
        """
        site, out, at = self._sites[number], self._out, -1
        sets: dict[tuple[str, str], Any] = {}
        try:
            named = {name: context.resolve(name) for name in site.names}
            spaces = {x: _Space(y, x, sets) for x, y in named.items() if type(y) is Namespace}
            reads = [self._read(context, *each) for each in site.reads]
            done = self._now(context, number)
            for at, key in enumerate(site.keys(len(ids), [*ids, None], *reads)):
                if type(found := done.get(key)) is str:
                    out.append(found)
                elif found:
                    text, changes, done = found
                    out.append(text)
                    for (name, attribute), value in changes:
                        _set_again(spaces[name], attribute, value)
                else:
                    self.runs += 1
                    sets.clear()
                    yield at
                    text, before = out[-1], done
                    for value in sets.values():
                        self._value(value)  # if it can be kept
                    done = self._now(context, number) if sets else done
                    before[key] = (text, [*sets.items()], done) if sets else text
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (whatever it is: Jinja decides what it means)
            yield from range(at + 1, len(ids))

    def _now(self, context: Context, number: int) -> dict[Any, Any]:
        """Return what was done where all that has to be the same is as now."""
        now = [self._value(context.resolve(name), of) for name, of in self._sites[number].values]
        return self._done.setdefault((number, *now), {})

    def _read(self, context: Context, name: str, attribute: str | None, what: Any) -> Any:
        """Return what counts of a variable, or of its attribute: it has to be a namespace."""
        value: Any = context.resolve(name)
        if what == "number":
            return index(attributes(value)[attribute] if attribute else value)
        if what == "length":
            return len(value)
        ids = self._part(value)[1]
        if what == "list":
            return ids
        known = self._done.setdefault(what, {})
        known.update((each, what(self._kept[each])) for each in ids if each not in known)
        return max((place for place, each in enumerate(ids) if known[each]), default=-1)

    def _part(self, items: Any) -> tuple[range, Any]:
        """Return of a list of messages their places, if one is behind the other, and identities.

        There are none, which is an error where they are read, if others are in it.
        """
        ids = [*map(id, items)] if type(items) is list else [0]
        first = self._place.get(ids[0], 0) if ids else 0
        if ids == self._ids[first : first + len(ids)]:
            return range(first, first + len(ids)), ids
        return range(0), ids if self._place.keys() >= {*ids} else None

    def _value(self, value: Any, attribute: str | None = None) -> tuple[Any, ...]:
        """Return what stands for a value, or for its attribute if it is a namespace.

        True is not one, and a message is itself alone.

        Raises:
            Impossible: it cannot be kept; of a generator nothing is left when it was read.
        """
        if attribute and type(value) is Namespace:
            return Namespace, *self._value(attributes(value).get(attribute, missing))
        if type(value) in {bool, int, str, type(None)}:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # which an error would tell from others
            return type(value), value._undefined_message, value._undefined_exception
        if value is missing or id(value) in self._place:
            return (id(value),)
        raise Impossible
