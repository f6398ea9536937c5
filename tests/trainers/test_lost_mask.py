"""A batch whose index was lost, cut or ignored on the way to the model is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402

from reasonpack.errors import FormatError, UsageError  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    Collator,
    attend_by_branches,
    build_flex_masks,
    check_model,
    collator_for,
)
from reasonpack.torch.branch_index import BranchIndex  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]

FLASH = "flash_attention_2"
KEYS = sorted(BranchIndex.__dataclass_fields__)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    flash.install(monkeypatch)
    made = flash.with_flash(tiny.model("qwen3")).train()
    handle = attend_by_branches(made)
    yield made
    handle.remove()


def batch(layout: Any = "onepass", **options: Any) -> dict[str, Any]:
    views = [tiny.random_views(seed, turns=3) for seed in range(2)]
    return Collator(mask="branches", **options)(tiny.rows_of(views, layout=layout))


def refused(model: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        model(**given, use_cache=False)


def test_a_whole_batch_passes(model: Any) -> None:
    assert model(**batch(), use_cache=False).loss > 0
    assert model(**batch()).loss > 0  # with a cache, which is empty


def test_a_lost_dict_is_refused(model: Any) -> None:
    given = batch()
    del given["branches"]
    refused(model, given, "branches None with rows that branch")
    mask = torch.ones_like(given["input_ids"])
    refused(model, {**given, "attention_mask": mask}, "branches None with rows that branch or hold")


@pytest.mark.parametrize("name", ["loss_weights", "logprobs", "advantages", "call_role"])
def test_a_column_that_the_models_own_loss_ignores_is_refused(model: Any, name: str) -> None:
    other = tiny.model("qwen3")
    build_flex_masks(other)
    rows = tiny.rows_of([tiny.random_views(0, turns=2)], layout="onepass")
    for prepared, mask in ((model, "branches"), (other, "sdpa")):
        given = Collator(mask=mask)(rows)
        given[name] = torch.ones_like(given["input_ids"])
        refused(prepared, given, f"{name} and labels, from which the model computes a loss")
        del given["labels"]
        assert prepared(**given, use_cache=False).loss is None


@pytest.mark.parametrize("key", KEYS)
def test_a_lost_key_is_refused(model: Any, key: str) -> None:
    given = batch()
    del given["branches"][key]
    refused(model, given, f"branches without {key}, expected the dict of the collator whole")


@pytest.mark.parametrize("key", [None, "branches"])
def test_lost_positions_are_refused(model: Any, key: str | None) -> None:
    given = batch()
    del given["position_ids"]
    given.pop(key, None)
    refused(model, given, "no position_ids, expected those of the collator")
    model.eval()
    if key:  # what `generate` does
        assert model(**given).logits is not None


def test_positions_of_another_make_are_refused(model: Any) -> None:
    given = batch()
    given["position_ids"] = torch.arange(given["position_ids"].shape[1])[None]
    refused(model, given, "position_ids that do not count the tokens of each path")


def test_a_mask_beside_the_index_is_refused(model: Any) -> None:
    given = batch()
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    refused(model, given, "branches and an attention_mask")


@pytest.mark.parametrize("cut", ["tensors", "branches", "keys"])
def test_an_index_that_was_split_is_refused(model: Any, cut: str) -> None:
    given = batch()
    index = given["branches"]
    if cut == "branches":
        index["cu_seqlens_q"] = index["cu_seqlens_q"][:2]
    elif cut == "keys":
        index["k_index"] = index["k_index"][:-1]
    else:  # what dispatch_batches does with all that it finds
        index |= {key: each[:1] for key, each in index.items() if torch.is_tensor(each)}
    refused(model, given, r"dispatch_batches=False.*split_batches=False.*not DataParallel")


def test_a_batch_of_several_rows_is_refused(model: Any) -> None:
    given = batch()
    doubled = {
        name: each if name == "branches" else each.repeat(2, 1) for name, each in given.items()
    }
    refused(model, doubled, "expected the index of one row of these tokens")


def test_data_parallel_is_refused(model: Any) -> None:
    replica = model._replicate_for_data_parallel()  # what DataParallel runs on each GPU
    with pytest.raises(UsageError, match=r"DataParallel: it splits.*start with torchrun"):
        replica(**batch(), use_cache=False)


def test_plain_rows_need_no_index(model: Any) -> None:
    given = batch("npass")
    expected = model(**given, use_cache=False).loss
    del given["branches"]
    assert torch.allclose(model(**given, use_cache=False).loss, expected, rtol=1e-9)


def test_a_key_of_a_cache_is_refused(model: Any) -> None:
    first = model(**batch(), use_cache=True)
    refused_cache = {**batch(), "past_key_values": first.past_key_values}
    with pytest.raises(UsageError, match="expected a key for each, none of a cache"):
        model(**refused_cache)


def test_a_model_that_does_not_hand_it_on_is_refused(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = model.model.layers[1].self_attn
    honest = layer.forward

    def forgetful(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("branches")
        return honest(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", forgetful)
    refused(model, batch(), r"1 of 2 layers took the branches")


def test_a_layer_that_forgets_its_window_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    flash.install(monkeypatch)
    model = flash.with_flash(tiny.model("gemma3_text"))
    handle = attend_by_branches(model)
    model(**batch())
    model.model.layers[0].self_attn.sliding_window = None
    refused(model, batch(), "0 of 2 layers passed a sliding window to the kernel, expected 1")
    handle.remove()


def test_another_model_of_the_process_is_refused(model: Any) -> None:
    other = flash.with_flash(tiny.model("qwen3"))
    refused(other, batch(), "branches for a model without attend_by_branches")
    build_flex_masks(other)
    refused(other, batch(), "branches for a model that does not take them")
    build_flex_masks(model)
    model(**batch())


def test_an_implementation_that_was_changed_is_refused(model: Any) -> None:
    model.config._attn_implementation = "sdpa"
    refused(model, batch(), "'sdpa', expected 'flash_attention_2' as when")


def test_taken_back_all_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    flash.install(monkeypatch)
    stock = ALL_ATTENTION_FUNCTIONS[FLASH]
    one, two = (flash.with_flash(tiny.model("qwen3")) for _ in range(2))
    first, second = attend_by_branches(one), attend_by_branches(two)
    with pytest.raises(UsageError, match="called for this model before"):
        attend_by_branches(one)
    first.remove()
    first.remove()
    assert ALL_ATTENTION_FUNCTIONS[FLASH] is not stock
    two(**batch())
    second.remove()
    assert ALL_ATTENTION_FUNCTIONS[FLASH] is stock
    attend_by_branches(one).remove()


@pytest.mark.parametrize("name", ["eager", "flex_attention", "paged|flash_attention_2", None])
def test_other_implementations_are_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="expected a FlashAttention"):
        attend_by_branches(flash.with_flash(tiny.model("qwen3"), name))


def test_a_kernel_that_aligns_top_left_is_refused_and_taken_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    stock = ALL_ATTENTION_FUNCTIONS["sdpa"]
    planted = "reasonpack.torch.stock_attention.varlen_attention"
    monkeypatch.setattr(planted, lambda _q, _k, v, *_, **__: v[:3] * 0 + v[:1])
    with pytest.raises(UsageError, match=r"sdpa: a row of 3 tokens gives \[1.0, 1.0, 1.0\]"):
        attend_by_branches(tiny.model("qwen3"))
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is stock


def test_the_reference_of_sdpa_refuses_dropout() -> None:
    model = tiny.model("qwen3", attention_dropout=0.1).train()
    handle = attend_by_branches(model)
    refused(model, batch(), "dropout 0.1, expected 0")
    handle.remove()


# --- check_model, collator_for --------------------------------------------------------------------


def test_flash_takes_onepass_rows_once_it_attends_by_branches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flash.install(monkeypatch)
    model = flash.with_flash(tiny.model("gemma3_text"))
    with pytest.raises(UsageError, match=r"expected attend_by_branches\(model\) before"):
        collator_for(model, layout="onepass")
    handle = attend_by_branches(model)
    collator = collator_for(model, layout="onepass")
    assert (collator.mask, collator.window) == ("branches", None)
    assert collator_for(model, layout="npass").mask == "varlen"
    for mask in ("sdpa", "flex", "varlen"):
        with pytest.raises(UsageError, match="expected branches"):
            check_model(model, layout="onepass", collator=Collator(mask=mask))
    assert collator_for(model.config, layout="onepass").mask == "branches"
    handle.remove()
    with pytest.raises(UsageError, match="attend_by_branches"):
        collator_for(model.config, layout="onepass")


def test_sdpa_takes_both_once_it_attends_by_branches() -> None:
    model = tiny.model("gemma3_text")
    branches = Collator(mask="branches")
    with pytest.raises(UsageError, match="expected eager or sdpa"):
        check_model(model, layout="onepass", collator=branches)
    handle = attend_by_branches(model)
    check_model(model, layout="onepass", collator=branches)
    assert collator_for(model, layout="onepass").mask == "sdpa"
    handle.remove()


def test_token_ids_are_those_of_the_models_vocabulary() -> None:
    model = tiny.model("qwen3")
    collator = collator_for(model, layout="onepass")
    rows = tiny.rows_of([tiny.random_views(0, turns=2)], layout="onepass")
    collator(rows)
    rows[0]["input_ids"] = np.where(rows[0]["labels"] == -100, tiny.VOCABULARY, 1)
    with pytest.raises(UsageError, match="row 0: token id 4,096, expected below 4,096"):
        collator(rows)
    assert collator_for(SimpleNamespace(_attn_implementation="sdpa"), layout="npass") is not None


# --- the collator ---------------------------------------------------------------------------------


def test_a_flat_batch_has_every_row_and_one_sequence_of_padding() -> None:
    views = [tiny.random_views(seed, turns=3) for seed in range(2)]
    rows = tiny.rows_of(views, layout="onepass")
    tokens = sum(row["length"] for row in rows)
    found = Collator(mask="branches", pad_to_multiple_of=256, shift_labels=True)(rows)
    total = found["input_ids"].shape[1]
    assert found["input_ids"].shape == found["labels"].shape == (1, total)
    assert total % 256 == 0
    assert (found["labels"][0, tokens:] == -100).all()
    assert found["position_ids"][0, tokens:].tolist() == list(range(total - tokens))
    index = found["branches"]
    assert sorted(index) == KEYS
    assert index["cu_seqlens_q"][-2:].tolist() == [tokens, total]
    assert index["k_index"][-1] == total - 1
    for name in ("max_seqlen_q", "max_seqlen_k"):
        assert index[name] >= int(index["cu_seqlens_" + name[-1]].diff().max())
        assert index[name] & (index[name] - 1) == 0
        assert index[name] >= 128


def test_positions_that_are_not_the_depth_are_refused() -> None:
    (row,) = tiny.rows_of([tiny.random_views(0, turns=3)], layout="onepass")
    row["position_ids"] = row["position_ids"].copy()
    row["position_ids"][5] += 1
    with pytest.raises(FormatError, match="token 5 has position 6, expected 5, how many tokens"):
        Collator(mask="branches")([row])
