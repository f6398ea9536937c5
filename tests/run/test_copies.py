"""Records that are packed not once: shares of inputs, duplicates, a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonpack.datasets.manifest import Share
from reasonpack.datasets.options import Options
from reasonpack.errors import UsageError
from reasonpack.run.copies import DUPLICATE, UNREADABLE, content_hash, times_of
from tests.changed import replace

PLAIN = Options(tokenizer="x")
SAMPLED = replace(PLAIN, sample=7)
DISTINCT = replace(PLAIN, dedup="exact")
HASHES = [content_hash(str(at).encode(), readable=True) for at in range(400)]
BAD = content_hash(b"{", readable=False)


def shared(hashes: Sequence[bytes], options: Options = PLAIN, **share: Any) -> list[int]:
    return times_of(hashes, [(Share(path="a", **share), len(hashes))], options).tolist()


def test_a_fraction_is_about_that_share_and_moves_nobody() -> None:
    once, twice = shared(HASHES, repeat=0.25), shared(HASHES, repeat=2.25)
    assert 60 < sum(once) < 140
    assert twice == [2 + each for each in once]
    assert shared(HASHES[::-1], repeat=0.25) == once[::-1]
    assert shared(HASHES[100:200], repeat=0.25) == once[100:200]
    larger = shared(HASHES, repeat=0.5)
    assert all(one <= other for one, other in zip(once, larger, strict=True))


@given(st.integers(1, 60), st.integers(1, 200))
def test_a_number_of_conversations_is_kept(records: int, wanted: int) -> None:
    times = shared(HASHES[:records], conversations=wanted)
    assert sum(times) == wanted
    assert max(times) - min(times) <= 1


def test_duplicates_are_left_out_over_all_inputs_before_shares_are_taken() -> None:
    hashes = [*HASHES[:3], HASHES[1], *HASHES[3:6], HASHES[0]]
    shares = [(Share(path="a"), 4), (Share(path="b", conversations=6), 4)]
    assert times_of(hashes, shares, DISTINCT).tolist() == [
        *(1, 1, 1),
        DUPLICATE,
        *(2, 2, 2),
        DUPLICATE,
    ]


def test_what_cannot_be_read_is_rejected_whatever_is_asked_for() -> None:
    hashes = [BAD, *HASHES[:9], BAD]
    times = shared(hashes, DISTINCT, conversations=3)
    assert (times[0], times[-1], sum(times[1:-1])) == (UNREADABLE | 1, UNREADABLE | 1, 3)


def test_a_sample_is_of_copies_and_draws_equal_records_apart() -> None:
    assert sum(shared(HASHES, SAMPLED)) == 7
    equal = shared([HASHES[0]] * 50, replace(PLAIN, sample=20), repeat=2)
    assert sum(equal) == 20
    assert {0, 1} <= set(equal) <= {0, 1, 2}
    assert shared(HASHES[:5], SAMPLED) == [1] * 5
    wide = replace(PLAIN, sample=100)
    assert all(a <= b for a, b in zip(shared(HASHES, SAMPLED), shared(HASHES, wide), strict=True))


def test_a_conversation_is_not_packed_without_end() -> None:
    with pytest.raises(UsageError, match=r"^a: 2,500 times each of its 2 conversations"):
        shared(HASHES[:2], conversations=5_000)
