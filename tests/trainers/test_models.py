"""Models that would train on the wrong context are refused; the others get the mask they take."""

from __future__ import annotations

from typing import Any

import pytest

from tests.changed import replace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    Collator,
    attend_by_branches,
    build_flex_masks,
    check_model,
    collator_for,
    model_max_position,
    model_windows,
    prepare_model,
)

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*deprecated")]

WINDOWS = {"full_attention": None, "sliding_attention": 24}


def config(model_type: str, *, attention: str = "sdpa", **fields: Any) -> Any:
    made = transformers.AutoConfig.for_model(model_type, **fields)
    made._attn_implementation = attention
    return made


@pytest.mark.parametrize(
    ("attention", "layout", "mask"),
    [
        ("sdpa", "onepass", "sdpa"),
        ("eager", "onepass", "eager"),
        ("flex_attention", "onepass", "flex"),
        ("sdpa", "npass", "sdpa"),
        ("flex_attention", "npass", "flex"),
        ("flash_attention_2", "npass", "varlen"),
        ("flash_attention_3", "npass", "varlen"),
        ("kernels-community/flash-attn2", "npass", "varlen"),
    ],
)
def test_each_implementation_gets_its_mask(attention: str, layout: Any, mask: str) -> None:
    assert collator_for(config("llama", attention=attention), layout=layout).mask == mask


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_windows_are_read_from_the_configuration(family: str) -> None:
    expected = {"gemma3_text": WINDOWS, "mistral": 24}.get(family)
    model = tiny.model(family)
    assert model_windows(model.config) == expected
    collator = collator_for(model, layout="onepass", pad_to_multiple_of=8)
    assert (collator.window, collator.dtype) == (expected, torch.float64)
    assert collator.pad_to_multiple_of == 8


def test_a_window_that_is_switched_off_is_none() -> None:
    assert model_windows(config("qwen2", sliding_window=64, use_sliding_window=False)) is None
    assert model_windows(config("llama")) is None


def test_the_text_part_of_a_multimodal_model_counts() -> None:
    gemma = config("gemma3", attention="eager")
    windows = collator_for(gemma, layout="onepass").window
    assert windows == {"full_attention": None, "sliding_attention": 4096}


@pytest.mark.parametrize(
    "attention",
    [
        "flash_attention_2",
        "flash_attention_3",
        "kernels-community/flash-attn2",
        "paged|sdpa",
        "my_own",
        None,
    ],
)
def test_implementations_that_ignore_the_mask_are_refused(attention: Any) -> None:
    with pytest.raises(UsageError, match=r"(one that takes a mask |attend_by_br).*--layout npass"):
        check_model(config("llama", attention=attention), layout="onepass")
    check_model(config("llama", attention=attention), layout="npass")


def test_attention_of_unsloth_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its `LlamaModel_fast_forward` sets the mask to None in training."""
    model = tiny.model("llama")
    check_model(model, layout="onepass")

    def forward(self: Any, *given: Any, **named: Any) -> None: ...

    forward.__module__ = "unsloth.models.llama"
    attention = type(model.model.layers[0].self_attn)
    monkeypatch.setattr(attention, "forward", forward)
    match = r"attention of unsloth.models.llama, which drops the mask.*without --packing"
    with pytest.raises(UsageError, match=match):
        collator_for(model, layout="onepass")
    with pytest.raises(UsageError, match=match):
        collator_for(model, layout="npass", packed=True)
    assert collator_for(model, layout="npass", packed=False)


RECURRENT = [
    "bamba",
    "falcon_h1",
    "falcon_mamba",
    "granitemoehybrid",
    "jamba",
    "kimi_linear",
    "lfm2_moe",
    "mamba",
    "mamba2",
    "minimax",
    "nemotron_h",
    "qwen3_5_text",
    "qwen3_next",
    "recurrent_gemma",
    "rwkv",
    "zamba",
    "zamba2",
]


@pytest.mark.parametrize("model_type", RECURRENT)
def test_recurrent_layers_are_refused(model_type: str) -> None:
    made = config(model_type)
    with pytest.raises(UsageError, match=r"branch of the row leaks.*npass, without --packing"):
        check_model(made, layout="onepass")
    with pytest.raises(UsageError, match=r"sample of the row leaks.*Fix: pack without --packing"):
        check_model(made, layout="npass", packed=True)
    check_model(made, layout="npass", packed=False)


@pytest.mark.parametrize(
    ("made", "layer"),
    [
        (config("llama4_text"), "chunked_attention"),
        (config("deepseek_v32"), "indexed_attention"),
        (config("gpt_neo"), "local"),
        (config("falcon", alibi=True), "alibi"),
        (config("lfm2", full_attn_idxs=[0]), "conv"),
    ],
)
def test_layers_that_read_the_row_are_refused(made: Any, layer: str) -> None:
    with pytest.raises(UsageError, match=layer):
        check_model(made, layout="onepass")


CHUNKED = {
    "attention_chunk_size": 8,
    "layer_types": ["chunked_attention", "full_attention"],
    "no_rope_layers": [1, 0],
    "num_local_experts": 2,
    "intermediate_size_mlp": 48,
}
ODD = {
    "llama4_text": CHUNKED,
    "deepseek_v4": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}


@pytest.mark.parametrize("family", ODD)
def test_layers_that_no_mask_makes_right_get_plain_rows(family: str) -> None:
    attention = "eager" if family == "deepseek_v4" else "sdpa"
    model = tiny.model(family, attention=attention, **ODD[family])
    views = [tiny.random_views(seed, turns=1) for seed in range(3)]
    rows = tiny.rows_of(views, layout="npass")
    collator = collator_for(model, layout="npass", packed=False, pad_to_multiple_of=8)
    expected = tiny.npass_loss(model, views).item()
    prepare_model(model)
    found = tiny.batch_loss(model, collator(rows)).item()
    assert abs(found / expected - 1) < 1e-6
    for mask in (attention, "varlen"):  # one has no chunks, in the other samples leak
        with pytest.raises(UsageError, match=f"mask '{mask}', expected none"):
            check_model(model, layout="npass", packed=False, collator=replace(collator, mask=mask))
    model.config._attn_implementation = "flash_attention_2"
    assert collator_for(model.config, layout="npass", packed=False).mask == "none"


@pytest.mark.parametrize(
    "model_type",
    [
        "cohere2",
        "deepseek_v3",
        "gemma2",
        "gpt_oss",
        "mixtral",
        "olmo3",
        "phi3",
        "qwen3_moe",
        "smollm3",
    ],
)
def test_transformers_with_full_and_sliding_attention_pass(model_type: str) -> None:
    collator_for(config(model_type), layout="onepass")


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(UsageError, match="layout: 'one-pass', expected onepass or npass"):
        collator_for(config("llama"), layout="one-pass")  # type: ignore[arg-type]


def test_what_is_no_model_is_refused() -> None:
    names = ("some/model", None, {"model_type": "llama"}, transformers.AutoModel)
    for given in names:
        with pytest.raises(UsageError, match=r"a model or its configuration\. Fix: load it"):
            check_model(given, layout="onepass")
        with pytest.raises(UsageError, match="expected a model or its configuration"):
            model_windows(given)
    for given in (*names, config("llama")):
        for prepare in (build_flex_masks, attend_by_branches):
            with pytest.raises(UsageError, match=r"expected a torch\.nn\.Module"):
                prepare(given)  # type: ignore[arg-type]


def test_a_model_has_the_window_of_its_configuration() -> None:
    model = tiny.model("mistral")
    assert model_windows(model) == model_windows(model.config) == 24
    assert model_max_position(model) == model_max_position(model.config)


def test_what_is_no_collator_is_refused() -> None:
    for given in ("sdpa", Collator, lambda rows: rows):
        with pytest.raises(UsageError, match="expected a Collator"):
            check_model(config("llama"), layout="onepass", collator=given)  # type: ignore[arg-type]


def test_a_model_without_position_ids_is_refused() -> None:
    small = {"hidden_size": 8, "n_head": 2, "n_layer": 1, "vocab_size": 16}
    bloom = transformers.BloomForCausalLM(config("bloom", attention="eager", **small))
    with pytest.raises(UsageError, match="takes no position_ids"):
        check_model(bloom, layout="onepass")
    with pytest.raises(UsageError, match="takes no position_ids"):
        check_model(bloom, layout="npass", packed=True)


def test_a_model_with_adapters_is_read_as_the_one_below() -> None:
    class Adapted(torch.nn.Module):
        """What peft makes of a model: its forward names no argument of the base."""

        def __init__(self, base: Any) -> None:
            super().__init__()
            self.base, self.config = base, base.config

        def get_base_model(self) -> Any:
            return self.base

        def forward(self, input_ids: Any = None, **kwargs: Any) -> Any:
            return self.base(input_ids, **kwargs)

    gemma = tiny.model("gemma3_text")
    adapted = Adapted(gemma)
    assert collator_for(adapted, layout="onepass").window == WINDOWS
    small = {"hidden_size": 8, "n_head": 2, "n_layer": 1, "vocab_size": 16}
    bloom = transformers.BloomForCausalLM(config("bloom", attention="eager", **small))
    with pytest.raises(UsageError, match="takes no position_ids"):
        check_model(Adapted(bloom), layout="onepass")


def test_a_mask_that_is_not_the_models_is_refused() -> None:
    # eager would add True and False to the scores as 1 and 0
    eager = config("llama", attention="eager")
    with pytest.raises(UsageError, match="mask 'sdpa', expected eager"):
        check_model(eager, layout="onepass", collator=Collator(mask="sdpa"))
    check_model(config("llama"), layout="onepass", collator=Collator(mask="eager"))
    for mask in ("none", "varlen", "flashmask", "flex"):
        with pytest.raises(UsageError, match="expected eager or sdpa"):
            check_model(config("llama"), layout="onepass", collator=Collator(mask=mask))
    check_model(config("llama"), layout="npass", collator=Collator(mask="none"))


def test_a_window_that_is_not_the_models_is_refused() -> None:
    gemma = tiny.model("gemma3_text")
    collator = collator_for(gemma, layout="onepass")
    for window in (None, 24, {**WINDOWS, "sliding_attention": 25}):
        with pytest.raises(UsageError, match="window"):
            check_model(gemma, layout="onepass", collator=replace(collator, window=window))
    with pytest.raises(UsageError, match="window 8, expected None"):
        check_model(config("llama"), layout="onepass", collator=Collator(mask="sdpa", window=8))


# --- positions -----------------------------------------------------------------------------------

LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 64,
    "factor": 4.0,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0}


@pytest.mark.parametrize(
    ("rope", "limit"), [(None, 128), (YARN, 256), (DYNAMIC, 128), (LONGROPE, 64)]
)
def test_the_positions_that_a_model_has(rope: Any, limit: int) -> None:
    small = {"max_position_embeddings": 128, "hidden_size": 32, "num_attention_heads": 4}
    made = config(
        "llama", **small, **({"rope_parameters": {"rope_theta": 1e4, **rope}} if rope else {})
    )
    assert model_max_position(made) == limit
    assert collator_for(made, layout="onepass").max_position == limit


def test_the_positions_of_each_type_of_layer_count() -> None:
    full = {"rope_theta": 1e4, **DYNAMIC, "original_max_position_embeddings": 96}
    ropes = {"full_attention": full, "sliding_attention": {"rope_type": "default"}}
    made = config("gemma3_text", max_position_embeddings=128)
    assert model_max_position(made) == 128
    made.rope_parameters = ropes
    assert model_max_position(made) == 96


def test_a_dynamic_rope_without_a_limit_is_refused() -> None:
    rope = {"rope_theta": 1e4, **DYNAMIC}
    made = config("llama", max_position_embeddings=128, rope_parameters=rope)
    for limit in (None, 129):
        with pytest.raises(UsageError, match="expected 128 at most: beyond, dynamic RoPE"):
            check_model(made, layout="onepass", collator=Collator(mask="sdpa", max_position=limit))
    check_model(made, layout="onepass", collator=Collator(mask="sdpa", max_position=100))
    check_model(config("llama"), layout="onepass", collator=Collator(mask="sdpa"))


def test_flashmask_cannot_say_the_window_of_a_model() -> None:
    with pytest.raises(UsageError, match='"flashmask" with a window'):
        Collator(mask="flashmask", window=model_windows(tiny.model("gemma3_text").config))
    with pytest.raises(UsageError, match="mask 'flashmask', expected"):
        check_model(
            tiny.model("gemma3_text"), layout="onepass", collator=Collator(mask="flashmask")
        )
