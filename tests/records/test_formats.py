"""What a file is by its first bytes."""

from __future__ import annotations

import json

import pytest

from reasonpack.records.formats import foreign
from tests.records.test_call_formats import FORMATS, records


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_one_record_is_no_list_of_records(name: str) -> None:
    line = json.dumps(records(name)[0]).encode()
    assert foreign(line, f"{name}.jsonl") is None
    call = {"messages": [{"role": "user", "content": "2+2?"}], "response": "4", "tools": []}
    assert foreign(json.dumps({"calls": [call]}).encode(), "a.jsonl") is None
    assert foreign(json.dumps({"data": [call]}).encode(), "a.jsonl")
