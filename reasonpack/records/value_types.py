"""A decoded value → the same in the type of its field, or an error with what to write instead.

["a", 3] as a list of text  →  got an integer, expected a string. Fix: write it in quotes.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from reasonpack.errors import RecordError
from reasonpack.records.strict_json import quoted

_EXPECTED = re.compile(
    r"Expected `([^`]+)`(?:, got `([^`]+)`)?(?: - at (?:`key` in )?`\$([^`]*)`)?$"
)
_NAMES = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "list": "a list",
    "object": "an object",
    "dict": "an object",
    "NoneType": "null",
}

_TYPE_FIXES = (
    ("a string", "true", "write {} without quotes"),
    ("a string", "", "write {}, not text"),
    ("a list", "an object", "write an object, without [ ] around it"),
    ("a list", "a string", "write its text"),
    ("an object", "a string", "write its text"),
    ("an object", "a list", "write a list, with [ ] around it"),
    ("bytes", "a string", "store it as text"),
    ("", "an object", "write an object"),
    ("", "a string", "write it in quotes"),
    ("", "", "write {}"),
)
"""The type found (any if empty), a word of what was expected, the fix; the first match counts."""


def typed(value: object, kind: Any, path: str) -> Any:
    """Convert a decoded value to the type `kind`, as msgspec does in strict mode.

    Raises:
        RecordError: reason `type`, with the path of the value below `path`.

    >>> typed(["a", 3], list[str], "a")
    Traceback (most recent call last):
    ...
    reasonpack.errors.RecordError: a[1]: got an integer, expected a string. Fix: write it in quotes.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said = _EXPECTED.match(str(error))
        if not said:
            what, fix = quoted(str(error)), "write it in quotes"
            raise RecordError("type", path, what, "a smaller value", fix) from None
        wanted, got, below = said.groups()
        words = [_NAMES.get(w, w) for w in wanted.split(" | ") if w != "null"]
        raise wrong_type(path + (below or ""), got, " or ".join(words)) from None


def wrong_type(path: str, got: str | None, wanted: str, *, fix: str = "") -> RecordError:
    """Make the error for a value at `path` whose type has the name `got` in Python or msgspec."""
    name = _NAMES.get(got or "", got or "")
    helps = (how for kind, word, how in _TYPE_FIXES if kind in (name, "") and word in wanted)
    fix = fix or next(helps).format(wanted)
    return RecordError("type", path, f"got {name or 'a key of another type'}", wanted, fix)


_NUMBERS = {int, float, bool, type(None)}


def are_numbers(value: object) -> bool:
    """Return whether a value is a list of numbers, or a list that has such lists.

    >>> are_numbers([1, 0.5]), are_numbers([[1], [2]]), are_numbers([]), are_numbers(["a"])
    (True, True, False, False)
    """
    if not isinstance(value, list) or not value:
        return False
    if isinstance(value[0], list):
        return any(map(are_numbers, value))
    kinds = set(map(type, value))
    return kinds <= _NUMBERS and kinds != {type(None)}
