"""Records in any shape: the check of a dataset reads as packing does, or says that it cannot.

The two have no code for it in common; the check was written from the schema.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from records.test_record_schema import RECORDS

from reasonpack.errors import RecordError
from reasonpack.records.conversation import parse_line
from reasonpack.verify.chat import NotChecked, Reading
from reasonpack.verify.reader import read_chat


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(RECORDS)
def test_what_is_packed_is_read_the_same(record: dict[str, Any]) -> None:
    line = json.dumps(record).encode()
    try:
        read = parse_line(line, "x:1")
    except RecordError:
        return
    try:
        checked = read_chat(json.loads(line), Reading())
    except NotChecked:
        return
    assert [
        (m.role, m.content, m.reasoning, [c["function"]["name"] for c in m.calls], m.trained)
        for m in checked.messages
    ] == [
        (
            m.role,
            m.content or "",
            m.reasoning or "",
            [call.name for call in m.tool_calls],
            m.train and m.role == "assistant",
        )
        for m in read.messages
    ]
    assert [m.source for m in checked.messages] == list(read.sources or range(len(read.messages)))
    assert checked.tools == list(read.tools or ())
