"""What is recommended follows from the counts, and no sentence says the reverse of another."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reasonpack.show.advice import PAYS, cost_lines
from reasonpack.show.cost import Costs, Work
from reasonpack.show.model_shape import ModelShape
from reasonpack.show.summary import _saving_of_onepass


def costs_of(rows: Work, npass: Work, masked: Work | None = None) -> Costs:
    return Costs(
        branches=rows,
        block_sparse=masked or rows,
        causal=Work(rows.tokens, 20, 9),
        dense=Work(rows.tokens, 40, 18),
        npass=npass,
    )


def advice(costs: Costs, layout: str = "onepass", shape: ModelShape | None = None) -> str:
    return " ".join(cost_lines(costs, layout, shape))


@pytest.mark.parametrize(
    ("rows", "npass", "said"),
    [
        (Work(100, 10, 5), Work(150, 12, 6), "Take onepass by branches"),
        (
            Work(100, 10, 5),
            Work(150, 12, 6),
            "1.50 times fewer tokens and 1.46 times fewer",
        ),
        (Work(100, 10, 5), Work(100, 10, 5), "No conversation has a branch"),
        (Work(100, 10, 8), Work(102, 10, 8), "Take npass: onepass by branches needs 0.9"),
        # 24 d² · 50 + 4 d · 128² · 6 = 4 d · 128² · 8 · 3.09 at d = 1,024
        (Work(100, 10, 8), Work(150, 12, 6), "that kernel takes less than 3.09 times as long"),
    ],
)
def test_the_advice_follows_the_counts(rows: Work, npass: Work, said: str) -> None:
    text = advice(costs_of(rows, npass))
    assert said in text
    assert "A dense mask (SDPA, eager) computes 4.0 times the visible pairs" in text
    assert all(len(line) < 90 for line in cost_lines(costs_of(rows, npass), "onepass"))


def test_a_block_mask_that_visits_too_much_does_not_pay() -> None:
    text = advice(costs_of(Work(100, 10, 80), Work(150, 12, 100), masked=Work(100, 10, 200)))
    assert "Take onepass by branches" in text
    assert "With a block mask (FlexAttention, FlashMask, MagiAttention) it does not pay." in text


def test_a_dense_mask_may_compute_less_than_npass() -> None:
    text = advice(costs_of(Work(100, 10, 5), Work(900, 50, 6)))
    assert "4.0 times the visible pairs, which is less than npass does" in text


@given(*[st.integers(1, 400)] * 4, st.integers(0, 400), st.sampled_from([64, 1024, 8192]))
@example(100, 80, 70, 80, 3, 1024)
def test_onepass_is_recommended_where_it_pays_and_nowhere_else(
    tokens: int, blocks: int, masked: int, npass: int, more: int, width: int
) -> None:
    shape = ModelShape.of({"hidden_size": width, "num_hidden_layers": 3})
    costs = costs_of(
        Work(tokens, 10, blocks), Work(tokens + more, 12, npass), Work(tokens, 10, masked)
    )
    text = advice(costs, shape=shape)
    times = shape.operations(costs.npass) / shape.operations(costs.branches)
    assert ("Take onepass" in text) == (bool(more) and times >= PAYS)
    assert ("Take npass" in text) == (bool(more) and times < PAYS)
    assert ("either will do" in text) == (not more)
    for said in re.findall(r"([0-9.]+) times (?:fewer operations|what it takes a)", text):
        assert float(said) >= PAYS - 0.005
    if "Take npass" in text or "either" in text:
        assert "it pays" not in text
        assert "fewer" not in text


def test_the_summary_leaves_the_last_word_to_the_advice() -> None:
    few_tokens_much_attention = costs_of(Work(1000, 10, 100), Work(1020, 12, 250))
    assert "Take onepass" in advice(few_tokens_much_attention)
    assert _saving_of_onepass(1020 / 1000, with_stats=False).endswith(
        "so little that --layout npass will do unless stats says otherwise"
    )
    saved = "saves 26.5% of the tokens"
    assert _saving_of_onepass(1.36, with_stats=True) == saved
    said = f"{saved}; its rows need the mask that reasonpack.torch makes, npass rows need none"
    assert _saving_of_onepass(1.36, with_stats=False) == said
    assert "either will do" in advice(costs_of(Work(100, 10, 5), Work(100, 10, 5)))
    assert _saving_of_onepass(1, with_stats=False).startswith(
        "saves nothing: no conversation has a branch"
    )


def test_an_npass_dataset_is_told_what_can_be_said() -> None:
    text = advice(costs_of(Work(100, 10, 5), Work(100, 10, 5)), "npass")
    assert "onepass, " not in text
    assert "--layout onepass --dry-run" in text


def test_an_empty_dataset_has_a_table_alone() -> None:
    assert len(list(cost_lines(Costs(), "onepass"))) == 5
