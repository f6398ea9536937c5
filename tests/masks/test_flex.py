"""The BlockMask is the one that `create_block_mask` makes, and attends as SDPA does."""

from __future__ import annotations

import shutil
import warnings
from typing import Any

import numpy as np
import pytest
from forests import Forest, batches, chats, grow, row
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernels import positions_of, until_of

from reasonpack.masks import Window, blocks, dense, flex, stack

torch = pytest.importorskip("torch")
flex_attention = pytest.importorskip("torch.nn.attention.flex_attention")

pytestmark = pytest.mark.torch

LISTS = [
    f"{full}{side}_{part}"
    for full in ("", "full_")
    for side in ("kv", "q")
    for part in ("num_blocks", "indices")
]


def reference(until: np.ndarray, block_size: tuple[int, int], window: Window | None = None) -> Any:
    rows, total = until.shape
    mod = flex.mask_mod(until, window=window)
    return flex_attention.create_block_mask(
        mod, rows, None, total, total, device="cpu", BLOCK_SIZE=block_size
    )


def assert_identical(found: Any, expected: Any) -> None:
    for name in LISTS:
        got, want = getattr(found, name), getattr(expected, name)
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        assert torch.equal(got, want), name
    assert found.seq_lengths == expected.seq_lengths
    assert found.BLOCK_SIZE == expected.BLOCK_SIZE
    assert found.shape == expected.shape


@given(batches(max_rows=2), st.integers(0, 3), st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=40)
def test_identical_for_any_forest(
    batch: list[Forest], padding: int, block_size: tuple[int, int]
) -> None:
    until = until_of(batch, padding)
    found = flex.block_mask(until, block_size=block_size)
    assert_identical(found, reference(until, block_size))


@pytest.mark.parametrize("block_size", [(128, 128), (64, 128), (256, 128), (16, 16), (48, 80)])
@pytest.mark.parametrize("total", [1, 127, 128, 129, 1000, 1280])
def test_identical_at_sizes_of_use(total: int, block_size: tuple[int, int]) -> None:
    batch = [chats([4, 1, 7, 2], seed=0, unit=40), chats([9], seed=1, unit=60)]
    until = np.stack([_cut(stack([row(forest)])[0], total) for forest in batch])
    found = flex.block_mask(until, block_size=block_size)
    assert_identical(found, reference(until, block_size))


def _cut(until: np.ndarray, total: int) -> np.ndarray:
    """The first `total` tokens of a row, or the row padded: both are pre-orders."""
    padding = np.arange(len(until) + 1, total + 1, dtype=np.int32)
    return np.minimum(np.append(until, padding)[:total], total).astype(np.int32)


def test_same_lists_as_the_numpy_side() -> None:
    until = until_of([chats([5, 3], seed=2, unit=50)], padding=7)
    found, lists = flex.block_mask(until), blocks.forward(until)
    np.testing.assert_array_equal(found.kv_num_blocks.numpy(), lists.mask_block_cnt)
    np.testing.assert_array_equal(found.kv_indices.numpy(), lists.mask_block_idx)
    np.testing.assert_array_equal(found.full_kv_num_blocks.numpy(), lists.full_block_cnt)
    np.testing.assert_array_equal(found.full_kv_indices.numpy(), lists.full_block_idx)
    back = blocks.backward(until)
    np.testing.assert_array_equal(found.q_num_blocks.numpy(), back.mask_block_cnt)
    np.testing.assert_array_equal(found.full_q_indices.numpy(), back.full_block_idx)


@given(batches(max_rows=2), st.integers(0, 3), st.integers(1, 12))
@example([Forest(grow([0] * 40))], 0, 6)
@settings(max_examples=30)
def test_windowed_blocks_hide_nothing_visible(batch: list[Forest], padding: int, size: int) -> None:
    until = until_of(batch, padding)
    window = Window(positions_of(batch, until.shape[1]), size)
    found = flex.block_mask(until, block_size=(4, 4), window=window)
    expected = reference(until, (4, 4), window)
    assert torch.equal(found.full_kv_num_blocks, expected.full_kv_num_blocks)
    assert torch.equal(found.full_kv_indices, expected.full_kv_indices)
    assert (found.to_dense() >= expected.to_dense()).all()
    partial, full = blocks.grid(until, block_size=(4, 4), window=window)
    np.testing.assert_array_equal(found.to_dense()[:, 0].numpy(), partial | full)


@given(batches(max_rows=2), st.integers(0, 3), st.one_of(st.none(), st.integers(1, 12)))
@settings(max_examples=30)
def test_mask_mod_equals_dense(batch: list[Forest], padding: int, size: int | None) -> None:
    until = until_of(batch, padding)
    total = until.shape[1]
    window = None if size is None else Window(positions_of(batch, total), size)
    mod = flex.mask_mod(until, window=window)
    mask = flex_attention.create_mask(mod, len(batch), None, total, total, device="cpu")
    np.testing.assert_array_equal(mask[:, 0].numpy(), dense.visible(until, window=window))


def test_a_long_row_needs_no_square_grid() -> None:
    # 131,072² booleans would be 16 GiB; the block grid has 1024².
    until = torch.full((1, 131072), 131072, dtype=torch.int32)
    found = flex.block_mask(until)
    assert int(found.full_kv_num_blocks.sum()) == 1024 * 1023 // 2
    assert int(found.kv_num_blocks.sum()) == 1024


@pytest.mark.parametrize("fault", ["one more", "one less", "tail block"])
def test_planted_faults_are_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [chats([3], seed=seed, unit=6) for seed in range(8)] + [Forest(grow([0] * 70))]
    until = stack([row(forest) for forest in batch], 70)
    expected = reference(until, (4, 4))
    assert_identical(flex.block_mask(until, block_size=(4, 4)), expected)
    if fault == "tail block":
        honest = blocks.classify

        def clipped(low: Any, high: Any, *, q_start: Any, **where: Any) -> Any:
            seen, full = honest(low, high, q_start=q_start, **where)
            return seen, full | (seen & (low >= 70) & (where["k_start"] + 4 <= q_start))

        monkeypatch.setattr(blocks, "classify", clipped)
    wrong = until + {"one more": 1, "one less": -1, "tail block": 0}[fault]
    wrong = np.maximum(wrong, np.arange(1, 71)).astype(np.int32)
    with pytest.raises(AssertionError):
        assert_identical(flex.block_mask(wrong, block_size=(4, 4)), expected)


# --- attention ----------------------------------------------------------------------------


def attend_both(until: np.ndarray, window: Window | None, attend: Any) -> tuple[Any, Any]:
    """FlexAttention and SDPA on the same random q, k, v [B, 2, T, 16]."""
    rows, total = until.shape
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, rows, 2, total, 16, generator=generator)
    seen = torch.from_numpy(dense.visible(until, window=window))[:, None]
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    return attend(q, k, v, block_mask=flex.block_mask(until, window=window)), expected


def eager(*args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        # Said once per process; eager is what this test wants.
        warnings.filterwarnings(
            "ignore", message="flex_attention called without torch.compile", category=UserWarning
        )
        return flex_attention.flex_attention(*args, **kwargs)


@pytest.mark.parametrize("size", [None, 24])
def test_flex_forward_equals_sdpa(size: int | None) -> None:
    batch = [chats([4, 2], seed=5, unit=20), chats([3, 1, 1], seed=6, unit=20)]
    until = until_of(batch, padding=5)
    window = None if size is None else Window(positions_of(batch, until.shape[1]), size)
    found, expected = attend_both(until, window, eager)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_flex_visits_the_listed_blocks() -> None:
    until = until_of([chats([4, 2, 5], seed=5, unit=40), chats([2], seed=0, unit=400)])
    compiled = torch.compile(flex_attention.flex_attention)
    found, expected = attend_both(until, None, compiled)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for planted in ["kv_num_blocks", "full_kv_num_blocks"]:

        def one_block_short(q: Any, k: Any, v: Any, *, block_mask: Any, name: str = planted) -> Any:
            setattr(block_mask, name, (getattr(block_mask, name) - 1).clamp(min=0))
            return compiled(q, k, v, block_mask=block_mask)

        short, _ = attend_both(until, None, one_block_short)
        assert not torch.allclose(short, expected, atol=0.1), planted


def test_flex_forward_of_another_mask_differs() -> None:
    until = until_of([chats([4, 2], seed=5, unit=20)])
    found, _ = attend_both(until, None, eager)
    _, causal = attend_both(np.full_like(until, until.shape[1]), None, eager)
    assert (found - causal).abs().max() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_additive_equals_boolean_in_sdpa(dtype: str) -> None:
    until = until_of([chats([3], seed=7, unit=6)], padding=3)
    seen = dense.visible(until)
    kind = getattr(torch, dtype)
    bias = dense.additive(seen, kind)
    assert (bias.dtype, tuple(bias.shape)) == (kind, (1, 1, *seen.shape[1:]))
    q, k, v = torch.randn(3, 1, 2, seen.shape[1], 16, dtype=kind)
    attend = torch.nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(
        attend(q, k, v, attn_mask=bias),
        attend(q, k, v, attn_mask=torch.from_numpy(seen)[:, None]),
    )
