"""Groups of records → calls to train, with their views cut into pieces that wait to be encoded.

    call 1   h1                     cutter 1   h1 │ h2 …
    call 2   h1 a1 h2                          └ 1 ┘ 2
    call 3   h1'                    cutter 2   h1'            a sub-agent's, logged between
    call 4   h1 a1 h2 a2 h3         cutter 1

The calls of one agent extend each other, so that of each only the part is cut that differs from
the call before. Several agents may log in turn: each prompt goes to the cutter with the longest
prefix in common. The messages of a call are freed as soon as its view is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call, read_calls, read_session
from reasonpack.records.conversation import Conversation
from reasonpack.records.groups import Group
from reasonpack.records.prompt_memo import PromptMemo
from reasonpack.records.reading import Reading
from reasonpack.records.repeated_items import AGENTS
from reasonpack.records.unit import Record
from reasonpack.run.context import Context
from reasonpack.run.splits import turn_of_call
from reasonpack.run.stages import stage, staged
from reasonpack.run.work import Work
from reasonpack.templates.limits import ready_for_bounds
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.tokens.view_tokens import NO_PART, Border, Cutter, Pieces
from reasonpack.views.chosen import PARTS, read_train_on
from reasonpack.views.earlier_calls import Pasts
from reasonpack.views.spans import common_beginning
from reasonpack.views.view import View, each_view

VALUES = ("logprobs", "advantages")
"""Values of tokens; if a trained call has none and there is a column, it holds NaN."""
OPTION = "--call-columns"


class CutCall(Struct, frozen=True, eq=False):
    """The view of a call, cut into pieces.

    Attributes:
        pieces: i32[P], the numbers of its pieces.
        prompt: number of pieces of the prompt.
        header: number of pieces of the prompt before the header of the answer's message.
        borders: ends of spans after the `shared` pieces; messages are those of the conversation.
        sources: for each message, its index in the record; empty if it is the same.
        shared: number of leading pieces in common with the prompt of `before`, the previous call.
    """

    pieces: NDArray[np.int32]
    prompt: int
    header: int
    borders: tuple[Border, ...]
    sources: Sequence[int] = ()
    shared: int = 0
    before: CutCall | None = None

    def with_shared_borders(self, written: Container[CutCall]) -> CutCall:
        """Return it with borders in shared pieces too, up to those shared with a `written` call."""
        at, borders, shared = self.before, self.borders, self.shared
        while at is not None and shared and at not in written:
            inside = (each for each in at.borders if each[:2] < (shared, NO_PART + 1))
            borders, shared, at = (*inside, *borders), min(shared, at.shared), at.before
        return self if at is self.before else replace(self, borders=borders)


class Waiting(Struct, frozen=True):
    """A call that waits for its texts to be encoded.

    Attributes:
        position: index of its record in the unit.
        number: index of the call in its record.
        message: index of its answer in the record; 0 if it has no messages.
        call: the call, without its messages.
        cut: its view; None if it has ids and no view of messages.
        turn: a hash for its turn; empty unless weights depend on turns.
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
        id: id of its sample.
        again: reads one of its records once more, by its position.
        times: how often it is packed.
        notes: counted notes on each record that was read, by its position.
        calls: the calls, in their order.
        characters: length of its texts, without what a call shares with the one before.
    """

    id: str
    again: Callable[[int], Record]
    times: int
    notes: dict[int, Counter[str]] = field(default_factory=dict)
    calls: list[Waiting] = field(default_factory=list)
    characters: int = 0


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


class GroupReader:
    """Reads the calls of one group, and cuts their views into the pieces of a `Work`."""

    def __init__(self, work: Work[Group], group: Group, times: int) -> None:
        self.work, self.options, self.context = work, work.options, work.context
        self.group, self.waiting = group, WaitingGroup(group.id, group.again, times)
        self.cutter, self.pasts = CallCutter(work.pieces), Pasts()

    def read(self) -> WaitingGroup:
        """Read the group; reject records that cannot be packed."""
        is_empty = self.group.is_session
        found = staged("parse", calls_of(self.group, self.context.reading))
        with ready_for_bounds():
            for position, record, calls in found:
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
        self.waiting.notes[position] = notes
        self.waiting.id = self.waiting.id or (calls[0].id if len(calls) == 1 else record.where)
        self.waiting.calls += filter(None, found)

    def _cut(self, call: Call, position: int, number: int, notes: Counter[str]) -> Waiting | None:
        """Check a call and cut its view; None if it trains nothing."""
        notes.update(call.notes)
        if not call.trained:
            notes["untrained-call"] += 1
            return None
        check_columns(call, self.work.columns, {*self.options.call_columns}, notes)
        answer, cut = 0, None
        if call.prompt_ids is not None:
            check_ids(call, self.context.tokenizer, self.options.train_on)
        if (said := call.conversation) is not None:
            answer = said.sources[-1] if said.sources else len(said.messages) - 1
            try:
                cut = self._cut_messages(said, answer, notes)
            except RecordError:
                if call.prompt_ids is None:
                    raise
                notes["not-rendered"] += 1
            if cut is None and call.prompt_ids is None:
                return None
        own = replace(call, conversation=None)
        return Waiting(position, number, answer, own, cut, self._turn(said))

    def _turn(self, said: Conversation | None) -> bytes:
        if self.options.loss_weights != "turn":
            return b""
        if said is None:
            what = "token ids alone, which do not say where a turn begins, expected messages too"
            fix = "Log them, or pass --loss-weights message or conversation."
            raise RecordError("column", "completion_ids", what, fix=fix)
        return turn_of_call(said)

    def _cut_messages(self, said: Conversation, answer: int, notes: Counter[str]) -> CutCall | None:
        with stage("render"):
            view = view_of_call(said, self.context, self.options.train_on, self.pasts)
        if isinstance(view, str):
            own = {"missing-reasoning": view, "nothing-to-train": "untrained-call"}
            notes[own.get(view, f"kept {view}")] += 1
            return None
        notes["hidden-answer"] += view.hidden
        if found := self.work.limits.too_long_text(answer, len(view.prompt) + len(view.completion)):
            raise self.work.limits.nothing_fits([found])
        with stage("cut"):
            return self.cutter.add(view, said.sources)


# --- checks of calls -------------------------------------------------------------------


def check_columns(
    call: Call, columns: AbstractSet[str], asked: AbstractSet[str], notes: Counter[str]
) -> None:
    """Check that a call has columns for its values, and values for the columns in `asked`.

    Other values that are missing are counted in `notes`.

    Raises:
        RecordError: it lacks one.
    """
    needs = {name: getattr(call, name) is not None for name in VALUES}
    needs |= {"call_reward": call.reward is not None, "call_role": call.role != "none"}
    needs["preference_labels"] = call.role == "rejected"
    for name, is_there in needs.items():
        if is_there and name not in columns:
            what = f"a value for the column {name}, which the run does not have, expected none"
            fix = f"Pass {OPTION} with {name} in it, or leave the value out: --ignore-fields with "
            fix += "its name, dotted where it is nested (steps.metrics.logprobs)."
            raise RecordError("column", name.removeprefix("call_"), what, fix=fix)
        if name in VALUES and not is_there and name in columns:
            if name in asked:
                what = f"a trained call without {name}, expected them, as {OPTION} names the column"
                fix = f"Log them for each call, or leave {OPTION} out, to have NaN where they are "
                raise RecordError("column", "", what, fix=f"{fix}not.")
            notes[f"lacking {name}"] += 1


def check_ids(call: Call, tokenizer: Tokenizer, train_on: str) -> None:
    """Check that a call's ids can be trained.

    Raises:
        RecordError: an id is unknown, the prompt is empty, or --train-on takes parts of answers.
    """
    if read_train_on(train_on).parts != PARTS:
        what = (
            "token ids, which do not say what of an answer is reasoning, response or tool calls, "
        )
        what += f"expected messages alone for --train-on {train_on}"
        fix = "Log a loss_mask of the tokens to train and leave --train-on out, or leave the ids "
        fix += "out with --ignore-fields."
        raise RecordError("column", "completion_ids", what, fix=fix)
    assert call.prompt_ids is not None
    assert call.completion_ids is not None
    for name, ids in (("prompt_ids", call.prompt_ids), ("completion_ids", call.completion_ids)):
        at = int(ids.argmax()) if ids.size else 0
        if ids.size and tokenizer.lookup()(int(ids[at])) is None:
            what = f"id {ids[at]}, expected one of the {tokenizer.vocab_size:,} of the tokenizer"
            fix = "Pass the tokenizer of the model that was called."
            raise RecordError("vocabulary", f"{name}[{at}]", what, fix=fix)
    if not call.prompt_ids.size:
        what = "no token, expected a prompt that the model answers"
        raise RecordError("no-prompt", "prompt_ids", what, fix="Log the prompt's ids too.")


# --- views, cut ------------------------------------------------------------------------


class _Chain(Struct):
    """The cutter of calls that extend each other, the last call, and when it was added."""

    cutter: Cutter
    last: CutCall | None = None
    used: int = 0


class CallCutter:
    """Cuts the views of the calls of a group, in their order."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._chains: list[_Chain] = []
        self._count = 0
        self.characters = 0
        """Length of all views, without what each shares with the one before it."""

    def add(self, view: View, sources: Sequence[int]) -> CutCall:
        """Cut the view of the next call."""
        chain, same = self._chain(view.prompt)
        cut = chain.cutter.add(view)
        self._count += 1
        chain.used = self._count
        pieces = np.array(cut.pieces, np.int32)
        if chain.last is not None:
            pieces = np.concatenate([chain.last.pieces[: cut.shared], pieces])
        self.characters += len(view.prompt) + len(view.completion) - same
        others = (span.stop for span in reversed(view.spans) if span.message != view.message)
        header = min(cut.prompt, chain.cutter.pieces_before(next(others, 0)))
        own = (header, cut.borders, sources, cut.shared, chain.last)
        chain.last = CutCall(pieces, cut.prompt, *own)
        return chain.last

    def _chain(self, prompt: str) -> tuple[_Chain, int]:
        """Return the chain that a prompt extends, and how many characters they share."""
        found: list[tuple[int, _Chain]] = []
        for chain in self._chains:
            same = common_beginning(chain.cutter.prompt, prompt)
            found.append((same, chain))
            if same == len(chain.cutter.prompt):
                break
        same, best = max(found, key=lambda each: each[0], default=(0, None))
        if best is not None and 2 * same >= min(len(best.cutter.prompt), len(prompt)):
            return best, same
        if len(self._chains) < AGENTS:
            self._chains.append(_Chain(Cutter(self._pieces)))
            return self._chains[-1], 0
        oldest = min(self._chains, key=lambda chain: chain.used)
        return oldest, common_beginning(oldest.cutter.prompt, prompt)


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
