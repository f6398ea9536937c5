"""The first token at which a sample and its views part."""

from __future__ import annotations

import pytest
from damages import (
    Damage,
    context,
    edit,
    own,
    read,
    rerecord,
    untrain,
)
from packed_twice import SECOND, Json, Packed

from tests.verify.test_explain import first_difference, shown


def test_a_source_that_says_another_turn_is_shown(packed: Packed) -> None:
    """All tokens of the sample are in a view, but not the other way round."""

    def go_on(record: Json) -> None:
        record["messages"] += [
            {"role": "user", "content": "And then?"},
            {"role": "assistant", "content": "Then it ends.", "reasoning_content": "Be short."},
        ]

    rerecord(1, 2, go_on)(packed)
    (finding,) = packed.compare().listed
    assert (finding.code, finding.sample) == ("RP309", SECOND[2])
    assert "expected" in finding.what


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (edit(untrain, recount=True), "is not trained, expected it trained once"),
        (edit(own("labels", context), recount=True), "is trained once, expected it not trained"),
    ],
)
def test_a_wrong_label_is_shown(packed: Packed, damage: Damage, what: str) -> None:
    before = read(packed.shards[0]).to_pylist()[0]["labels"]
    damage(packed)
    after = read(packed.shards[0]).to_pylist()[0]
    at = first_difference(before, after["labels"])
    (finding,) = packed.compare().listed
    assert (finding.token, finding.what) == (at, f"{shown(after['input_ids'][at])} {what}")
