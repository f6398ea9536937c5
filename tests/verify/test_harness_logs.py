"""Logs of harnesses and services are read as packing reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reasonpack.records import calls as packing
from reasonpack.records.unit import Record
from reasonpack.verify.calls import read_calls
from reasonpack.verify.chat import Reading
from tests.verify.test_calls import CALL_LOGS, outcome, packed


@pytest.mark.parametrize("path", CALL_LOGS, ids=[path.stem for path in CALL_LOGS])
def test_the_logs_of_each_format_are_checked(path: Path) -> None:
    """All but session files, of which `test_sessions` tells."""
    for line in path.read_bytes().splitlines():
        read = packing.read_calls(Record("x:1", line))
        found = read_calls(json.loads(line), Reading(), "x:1")
        assert [*map(outcome, found)] == [*map(packed, read)]
