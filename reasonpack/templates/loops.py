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
from typing import Any, TypeAlias

import jinja2
from jinja2.nodes import Impossible
from jinja2.runtime import Context
from jinja2.utils import Namespace, missing

from reasonpack.templates.code import Some, attributes
from reasonpack.templates.loop_facts import Part, Site
from reasonpack.templates.written import Written

_MOST = 8
"""Texts of each message and loop after which all are dropped: some loops write ever new ones."""
_set_again = dict[str, Any].__setitem__
_Sets: TypeAlias = dict[tuple[str, str], Any]
"""(namespace, attribute) → what it was set to."""
_Done: TypeAlias = dict[Any, Any]
"""The facts of an item → its text, or (text, what was set, the `_Done` that holds behind it)."""


class _Space(dict[str, Any]):
    """The attributes of a namespace, which notes in `sets` what a template sets."""

    def __init__(self, space: Any, name: str, sets: _Sets) -> None:
        super().__init__(attributes(space))
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
        self._sites, self._room, self._out = sites, -1, list[str]()
        self._loops: list[tuple[range, list[int]]] = []
        self._done: dict[Any, _Done] = {}
        self._kept: dict[int, Any] = {}
        self.go_on(items)

    def go_on(self, items: Sequence[Any]) -> None:
        """Let the conversation be this one; what was written of the same messages is kept."""
        self._ids = [*map(id, items)]
        self._place = {each: place for place, each in enumerate(self._ids)}
        self._kept.update(zip(self._ids, items, strict=True))  # so that no other has their identity

    def render(self, pieces: Iterable[str | None]) -> str:
        """Take a rendering in its pieces; None stands where a loop is over with an item."""
        if self.runs > self._room:
            self._room = self.runs + _MOST * len(self._sites) * len(self._ids)
            self._kept = {each: self._kept[each] for each in self._ids}
            self._done = {}
        self._out, self._loops = out, loops = list[str](), list[tuple[range, list[int]]]()
        # One at a time: when a loop asks for its next item, all before it is there.
        for piece in pieces:
            if piece is None:
                loops[-1][1].append(len(out))
            else:
                out.append(piece)
        self.written = Written("".join(out), out, loops)
        return self.written.text

    def each(self, context: Context, number: int, items: Any) -> Any:
        """Return what a loop goes over: `items`, or those for which its body has to run."""
        places, ids = self._part(items)
        begun = [len(self._out)]
        self._loops.append((places, begun))
        known = ids and self._sites
        return Some(items, self._run(context, number, ids, begun)) if known else items

    def _run(
        self, context: Context, number: int, ids: list[int], begun: list[int]
    ) -> Iterator[int]:
        """Yield where the body has to run; write and set for each other item what it did before.

        Once something that it reads or sets cannot be kept, it runs for all that are left.
        """
        site, out, sets, at = self._sites[number], self._out, _Sets(), -1
        try:
            if len({id(context.resolve(name)) for name in site.names}) < len(site.names):
                raise Impossible  # a namespace has two names
            reads = [self._read(context, *each) for each in site.reads]
            values = number, *[each for each in reads if type(each) is tuple]
            spaces = {name: _Space(context.resolve(name), name, sets) for name in site.spaces}
            done = self._now(values, site, spaces)
            for at, key in enumerate(site.keys(len(ids), ids, *reads)):
                if type(found := done.get(key)) is str:
                    out.append(found)
                elif found:
                    text, changes, done = found
                    out.append(text)
                    for (name, attribute), value in changes:
                        _set_again(spaces[name], attribute, value)
                else:
                    begun.extend(range(begun[-1] + 1, len(out) + 1))  # a piece is one item's
                    self.runs += 1
                    sets.clear()
                    yield at
                    text, before = "".join(out[begun[-2] :]), done
                    for value in sets.values():
                        self._value(value)
                    done = self._now(values, site, spaces) if sets else done
                    before[key] = (text, [*sets.items()], done) if sets else text
            begun.extend(range(begun[-1] + 1, len(out) + 1))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (whatever it is: Jinja decides what it means)
            yield from range(at + 1, len(ids))

    def _now(self, values: tuple[Any, ...], site: Site, spaces: dict[str, _Space]) -> _Done:
        """Return what was done where the body reads these values, and of namespaces what is set."""
        state = [self._value(spaces[name].get(each, missing)) for name, each in site.state]
        return self._done.setdefault((*values, *state), {})

    def _read(self, context: Context, name: str, attribute: str | None, what: Part) -> Any:
        """Return what counts of a variable, or of its attribute if it is a namespace."""
        value: Any = context.resolve(name)
        is_space = type(value) is Namespace or what == "number"
        if attribute is not None and is_space:
            value = attributes(value).get(attribute, missing)
        if what == "value":
            return is_space, *self._value(value)
        if what == "number":
            return index(value)
        if what == "length":
            return len(value)
        ids = self._part(value)[1]
        if isinstance(what, str):
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

    def _value(self, value: Any) -> tuple[Any, ...]:
        """Return what stands for a value: true is not one, and a message is itself alone.

        Raises:
            Impossible: it cannot be kept; of a generator nothing is left when it was read.
        """
        if type(value) in {bool, int, str, type(None)}:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # which an error would tell from others
            return type(value), value._undefined_message, value._undefined_exception
        if value is missing or id(value) in self._place:
            return (id(value),)
        raise Impossible
