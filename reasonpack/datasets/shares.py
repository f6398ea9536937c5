"""An argument that names inputs → their path, and how much of them is packed.

a.jsonl       a.jsonl:2.0    twice       b/#5000    5,000 conversations of a directory
{"path": "a.jsonl", "repeat": 2.0}       the same as fields, as in a file of options
"""

from __future__ import annotations

import json
import math
import re

import msgspec

from reasonpack.datasets.manifest import Share
from reasonpack.errors import UsageError
from reasonpack.storage.inputs import exists
from reasonpack.wording import nearest

STDIN = "-"
_FIELDS = ("path", "repeat", "conversations")
_EXPECTED = "a share above 0, or a number of conversations from 1 on"
_MEANT = re.compile(r"(.+)[:#][^:#/]+", re.DOTALL)
"""A name, followed by what may be meant as a share but is not one."""
_SHARE = re.compile(r"(.+?)(?::(\d+(?:\.\d+)?)|#(\d+))", re.DOTALL)


def read_share(text: str) -> Share:
    """Read an argument that names inputs; if a file has this whole name, no share is read from it.

    Raises:
        UsageError: the share is invalid, or the fields are not those of an input.
    """
    if text == STDIN:
        return Share(path=text)
    fields = text.startswith("{") and text.endswith("}")
    match = None if fields else _SHARE.fullmatch(text)
    if exists(text):
        return Share(path=text)
    if not fields and match is None:
        meant = _MEANT.fullmatch(text)
        if meant and exists(meant[1]):
            raise _wrong(text, _EXPECTED)
        return Share(path=text)
    if match is not None:
        path, repeat, number = match.groups()
        conversations = int(number) if number else None
        share = Share(path=path, repeat=float(repeat or 1), conversations=conversations)
    else:
        share = _from_fields(text)
    sound = math.isfinite(share.repeat) and share.repeat > 0 and share.conversations != 0
    if not sound or (share.conversations is not None and share.repeat != 1):
        raise _wrong(text, _EXPECTED)
    return share


def _from_fields(text: str) -> Share:
    try:
        found = json.loads(text)
        if unknown := [*map(str, found.keys() - {*_FIELDS})]:
            near = nearest(unknown[0], _FIELDS)
            hint = f", did you mean {near}?" if near else ""
            raise ValueError(f"unknown field {unknown[0]}{hint}")
        return msgspec.convert(found, Share)
    except (
        ValueError,
        TypeError,
        AttributeError,
        RecursionError,
        msgspec.ValidationError,
    ) as error:
        raise _wrong(text, f"path, and repeat or conversations ({error})") from error


def _wrong(found: str, expected: str) -> UsageError:
    fix = "write a.jsonl:2.0, b.jsonl#5000, or an object with these fields"
    return UsageError("INPUT", found, expected, fix)
