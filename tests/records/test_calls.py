"""Records of a log become calls: what was asked, what was answered, what is known of its tokens."""

from __future__ import annotations

import re
from typing import Any

import pytest
from logged import read, refused
from refused_calls import IDS, REFUSED

from reasonpack.errors import RecordError
from reasonpack.records.calls import read_calls
from reasonpack.records.options import ignored_fields, renamed_fields
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record


@pytest.mark.parametrize(("record", "reason", "what", "fix"), REFUSED.values(), ids=REFUSED)
def test_refused(record: Any, reason: str, what: str, fix: str) -> None:
    error = refused(record)
    assert error.reason == reason
    assert str(error).startswith("x:1: ")
    assert what in str(error)
    assert fix in error.fix
    if not isinstance(record, dict):
        return
    with pytest.raises(RecordError) as caught:
        read_calls(Record("x:1", b"", record))
    assert str(caught.value) == str(error)


@pytest.mark.parametrize(
    "record",
    [record for record, reason, *_ in REFUSED.values() if reason == "unknown-field"]
    + [{**IDS, "reasoning": ["a", 1]}, {**IDS, "train_detail": [1]}, {**IDS, "content": [1, 2]}],
)
def test_what_the_refusal_of_a_field_says_leads_out(record: Any) -> None:
    fix = refused(record).fix
    (left,) = re.findall(r"--ignore-fields (\S+)", fix)
    ignored = ignored_fields(left.split(","))
    if ", and --ignore-fields" not in fix:
        assert read(record, Reading(ignored=ignored))
    renamed = renamed_fields(re.findall(r"--field (\S+)", fix))
    with_names = Reading(renamed=renamed, ignored=ignored - renamed.keys())
    if renamed and "promt_token_ids" not in renamed:
        assert read(record, with_names)
