"""Rows that are right."""

from __future__ import annotations

import pytest

from tests.run.check.checked import Rows, right_rows


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return right_rows(tmp_path_factory.mktemp("right"))
