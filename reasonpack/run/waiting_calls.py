"""Groups of records → calls that are to be trained, their views cut, waiting for their ids.

    records ─→ calls ─→ views, or ids as logged ─→ pieces of text
       └──── what cannot be packed ────→ rejects

The messages of a call are let go as soon as its view is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, read_calls, read_session
from reasonpack.records.groups import Group
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record
from reasonpack.run.call_values import check_columns, check_ids
from reasonpack.run.call_views import CallCutter, CutCall, view_of_call
from reasonpack.run.splits import turn_of_call
from reasonpack.run.stages import stage, staged
from reasonpack.run.work import Work
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.views.past import Pasts
from reasonpack.views.view import Untrained


class Waiting(Struct, frozen=True):
    """A call that waits for the ids of its texts.

    Attributes:
        position: of its record among those of the unit.
        number: of the call in its record.
        message: index of its answer in the record; 0 where it has no messages.
        call: without its messages.
        cut: its view; None where it has ids and no messages.
        turn: of the group, where weights go by turns.
    """

    position: int
    number: int
    message: int
    call: Call
    cut: CutCall | None
    turn: bytes = b""


class WaitingGroup(Struct):
    """The calls of a group that are to be trained.

    Attributes:
        id: of its sample.
        again: reads one of its records once more, by its position.
        times: how often it is packed.
        calls: in their order.
        characters: of its text, without what was in a call before.
    """

    id: str
    again: Callable[[int], Record]
    times: int
    calls: list[Waiting] = field(default_factory=list)
    characters: int = 0


def calls_of(
    group: Group, reading: Reading
) -> Iterator[tuple[int, Record, list[Call] | RecordError]]:
    """Yield the records of a group, each with its position and its calls, or why it has none.

    Of a session these are the lines in which an answer is; those that are refused come first.
    """
    if group.is_session:
        records = list(group.records)
        places = {record.where: place for place, record in enumerate(records)}
        calls: list[Call] = []
        try:
            calls, refused = read_session(records, reading)
        except RecordError as error:
            refused = [error]
        found: list[tuple[str, list[Call] | RecordError]] = [(each.where, each) for each in refused]
        found += [(call.where, [call]) for call in calls]
        for where, each in found:
            place = places.get(where, 0)
            yield group.start + place, records[place], each
        return
    memo = PromptMemo()
    for position, record in enumerate(group.records, group.start):
        try:
            calls = read_calls(record, reading, memo)
        except RecordError as error:
            yield position, record, error
        else:
            yield position, record, calls


class GroupReader:
    """Reads the calls of one group for some work, and cuts their views into its pieces."""

    def __init__(self, work: Work[Group], group: Group, times: int) -> None:
        self.work, self.options, self.context = work, work.options, work.context
        self.group, self.waiting = group, WaitingGroup(group.id, group.again, times)
        self.cutter, self.pasts = CallCutter(work.pieces), Pasts()

    def read(self) -> WaitingGroup:
        """Read the group; what of it cannot be packed is rejected, what is noticed counted."""
        is_empty = self.group.is_session
        found = calls_of(self.group, self.context.reading)
        with ready_for_bounds():
            for position, record, calls in staged("parse", found):
                is_empty = False
                with self.work.rejecting(position, record):
                    if isinstance(calls, RecordError):
                        raise calls
                    self._add(calls, position, record)
        if is_empty:
            self.work.laid.counts.note({"no-call": 1, "untrained-call": 1})
        self.waiting.characters = self.cutter.characters
        return self.waiting

    def _add(self, calls: Sequence[Call], position: int, record: Record) -> None:
        notes: Counter[str] = Counter()
        found = [self._cut(call, position, number, notes) for number, call in enumerate(calls)]
        self.work.laid.counts.missing_reasoning += notes.pop("missing-reasoning", 0)
        self.work.laid.counts.note(notes)
        if not self.waiting.id:
            self.waiting.id = calls[0].id if len(calls) == 1 else record.where
        self.waiting.calls += filter(None, found)

    def _cut(self, call: Call, position: int, number: int, notes: Counter[str]) -> Waiting | None:
        """Cut the view of a call; None where it trains nothing."""
        notes.update(call.notes)
        if not call.trained:
            notes["untrained-call"] += 1
            return None
        check_columns(call, self.work.columns, {*self.options.call_columns}, notes)
        cut = None
        if call.prompt_ids is not None:
            check_ids(call, self.context.tokenizer, self.options.train_on)
        if call.conversation is not None:
            try:
                cut = self._cut_messages(call, notes)
            except RecordError:
                if call.prompt_ids is None:
                    raise
                notes["not-rendered"] += 1
            if cut is None and call.prompt_ids is None:
                return None
        read = (_answer(call), replace(call, conversation=None), cut, self._turn(call))
        return Waiting(position, number, *read)

    def _turn(self, call: Call) -> bytes:
        if self.options.loss_weights != "turn":
            return b""
        if call.conversation is None:
            what = "token ids alone, which do not say where a turn begins, expected messages too"
            fix = "Log them, or pass --loss-weights message or conversation."
            raise RecordError("column", "completion_ids", what, fix=fix)
        return turn_of_call(call.conversation)

    def _cut_messages(self, call: Call, notes: Counter[str]) -> CutCall | None:
        assert call.conversation is not None
        with stage("render"):
            view = view_of_call(call.conversation, self.context, self.options.train_on, self.pasts)
        if isinstance(view, Untrained):
            own = {"missing-reasoning": view.reason, "nothing-to-train": "untrained-call"}
            notes[own.get(view.reason, f"kept {view.reason}")] += 1
            return None
        characters = len(view.prompt) + len(view.completion)
        if found := self.work.limits.too_long_text(view.message, characters):
            raise self.work.limits.nothing_fits([found])
        with stage("cut"):
            return self.cutter.add(view)


def _answer(call: Call) -> int:
    """Return the index of a call's answer in its record; 0 where it has no messages."""
    said = call.conversation
    if said is None:
        return 0
    return said.sources[-1] if said.sources else len(said.messages) - 1
