"""The objects that describe one call → the value of each field, and the fields nothing reads.

A record, its request, its response and a choice in that may each have a reward, ids, or tools.
Values of the same field must agree. Fields that nothing reads follow the rule for those of a
record (see `unknown`), and one more: a list of numbers may be ids, a mask or weights, so it is
refused under any name.

    {"prompt_token_ids": […], "step_weights": [0.5, 1]}     refused
    {"messages": […], "score": 3}                           noted
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.call_draft import CALL_FLAGS, TOKEN_NAMES, VALUE_NAMES, CallDraft
from reasonpack.records.conversation import READ
from reasonpack.records.draft import is_absent, is_answer, without
from reasonpack.records.harmless_fields import HARMLESS_OF_A_CALL
from reasonpack.records.last_answer import TELLING, failure_of, is_cut, without_ignored
from reasonpack.records.reading import Reading
from reasonpack.records.renaming import renamed
from reasonpack.records.side_fields import SIDE_FIELDS
from reasonpack.records.strict_json import step
from reasonpack.records.unknown import CREDIT, INSTRUCTED, Field, Known, Texts, named_like, unread
from reasonpack.records.unread_fields import MESSAGE_FIELDS, OF_A_RECORD, refuse_whole
from reasonpack.records.value_types import are_numbers, typed

TOKEN_FIELDS = frozenset(
    name for names in (*TOKEN_NAMES.values(), *VALUE_NAMES.values()) for name in names
)
"""Names of fields with values for a call's tokens, or one number for the whole call."""


class Place(Struct, frozen=True):
    """Where a value is in a record, and how it is read.

    Attributes:
        reading: how records are read.
        path: its path in the record.
        name: its name in options; empty for the record.
    """

    reading: Reading
    path: str = ""
    name: str = ""

    def below(self, key: str) -> Place:
        """Return the place of a field."""
        name = f"{self.name}.{key}" if self.name else key
        return Place(self.reading, step(self.path, key), name)

    def item(self, index: int) -> Place:
        """Return the place of an item of the list here; options give it the name of the list."""
        return Place(self.reading, f"{self.path}[{index}]", self.name)

    def level(self, fields: Mapping[str, Any], read: Collection[str]) -> Level:
        """Make the level of the object here, with fields renamed and left out as options say.

        Raises:
            RecordError: a field is renamed to one that is present and differs.
        """
        read, reading = frozenset(read), self.reading
        below = f"{self.name}." if self.name else ""
        notes: tuple[str, ...] = ()
        if reading.renamed:
            names = reading.renamed.items()
            own = {key.removeprefix(below): to for key, to in names if key.startswith(below)}
            fields, notes = renamed(fields, own, self.path, known=read)
            notes = tuple(note.replace(" ", f" {below}", 1) for note in notes)
        if reading.ignored:
            ignored = sorted(key for key in reading.ignored if key.startswith(below))
            fields, left = without_ignored(fields, ignored, below or "record.", read | TELLING)
            notes += (*left,)
        return Level(reading, self.path, self.name, fields, read, notes)

    def levels(self, items: object, read: Collection[str]) -> list[Level]:
        """Make the levels of the objects in the list here.

        Raises:
            RecordError: it is no list of objects; or as `level`.
        """
        objects = typed(items, list[dict[str, Any]], self.path)
        return [self.item(i).level(each, read) for i, each in enumerate(objects)]


class Level(Place, frozen=True):
    """An object that describes a call, and where it is.

    Attributes:
        fields: of the object.
        read: names of its fields that are read.
        notes: on fields that an option renames or leaves out.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    read: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    def get(self, name: str) -> Any:
        """Return the value of a field that is read; None if it is absent or not read."""
        return self.fields.get(name) if name in self.read else None


_KEPT_MASK = "keep the one that is 0 for every token that is not to be trained"


def found_in(levels: Iterable[Level], names: Sequence[str]) -> tuple[str, Any] | None:
    """Return the path and value of the field with one of these names; None if no level has one.

    An empty list counts as present: it is one of no tokens.

    Raises:
        RecordError: reason `conflict`, if there are several that differ.

    >>> place = Place(Reading(), "calls[0]", "calls")
    >>> record = place.level({"prompt_ids": [1], "x": 2}, ["prompt_ids"])
    >>> found_in([record], ["prompt_token_ids", "prompt_ids"])
    ('calls[0].prompt_ids', [1])
    """
    found: tuple[str, Any] | None = None
    for each in levels:
        for name in filter(each.fields.__contains__, names):
            value = each.get(name)
            if is_absent(value) and value != []:
                continue
            path = step(each.path, name)
            if found and not _same(found[1], value):
                what = f"differs from {found[0]}, which means the same"
                fix = _KEPT_MASK if "loss_mask" in names else "keep one of the two"
                raise RecordError("conflict", path, what, "the same value", fix)
            found = found or (path, value)
    return found


def _same(one: object, other: object) -> bool:
    """Return whether two values are equal, where true does not equal 1."""
    if isinstance(one, list) and isinstance(other, list):
        return one == other and list(map(type, one)) == list(map(type, other))
    return one == other and (type(one) is bool) is (type(other) is bool)


def add_found(
    draft: CallDraft,
    tables: Iterable[tuple[dict[str, Any], Mapping[str, Sequence[str]]]],
    levels: Sequence[Level],
) -> None:
    """Store the value of each kind, found by the kind's names, in a dict of the draft.

    `tables` have such a dict, and the names of each kind of value that goes into it.

    Raises:
        RecordError: as `found_in`.
    """
    there = set().union(*(each.fields for each in levels))
    for held, kinds in tables:
        for kind, names in kinds.items():
            if not there.isdisjoint(names) and (found := found_in(levels, names)):
                draft.places[kind], held[kind] = found


def add_sequence(draft: CallDraft, levels: Sequence[Level]) -> None:
    """Split the ids in `tokens` into prompt and completion, by the length of the completion.

    Raises:
        RecordError: that length is missing or too large, or another field has ids too.
    """
    tokens = found_in(levels, ("tokens",))
    if not tokens or not isinstance(tokens[1], list):
        return
    path, ids = tokens
    length = found_in(levels, ("response_length",))
    if not length:
        what = "ids of prompt and completion without response_length"
        fix = "write how many of the last ids are the completion's as response_length"
        raise RecordError("missing", path, what, "it", fix)
    size = typed(length[1], int, length[0])
    if type(size) is not int or not 0 <= size <= len(ids):
        what, expected = f"got {size}", f"at most the {len(ids):,} tokens that there are"
        raise RecordError("conflict", length[0], what, expected, "log the length of the completion")
    if taken := [kind for kind in ("prompt_ids", "completion_ids") if kind in draft.tokens]:
        what = f"ids in addition to those of {draft.places[taken[0]]}"
        raise RecordError("conflict", path, what, "them once", "keep one of the two")
    cut = len(ids) - size
    draft.tokens |= {"prompt_ids": ids[:cut], "completion_ids": ids[cut:]}
    draft.places |= {"prompt_ids": path, "completion_ids": f"{path}[-{size}:]"}


def leave_out_no_ids(draft: CallDraft) -> None:
    """Leave out empty lists of ids of prompt and completion if the call has an answer."""
    ids = [draft.tokens.get(kind) for kind in ("prompt_ids", "completion_ids")]
    if ids == [[], []] and _answer(draft):
        draft.tokens = {kind: value for kind, value in draft.tokens.items() if value != []}


def _answer(draft: CallDraft) -> list[Any]:
    """Return the messages that end in the answer of a call; empty without an answer."""
    held = draft.prompt if draft.answer is None else draft.answer
    last = held[-1] if isinstance(held, list) and held else None
    return held if isinstance(last, dict) and (draft.answer or is_answer(last)) else []


def cut_off(draft: CallDraft) -> None:
    """Mark the answer of a call, or its last item, as one without a stop token."""
    for last in (held := _answer(draft))[-1:]:
        held = [*held[:-1], {**last, "partial": True}]
        if draft.answer is None:
            draft.prompt = held
        else:
            draft.answer = held


def has_no_stop(fields: Mapping[str, Any]) -> bool:
    """Return whether an object around an answer says that the model wrote no stop token.

    Next to a `finish_reason`, `stop_reason` is the text at which vLLM stopped; `matched_stop` is
    SGLang's.
    """
    texts = [fields.get(name) for name in ("matched_stop", "finish_reason", "stop_reason")]
    said = [isinstance(text, str) for text in texts]
    return said[0] or (said[1] and said[2]) or is_cut(fields)


def noted(
    drafts: Iterable[CallDraft],
    around: Sequence[Level],
    texts: Texts = tuple,
    *,
    items: Sequence[Level] = (),
) -> Iterator[CallDraft]:
    """Yield drafts; add to the first of them the unread fields and the notes of all levels.

    The levels `around` all drafts say how the last one's answer ended, and whether all failed;
    `items` are other levels. `texts` returns all texts that are read of the call.

    Raises:
        RecordError: a level says that its answer is to be left out, or has media or padding.
    """
    found, levels = [*drafts], (*around, *items)
    if found and any(has_no_stop(each.fields) for each in around):
        cut_off(found[-1])
    failures = filter(None, (failure_of(each.fields, each.path, each.name) for each in around))
    failure = next(failures, None)
    for number, draft in enumerate(found):
        draft.failure = draft.failure or failure
        for each in () if number else levels:
            draft.notes += each.notes
            draft.unread += _unread_in(each, texts)
        yield draft


_TOKENS: Mapping[str, type | tuple[type, ...]] = {
    name: list for names in TOKEN_NAMES.values() for name in names
}
_OF_CHATS = READ | MESSAGE_FIELDS | SIDE_FIELDS
"""Names that in options mean a field of a chat or of a message."""
_LIKELY: Mapping[str, type | tuple[type, ...]] = {
    **without(OF_A_RECORD, ("conversations", "conversation")),
    **_TOKENS,
    **dict.fromkeys((name for names in VALUE_NAMES.values() for name in names), (int, float)),
    **dict.fromkeys(CREDIT, (list, int, float)),
    **dict.fromkeys(CALL_FLAGS, (bool, int)),
    "response": (str, list, dict),
}


def _unread_in(each: Level, texts: Texts) -> Iterator[Field]:
    """Yield the fields of a level that nothing reads.

    Raises:
        RecordError: the level has media, or says that it is not to be trained.
    """
    refuse_whole(each.fields, each.reading.ignored, each.path, each.name)
    fields, read = each.fields, each.read
    if isinstance(each.get("tokens"), dict):  # only a list is read
        read -= {"tokens"}
    if fields.keys() <= read:
        return
    others = without(fields, read)
    known = Known(read, HARMLESS_OF_A_CALL, _LIKELY, telling=INSTRUCTED)
    numbers = {key for key, value in others.items() if are_numbers(value)}
    for found in unread(without(others, numbers), known, each.path, texts=texts, name=each.name):
        near = found.near or _read_as(found, each)
        near = "" if fields.get(near) else near
        yield replace(found, name=_qualified(found.name), near=near)
    for key in sorted(numbers):
        place = each.below(str(key))
        if key == "attention_mask" and 0 in fields[key] and place.name not in each.reading.ignored:
            what = "a 0, which marks padding"
            fix = "log the ids that the model saw and wrote, without padding"
            raise RecordError("content", place.path, what, "ids without padding", fix)
        near = named_like(key, _TOKENS)
        near = "" if fields.get(near) else near
        yield Field(_qualified(place.name), place.path, refused=True, near=near)


def _read_as(found: Field, level: Level) -> str:
    """Return the known name of values of tokens in an object of a level; empty if not readable."""
    key = found.name.rpartition(".")[2]
    in_list = "[" in found.path.removeprefix(level.path)
    return "" if in_list or key not in _TOKENS else key


def _qualified(name: str) -> str:
    """Put `record.` before a name that in options means a field of a chat or of a message."""
    return f"record.{name}" if name.partition(".")[0] in _OF_CHATS else name
