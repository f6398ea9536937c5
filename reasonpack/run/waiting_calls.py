"""Groups of records → calls to train, with their views cut into pieces that wait to be encoded.

The messages of a call are freed as soon as its view is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, read_calls, read_session
from reasonpack.records.conversation import Conversation
from reasonpack.records.groups import Group
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record
from reasonpack.run.call_checks import check_columns, check_ids
from reasonpack.run.context import Context
from reasonpack.run.conversations import note_on
from reasonpack.run.splits import turn_of_call
from reasonpack.run.stages import stage
from reasonpack.run.work import Work
from reasonpack.tokens.call_cutter import CallCutter, CutCall
from reasonpack.views.earlier_calls import Pasts
from reasonpack.views.view import View, each_view

NOTES = {"kept missing-reasoning": "missing-reasoning", "kept nothing-to-train": "untrained-call"}
"""Notes on the views of chats that are called otherwise for calls."""


class Waiting(Struct, frozen=True, eq=False):
    """A call that waits for its texts to be encoded.

    Attributes:
        number: index of the call in its record.
        message: index of its answer in the record; 0 if it has no messages.
        call: the call, without its messages.
        cut: its view; None if it has ids and no view of messages.
        turn: a hash for its turn; empty unless weights depend on turns.
    """

    number: int
    message: int
    call: Call
    cut: CutCall | None
    turn: bytes = b""


class WaitingGroup(Struct):
    """The calls of a group that are to be trained.

    Attributes:
        id: id of its sample.
        again: reads one of its records once more, by its position.
        times: how often it is packed.
        notes: counted notes on each record that was read, by its position.
        calls: the calls, in their order, by the position of their record.
    """

    id: str
    again: Callable[[int], Record]
    times: int
    notes: dict[int, Counter[str]] = field(default_factory=dict)
    calls: dict[int, list[Waiting]] = field(default_factory=dict)


def calls_of(
    group: Group, reading: Reading
) -> Iterator[tuple[int, Record, list[Call] | RecordError]]:
    """Yield the position of each record of a group, the record, and its calls or its error.

    For a session, these are the lines that errors name, and then those with an answer.
    """
    if not group.is_session:
        memo = PromptMemo()
        for position, record in enumerate(group.records, group.start):
            try:
                yield position, record, read_calls(record, reading, memo)
            except RecordError as error:
                yield position, record, error
        return
    records = list(group.records)
    places = {record.where: place for place, record in enumerate(records)}
    try:
        calls, refused = read_session(records, reading)
    except RecordError as error:
        calls, refused = [], [error]
    found: list[Call | RecordError] = [*refused, *calls]
    for each in found:
        place = places.get(each.where, 0)
        yield group.start + place, records[place], [each] if isinstance(each, Call) else each


class GroupCutter:
    """Cuts the views of the calls of one group into the pieces of a `Work`."""

    def __init__(self, work: Work[Group], group: Group, times: int) -> None:
        self.work, self.options, self.context = work, work.options, work.context
        self.waiting = WaitingGroup(group.id, group.again, times)
        self.cutter, self.pasts = CallCutter(work.pieces), Pasts()

    def add(self, position: int, record: Record, calls: Sequence[Call]) -> None:
        """Cut the views of the calls of a record."""
        read = [self._cut(call, number) for number, call in enumerate(calls)]
        notes: Counter[str] = Counter()
        for _, own in read:
            notes.update(own)
        self.waiting.notes[position] = notes
        self.waiting.id = self.waiting.id or (calls[0].id if len(calls) == 1 else record.where)
        if kept := [waiting for waiting, _ in read if waiting is not None]:
            self.waiting.calls.setdefault(position, []).extend(kept)

    def _cut(self, call: Call, number: int) -> tuple[Waiting | None, Mapping[str, int]]:
        """Check a call and cut its view, None if it trains nothing; return its notes too."""
        notes = Counter(call.notes)
        if not call.trained:
            notes["untrained-call"] += 1
            return None, notes
        lacking = check_columns(call, self.work.columns, {*self.options.call_columns})
        notes.update(f"lacking {name}" for name in lacking)
        answer, cut = 0, None
        if call.prompt_ids is not None:
            check_ids(call, self.context.tokenizer, self.options.train_on)
        if (said := call.conversation) is not None:
            answer = said.sources[-1] if said.sources else len(said.messages) - 1
            try:
                view = view_of_call(said, self.context, self.options.train_on, self.pasts)
                note, times = note_on(view)
                notes[NOTES.get(note, note)] += times
                cut = None if isinstance(view, str) else self._cut_view(view, said, answer)
            except RecordError:
                if call.prompt_ids is None:
                    raise
                notes["not-rendered"] += 1
            if cut is None and call.prompt_ids is None:
                return None, notes
        own = replace(call, conversation=None)
        return Waiting(number, answer, own, cut, self._turn(said)), notes

    def _cut_view(self, view: View, said: Conversation, answer: int) -> CutCall:
        if found := self.work.limits.too_long_text(answer, len(view.prompt) + len(view.completion)):
            raise self.work.limits.nothing_fits([found])
        with stage("cut"):
            return self.cutter.add(view, said.sources)

    def _turn(self, said: Conversation | None) -> bytes:
        if self.options.loss_weights != "turn":
            return b""
        if said is None:
            what = "token ids alone, which do not say where a turn begins"
            fix = "log them, or pass --loss-weights message or conversation"
            raise RecordError("column", "completion_ids", what, "messages too", fix)
        return turn_of_call(said)


def view_of_call(
    conversation: Conversation, context: Context, train_on: str, pasts: Pasts
) -> View | str:
    """Render the view of a call, whose answer, the last message, is trained, or say why it is not.

    `pasts` has what was kept of earlier calls of the group.

    Raises:
        RecordError: the template does not give an exact view.
    """
    rendering, past = context.rendering(conversation), pasts.of(conversation)
    try:  # there is only one
        return next(each_view(conversation, rendering, train_on=train_on, past=past))
    except RecordError as error:
        if error.reason != "nothing-to-train":
            raise
        return error.reason
