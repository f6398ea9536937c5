"""A line is read exactly as it says, or refused with the place of the fault."""

from __future__ import annotations

import gc
import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonpack.errors import RecordError
from reasonpack.records import strict_json

GOOD = b'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}'

CHARACTER = "write the character itself, or \\ufffd in its place"
NO_NAN = "write null, or leave the field out"
TWICE = "remove or rename one of the two"
WHOLE = "write one whole JSON value, e.g. with a JSON library"
UTF8 = "convert the text to UTF-8"

# What is wrong: the line, then the reason, the message and the fix.
REFUSED = {
    "cut short": (
        GOOD[:45],
        "json",
        "not JSON at column 43: unterminated text, near '\"hi', expected JSON",
        WHOLE,
    ),
    "no comma, after characters of several bytes": (
        '{"id": "日本" "messages": []}'.encode(),
        "json",
        "not JSON at column 13: expecting ',' delimiter, near '\"messages\": []}', expected JSON",
        WHOLE,
    ),
    "two records on a line": (
        GOOD + b" {}",
        "json",
        "not JSON at column 91: extra data, near '{}', expected JSON",
        WHOLE,
    ),
    "an empty line": (
        b" \n",
        "json",
        "an empty text, expected JSON",
        WHOLE,
    ),
    "a control character, which must not reach the terminal": (
        b'{"id": "\x1b[31m"}',
        "json",
        "not JSON at column 9: invalid control character, near '\\x1b[31m\"}', expected JSON",
        WHOLE,
    ),
    "NaN": (
        b'{"id": "NaN 1e999", "x": NaN}',
        "json",
        "not JSON at column 26: NaN is no JSON number, near 'NaN}', expected a finite number",
        NO_NAN,
    ),
    "an infinity": (
        b'{"id": -Infinity}',
        "json",
        (
            "not JSON at column 8: -Infinity is no JSON number, near '-Infinity}', expected a "
            "finite number"
        ),
        NO_NAN,
    ),
    "a number out of range": (
        b'{"id": "1e999", "x": 1e999}',
        "json",
        "not JSON at column 22: a number out of range, near '1e999}', expected a smaller one",
        "write it as text",
    ),
    "an integer out of range": (
        b'{"id": ' + b"9" * 5000 + b"}",
        "json",
        (
            "not JSON at column 8: a number out of range, near "
            "'9999999999999999999999999999999999999999'…, expected a smaller one"
        ),
        "write it as text",
    ),
    "nested too deeply": (
        b"[" * 100_000 + b"]" * 100_000,
        "json",
        "lists or objects nested too deeply, expected at most 100 in each other",
        "write deeply nested values as text",
    ),
    "nested too deeply, but valid": (
        b'{"a":' * 101 + b"1" + b"}" * 101,
        "json",
        "lists or objects nested too deeply, expected at most 100 in each other",
        "write deeply nested values as text",
    ),
    "nested too deeply, and cut short": (
        b"[" * 101,
        "json",
        "lists or objects nested too deeply, expected at most 100 in each other",
        "write deeply nested values as text",
    ),
    "not UTF-8": (
        b'{"id": "caf\xe9"}',
        "encoding",
        "id: not UTF-8: byte 0xe9 at byte 4 of the text, expected UTF-8",
        UTF8,
    ),
    "half a character in UTF-8": (
        b'{"id": ["\xc3\xa9", "\xc3\xa9\xed\xa0\x80"]}',
        "encoding",
        "id[1]: not UTF-8: byte 0xed at byte 3 of the text, expected UTF-8",
        UTF8,
    ),
    "a key that is not UTF-8": (
        b'{"caf\xe9": 1}',
        "encoding",
        "not UTF-8: byte 0xe9 at byte 6 of the line, expected UTF-8",
        UTF8,
    ),
    "not UTF-8, and no JSON": (
        b'{"id": "caf\xe9}',
        "encoding",
        "not UTF-8: byte 0xe9 at byte 12 of the line, expected UTF-8",
        UTF8,
    ),
    "not UTF-8, and nested too deeply": (
        b'{"id": "\xe9", "x": ' + b"[" * 101 + b"]" * 101 + b"}",
        "encoding",
        "not UTF-8: byte 0xe9 at byte 9 of the line, expected UTF-8",
        UTF8,
    ),
    "a byte order mark": (
        b"\xef\xbb\xbf" + GOOD,
        "encoding",
        "a byte order mark before the record, expected an object",
        "remove it; it may only be the first thing in a file",
    ),
    "a lone high surrogate": (
        b'{"id": "\\ud83d\\ude00 \\\\ud800 \\ud800"}',
        "encoding",
        "lone surrogate \\ud800 at column 30, expected a pair",
        CHARACTER,
    ),
    "a lone low surrogate": (
        b'{"id": "\\uDC00"}',
        "encoding",
        "lone surrogate \\uDC00 at column 9, expected a pair",
        CHARACTER,
    ),
    "a key twice": (
        b'{"id": 1, "messages": [], "id": 2}',
        "duplicate-key",
        "id: the key 'id' twice in one object, expected once",
        TWICE,
    ),
    "a key twice, deep down, once escaped": (
        b'{"messages": [{"role": "user"}, {"extra": [{"a\\n": 1, "a\\u000a" : 2}]}]}',
        "duplicate-key",
        "messages[1].extra[0]['a\\n']: the key 'a\\n' twice in one object, expected once",
        TWICE,
    ),
}


@pytest.mark.parametrize(("line", "reason", "what", "fix"), REFUSED.values(), ids=REFUSED)
def test_refused_line(line: bytes, reason: str, what: str, fix: str) -> None:
    with pytest.raises(RecordError) as caught:
        strict_json.decode(line)
    assert str(caught.value) == f"{what}. Fix: {fix}."
    assert str(caught.value).isprintable()
    assert caught.value.reason == reason


def test_message_quotes_little_of_a_long_line() -> None:
    with pytest.raises(RecordError) as caught:
        strict_json.decode(b'{"id": "' + b"x" * 5_000_000)
    assert caught.value.what == f"not JSON at column 8: unterminated text, near '\"{'x' * 39}'…"


def test_nesting_within_the_limit() -> None:
    """Brackets in text do not count, nor do those that were closed."""
    line = b'["\\"' + b"[" * 200 + b'", ' + b"[], " * 200 + b"[" * 99 + b"]" * 100
    assert strict_json.decode(line) == json.loads(line)
    said = refusal(line[:-1])
    assert said.startswith("json: not JSON at column")


@pytest.mark.parametrize("depth", [99, 100, 101, 400, 940])
@pytest.mark.parametrize("tail", ["]", "", "x"])
def test_what_is_said_of_nesting_does_not_depend_on_the_caller(depth: int, tail: str) -> None:
    """Python's own limit does: a worker process would refuse other records."""

    def deeper(frames: int) -> str:
        return deeper(frames - 1) if frames else refusal(line)

    line = b"[" * depth + b"1" + tail.encode() * depth
    assert deeper(100) == refusal(line)


def test_long_line() -> None:
    text = 'say "x": \\ 日本 \n' * 500_000
    assert strict_json.decode(json.dumps([text]).encode()) == [text]


def refusal(line: bytes) -> str:
    """Decode a line as the standard library does, or say why not."""
    try:
        value = strict_json.decode(line)
    except RecordError as error:
        return f"{error.reason}: {error}"
    assert value == json.loads(line)
    return ""


@given(st.data())
def test_any_broken_line_is_read_or_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    middle = data.draw(st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b"{", b",", b"NaN"]))
    line = GOOD[:at] + middle + GOOD[at + data.draw(st.integers(0, 3)) :]
    said = refusal(line)
    column = re.search(r"not JSON at column (\d+)", said)
    assert column is None or 1 <= int(column[1]) <= len(line) + 1
    assert said.isprintable()


SPACE = st.sampled_from(["", "", " ", "\t", " \r\n"])
KEYS = st.sampled_from(['"a"', '"b"', '"\\\\"', '"\\""', '":"', '"\\": "', '"\\u0061"', '""'])
TEXTS = st.sampled_from(
    ['":"', '" : "', '"\\":"', '"\\\\\\" :"', '"\\\\"', '"a\\": {\\"a\\": 1, \\"a\\": 2}"']
)


def written_json(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds("{}{}:{}{}".format, KEYS, SPACE, SPACE, inner)
    return st.lists(member, max_size=3).map(lambda m: "{" + ",".join(m) + "}") | st.lists(
        inner, max_size=3
    ).map(lambda m: "[" + " ,".join(m) + "]")


def has_repeated_key(text: str) -> bool:
    repeated = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        repeated.append(len(keys) != len(set(keys)))

    json.loads(text, object_pairs_hook=look)
    return any(repeated)


def is_refused(text: str) -> bool:
    said = refusal(text.encode())
    return said.startswith("duplicate-key")


@given(st.recursive(TEXTS | st.just("0"), written_json, max_leaves=12))
def test_repeated_keys_are_found_exactly(text: str) -> None:
    assert is_refused(text) is has_repeated_key(text)


# Each hides a key from a count that reads JSON less carefully than it must.
HIDDEN = [
    '{"a" :1,"b":1,"b":2}',
    '{"\\\\":1,"b":1,"b":2}',
    '["\\":", {"a\\\\":1, "a\\\\":2}]',
    '{"a\\u0000":1,"\\u0061\\u0000":2}',
]


@pytest.mark.parametrize("text", HIDDEN)
def test_hidden_repeated_key(text: str) -> None:
    assert is_refused(text)


@pytest.mark.parametrize(
    ("name", "careless"), [("_KEY_END", rb'":'), ("_KEY_END", rb'[^\\]"[ \t\r\n]*:')]
)
def test_careless_counting_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, careless: bytes
) -> None:
    monkeypatch.setattr(strict_json, name, re.compile(careless))
    assert not all(is_refused(text) for text in HIDDEN)


def test_an_error_does_not_keep_its_line_until_garbage_is_searched_for() -> None:
    gc.collect()
    with suppress(RecordError):
        strict_json.decode(b'{"a": 1,,}')
    assert gc.collect() == 0
