"""Groups of records → calls that are to be trained, their views cut, waiting for their ids.

    records ─→ calls ─→ views, or ids as logged ─→ pieces of text
       └──── what cannot be packed ────→ rejects

The messages of a call are let go as soon as its view is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import RecordError, TemplateError
from reasonpack.records.calls import Call, read_calls, read_session
from reasonpack.records.groups import Group
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.unit import Record
from reasonpack.run.call_values import check_columns, check_ids
from reasonpack.run.call_views import CallCutter, CutCall, view_of_call
from reasonpack.run.context import Context
from reasonpack.run.length import Limits
from reasonpack.run.splits import turn_of_call
from reasonpack.run.stages import stage
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.tokens.view_tokens import Pieces
from reasonpack.views.past import Pasts
from reasonpack.views.view import Untrained

_Before = tuple[CallCutter, Pasts]
"""What is known of the calls of a group before."""


@dataclass(frozen=True, slots=True)
class Waiting:
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


@dataclass(slots=True)
class WaitingGroup:
    """The calls of a group that are to be trained, and how often it is packed."""

    id: str
    calls: list[Waiting] = field(default_factory=list)
    times: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReader:
    """How the calls of groups are read.

    Attributes:
        are_sessions: each group is a session file.
        counts: of the unit; what is noticed is added.
        reject: is told a record's position, the record, and why it cannot be packed.
    """

    options: Options
    context: Context
    columns: AbstractSet[str]
    are_sessions: bool
    counts: Counts
    reject: Callable[[int, Record, RecordError], None]

    def read(self, group: Group, pieces: Pieces) -> tuple[WaitingGroup, int]:
        """Read the calls of a group, and cut their views into pieces.

        Returns:
            The group, and how many characters of its text were not in a call before.
        """
        waiting, cutter, pasts = WaitingGroup(group.id), CallCutter(pieces), Pasts()
        with ready_for_bounds():
            for position, record, calls in self._calls(group):
                notes: Counter[str] = Counter()
                try:
                    found = [
                        self._cut(call, position, number, (cutter, pasts), notes)
                        for number, call in enumerate(calls)
                    ]
                except RecordError as error:
                    self.reject(position, record, error)
                    continue
                except TemplateError as error:
                    raise TemplateError(
                        f"{record.where}: {error.where}", error.what, error.expected, error.fix
                    ) from error
                self.counts.missing_reasoning += notes.pop("missing-reasoning", 0)
                self.counts.note(notes)
                waiting.id = waiting.id or (calls[0].id if len(calls) == 1 else record.where)
                waiting.calls += filter(None, found)
        return waiting, cutter.characters

    def _calls(self, group: Group) -> Iterator[tuple[int, Record, list[Call]]]:
        """Yield the records of a group that can be read, each with its position and its calls."""
        memo, reading = PromptMemo(), self.context.reading
        if self.are_sessions:
            yield from self._calls_of_session(group)
            return
        for position, record in enumerate(group.records, group.start):
            try:
                with stage("parse"):
                    calls = read_calls(record, reading, memo)
            except RecordError as error:
                self.reject(position, record, error)
            else:
                yield position, record, calls

    def _calls_of_session(self, group: Group) -> Iterator[tuple[int, Record, list[Call]]]:
        """Yield the lines of a session in which an answer is."""
        records = list(group.records)
        places = {record.where: place for place, record in enumerate(records)}
        calls: list[Call] = []
        try:
            with stage("parse"):
                calls, refused = read_session(records, self.context.reading)
        except RecordError as error:
            refused = [error]
        if not calls and not refused:
            self.counts.note({"no-call": 1, "untrained-call": 1})
        for each in refused:
            place = places.get(each.where, 0)
            self.reject(group.start + place, records[place], each)
        for call in calls:
            yield group.start + places[call.where], records[places[call.where]], [call]

    def _cut(
        self, call: Call, position: int, number: int, before: _Before, notes: Counter[str]
    ) -> Waiting | None:
        """Cut the view of a call; None where it trains nothing."""
        notes.update(call.notes)
        if not call.trained:
            notes["untrained-call"] += 1
            return None
        check_columns(call, self.columns, {*self.options.call_columns}, notes)
        cut = None
        if call.prompt_ids is not None:
            check_ids(call, self.context.tokenizer, self.options.train_on)
        if call.conversation is not None:
            try:
                cut = self._cut_messages(call, *before, notes)
            except RecordError:
                if call.prompt_ids is None:
                    raise
                notes["not-rendered"] += 1
            if cut is None and call.prompt_ids is None:
                return None
        turn = self._turn(call)
        message = _answer(call)
        return Waiting(position, number, message, replace(call, conversation=None), cut, turn)

    def _turn(self, call: Call) -> bytes:
        if self.options.loss_weights != "turn":
            return b""
        if call.conversation is None:
            what = "token ids alone, which do not say where a turn begins, expected messages too"
            fix = "Log them, or pass --loss-weights message or conversation."
            raise RecordError("column", "completion_ids", what, fix=fix)
        return turn_of_call(call.conversation)

    def _cut_messages(
        self, call: Call, cutter: CallCutter, pasts: Pasts, notes: Counter[str]
    ) -> CutCall | None:
        assert call.conversation is not None
        with stage("render"):
            view = view_of_call(call.conversation, self.context, self.options.train_on, pasts)
        if isinstance(view, Untrained):
            own = {"missing-reasoning": view.reason, "nothing-to-train": "untrained-call"}
            notes[own.get(view.reason, f"kept {view.reason}")] += 1
            return None
        characters = len(view.prompt) + len(view.completion)
        limits = Limits(self.options, self.context.max_position)
        if found := limits.too_long_text(view.message, characters):
            raise limits.nothing_fits([found])
        with stage("cut"):
            return cutter.add(view)


def _answer(call: Call) -> int:
    """Return the index of a call's answer in its record; 0 where it has no messages."""
    said = call.conversation
    if said is None:
        return 0
    return said.sources[-1] if said.sources else len(said.messages) - 1
