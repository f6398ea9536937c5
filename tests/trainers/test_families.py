"""Families of transformers whose layers take the branches, and those that are refused for it.

Random weights, eager attention with the dense mask against FlashAttention by branches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    BranchIndex,
    Collator,
    attend_by_branches,
    check_model,
    model_windows,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

FIELDS = {**tiny.EXPERTS, "num_local_experts": 4, "n_routed_experts": 4, "sliding_window": 24}
FIELDS |= {"query_pre_attn_scalar": 8}
NAMES = """
    afmoe apertus arcee aria_text biogpt bitnet cohere cohere2 cohere2_moe diffllama ernie4_5
    ernie4_5_moe exaone4 exaone_moe flex_olmo flint gemma gemma2 gemma3_text gemma4_text glm glm4
    glm4_moe gpt_bigcode gpt_neox gpt_oss granite granite_swa granitemoe granitemoe_swa
    granitemoeshared helium hunyuan_v1_dense hunyuan_v1_moe hy_v3 hyperclovax internlm3 iquestcoder
    jais2 jetmoe kolibri1 laguna lfm2 llama mellum minimax_m2 ministral ministral3 mistral mixtral
    nanochat olmo olmo2 olmo3 olmoe opt persimmon phi phi3 qwen2 qwen2_moe qwen3 qwen3_moe seed_oss
    smollm3 solar_open starcoder2 vaultgemma
"""
SAME = NAMES.split()
REFUSED = {
    "nemotron": "0 of 2 layers took the branches",
    "stablelm": "0 of 2 layers took the branches",
    "moshi": "0 of 2 layers passed a sliding window",
    "phimoe": "0 of 2 layers passed a sliding window",
}


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    flash.install(monkeypatch)
    handles = []

    def make(family: str) -> Any:
        config = transformers.AutoConfig.for_model(family).get_text_config()
        fields = {name: value for name, value in FIELDS.items() if hasattr(config, name)}
        model = tiny.model(family, attention="eager", **fields).eval()
        handles.append(attend_by_branches(flash.with_flash(model)))
        return model

    yield make
    for handle in handles:
        handle.remove()


def rows() -> list[tiny.Row]:
    return tiny.rows_of([tiny.random_views(s, turns=3) for s in range(2)], layout="onepass")


@pytest.mark.parametrize("family", SAME)
def test_the_loss_is_that_of_the_dense_mask(
    family: str, attended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = attended(family)
    check_model(model, layout="onepass")
    batch = Collator(mask="branches")(rows())
    found = tiny.batch_loss(model, batch).item()
    monkeypatch.setattr(BranchIndex, "check_positions", lambda *_: None)
    batch["branches"]["k_index"] = batch["branches"]["k_index"].flip(0)  # the planted fault
    wrong = tiny.batch_loss(model, batch).item()
    model.config._attn_implementation = "eager"
    mask = Collator(mask="eager", window=model_windows(model.config), dtype=torch.float64)
    expected = tiny.batch_loss(model, mask(rows())).item()
    assert abs(found / expected - 1) < 1e-6
    assert abs(wrong / expected - 1) > 1e-5


@pytest.mark.parametrize("family", REFUSED)
def test_layers_that_do_not_hand_it_on_are_refused(family: str, attended: Any) -> None:
    model = attended(family)
    with pytest.raises(UsageError, match=REFUSED[family]):
        tiny.batch_loss(model, Collator(mask="branches")(rows()))
