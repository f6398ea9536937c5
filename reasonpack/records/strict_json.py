r"""A line of JSON → plain Python objects, or the reason why not.

    b'{"a": [1, {"b": "x"}]}'  →  {"a": [1, {"b": "x"}]}
    b'{"a": 1, "a": 2}'        →  a: the key 'a' twice in one object, expected once
    b'{"a": "\xff"}'           →  a: not UTF-8: byte 0xff at byte 1 of the text

msgspec decodes; it is fast, but silently takes the last of two equal keys, and
often cannot say what is wrong. So keys are counted, and a line that it refuses
is parsed a second time, slowly, for a cause and a column.

Columns and bytes are counted from 1. Messages quote at most about 60 characters
of the record, escaped, so that no control character reaches a terminal.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from reasonpack.errors import RecordError

_decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode

# The quote that closes a key, then the colon. Matches too many, never too few:
# an escaped quote and one that opens a text such as ":-)" look the same.
_KEY_END = re.compile(rb'"[ \t\r\n]*:')
# The same after an escaped quote: one that follows an odd number of "\".
_ESCAPED_KEY_END = re.compile(rb'\\(?<!\\\\)(?:\\\\)*"[ \t\r\n]*:')

# Tokens of which some are read by the standard library and not by msgspec.
_TOKEN = re.compile(
    r"""\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
    |  \\(?P<surrogate>u[dD][89a-fA-F][0-9a-fA-F]{2})
    |  \\.
    |  (?P<quote>")
    |  (?P<constant>NaN|-?Infinity)
    |  (?P<number>-?[0-9][-+.0-9eE]*)""",
    re.VERBOSE,
)

_BOM = "\ufeff"
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
"""A byte that is not UTF-8, as the error handler `surrogateescape` decodes it."""

LARGEST = 1 << 27
"""Bytes of the longest line that is read; rendering it takes some ten times that as memory."""
DEPTH = 100
"""How deep lists and objects may nest. Python's own limit depends on the stack of the caller."""
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def decode(line: bytes, path: str = "") -> Any:
    """Decode JSON, strictly: a line, or the text in the field `path` of a record.

    Raises:
        RecordError: reason `json` (syntax, NaN, a number out of range, more than 100 lists and
            objects in each other), `encoding` (not UTF-8, a byte order mark, a lone surrogate) or
            `duplicate-key`.

    >>> decode(b'{"role": "user"}')
    {'role': 'user'}
    """
    try:
        value = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # A variable for the error would be in a cycle with its traceback, which keeps the line.
        raise _why_not(line, error, path) from None
    check_keys(line, value, path)
    return value


def decode_line(line: bytes) -> Any:
    """Decode a line of a file, or an element of a list.

    Raises:
        RecordError: reason `size`, or one of those of `decode`.
    """
    if len(line) > LARGEST:
        what = f"a line of {len(line):,} bytes"
        raise RecordError("size", "", what, f"at most {LARGEST:,}", "leave it out")
    if not line.strip():  # an element of a list; empty lines were skipped before
        what = "nothing where an element of the list should be"
        raise RecordError("json", "", what, "a conversation", "remove the comma")
    return decode(line)


def quoted(text: str, *, limit: int = 60) -> str:
    r"""Quote text from a record for a message: shortened, unprintable characters escaped.

    >>> print(quoted("\x1b[31mred"))
    '\x1b[31mred'
    """
    return repr(text[:limit]) + ("…" if len(text) > limit else "")


def step(path: str, key: str) -> str:
    """Extend the path of an object by one of its keys.

    >>> step("messages[0]", "role"), step("tools[0]", "two words")
    ('messages[0].role', "tools[0]['two words']")
    """
    if not key.isidentifier() or len(key) > 60:
        return f"{path}[{quoted(key)}]"
    return f"{path}.{key}" if path else key


def check_keys(line: bytes, value: object, path: str = "") -> None:
    """Refuse `line`, which decoded to `value`, if an object in it has a key twice.

    Raises:
        RecordError: reason `duplicate-key`, with the path of the first such key; or `json`, if
            it is nested too deeply.
    """
    keys = count_keys(value, path)
    ends = len(_KEY_END.findall(line))
    if ends != keys:
        ends -= len(_ESCAPED_KEY_END.findall(line))
    # Ends ≥ keys as written ≥ keys as decoded: if the numbers are equal, no key repeats.
    if ends != keys:
        _find_repeated_key(line, path)


NO_NAN = "write null, or leave the field out"
_VALID = "write one whole JSON value, e.g. with a JSON library"
CHARACTER = "write the character itself, or \\ufffd in its place"
_NESTS = frozenset((dict, list))


def count_keys(value: object, path: str = "") -> int:
    """Count the keys of all objects in a value, at `path` of a record.

    Raises:
        RecordError: reason `json`, if it is nested too deeply.

    >>> count_keys({"a": [{"b": 1}, {"b": 2}]})
    3
    """
    keys = 0
    level: list[Any] = [value] if type(value) in _NESTS else []
    for _ in range(DEPTH):
        below: list[Any] = []
        for item in level:
            items = item
            if type(item) is dict:
                keys += len(item)
                items = item.values()
            if not _NESTS.isdisjoint(map(type, items)):
                below += [each for each in items if type(each) in _NESTS]
        if not below:
            return keys
        level = below
    raise too_deep(path)


def _find_repeated_key(line: bytes, path: str) -> None:
    def note(pairs: list[tuple[str, Any]]) -> object:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        return _Repeated(Counter(key for key, _ in pairs).most_common(1)[0][0])

    tree = json.loads(line.decode(), object_pairs_hook=note, parse_int=str, parse_float=str)
    for place, item in _items(tree, path):
        if isinstance(item, _Repeated):
            what = f"the key {quoted(item.key)} twice in one object"
            fix = "remove or rename one of the two"
            raise RecordError("duplicate-key", step(place, item.key), what, "once", fix)


def _items(tree: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield a value at `path`, and all values in it, each with its path, in order."""
    todo = [(path, tree)]
    while todo:
        path, item = todo.pop()
        yield path, item
        below: Iterable[tuple[str, object]] = ()
        if isinstance(item, dict):
            below = ((step(path, k), v) for k, v in item.items())
        elif isinstance(item, list):
            below = ((f"{path}[{i}]", v) for i, v in enumerate(item))
        todo.extend(reversed(list(below)))


class _Repeated(Struct, frozen=True):
    """Stands in the decoded tree for an object that has `key` twice."""

    key: str


def _why_not(line: bytes, error: Exception, path: str) -> RecordError:
    """Make the error for a line, or a text in the field `path`, that msgspec refused."""
    try:
        text = line.decode()
    except UnicodeDecodeError as bad:
        return _not_utf8(line, bad.start)
    if text.startswith(_BOM):
        what = "a byte order mark before the record"
        fix = "remove it; it may only be the first thing in a file"
        return RecordError("encoding", path, what, "an object", fix)
    if not text.strip():
        return RecordError("json", path, "an empty text", "JSON", _VALID)
    refused = too_deep() if is_too_deep(text) else _syntax(text, error)
    refused.path = path
    return refused


def _not_utf8(line: bytes, at: int) -> RecordError:
    """Make the error for a line whose byte `at` is not UTF-8; it names the text, if one has it."""
    text = line.decode(errors="surrogateescape")
    path, number, inside = "", at + 1, "line"
    with contextlib.suppress(ValueError):
        tree = None if is_too_deep(text) else json.loads(text, parse_int=str, parse_float=str)
        for place, item in _items(tree, ""):
            if isinstance(item, str) and (bad := _ESCAPED_BYTE.search(item)):
                before = len(item[: bad.start()].encode(errors="surrogateescape"))
                path, number, inside = place, before + 1, "text"
                break
    what = f"not UTF-8: byte 0x{line[at]:02x} at byte {number} of the {inside}"
    return RecordError("encoding", path, what, "UTF-8", "convert the text to UTF-8")


def is_too_deep(text: str) -> bool:
    """Return whether the brackets of a text, which need not be JSON, nest too deeply."""
    depth = 0
    for bracket in _BRACKET.finditer(_TEXT.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEPTH:
            return True
    return False


def _syntax(text: str, error: Exception) -> RecordError:
    """Ask the standard library for the first fault and its column."""
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except json.JSONDecodeError as bad:
        comma = len(text[: bad.pos].rstrip()) - 1
        if text[comma] == "," and text[bad.pos : bad.pos + 1] in ("]", "}"):
            return _at(text, comma, "nothing follows a comma", fix="remove the comma")
        return _at(text, bad.pos, _reworded(bad.msg))
    what = f"not JSON: {quoted(str(error))}"
    return _oddity(text) or RecordError("json", "", what, "JSON", _VALID)


def _reworded(message: str) -> str:
    """Reword a message of the standard library for the middle of a sentence."""
    if message.startswith("Unterminated string"):
        return "unterminated text"
    message = message.rstrip(": ").removesuffix(" at")
    return message[:1].lower() + message[1:]


def _at(text: str, at: int, what: str, *, expected: str = "JSON", fix: str = _VALID) -> RecordError:
    rest = text[at : at + 41].rstrip("\r\n")
    near = f"near {quoted(rest, limit=40)}" if rest else "at its end"
    line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
    place = f"line {line}, column {column}" if "\n" in text.strip() else f"column {column}"
    return RecordError("json", "", f"not JSON at {place}: {what}, {near}", expected, fix)


def too_deep(path: str = "") -> RecordError:
    """Make the error for a value at `path` of a record that is nested too deeply."""
    what, expected = "lists or objects nested too deeply", f"at most {DEPTH} in each other"
    return RecordError("json", path, what, expected, "write deeply nested values as text")


def _oddity(text: str) -> RecordError | None:
    """Make the error for the first token that only the standard library reads; None if none is."""
    inside = False
    for token in _TOKEN.finditer(text):
        kind, at = token.lastgroup, token.start()
        if kind == "quote":
            inside = not inside
        elif kind == "surrogate":
            what = f"lone surrogate {token[0]} at column {at + 1}"
            return RecordError("encoding", "", what, "a pair", CHARACTER)
        elif kind == "constant" and not inside:
            what = f"{token[0]} is no JSON number"
            return _at(text, at, what, expected="a finite number", fix=NO_NAN)
        elif (
            kind == "number"
            and not inside
            and (len(token[0]) > 4300 or math.isinf(float(token[0])))
        ):
            what = "a number out of range"
            return _at(text, at, what, expected="a smaller one", fix="write it as text")
    return None
