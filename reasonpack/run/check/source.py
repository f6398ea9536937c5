"""A document of tokens → the chat that it was made of, and where it differs from its views.

The chat is the one that has most of the document's texts: each text between template texts is
looked up among the contents of all messages.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice, takewhile
from typing import NamedTuple

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.datasets.options import Options
from reasonpack.datasets.shares import STDIN
from reasonpack.errors import RecordError, UsageError
from reasonpack.records.conversation import Conversation
from reasonpack.records.plan import plan
from reasonpack.records.unit import read_records
from reasonpack.rows.encoded_views import common_prefix, runs
from reasonpack.run.call_plan import first_records, kind_of_inputs
from reasonpack.run.check.written import Answer, Fault, Read, Reader
from reasonpack.run.context import Context
from reasonpack.run.conversations import parse
from reasonpack.run.named_inputs import named_inputs
from reasonpack.views.view import build_views

TRIED = 64
"""Most chats that are compared with a document if several have equally many of its texts."""
EXPECTED = 40
"""Most characters of the expected text that are shown."""


class SeenView(NamedTuple):
    """A view in tokens: `prompt` tokens of the prompt, then the completion."""

    ids: NDArray[np.int32]
    prompt: int


class Source(Struct):
    """Chats that documents were made of.

    Attributes:
        context: tokenizer and templates.
        chats: all that could be read; a chat's number is its index here.
        texts: numbers of the chats with a content or reasoning, by the hash of that text.
        unread: errors of the others.
    """

    context: Context
    chats: list[Conversation] = field(default_factory=list)
    texts: dict[int, list[int]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


def read_source(inputs: Sequence[str], options: Options, context: Context) -> Source:
    """Read all chats of the inputs.

    Raises:
        UsageError: an input does not exist, is standard input or a share, or holds calls.
    """
    if STDIN in inputs:
        raise UsageError(STDIN, "chats to compare with", "files", "name a file instead")
    files, blend = named_inputs(inputs)
    if blend:
        raise UsageError(str(inputs[0]), "a share of an input", "all of it", "name the file alone")
    if kind_of_inputs(first_records(files, options), options) != "chats":
        raise UsageError(str(inputs[0]), "calls", "chats", "name the chats the rows were made of")
    source, reading = Source(context), replace(context.reading, weighs=True)
    for unit in plan(files)[1]:
        for record in read_records(unit, files[unit.input][0]):
            try:
                chat = parse(record, reading)
            except RecordError as error:
                error.where = error.where or record.where
                source.unread.append(str(error))
                continue
            texts = (text for each in chat.messages for text in (each.content, each.reasoning))
            for text in {(text or "").strip() for text in texts} - {""}:
                source.texts.setdefault(hash(text), []).append(len(source.chats))
            source.chats.append(chat)
    return source


class Compared:
    """Compares documents with the chats that they were made of."""

    def __init__(self, source: Source, reader: Reader) -> None:
        self.source, self.reader = source, reader
        self.views = lru_cache(TRIED)(self._views)

    def _views(self, number: int) -> list[SeenView]:
        """Build the views of a chat; none if it cannot be rendered."""
        context, chat = self.source.context, self.source.chats[number]
        try:
            built = build_views(chat, context.rendering(chat))
        except RecordError:
            return []
        texts = [text for view in built for text in (view.prompt, view.completion)]
        ids = context.tokenizer.encode_batch(texts)
        pairs = zip(ids[::2], ids[1::2], strict=True)
        return [SeenView(np.concatenate(pair), len(pair[0])) for pair in pairs]

    def _texts(self, read: Read) -> set[str]:
        parts = self.reader.special.split(read.text) if self.reader.special else [read.text]
        return {part.decode("utf-8", "replace").strip() for part in parts} - {""}

    def find(self, read: Read) -> int | None:
        """Return the number of the chat that a document was made of; None if none has its texts."""
        found: Counter[int] = Counter()
        for text in self._texts(read):
            found.update(self.source.texts.get(hash(text), ()))
        most, ids = max(found.values(), default=0), read.document.ids
        likely = (each for each in sorted(found) if found[each] == most and self.views(each))

        best, alike = None, -1
        for number in islice(likely, TRIED):
            common = max(common_prefix(ids, view.ids) for view in self.views(number))
            if common > alike:
                best, alike = number, common
            if common == len(ids):
                break
        return best

    def begins(self, read: Read, number: int) -> Iterator[int]:
        """Yield the tokens of a document at which chats begin; most of it is chat `number`.

        A chat begins where the prompt of its first answer occurs. Chats other than `number` are
        tried if the last message of that prompt is in the document and not in chat `number`.
        """
        ids, chats = read.document.ids, self.source.chats
        if any(common_prefix(ids, view.ids) == len(ids) for view in self.views(number)):
            return
        texts = self._texts(read) - {
            (each.content or "").strip() for each in chats[number].messages
        }
        likely = {at for text in texts for at in self.source.texts.get(hash(text), ())}
        others = (at for at in sorted(likely - {number}) if _asked(chats[at]) in texts)
        for at in (number, *islice(others, TRIED)):
            for view in self.views(at)[:1]:
                yield from _occurrences(view.ids[: view.prompt], ids)

    def answers(self, read: Read, number: int) -> list[bool]:
        """Return for each answer of a chat whether a token of it is trained in a document."""
        ids, trained = read.document.ids, read.document.trained
        return [
            bool(trained[view.prompt : common_prefix(ids, view.ids)].any())
            for view in self.views(number)
        ]

    def faults(self, read: Read, number: int) -> Iterator[Fault]:
        """Yield the trained tokens of a document that its chat's views do not have there."""
        ids, trained = read.document.ids, read.document.trained
        right, views = np.zeros(len(ids), bool), self.views(number)
        same = [common_prefix(ids, view.ids) for view in views]
        for view, common in zip(views, same, strict=True):
            right[view.prompt : common] = True
        wrong = trained & ~right
        unnamed = wrong.copy()
        ends = {len(view.ids) for view, at in zip(views, same, strict=True) if at == len(view.ids)}
        for fault in self.reader.suspects(read):
            # An answer that was cut off before it was logged has no stop token in its view.
            ends_at = {"stop-untrained": fault.start, "cut": fault.stop, "stop-missing": fault.stop}
            by_words = wrong[fault.start : fault.stop].any() or fault.code == "labels"
            if ends_at[fault.code] not in ends if fault.code in ends_at else by_words:
                unnamed[fault.start : fault.stop] = False
                yield self._whole(fault, read, views) if fault.code == "cut" else fault
        for answer in read.answers or [Answer(0, len(ids), 0, False, False, False)]:
            # The first wrong tokens of an answer are the cause of the others.
            for first, last in islice(runs(unnamed[answer.start : answer.stop]), 1):
                yield self._named(views, same, answer.start + first, answer.start + last)

    def _whole(self, fault: Fault, read: Read, views: Sequence[SeenView]) -> Fault:
        """Return a fault `cut` as `stop-missing` if the answer lacks nothing but its stop token."""
        answer, stop = read.answers[-1], self.reader.stop or re.compile(b"$")
        text = read.text[read.starts[answer.start] :].strip()
        whole = (self._text(view.ids[view.prompt :]).encode() for view in views)
        missing = any(stop.sub(b"", each).strip() == text for each in whole)
        return replace(fault, code="stop-missing") if missing else fault

    def _named(
        self, views: Sequence[SeenView], same: Sequence[int], start: int, stop: int
    ) -> Fault:
        """Return the fault of wrong tokens, by the view that agrees longest with those before."""

        def alike(at: int) -> tuple[bool, int]:
            return same[at] <= start and same[at] < len(views[at].ids), same[at]

        at = max(range(len(views)), key=alike)
        common, view = same[at], views[at]
        rest = self._text(view.ids[common:])
        block = self.reader.block and self.reader.block.match(rest.encode())
        code = "text" if common >= view.prompt else "context"
        inside = block and not self.reader.others.search(block[1])  # without template text
        lost = block and inside and block[1].strip() and common <= start
        return Fault("reasoning-lost" if lost else code, start, stop, rest[:EXPECTED])

    def _text(self, ids: NDArray[np.int32]) -> str:
        return self.source.context.tokenizer.decode(ids)


def _asked(chat: Conversation) -> str:
    """Return the content of the message before the first answer of a chat; "" without one."""
    before = [*takewhile(lambda each: each.role != "assistant", chat.messages)]
    return (before[-1].content or "").strip() if before else ""


def _occurrences(part: NDArray[np.int32], ids: NDArray[np.int32]) -> Iterator[int]:
    """Yield each index at which `part` occurs in `ids`."""
    for at in np.flatnonzero(ids == part[0]).tolist():
        if np.array_equal(ids[at : at + len(part)], part):
            yield at
