"""The first bytes of a file that is not JSON Lines → what it is, and how to convert it.

A file counts as JSON Lines if one of its first lines starts with `{`: faults of single lines are
reported when these are read. One JSON value over several lines does not count.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
import shlex
from pathlib import PurePosixPath
from typing import Any

import msgspec

from reasonpack.errors import RecordError, StorageError
from reasonpack.records.json_array import NotAList, elements
from reasonpack.storage.read import BLANK, BOM, is_list

HEAD = 1 << 20
"""How many of the first bytes of a file are examined."""
EXPECTED = "JSON Lines, one conversation a line, or one JSON list of conversations"
WRITE = "write it as JSON Lines"
CHAT_LISTS = {"messages", "conversations", "conversation", "prompt", "completion", "tools"}
"""Fields of a chat; an object that has one of them is taken for a record."""

_BINARY: dict[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a zip archive or an Excel file", "unpack it, or export the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an Excel file", "export the sheet as CSV"),
    b"BZh": ("compressed with bzip2", "`bzip2 -dc {0} > {1}`"),
    b"\xfd7zXZ": ("compressed with xz", "`xz -dc {0} > {1}`"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"\x04\x22\x4d\x18": ("compressed with lz4", "`lz4 -dc {0} > {1}`"),
    b"SQLite format 3": ("an SQLite database", WRITE),
    b"%PDF": ("a PDF file", WRITE),
    b"\xff\xfe\0\0": ("UTF-32 text", "`iconv -f UTF-32 -t UTF-8 {0} > {1}`"),
    b"\xff\xfe": ("UTF-16 text", "`iconv -f UTF-16 -t UTF-8 {0} > {1}`"),
    b"\xfe\xff": ("UTF-16 text", "`iconv -f UTF-16 -t UTF-8 {0} > {1}`"),
    b'{\0"\0': ("UTF-16 text", "`iconv -f UTF-16LE -t UTF-8 {0} > {1}`"),
    b'\0{\0"': ("UTF-16 text", "`iconv -f UTF-16BE -t UTF-8 {0} > {1}`"),
    b"\x1f\x8b": ("compressed twice", "`gzip -dc < {0} > {1}`"),
    b"\x28\xb5\x2f\xfd": ("compressed twice", "`zstd -dc < {0} > {1}`"),
    b"PAR1": ("Parquet that was compressed", "unpack it"),
    b"version https://git-lfs": ("a pointer of Git LFS to a file", "`git lfs pull`"),
    b"<": ("HTML or XML", "download or export the data itself"),
}
"""First bytes of a file → what it is, and a fix; {0} is the file's name, {1} the output's."""
_TABLES = {".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson", ".gz", ".zst"}
"""Suffixes of files that may be a table; with others, commas may be those of a program."""
_TABLE = (
    'python -c "import csv, json, sys; csv.field_size_limit(1 << 30); '
    "[print(json.dumps({{k: json.loads(v) if v[:1] in list('[{{') else v for k, v in row.items()}}"
    ")) for row in csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8-sig')%s)]\""
    " {0} > {1}"
)
_YAML = (
    'python -c "import json, sys, yaml; [print(json.dumps(each, default=str)) '
    "for each in yaml.safe_load(open(sys.argv[1], encoding='utf-8'))]\" {0} > {1}"
)
_WRAPPED = (
    'python -c "import json, sys; [print(json.dumps(each)) '
    "for each in json.load(open(sys.argv[1], encoding='utf-8'))[sys.argv[2]]]\" {0} %s > {1}"
)


def foreign(head: bytes, name: str) -> StorageError | None:
    """Return the error for a file that is no JSON Lines and no list; None if it may be one.

    `head` are its first bytes, decompressed: `HEAD` of them, or the whole file.
    """
    whole, head = len(head) < HEAD, head.removeprefix(BOM)
    lines = [line for line in head.splitlines() if line.strip(BLANK)]
    if not lines:
        return None
    found = _by_first_bytes(head)
    if found is None and is_list(head):
        found = _messages(head)
    elif found is None and any(line.lstrip(BLANK).startswith(b"{") for line in lines):
        found = _over_lines(head, lines, whole=whole)
    elif found is None and b"\0" in head:
        found = "binary data", WRITE
    elif found is None and _decoded(lines[0]) is None:
        found = _text(lines, name)
    if found is None:
        return None
    what, fix = found
    return StorageError(name, f"is {what}", EXPECTED, _filled(fix, name))


def _filled(fix: str, name: str) -> str:
    """Put the names of the file and of the converted file into the command of a fix."""
    path = PurePosixPath(name)
    stem = path.name.partition(".")[0] or "chats"
    packed, first = {".gz": "gzip -dk", ".zst": "zstd -dk"}.get(path.suffix), ""
    if "{0}" in fix and packed:
        first, path = f"`{packed} {shlex.quote(name)}`, then ", path.with_suffix("")
    elif "{0}" in fix and name == "stdin":
        first = "write it to a file called stdin, then "
    target = f"{stem}.jsonl" if f"{stem}.jsonl" != path.name else f"{stem}-lines.jsonl"
    return first + fix.format(shlex.quote(str(path)), shlex.quote(target))


def _over_lines(head: bytes, lines: list[bytes], *, whole: bool) -> tuple[str, str] | None:
    """Recognise JSON objects over several lines, or one object that holds all records."""
    if not lines[0].lstrip(BLANK).startswith(b"{"):
        return None
    first = _decoded(lines[0])
    if len(lines) > 1 and first is not None:
        return None
    value, more = (first, False) if first is not None else _first_object(head)
    key = _list_of_records(value)
    if key is not None and not more:
        what = f"one JSON object with the records in its {key!r}"
        braced = shlex.quote(key).replace("{", "{{").replace("}", "}}")
        return what, f"use JSON Lines: `{_WRAPPED % braced}`"
    # The first two lines of an object that is broken, or longer than `head`.
    opened = lines[0].strip(BLANK) == b"{" and lines[1:2] and lines[1].lstrip(BLANK)[:1] == b'"'
    if len(lines) == 1 or first is not None or (value is None and not opened):
        return None  # a fault of a single line is reported when it is read
    if value is not None and not more and whole:
        what = "one JSON object over several lines"
        return what, "use JSON Lines: `python -m json.tool --compact {0} {1}`"
    found = "JSON objects over several lines each", "use JSON Lines: `jq -c . {0} > {1}`"
    try:
        _text_of(head)
    except UnicodeDecodeError:  # jq would replace such bytes silently
        found = "text that is not UTF-8", "convert it to UTF-8"
    return found


def _decoded(text: bytes) -> Any:
    """Decode JSON; None if it is none. NaN and lone surrogates are taken, as `json` does."""
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(text)  # several times as fast
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _first_object(head: bytes) -> tuple[Any, bool]:
    """Decode the object of several lines that a file begins with; return whether more follows."""
    try:
        value, end = json.JSONDecoder().raw_decode(text := _text_of(head).lstrip())
    except (ValueError, RecursionError):
        return None, False
    return (value, bool(text[end:].strip())) if "\n" in text[:end] else (None, False)


def _text_of(head: bytes) -> str:
    """Decode the beginning of a file, which may end within a character."""
    return codecs.getincrementaldecoder("utf-8")().decode(head)


def _list_of_records(value: Any) -> str | None:
    """Return the key of an object's only list of records; None if it is a record itself."""
    if not isinstance(value, dict) or _holds_its_calls(value):
        return None
    lists = [
        key
        for key, each in value.items()
        if isinstance(each, list) and each and all(_is_record(one) for one in each)
    ]
    return lists[0] if len(lists) == 1 and not CHAT_LISTS & value.keys() else None


def _holds_its_calls(value: dict[str, Any]) -> bool:
    """Return whether an object is one record of calls, which may be a list in it."""
    # Imported only here: verify uses this module, but no code of this folder that reads messages.
    from reasonpack.records.call_formats import CHAT, format_of  # noqa: PLC0415

    try:
        return format_of(value) != CHAT
    except RecordError:
        return False


def _is_record(value: Any) -> bool:
    return isinstance(value, dict) and bool(CHAT_LISTS & value.keys())


def _messages(head: bytes) -> tuple[str, str] | None:
    """Recognise a list of messages, which is one conversation, or a list of such lists."""
    try:
        first = next(elements([head], longest=len(head)), None)
    except NotAList:
        return None
    value = _decoded(first.text) if first else None
    if isinstance(value, list):
        value = None if not value else value[0]
        fix = "`jq -c '.[] | {{messages: .}}' {0} > {1}`"
    else:
        fix = "`jq -c '{{messages: .}}' {0} > {1}`"
    if not isinstance(value, dict) or _is_record(value) or not {"role", "from"} & value.keys():
        return None
    return "a list of messages where a conversation is an object", f"use JSON Lines: {fix}"


def _by_first_bytes(head: bytes) -> tuple[str, str] | None:
    for magic, found in _BINARY.items():
        if head.lstrip(BLANK).startswith(magic):
            return found
    if head[257:262] == b"ustar" and b"\0" in head[:257]:
        return "a tar archive", "`tar -xf {0}`"
    return None


def _text(lines: list[bytes], name: str) -> tuple[str, str]:
    """Return what a text that is not JSON seems to be, and a fix."""
    first = lines[0]
    suffixes = PurePosixPath(name.lower()).suffixes
    if {".yaml", ".yml"} & set(suffixes) or re.match(rb"---\s*$|- \S|\w+:(\s|$)", first):
        return "YAML", f"use JSON Lines: `{_YAML}`"
    for mark, argument in ((b"\t", ", delimiter='\\t'"), (b",", ""), (b";", ", delimiter=';'")):
        if mark in first and _TABLES.issuperset(suffixes[-1:]):
            what = "a table with tabs (TSV)" if mark == b"\t" else "a table (CSV)"
            return what, f"use JSON Lines: `{_TABLE % argument}`"
    return "text that is no JSON", WRITE
