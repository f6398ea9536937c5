"""The first token at which a sample and its views part."""

from __future__ import annotations

import numpy as np
from damages import (
    SHARD,
    add,
    branch,
    edit,
    read,
    reply,
    rerecord,
    swap,
)
from packed_twice import FIRST, TOKENIZER, Packed
from tokenizers import Tokenizer

from reasonpack.verify.findings import Finding


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
