"""Sessions that lack a line are read as packing reads them."""

from __future__ import annotations

import pytest

from tests.verify.test_calls import SESSIONS
from tests.verify.test_sessions import as_checked, as_packed, lines_of


@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_is_checked_whatever_line_is_missing(name: str) -> None:
    lines = lines_of(name)
    assert len([each for each in as_packed(lines).values() if each]) > 2
    for left in range(-1, len(lines)):
        if (name, left) == ("codex", 2):
            continue  # leaves a system text alone as the prompt, which is not checked
        given = [line for number, line in enumerate(lines) if number != left]
        assert as_checked(given) == as_packed(given), left
