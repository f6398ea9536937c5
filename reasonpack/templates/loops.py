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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, TypeAlias

import jinja2
from jinja2.nodes import Impossible
from jinja2.runtime import Context
from jinja2.utils import missing

from reasonpack.templates.code import Some, attributes
from reasonpack.templates.loop_facts import EACH, Part, Site
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


class Memo:
    """What the loops of a template gave for the messages of one conversation.

    All renderings with one memo have the same variables, apart from the messages, which
    are the first of those given here, and `add_generation_prompt`.

    Args:
        sites: of the template; none where all bodies are to run.
        messages: of the conversation; nobody changes them.
        others: what else is the same object in each rendering: tools.

    Attributes:
        runs: how often the body of a loop was run.
    """

    def __init__(
        self, sites: Sequence[Site], messages: Sequence[Any], others: Sequence[Any] = ()
    ) -> None:
        self.runs, self._room, self._sites, self._others = 0, -1, sites, [*others]
        self._kept: dict[int, Any] = {}
        self._done: dict[Any, dict[Any, _Done]] = {}
        self._texts: dict[str, str] = {}  # each text once
        self._holds: dict[tuple[Part, int], bool] = {}
        self._out, self._text = list[str](), ""
        self._loops: list[tuple[range, list[int]]] = []
        self._whole: tuple[Any, tuple[range, list[int]]] = self, (range(0), [])
        self.go_on(messages)

    def go_on(self, messages: Sequence[Any]) -> None:
        """Let the conversation be this one; what was written of the same messages is kept."""
        items = [*messages, *self._others]
        self._ids = [*map(id, items)]
        self._place = {each: place for place, each in enumerate(self._ids)}
        self._kept.update(zip(self._ids, items, strict=True))  # so that no other has their identity

    def render(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render a template whose loops run over `Memo.each`."""
        if self.runs > self._room:
            self._room = self.runs + _MOST * len(self._sites) * len(self._ids)
            self._kept = {each: self._kept[each] for each in self._ids}
            self._done, self._texts, self._holds = {}, {}, {}
        render = template.root_render_func
        self._loops = []
        self._out = out = []
        self._whole = self, (range(0), [])
        with suppress(Impossible):
            self._whole = variables["messages"], self._list(variables["messages"])
        for piece in render(template.new_context({**variables, EACH: self.each})):
            # One at a time: when a loop asks for its next item, all before it is there.
            out.append(piece)  # noqa: PERF402
        self._text = "".join(out)
        return self._text

    def written(self) -> Written:
        """Return what the loops of the last rendering wrote of which message."""
        return Written(self._text, self._out, self._loops)

    def each(self, context: Context, number: int, items: Any) -> Any:
        """Return what a loop goes over: `items`, or those for which its body has to run."""
        try:
            (places, ids), begun = self._list(items), list[int]()
        except Impossible:
            return items
        self._loops.append((places, begun))
        return Some(items, self._run(context, number, ids, begun))

    def _run(
        self, context: Context, number: int, ids: list[int], begun: list[int]
    ) -> Iterator[int]:
        """Yield where the body has to run; write and set for each other item what it did before."""
        out, sets, late, at = self._out, _Sets(), _Sets(), 0
        try:
            keys, spaces, done_now = self._start(context, number, ids, sets)
            done = done_now()
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 (whatever it is: Jinja decides what it means)
            keys, spaces = [], {}
        while at < len(ids):
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
            begun.extend(range(first, len(out)))
            at += len(out) - first
            for (name, attribute), value in late.items():
                spaces[name][attribute] = value
            if at < len(ids):
                begun.append(len(out))
                self.runs += 1
                sets.clear()
                late.clear()
                yield at
                at += 1
                if keys:
                    try:
                        after = done_now()
                    except Impossible:
                        keys = []
                    else:
                        text = "".join(out[begun[-1] :])
                        text = self._texts.setdefault(text, text)
                        done[key] = (text, {**sets}, after) if sets else text
                        done = after
        begun.append(len(out))

    def _start(
        self, context: Context, number: int, ids: list[int], sets: _Sets
    ) -> tuple[list[Any], dict[str, _Space], Callable[[], _Done]]:
        """Return the keys of the items, the namespaces of the body, and what gives its `_Done`.

        Raises:
            Impossible: what the body reads, or later what it set, cannot be kept: of a generator
                nothing is left when it was read. The body has to run for all.
        """
        site = self._sites[number]
        reads = [self._read(context, *each) for each in site.reads]
        keys = site.keys(len(ids), ids, *reads)
        spaces = {name: _Space(context.resolve(name), name, sets) for name in site.spaces}
        values = number, *[each for each in reads if type(each) is tuple]
        done = self._done.setdefault(values, {})

        def done_now() -> _Done:
            for value in sets.values():
                self._value(value)
            state = [self._value(spaces[name].get(key, missing)) for name, key in site.state]
            return done.setdefault((*state,), {})

        return keys, spaces, done_now

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
        if items is self._whole[0]:
            return self._whole[1]
        ids = [*map(id, items)] if type(items) is list else [0]
        if not ids:
            return range(0), ids
        first, last = self._place.get(ids[0], -1), self._place.get(ids[-1], -1)
        step = 1 if first <= last else -1
        if ids != self._ids[min(first, last) : max(first, last) + 1][::step]:
            raise Impossible
        return range(first, last + step, step), ids

    def _value(self, value: Any) -> tuple[Any, ...]:
        """Return what stands for a value: true is not one, and a message is itself alone."""
        if type(value) in {bool, int, str, type(None)}:
            return type(value), value
        if isinstance(value, jinja2.Undefined):  # which an error would tell from others
            return type(value), value._undefined_message, value._undefined_exception
        if value is missing or id(value) in self._place:
            return (id(value),)
        raise Impossible
