"""The first token at which a sample and its views part."""

from __future__ import annotations

import numpy as np
import pytest
from damages import (
    SHARD,
    Damage,
    add,
    branch,
    context,
    edit,
    own,
    read,
    reply,
    rerecord,
    swap,
    untrain,
)
from packed_twice import FIRST, SECOND, TOKENIZER, Json, Packed
from tokenizers import Tokenizer

from reasonpack.verify.findings import Finding

# --- the first difference ------------------------------------------------------------------------


def decoded(ids: list[int]) -> str:
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def shown(token: int) -> str:
    """Write a token as a finding does."""
    return f"{decoded([token])!r} ({token})"


def first_difference(one: list[int], two: list[int]) -> int:
    return next(at for at, (a, b) in enumerate(zip(one, two, strict=True)) if a != b)


def test_two_swapped_tokens_are_shown(packed: Packed) -> None:
    before = read(packed.shards[0]).to_pylist()[0]
    edit(swap)(packed)
    after = read(packed.shards[0]).to_pylist()[0]
    at = first_difference(before["labels"], after["labels"])
    (finding,) = packed.compare().listed
    sample = int(np.searchsorted(before["sample_start"], at, "right")) - 1
    segment = int(np.searchsorted(before["segment_start"], at, "right")) - 1
    assert finding == Finding(
        "RP309",
        SHARD,
        finding.what,
        row=0,
        sample=before["sample_id"][sample],
        message=before["segment_message"][segment],
        token=at,
    )
    assert (
        f": {shown(after['input_ids'][at])}, expected {shown(before['input_ids'][at])}"
        in finding.what
    )
    assert f"at position {before['position_ids'][at]}" in finding.what
    assert repr(decoded(before["input_ids"][at - 3 : at]))[1:-1] in finding.what


def test_where_branches_part_only_the_missing_one_is_expected(packed: Packed) -> None:
    before = read(packed.shards[0]).to_pylist()[0]
    at = branch(before)
    edit(lambda row: add(row["input_ids"], at))(packed)
    (finding,) = packed.compare().listed
    wanted = f"expected {shown(before['input_ids'][at])} as in the view of message "
    assert finding.token == at
    assert wanted in finding.what
    assert " or " not in finding.what.partition(wanted)[2]


def test_a_source_that_says_more_is_shown(packed: Packed) -> None:
    rerecord(0, 1, reply)(packed)
    (finding,) = packed.compare().listed
    stop, more = finding.what.split(", expected ")
    assert "<|im_end|>" in stop
    assert more.startswith("' Ind")
    assert finding.sample == FIRST[0]


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
