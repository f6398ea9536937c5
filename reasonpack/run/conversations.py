"""Records of chats → samples, and rejects: records unreadable, too long or without a view.

    records ─→ conversations ─→ views ─→ pieces of text ─→ ids ─→ samples ─→ rows
       └──── records that cannot be packed ────→ rejects

All texts of a unit are encoded in one batch: no piece of text is encoded twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, parse_line, parse_row
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record
from reasonpack.rows.encoded_views import without
from reasonpack.rows.forest import LaidOut, plant
from reasonpack.rows.sample import write
from reasonpack.run.context import Context
from reasonpack.run.length import LeftOut
from reasonpack.run.stages import stage
from reasonpack.run.weights import weighed
from reasonpack.run.work import Work, ids_of_copies
from reasonpack.tokens.view_tokens import Cutter, CutView
from reasonpack.views.view import View, each_view

WRITTEN_AT_ONCE = 64
"""Conversations that are laid out together."""


class _Waiting(Struct):
    """A conversation whose views are not encoded yet, and what was noticed in them.

    Attributes:
        position: index of its record in the unit.
        times: how often it is packed.
        views: its views, cut into pieces.
        messages: the message of each view, by its index in the record.
        notes: what was noticed in its views, counted.
        left_out: messages whose views are too long.
    """

    position: int
    record: Record
    conversation: Conversation
    times: int
    views: list[CutView] = field(default_factory=list)
    messages: list[int] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    left_out: list[LeftOut] = field(default_factory=list)


class Chats(Work[Record]):
    """Lays out the chats of a unit."""

    position = -1

    def begin(self) -> None:
        """Start a new batch: no conversation waits."""
        super().begin()
        self.waiting: list[_Waiting] = []
        self.weighs = "loss_weights" in self.columns
        self.reading = replace(self.context.reading, weighs=self.weighs)

    def read(self, each: Record, times: int) -> None:
        """Read a record."""
        self.position += 1
        found: Conversation | RecordError
        with stage("parse"):
            try:
                found = parse(each, self.reading)
            except RecordError as error:
                found = error
        self.put(self.position, each, found, partial(self._cut_views, times))

    def _cut_views(
        self, times: int, position: int, record: Record, conversation: Conversation
    ) -> None:
        """Build the views of a conversation, and cut each before the next, to save memory."""
        waiting, cutter = _Waiting(position, record, conversation, times), Cutter(self.pieces)
        rendering, train_on = self.context.rendering(conversation), self.options.train_on
        for view in each_view(conversation, rendering, train_on=train_on):
            note, number = note_on(view)
            waiting.notes[note] += number
            if isinstance(view, str):
                continue
            characters = len(view.prompt) + len(view.completion)
            if too_long := self.limits.too_long_text(view.message, characters):
                waiting.left_out.append(too_long)
                continue
            with stage("cut"):
                waiting.views.append(cutter.add(view))
            waiting.messages.append(view.message)
        if waiting.left_out and (self.options.overlong != "split" or not waiting.views):
            raise self.limits.nothing_fits(waiting.left_out)  # last: other errors come first
        self.waiting.append(waiting)

    def write(self) -> None:
        """Write the samples of the waiting conversations, in batches."""
        with stage("lay out"):
            for first in range(0, len(self.waiting), WRITTEN_AT_ONCE):
                self._write(self.waiting[first : first + WRITTEN_AT_ONCE])

    def _write(self, batch: Sequence[_Waiting]) -> None:
        """Lay out some conversations together, and write those that can be packed."""
        views = self.pieces.look_up([each.views for each in batch])
        if self.weighs:
            of = [(each.conversation, each.messages) for each in batch]
            views = weighed(views, of, self.options.loss_weights)
        messages = [message for each in batch for message in each.messages]
        left = self.limits.left_out(messages, views.end)
        forest = plant(without(views, left.keys()))
        laid, written = self.laid, list[tuple[str, LaidOut]]()
        for number, each in enumerate(batch):
            own = range(*views.bounds[number : number + 2])
            left_out = [left[view] for view in own if view in left]
            try:
                if len(left_out) == len(own):
                    raise self.limits.nothing_fits(left_out)
                laid_out = self.limits.lay_out(forest, number)
            except RecordError as error:
                self.reject(each.position, each.record, error)
                continue
            self.leave_out(each.position, each.record, [*each.left_out, *left_out])
            missing = each.notes.pop("kept missing-reasoning", 0)
            laid.counts.missing_reasoning += missing * each.times
            laid.counts.copies += each.times - 1
            laid.counts.note(notes_of(each.conversation, each.notes, self.context))
            written += ((id_, laid_out) for id_ in ids_of_copies(each.conversation.id, each.times))
            split = self.context.split(each.conversation)
            laid.splits += [split] * len(laid_out.samples) * each.times
        laid.pack(write(forest, written), [laid_out for _, laid_out in written])


def parse(record: Record, reading: Reading) -> Conversation:
    """Read a record as a conversation.

    Raises:
        RecordError: it is no conversation, or has unknown fields.
    """
    if record.row is not None:
        return parse_row(record.row, record.where, reading=reading)
    return parse_line(record.line, record.where, reading=reading)


def note_on(view: View | str) -> tuple[str, int]:
    """Return the note on a view, or on an answer that stays context for a reason, and its count."""
    return (f"kept {view}", 1) if isinstance(view, str) else ("hidden-answer", view.hidden)


def notes_of(
    conversation: Conversation, of_views: Mapping[str, int], context: Context
) -> dict[str, int]:
    """Return the notes on a conversation, counted, those that depend on its template included."""
    rendering = context.rendering(conversation)
    unknown = conversation.template_kwargs.keys() - rendering.template.variables
    notes = {**conversation.notes, **{f"variable {name}": 1 for name in sorted(unknown)}}
    if not rendering.behaviour.writes_none:
        notes.pop("null-argument", None)
    return {**notes, **of_views}
