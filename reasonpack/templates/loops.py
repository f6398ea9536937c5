"""Renders longer and longer beginnings of a conversation, but each message only once.

    {% for message in messages %}          the first message   same facts: its text is reused
    {%- if message.role == "user" … %}  →  the second          same facts: its text is reused
    {% endfor %}                           the last            new: the body of the loop runs

Each outermost loop runs over `Memo.each(messages)`, which yields only messages whose facts
(`loop_facts`) are new; for the others it repeats the text and the assignments of the earlier run of
the body. A rendering computes the facts of every message, at about 0.3 µs per message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from operator import index
from typing import Any

import jinja2
from jinja2.nodes import Impossible
from jinja2.runtime import Context
from jinja2.utils import Namespace, missing

from reasonpack.templates.compiler import Selected, attributes
from reasonpack.templates.loop_facts import Site
from reasonpack.templates.message_places import MessagePlaces

_MOST_RUNS = 8
"""After so many new texts per message and loop all are dropped: some loops never repeat one."""
_set_again = dict[str, Any].__setitem__


class _Space(dict[str, Any]):
    """The attributes of a namespace; records in `sets` each attribute that a template sets."""

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
    """What a template's loops wrote for the messages of one conversation, to be reused.

    All renderings with one memo have the same variables, except for `add_generation_prompt` and
    `messages`, which is a beginning of the messages given here.

    Args:
        sites: the template's; empty if all bodies are to run each time.
        items: the messages, then the tools: the same objects in each rendering, never changed.

    Attributes:
        written: where in the last rendering the text of each message is.
        runs: how often the body of a loop with a site was run.
    """

    def __init__(self, sites: Sequence[Site], items: Sequence[Any]) -> None:
        self.written, self.runs = MessagePlaces(), 0
        self._sites, self._room, self._kept = sites, -1, dict[int, Any]()
        self._out, self._loops = list[str](), list[tuple[range, int]]()
        # Values read → facts of an item → its text, or (text, attributes set, the dict that
        # holds for the items after it).
        self._done: dict[Any, dict[Any, Any]] = {}
        self.set_items(items)

    def set_items(self, items: Sequence[Any]) -> None:
        """Replace the conversation; texts of messages that are in both are kept."""
        self._ids = [*map(id, items)]
        self._place = dict(zip(self._ids, range(len(items)), strict=True))
        if self._sites:
            self._kept.update(zip(self._ids, items, strict=True))  # so that no id is reused

    def render(self, pieces: Iterable[str]) -> str:
        """Join the pieces of a rendering, and set `written`."""
        if self._sites and self.runs > self._room:
            self._room = self.runs + _MOST_RUNS * len(self._sites) * len(self._ids)
            self._kept = {each: self._kept[each] for each in self._ids}
            self._done = {}
        self._out, self._loops = [], []
        # Not by `extend`: when a loop asks for its next item, `_run` reads the last piece.
        for piece in pieces:
            self._out.append(piece)
        self.written = MessagePlaces("".join(self._out), self._out, self._loops)
        return self.written.text

    def each(self, context: Context, items: Any, number: int) -> Any:
        """Return what a loop runs over: `items`, or those of them whose text is not known."""
        places, ids = self._places_and_ids(items)
        self._loops.append((places, len(self._out)))
        return Selected(items, self._run(context, number, ids)) if ids and self._sites else items

    def _run(self, context: Context, number: int, ids: list[int]) -> Iterator[int]:
        """Yield the indices of items for which the body has to run; repeat its effects for others.

        If the body reads or sets a value that cannot be compared, it runs for all remaining items.
        """
        site, out, at = self._sites[number], self._out, -1
        sets: dict[tuple[str, str], Any] = {}
        try:
            named = {name: context.resolve(name) for name in site.names}
            spaces = {x: _Space(y, x, sets) for x, y in named.items() if type(y) is Namespace}
            reads = [self._read(context, *each) for each in site.reads]
            done = self._done_now(context, number)
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
                        self._value(value)  # raises if it cannot be kept
                    done = self._done_now(context, number) if sets else done
                    before[key] = (text, [*sets.items()], done) if sets else text
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (the body then runs, and Jinja reports the error)
            yield from range(at + 1, len(ids))

    def _done_now(self, context: Context, number: int) -> dict[Any, Any]:
        """Return the known results (facts → text) for the current values of `Site.values`."""
        now = [self._value(context.resolve(name), of) for name, of in self._sites[number].values]
        return self._done.setdefault((number, *now), {})

    def _read(self, context: Context, name: str, attribute: str | None, what: Any) -> Any:
        """Return what the facts use of a variable or a namespace's attribute; see `Site.reads`."""
        value: Any = context.resolve(name)
        if what == "number":
            return index(attributes(value)[attribute] if attribute else value)
        if what == "length":
            return len(value)
        ids = self._places_and_ids(value)[1]
        if what == "list":
            return ids
        known = self._done.setdefault(what, {})
        known.update((each, what(self._kept[each])) for each in ids if each not in known)
        return max((place for place, each in enumerate(ids) if known[each]), default=-1)

    def _places_and_ids(self, items: Any) -> tuple[range, Any]:
        """Return the indices of listed messages in the conversation, and their ids.

        The indices are empty unless consecutive; the ids are None if another object is in the list.
        """
        ids = [*map(id, items)] if type(items) is list else [0]
        first = self._place.get(ids[0], 0) if ids else 0
        if ids == self._ids[first : first + len(ids)]:
            return range(first, first + len(ids)), ids
        return range(0), ids if all(map(self._place.__contains__, ids)) else None

    def _value(self, value: Any, attribute: str | None = None) -> tuple[Any, ...]:
        """Return a key that is the same for equal values, of a value or a namespace's attribute.

        True and 1 have different keys; a message is equal only to itself.

        Raises:
            Impossible: values of this type cannot be compared; reading a generator uses it up.
        """
        if attribute and type(value) is Namespace:
            return Namespace, *self._value(attributes(value).get(attribute, missing))
        if type(value) in {bool, int, str, type(None)}:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # error messages show what differs
            return type(value), value._undefined_message, value._undefined_exception
        if value is missing or id(value) in self._place:
            return (id(value),)
        raise Impossible
