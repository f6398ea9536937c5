"""A reject of another line or another text leaves two without a match."""

from __future__ import annotations

from damages import (
    reject,
)
from packed_twice import Packed


def test_a_reject_of_another_line_leaves_two_without_a_match(packed: Packed) -> None:
    reject(lambda line: line.update(where=line["where"] + "9"))(packed)
    assert packed.compare().counts == {"RP304": 1, "RP306": 1}


def test_a_reject_of_other_text_leaves_two_without_a_match(packed: Packed) -> None:
    reject(lambda line: line.update(record="{}"))(packed)
    assert packed.compare().counts == {"RP304": 1, "RP306": 1}
