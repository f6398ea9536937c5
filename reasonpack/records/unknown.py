"""Fields that nothing reads → those that may hold what the model is to learn, to be refused.

    {"role": "assistant", "content": "4", "cot": "easy"}   refused: on an answer
    {"messages": […], "tool": [{…}]}                       refused: its name is like `tools`
    {"messages": […], "turnover": 3, "toxic": false}       turnover is noted; toxic is harmless

On an assistant message a field is refused unless it is read, the template looks it up, or it is
known to be harmless. Elsewhere it is refused only if it could be signal (a list, an object of not
only numbers, a text longer than `LONG`) under a name like a known one, or a list of numbers that is
named like values of tokens, in another object or in the first one of a list, or, in calls, a number
under a name like that of a reward, weight or advantage. A field whose value is null, "", [] or {}
counts as absent, and one whose texts were all read elsewhere as read. Objects in a field follow the
rule of the field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from reasonpack.errors import RecordError
from reasonpack.records.draft import REASONING, is_effort
from reasonpack.records.strict_json import quoted, step
from reasonpack.records.value_types import are_numbers
from reasonpack.wording import nearest

MOST = 100
"""Most names that an error lists; unknown data may have any number of them."""
LONG = 40
"""Characters up to which a text is too short to be signal."""
SIGNAL = re.compile(
    r"reason|think|thought|tool|function|mask|(?<!s)train|(?<![bfg])loss", re.IGNORECASE
)
"""Words in the names of fields that may hold reasoning, tools, or flags of training."""
_WRAPPERS = (
    "additional_kwargs extra extra_fields model_extra provider_specific_fields response_metadata"
)
WRAPPERS = frozenset(_WRAPPERS.split())
"""Fields of a message that hold further fields of the message."""


class Field(Struct, frozen=True):
    """A field that was not read.

    Attributes:
        name: as an option names it; dotted where it is nested.
        path: in the record.
        refused: whether it may hold what the model is to learn.
        near: the known name that it can probably be read as; empty if none.
        where: `file:line` of the record, once that is known.
        count: how often the name was found.
    """

    name: str
    path: str
    refused: bool
    near: str = ""
    where: str = ""
    count: int = 1


class UnknownFieldError(RecordError):
    """Fields of a record, or of a whole input, that may hold what the model is to learn.

    >>> print(UnknownFieldError([Field("cot", "messages[1].cot", True, "reasoning_content")]))
    ... # doctest: +NORMALIZE_WHITESPACE
    messages[1].cot: a field that is not read and may hold what the model is to learn: 'cot' (1
    time, like reasoning_content), expected none. Fix: pass --field cot=reasoning_content to read
    it, or --ignore-fields cot to leave it out.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        named = _by_name(fields)
        listed = ", ".join(
            f"{quoted(each.name)} ({each.count:,} time{'s' * (each.count != 1)}"
            + (f", like {each.near})" if each.near else ")")
            for each in named[:MOST]
        )
        listed += f" and {len(named) - MOST:,} more" if len(named) > MOST else ""
        are = "a field that is not read and" if len(named) == 1 else "fields that are not read and"
        what = f"{are} may hold what the model is to learn: {listed}"
        where = named[0].where
        super().__init__("unknown-field", named[0].path, what, "none", _fix(named), where)
        self.args = (self.fields,)

    def located(self) -> tuple[Field, ...]:
        """Return the fields, each with the place of the record that it was found in."""
        return tuple(replace(each, where=each.where or self.where) for each in self.fields)


def _by_name(fields: Iterable[Field]) -> list[Field]:
    """Merge the fields of each name: the first one, with the count of all.

    Its `near` is empty unless all of them have the same.
    """
    named: dict[str, Field] = {}
    for each in fields:
        first = named.get(each.name, replace(each, count=0))
        near = each.near if each.near == first.near else ""
        named[each.name] = replace(first, near=near, count=first.count + each.count)
    return list(named.values())


def _fix(named: Sequence[Field]) -> str:
    named = named[:MOST]
    renamed = [f"--field {_argument(f'{each.name}={each.near}')}" for each in named if each.near]
    mixed = 0 < len(renamed) < len(named)
    left = [each for each in named if not (mixed and each.near)]
    names = [_argument(each.name) for each in left]
    them = "the others" if mixed else "it" if len(named) == 1 else "them"
    fix = f"--ignore-fields {','.join(names)} to leave {them} out"
    if any(re.search("(tool|function)_?(call|use)s?$", each.name) for each in named):
        fix += " (an answer whose call is left out is trained to end before it)"
    if renamed:
        read = [quoted(each.name) for each in named if each.near]
        them = "it" if len(named) == 1 else ", ".join(read)
        fix = f"{' '.join(renamed)} to read {them}, {'and' if mixed else 'or'} {fix}"
    if credit := next((each.name for each in left if each.name in CREDIT), ""):
        fix = f"--input-format calls to train with {quoted(credit)}, or {fix}"
    others = [each.name for each in left if not each.near]
    marks = [name for name in others if _MARKS.search(name)]
    inner = [each for each in others if "." in each and _OF_TOKENS.search(each)]
    if inner and not {*inner} <= {*marks}:
        said = f"if {quoted(inner[0])} has a value for each token of a call, write it next to the "
        said += "ids of the call, under a name of schemas/call.schema.json"
        return f"{said}; else pass {fix}"
    if marks:
        said = f"if {quoted(marks[0])} says which tokens are trained, write that as loss_mask, "
        said += "beside the tokens' ids, 1 for each to train and 0 for the others"
        return f"{said}; else pass {fix}"
    return f"pass {fix}"


_MARKS = re.compile(r"mask(s|ed|ing)?$|labels$|(range|span|weight)s$|(^|_)is_\w*tokens?$")
"""Names of fields that may say which tokens are trained, in one way or the opposite."""


_OF_TOKENS = re.compile(
    r"(^|\.)(token|(prompt|completion|response|output|generation|input)(_token)?)_ids$"
    r"|(^|\.)(prompt|completion|response|output|generation|input)_tokens$"
    r"|log_?probs$|_mask$|(^|\.)advantages$"
)
"""Names, perhaps dotted, of fields in another object that have a value for each token."""


def _argument(text: str) -> str:
    return text if re.fullmatch(r"[\w.=-]+", text) else quoted(text)


def together(errors: Iterable[UnknownFieldError]) -> UnknownFieldError:
    """Merge the errors of many records, in their order, into one."""
    return UnknownFieldError(_by_name(each for error in errors for each in error.located()))


class Known(Struct, frozen=True):
    """What is known of the fields of one kind of object.

    Attributes:
        read: names of fields that are read.
        harmless: names of fields that hold nothing to learn.
        likely: known names that may be misspelt, each with the type of its value.
        strict: whether all other fields are refused.
        telling: names of fields that are refused in any case, unless they are read.
    """

    read: frozenset[str]
    harmless: frozenset[str]
    likely: Mapping[str, type | tuple[type, ...]]
    strict: bool = False
    telling: frozenset[str] = frozenset()

    def inside(self, *, strict: bool) -> Known:
        """Return what is known of the fields of an object inside a field that is not read."""
        likely = {name: kind for name, kind in self.likely.items() if SIGNAL.search(name)}
        return Known(frozenset(), self.harmless, likely, strict)


def sorted_out(fields: Iterable[Field], ignored: AbstractSet[str]) -> tuple[list[Field], list[str]]:
    """Return the fields that are refused, and notes on those that are not.

    Fields that are `ignored`, and fields inside them, are not refused.

    >>> sorted_out([Field("a.b", "", True), Field("ab", "", False)], {"a"})
    ([], ['left-out a', 'unread ab'])
    """
    refused: list[Field] = []
    notes: list[str] = []
    for each in fields:
        said = [f"left-out {name}" for name in ignored if f"{each.name}.".startswith(f"{name}.")]
        if each.refused and not said:
            refused.append(each)
        plain = each.name.isprintable() and len(each.name) <= LONG + 20
        notes += said or [f"unread {each.name if plain else quoted(each.name)}"]
    return refused, notes


Texts = Callable[[], Iterable[str]]


def unread(
    fields: Mapping[str, Any], known: Known, path: str, *, texts: Texts, name: str = ""
) -> Iterator[Field]:
    """Yield the fields of an object that are not read and not harmless.

    `texts` returns all texts that are read of the record or message. `name` is the object's name
    in options; empty for a record or a message.
    """
    for key, value in fields.items():
        if key not in known.read and value not in (None, "", [], {}):
            full = f"{name}.{key}" if name else str(key)
            yield from _unread(key, value, known, step(path, str(key)), texts=texts, name=full)


def _unread(
    key: str, value: Any, known: Known, path: str, *, texts: Texts, name: str
) -> Iterator[Field]:
    wraps, tells, counts = key in WRAPPERS, key in known.telling, key in ("usage", "token_usage")
    strict, harmless = known.strict or tells, key in known.harmless and not tells
    if isinstance(value, dict) and not counts and (wraps or harmless or not strict):
        inner = known.inside(strict=strict and wraps)
        refused = [each for each in unread(value, inner, path, texts=texts, name=name)
                   if each.refused]  # fmt: skip
        if refused or wraps:
            yield from refused
            return
    elif isinstance(value, list) and value and isinstance(value[0], dict) and not strict:
        inside = unread(value[0], known.inside(strict=False), f"{path}[0]", texts=texts, name=name)
        if refused := [each for each in inside if _OF_TOKENS.search(each.name) and each.refused]:
            yield from refused
            return
    if harmless:
        return
    near = "" if tells else named_like(key, known.likely)
    # A known name inside another object: a flag that says no, or reasoning, however short.
    misplaced = "." in name and key in known.likely and (isinstance(value, str) or not value)
    misplaced &= not (key in REASONING and is_effort(value))
    likely = bool(near or SIGNAL.search(key)) and _is_large(value)
    likely |= "." in name and bool(_OF_TOKENS.search(key)) and are_numbers(value)
    signal = strict or misplaced or likely or _is_credit(key, near, value, known)
    if signal and _was_read(value, texts):
        return
    like = _suitable(key, near or meant(key), value, known) if signal else ""
    yield Field(name, path, signal, like)


def _is_credit(key: str, near: str, value: object, known: Known) -> bool:
    """Return whether a number is a weight, reward or advantage under a misspelt name."""
    kind = known.likely.get(near)
    may_be = isinstance(kind, tuple) and float in kind and key[:1].lower() == near[:1]
    return may_be and isinstance(value, int | float) and not isinstance(value, bool)


def named_like(key: str, likely: Iterable[str]) -> str:
    """Return the known name that `key` misspells; of a mask the first letters have to be the same.

    >>> named_like("loss_masks", ["loss_mask"]), named_like("obs_mask", ["loss_mask"])
    ('loss_mask', '')
    """
    near = nearest(key, likely)
    return "" if near.endswith("_mask") and near[:3] != key[:3].lower() else near


def _is_large(value: object) -> bool:
    """Return whether a value could be signal by its type and length; JSON in a text could be."""
    if isinstance(value, dict):
        held = [each for each in value.values() if not is_effort(each)]
        return any(isinstance(each, str | bool) or _is_large(each) for each in held)
    if isinstance(value, str):
        return len(value) > LONG or (value[:1] in ("[", "{") and value not in ("[]", "{}"))
    return isinstance(value, list)


def _was_read(value: object, texts: Texts) -> bool:
    """Return whether a value has texts, and all of them were read elsewhere."""
    found = [text.strip() for text in strings(value) if text.strip()]
    read = list(texts()) if found else []
    return bool(found) and all(
        any(text == each.strip() or (len(text) > LONG and text in each) for each in read)
        for text in found
    )


def strings(value: object) -> Iterator[str]:
    """Yield each text in a value, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def meant(key: str) -> str:
    """Return the known name that the field `key` probably means, by a word in it; else empty."""
    if re.search(r"(finish|stop|done|end)\w*reason", key, re.IGNORECASE):
        return "finish_reason"
    word = SIGNAL.search(key) or _THOUGHT.search(key)
    if "mask" in key.lower():  # the mask of what its other words name
        return ""
    return _MEANT.get(key if word is None else word[0].lower(), "")


CREDIT = ("advantage", "advantages")
"""Fields that say how good an answer is, which are read in calls only."""
INSTRUCTED = frozenset(("system_prompt", "system_message", "instructions", "developer"))
"""Fields of a record that hold a system text."""
_THOUGHT = re.compile(r"(?<![a-z])cot$|rationale|scratchpad", re.IGNORECASE)
_MEANT = {
    **dict.fromkeys(INSTRUCTED, "system"),
    **dict.fromkeys(("cot", "rationale", "scratchpad"), "reasoning_content"),
    **dict.fromkeys(("text", "message", "body", "response", "output", "refusal"), "content"),
    **dict.fromkeys(("reason", "think", "thought"), "reasoning_content"),
    **dict.fromkeys(("train", "loss"), "train"),
    **dict.fromkeys(("tool", "function"), "tools"),
}


def _suitable(key: str, name: str, value: object, known: Known) -> str:
    """Return `name` if the type of the value lets the field `key` be read as it; else empty."""
    name = "tool_calls" if name == "tools" and "tool_calls" in known.likely else name
    kind = known.likely.get(name)
    suits = isinstance(value, kind) if kind else False
    if isinstance(value, bool | int) and not _is_credit(key, name, value, known):
        # A flag, whose name must not mean the opposite.
        suits = suits and value in (0, 1) and not _NEGATED.search(key)
    return name if suits else ""


_NEGATED = re.compile(
    r"^(no|un|do_?n|skip|ignor|exclu|without|disabl)|masked|_(not?|off|ignored|skipped|excluded)_?",
    re.IGNORECASE,
)
"""Names of flags that, if true, say not to train."""


def misspelt(fields: Mapping[str, Any], names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first field that is a misspelling of one of `names`, and that name, or None.

    >>> misspelt({"role": "user", "contnet": "Hi"}, ["content", "value"])
    ('contnet', 'content')
    """
    likely = frozenset(names)
    others = (name for name in fields if name not in likely and re.fullmatch(r"[\w-]+", name))
    found = ((name, nearest(name, likely)) for name in others)
    return next((pair for pair in found if pair[1]), None)
