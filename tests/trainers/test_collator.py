"""A batch holds the columns padded, the mask that forests say, and the dtypes that are pinned."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.attention.flex_attention")

import tiny  # noqa: E402

# isort: split
import forests  # noqa: E402
from forests import Forest, batches, chats, grow, join  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from reasonpack.errors import FormatError, UsageError  # noqa: E402
from reasonpack.masks import stack  # noqa: E402
from reasonpack.torch import Collator, MaskForm, build_flex_masks  # noqa: E402

pytestmark = pytest.mark.torch

CHAIN = Forest(grow([0] * 5))
BRANCHES = Forest(grow([0, 0, 0, 2, 0]))


def full_row(forest: Forest) -> dict[str, Any]:
    """A row as it is read: token k has the id k + 1, and every third is trained."""
    ids = np.arange(1, len(forest) + 1, dtype=np.int32)
    return {
        **{
            name: np.asarray(value) if isinstance(value, list) else value
            for name, value in forests.row(forest).items()
        },
        "input_ids": ids,
        "labels": np.where(ids % 3 == 0, ids, -100),
        "sample_id": ["x"],
    }


def padded(batch: list[Forest], multiple: int) -> int:
    return -(-max(map(len, batch)) // multiple) * multiple


@given(batches(), st.sampled_from([1, 4, 16]))
@settings(max_examples=30)
def test_columns_are_padded(batch: list[Forest], multiple: int) -> None:
    made = Collator(mask="sdpa", pad_to_multiple_of=multiple, pad_token_id=9, shift_labels=True)(
        [full_row(forest) for forest in batch]
    )
    total = padded(batch, multiple)
    for name in ("input_ids", "position_ids", "labels", "shift_labels"):
        assert made[name].shape == (len(batch), total)
        assert made[name].dtype == torch.int64
    for index, forest in enumerate(batch):
        row, size = full_row(forest), len(forest)
        rest = total - size
        assert made["input_ids"][index].tolist() == [*row["input_ids"], *[9] * rest]
        assert made["position_ids"][index].tolist() == [*row["position_ids"], *[0] * rest]
        assert made["labels"][index].tolist() == [*row["labels"], *[-100] * rest]
        shifted = [*row["labels"][1:], -100, *[-100] * rest]
        assert made["shift_labels"][index].tolist() == shifted


@given(batches(), st.sampled_from([1, 4, 16]))
@settings(max_examples=30)
def test_every_mask_is_that_of_the_forest(batch: list[Forest], multiple: int) -> None:
    rows = [full_row(forest) for forest in batch]
    total = padded(batch, multiple)
    expected = torch.tensor(np.stack([forests.visible(f, total) for f in batch]))[:, None]

    def made(mask: MaskForm, **options: Any) -> dict[str, Any]:
        return Collator(mask=mask, pad_to_multiple_of=multiple, **options)(rows)

    sdpa = made("sdpa")["attention_mask"]
    assert sdpa.dtype == torch.bool
    assert torch.equal(sdpa, expected)
    eager = made("eager", dtype=torch.bfloat16)["attention_mask"]
    assert eager.dtype == torch.bfloat16
    assert torch.equal(eager == 0, expected)
    assert torch.equal(eager == torch.finfo(torch.bfloat16).min, ~expected)
    flex = made("flex")["attention_mask"].build((4, 4))
    index = torch.arange(total)
    mod = flex.mask_mod(
        torch.arange(len(batch))[:, None, None], 0, index[None, :, None], index[None, None]
    )
    assert torch.equal(mod[:, None], expected)
    bounds = made("flashmask")["startend_row_indices"]
    assert bounds.dtype == torch.int32
    assert torch.equal((index[:, None] < bounds[:, :, :, 0, None].mT) & expected.tril(), expected)
    until = made("visible_until")["visible_until"]
    assert until.dtype == torch.int32
    assert torch.equal((index[:, None] < until[:, None, None]) & expected.tril(), expected)


@pytest.mark.parametrize("mask", ["sdpa", "eager"])
def test_windows_count_in_positions(mask: MaskForm) -> None:
    forest = chats([4, 2], seed=1)
    positions = np.array(forests.positions(forest))
    near = positions[:, None] - positions[None, :] < 6
    expected = forests.visible(forest)
    window = {"full_attention": None, "sliding_attention": 6}
    masks = Collator(mask=mask, window=window)([full_row(forest)])["attention_mask"]
    shown = 0 if mask == "eager" else True
    seen = {name: np.asarray(each[0, 0] == shown) for name, each in masks.items()}
    assert np.array_equal(seen["full_attention"], expected)
    assert np.array_equal(seen["sliding_attention"], expected & near)
    assert (expected & near).sum() < expected.sum()
    (only,) = Collator(mask="sdpa", window=6)([full_row(forest)])["attention_mask"]
    assert np.array_equal(only[0], expected & near)


def test_a_padded_batch_keeps_its_shape() -> None:
    collator = Collator(mask="sdpa", pad_to_multiple_of=64)
    shapes = {collator([full_row(Forest(grow([0] * n)))])["input_ids"].shape for n in (1, 33, 64)}
    assert shapes == {(1, 64)}


# --- varlen and none -----------------------------------------------------------------------------


def test_varlen_lays_rows_end_to_end() -> None:
    rows = [full_row(join([CHAIN, CHAIN])), full_row(Forest(grow([0] * 3)))]
    made = Collator(mask="varlen", pad_to_multiple_of=8)(rows)
    assert made["cu_seq_lens_q"].tolist() == made["cu_seq_lens_k"].tolist() == [0, 5, 10, 13, 16]
    assert made["cu_seq_lens_q"].dtype == torch.int32
    assert made["max_length_q"] == made["max_length_k"] == 5
    assert made["position_ids"].tolist() == [[*range(5), *range(5), 0, 1, 2, 0, 1, 2]]
    assert made["input_ids"].tolist() == [[*range(1, 11), 1, 2, 3, 0, 0, 0]]
    assert made["labels"][0, 13:].tolist() == [-100] * 3
    assert "attention_mask" not in made
    unpadded = Collator(mask="varlen")(rows)
    assert unpadded["cu_seq_lens_q"].tolist() == [0, 5, 10, 13]


def test_varlen_bounds_are_where_positions_begin_anew() -> None:
    made = Collator(mask="varlen", pad_to_multiple_of=8)([full_row(join([CHAIN, CHAIN, CHAIN]))])
    starts = (made["position_ids"][0] == 0).nonzero().flatten()
    assert made["cu_seq_lens_q"][:-1].tolist() == starts.tolist()


@pytest.mark.parametrize("mask", ["varlen", "none"])
def test_branches_are_refused_where_no_mask_says_so(mask: MaskForm) -> None:
    with pytest.raises(UsageError, match="--layout npass"):
        Collator(mask=mask)([full_row(CHAIN), full_row(BRANCHES)])


def test_none_takes_plain_rows_and_refuses_packed_ones() -> None:
    made = Collator(mask="none", pad_to_multiple_of=8)([full_row(CHAIN)])
    assert set(made) == {"input_ids", "position_ids", "labels"}
    with pytest.raises(UsageError, match="without --packing"):
        Collator(mask="none")([full_row(join([CHAIN, CHAIN]))])


# --- the rest ------------------------------------------------------------------------------------


def test_loss_weights_come_along_when_asked_for_and_never_unnoticed() -> None:
    row = {**full_row(CHAIN), "loss_weights": np.full(5, 0.5, np.float32)}
    made = Collator(mask="sdpa", loss_weights=True, pad_to_multiple_of=8)([row])
    assert made["loss_weights"].dtype == torch.float32
    assert made["loss_weights"].tolist() == [[0.5] * 5 + [0] * 3]
    with pytest.raises(UsageError, match="row 0: loss_weights, expected loss_weights=False"):
        Collator(mask="sdpa")([row])
    with pytest.raises(UsageError, match="row 0: no loss_weights"):
        Collator(mask="sdpa", loss_weights=True)([full_row(CHAIN)])


def test_rows_of_tensors_give_the_same_batch() -> None:
    row = {**full_row(BRANCHES), "segment_kind": [0, 1, 3]}
    # what `datasets` gives with_format("torch")
    tensors = {name: torch.as_tensor(v) if name != "sample_id" else v for name, v in row.items()}
    for mask in ("branches", "sdpa"):
        collate = Collator(mask=mask, kinds=True, max_position=99, vocabulary=99)
        given, expected = collate([tensors]), collate([row])
        for name in ("input_ids", "position_ids", "labels", "kinds"):
            assert torch.equal(given[name], expected[name])
    assert torch.equal(given["attention_mask"], expected["attention_mask"])


def test_a_mixture_of_other_columns_is_refused() -> None:
    row = {**full_row(CHAIN), "loss_weights": None}  # as `datasets` concatenates
    for told in (False, True):
        with pytest.raises(UsageError, match="row 0: no loss_weights, which other rows have"):
            Collator(mask="sdpa", loss_weights=told)([row])


@pytest.mark.parametrize("name", ["loss_weights", "logprobs", "advantages", "call_role"])
def test_columns_that_have_to_be_applied_are_refused_by_name(name: str) -> None:
    row = {**full_row(CHAIN), name: np.ones(5, np.float32)}
    with pytest.raises(UsageError, match=rf"row 0: {name}, expected {name}=False.*{name}=True"):
        Collator(mask="sdpa")([row])
    with pytest.raises(UsageError, match=f"row 0: no {name}, expected {name}=True"):
        Collator(mask="sdpa", **{name: True})([full_row(CHAIN)])  # type: ignore[arg-type]


@pytest.mark.parametrize("mask", ["sdpa", "varlen"])
def test_calls_come_along_when_asked_for(mask: MaskForm) -> None:
    """Of two rows, the calls of the second count behind those of the first."""
    row = {
        **full_row(CHAIN),
        "segment_start": np.array([0, 2, 4]),
        "segment_visible_until": np.array([5, 5, 5]),
        "segment_call": np.array([-1, 0, 1]),
        "call_role": np.array([1, 2], np.uint8),
        "sample_id": ["a", "b"],
        "call_sample": np.array([0, 1], np.int32),
        "preference_labels": np.array([-100] * 4 + [7]),
    }
    made = Collator(mask=mask, call_role=True, pad_to_multiple_of=6)(
        [row, {**row, "sample_id": ["c", "a"]}]
    )
    pads = ([], [-1]) if mask == "sdpa" else ([], [-1] * 2)
    first, second = [-1, -1, 0, 0, 1], [-1, -1, 2, 2, 3]
    lines = [[*first, -1], [*second, -1]] if mask == "sdpa" else [[*first, *second, *pads[1]]]
    assert made["calls"].tolist() == lines
    groups = {-1: -1, 0: 0, 1: 1, 2: 2, 3: 0}  # by the name, whatever the row
    assert made["groups"].tolist() == [[groups[call] for call in line] for line in lines]
    roles = {-1: 0, 0: 1, 1: 2, 2: 1, 3: 2}
    assert made["call_role"].tolist() == [[roles[call] for call in line] for line in lines]
    labels = {-1: -100, 0: -100, 1: 7, 2: -100, 3: 7}
    assert made["preference_labels"].tolist() == [[labels[c] for c in line] for line in lines]


def test_unknown_masks_and_windows_nobody_applies_are_refused() -> None:
    with pytest.raises(UsageError, match="expected one of sdpa"):
        Collator(mask="flash_attention_2")  # type: ignore[arg-type]
    for mask in sorted({*get_args(MaskForm)} - {"sdpa", "eager", "flex"}):
        with pytest.raises(UsageError, match="window"):
            Collator(mask=mask, window=4)


def test_damaged_and_missing_rows_are_refused() -> None:
    with pytest.raises(UsageError, match="no rows"):
        Collator(mask="sdpa")([])
    damaged = {**full_row(CHAIN), "segment_visible_until": np.array([4])}
    with pytest.raises(FormatError, match="row 1"):
        Collator(mask="sdpa")([full_row(CHAIN), damaged])


@pytest.mark.parametrize("mask", get_args(MaskForm))
def test_a_row_and_columns_of_several_are_no_batch(mask: MaskForm) -> None:
    """As `dataset[0]` and `dataset[0:2]` of `datasets` are."""
    row = full_row(CHAIN)
    for batch in (row, {name: [value, value] for name, value in row.items()}):
        with pytest.raises(UsageError, match=r"batch: a dict: .* Fix: pass \[row\]"):
            Collator(mask=mask)(batch)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="row 0: a str, expected the columns"):
        Collator(mask=mask)("packed")  # type: ignore[arg-type]


def test_rows_may_be_any_iterable() -> None:
    rows = [full_row(CHAIN), full_row(BRANCHES)]
    made = Collator(mask="visible_until")(iter(rows))
    assert made["visible_until"].tolist() == stack(rows).tolist()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("window", "8", "a number of positions"),
        ("window", [8], "a number of positions"),
        ("dtype", "bfloat16", "a dtype of torch"),
        ("pad_token_id", None, "any id of the vocabulary"),
        ("pad_to_multiple_of", None, "1 or more"),
        ("pad_to_multiple_of", 0, "1 or more"),
    ],
)
def test_arguments_of_another_type_are_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError, match=f"{name}=.*expected {expected}"):
        Collator(mask="eager", **{name: value})


def test_values_that_are_not_one_for_each_are_refused() -> None:
    row = {**full_row(CHAIN), "loss_weights": np.ones(6, np.float32)}
    with pytest.raises(UsageError, match="length=5 of each"):
        Collator(mask="sdpa", loss_weights=True)([row])
    kinds = np.zeros(len(full_row(CHAIN)["segment_start"]) + 1, np.uint8)
    for damaged in ({"segment_kind": kinds}, {"segment_kind": kinds[1:], "segment_start": [5]}):
        with pytest.raises(FormatError, match="one for each"):
            Collator(mask="sdpa", kinds=True)([{**full_row(CHAIN), **damaged}])


def test_rows_that_lost_columns_are_refused() -> None:
    row = {name: full_row(CHAIN)[name] for name in ("input_ids", "position_ids", "labels")}
    for mask in get_args(MaskForm):
        with pytest.raises(UsageError, match=r"row 1: no length, segment_start, segment_visible"):
            Collator(mask=mask)([full_row(CHAIN), row])


@pytest.mark.parametrize("name", ["input_ids", "position_ids", "labels"])
def test_rows_that_were_cut_are_refused(name: str) -> None:
    row = full_row(CHAIN)
    with pytest.raises(UsageError, match=rf"row 0: .*'{name}': 4.* expected length=5 .*max_length"):
        Collator(mask="sdpa")([{**row, name: row[name][:4]}])


def test_a_row_with_positions_that_the_model_has_not_is_refused() -> None:
    rows = [full_row(BRANCHES), full_row(CHAIN)]
    assert len(CHAIN) == 5
    assert Collator(mask="sdpa", max_position=5)(rows)["position_ids"].max() == 4
    for mask in ("sdpa", "varlen"):
        with pytest.raises(
            UsageError, match=r"row 1: position 4, expected below 4.*--max-position 4"
        ):
            Collator(mask=mask, max_position=4)([full_row(Forest(grow([0, 0]))), full_row(CHAIN)])


def test_lists_are_as_good_as_arrays() -> None:
    row = full_row(BRANCHES)
    lists = {name: v.tolist() if hasattr(v, "tolist") else v for name, v in row.items()}
    left, right = Collator(mask="sdpa")([row]), Collator(mask="sdpa")([lists])
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("window", [None, {"full_attention": None, "sliding_attention": 2}])
def test_rows_that_a_trainer_splits_are_refused(window: Any) -> None:
    class Model(torch.nn.Module):
        def forward(self, **given: Any) -> Any:
            return given

    model = Model()
    build_flex_masks(model)
    made = Collator(mask="sdpa", window=window)([full_row(BRANCHES)])
    halves = {name: each[:, :2] for name, each in made.items() if name != "attention_mask"}
    split = {**halves, "attention_mask": made["attention_mask"]}
    with pytest.raises(UsageError, match="attention_mask for 5 tokens with 2 position_ids"):
        model(**split)
    assert model.eval()(**split)  # as with a cache
    assert model.train()(**made)


@pytest.mark.parametrize("mask", ["sdpa", "flex", "flashmask", "visible_until"])
def test_rows_whose_mask_was_lost_are_refused(mask: MaskForm) -> None:
    class Model(torch.nn.Module):
        def forward(self, **given: Any) -> Any:
            return given

    model = Model()
    build_flex_masks(model)
    branching = Collator(mask=mask, pad_to_multiple_of=8)([full_row(BRANCHES), full_row(CHAIN)])
    assert "position_ids" in model(**branching)
    lost = {name: branching[name] for name in ("input_ids", "position_ids", "labels")}
    with pytest.raises(UsageError, match="attention_mask None with rows that branch"):
        model(**lost)
    padding = torch.ones_like(lost["input_ids"])
    with pytest.raises(UsageError, match=r"attention_mask of shape \(2, 8\)"):
        model(**lost, attention_mask=padding)


def test_samples_packed_in_a_row_need_more_than_a_mask_of_padding() -> None:
    # transformers looks for the samples in the positions only where it is given no mask at all
    masking = pytest.importorskip("transformers.masking_utils")
    config = tiny.model("qwen3").config
    batch = Collator(mask="sdpa", pad_to_multiple_of=12)([full_row(join([CHAIN, CHAIN]))])
    padding = (batch["labels"] != 9).long()
    padding[:, 10:] = 0

    def leaks(mask: Any) -> bool:
        states = torch.zeros(1, 12, 4)
        made = masking.create_causal_mask(
            config=config,
            inputs_embeds=states,
            attention_mask=mask,
            past_key_values=None,
            position_ids=batch["position_ids"],
        )
        return bool(made[0, 0, 5, 4])

    assert leaks(padding)
    assert not leaks(None)
    model = torch.nn.Module()
    model.forward = lambda **given: given  # type: ignore[method-assign]
    build_flex_masks(model)
    rows = {name: batch[name] for name in ("input_ids", "position_ids", "labels")}
    assert model(**rows)
    with pytest.raises(UsageError, match="branch or hold several samples"):
        model(**rows, attention_mask=padding)
    alone = Collator(mask="sdpa", pad_to_multiple_of=12)([full_row(CHAIN)])
    assert model(**{**alone, "attention_mask": (torch.arange(12)[None] < 5).long()})


def test_plain_rows_need_no_mask() -> None:
    class Model(torch.nn.Module):
        def forward(self, **given: Any) -> Any:
            return given

    model = Model()
    build_flex_masks(model)
    rows = [full_row(join([CHAIN, CHAIN])), full_row(CHAIN)]
    assert "position_ids" in model(**Collator(mask="varlen", pad_to_multiple_of=8)(rows))
    made = Collator(mask="none", pad_to_multiple_of=8)([full_row(CHAIN)])
    assert "position_ids" in model(**made)
    left = torch.tensor([[1, 1, 1, 0, 1, 2, 3, 4]])  # padded on the left, as tokenizers do
    seen = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    assert "position_ids" in model(position_ids=left, attention_mask=seen)
    with pytest.raises(UsageError, match="no position_ids"):
        model(input_ids=left)
    model.eval()  # as generate() calls it
    assert model(input_ids=left) == {"input_ids": left}
