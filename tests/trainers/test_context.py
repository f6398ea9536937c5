"""A model that is given other context than the rows say is found by running it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import Collator, attend_by_branches, check_context, collator_for  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]


def row() -> tiny.Row:
    return tiny.rows_of([tiny.random_views(0, turns=3)], layout="onepass")[0]


def forward(model: Any, **changes: Any) -> Any:
    def logits(batch: dict[str, Any]) -> Any:
        ones = torch.ones_like(batch["input_ids"])
        made = {"ones": ones, "places": ones.cumsum(1) - 1}
        given = {**batch, **{name: made.get(each) for name, each in changes.items()}}
        return model(**given, use_cache=False).logits

    return logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("family", "attention"),
    [("qwen3", "sdpa"), ("qwen3", "eager"), ("gpt_oss", "eager"), ("gemma3_text", "sdpa")],
)
def test_a_model_that_follows_the_mask_passes_and_others_are_refused(
    family: str, attention: str, dtype: str
) -> None:
    model = tiny.model(family, attention=attention, dtype=dtype).train()
    collator = collator_for(model, layout="onepass")
    assert check_context(forward(model), collator, row()) < 0.05
    for changes in ({"attention_mask": "ones"}, {"position_ids": "places"}):
        with pytest.raises(UsageError, match="differ from those of a path alone"):
            check_context(forward(model, **changes), collator, row())


def test_stock_flash_attention_is_refused_and_branches_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flash.install(monkeypatch)
    model = flash.with_flash(tiny.model("qwen3")).train()
    with pytest.raises(UsageError, match="differ from those of a path alone"):
        check_context(forward(model), Collator(mask="branches"), row())
    attend_by_branches(model)
    assert check_context(forward(model), Collator(mask="branches"), row()) < 1e-6


def test_samples_of_a_row_are_kept_apart() -> None:
    model, views = tiny.model("qwen3"), [tiny.random_views(each, turns=1) for each in range(2)]
    (packed,) = tiny.rows_of(views, [[0, 1]], layout="npass")
    collator = collator_for(model, layout="npass")
    assert check_context(forward(model), collator, packed) < 1e-6
    with pytest.raises(UsageError, match="differ from those of a path alone"):
        check_context(forward(model, attention_mask="ones"), collator, packed)


def test_a_row_that_needs_no_mask_tells_nothing() -> None:
    model = tiny.model("qwen3")
    plain = tiny.rows_of([tiny.random_views(0, turns=1)], layout="npass")[0]
    with pytest.raises(UsageError, match="one plain causal sample"):
        check_context(forward(model), Collator(mask="sdpa"), plain)


def test_a_model_that_ignores_all_context_is_refused() -> None:
    with pytest.raises(UsageError, match="differ from those of a path alone"):
        check_context(
            lambda batch: torch.zeros(*batch["input_ids"].shape, 3), Collator(mask="sdpa"), row()
        )
