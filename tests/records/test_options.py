"""Options that name fields: only what is read elsewhere or by no one."""

from __future__ import annotations

import pytest

from reasonpack.errors import UsageError
from reasonpack.records.options import ignored_fields, renamed_fields


@pytest.mark.parametrize("name", ["reasoning", "tools", "content", "reasoning_details", "weight"])
def test_ignoring_what_is_read_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: is read, .* Fix: .* message.{name} or record"):
        ignored_fields([name])


@pytest.mark.parametrize("pair", ["cot", "=reasoning", "cot=reson", "cot="])
def test_renaming_to_what_is_not_read_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match=r"--field: .*, expected NAME=KNOWN with one of"):
        renamed_fields([pair])


def test_the_error_of_a_misspelt_name_offers_the_known_one() -> None:
    with pytest.raises(
        UsageError, match=r"--field: cot=reasonning, expected cot=reasoning\. Fix: "
    ):
        renamed_fields(["cot=reasonning"])
