"""`visible_until` becomes PyTorch FlexAttention's `mask_mod` and `BlockMask`.

    visible_until i32[B, T] ──> mask_mod(b, h, q, k) = (k <= q) & (q < visible_until[b, k])
                            └─> BlockMask [B, 1, T, T], full and partial blocks apart

Cost: `create_block_mask` evaluates `mask_mod` on the T × T grid; `block_mask` classifies blocks by
the extremes of `visible_until` (`blocks.judge`): O(B·T) for the extremes and O(B·(T / block)²) for
the lists, some milliseconds at 32k tokens.

Everything runs on the device of `visible_until` without a host synchronisation, so
build the mask in the training step, once for all layers: a `BlockMask` made in a
data-loader worker keeps the tensors captured by its `mask_mod` on the CPU.

    until = batch["visible_until"]                       # i32[B, T], on the GPU
    mask = flex.block_mask(until)
    out = flex_attention(q, k, v, block_mask=mask)       # compiled

Source: `torch.nn.attention.flex_attention` (torch 2.6 or later).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reasonpack.masks.blocks import judge
from reasonpack.masks.rows import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["block_mask", "mask_mod"]


def mask_mod(
    visible_until: torch.Tensor | NDArray[np.int32],
    *,
    window: Window | None = None,
    device: torch.device | str | None = None,
) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """Make the function `(b, h, q, k) -> bool` that FlexAttention calls; it ignores the head.

    Args:
        visible_until: `i32[B, T]`, exclusive; captured as a tensor.
        window: hide keys `window.size` or more positions back; captures `position_ids`.
        device: where the captured tensors go; by default they stay where they are.
    """
    import torch  # noqa: PLC0415

    until = torch.as_tensor(visible_until, device=device)

    def visible(
        b: torch.Tensor, _h: torch.Tensor, q: torch.Tensor, k: torch.Tensor
    ) -> torch.Tensor:
        return (k <= q) & (q < until[b, k])

    if window is None:
        return visible
    position, size = torch.as_tensor(window.position_ids, device=until.device), window.size

    def visible_in_window(
        b: torch.Tensor, _h: torch.Tensor, q: torch.Tensor, k: torch.Tensor
    ) -> torch.Tensor:
        return visible(b, _h, q, k) & (position[b, q] - position[b, k] < size)

    return visible_in_window


def block_mask(
    visible_until: torch.Tensor | NDArray[np.int32],
    *,
    block_size: tuple[int, int] = (128, 128),
    window: Window | None = None,
    device: torch.device | str | None = None,
) -> BlockMask:
    """Build the `BlockMask` `[B, 1, T, T]`.

    Identical to `create_block_mask(mask_mod(visible_until), B, None, T, T, BLOCK_SIZE=block_size)`
    in every tensor, the query side and the unused tail of the index lists included. With a window
    there may be more partial blocks, in which `mask_mod` finds nothing visible.

    Args:
        visible_until: `i32[B, T]`, exclusive. T need not be a multiple of the block.
        block_size: `(query, key)` tokens of a block.
        window: as in `mask_mod`.
        device: where the mask goes; by default that of `visible_until`.
    """
    import torch  # noqa: PLC0415
    from torch.nn.attention.flex_attention import BlockMask  # noqa: PLC0415

    until = torch.as_tensor(visible_until, device=device)
    total = until.shape[1]
    starts = [torch.arange(0, total, size, device=until.device) for size in block_size]
    if window is not None:
        window = Window(torch.as_tensor(window.position_ids, device=until.device), window.size)
    partial, full = judge(until, starts, _extremes, block_size=block_size, window=window)
    return BlockMask.from_kv_blocks(
        *_ordered(partial),
        *_ordered(full),
        BLOCK_SIZE=block_size,
        mask_mod=mask_mod(until, window=window, device=until.device),
        seq_lengths=(total, total),
    )


def _extremes(values: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lowest and highest value of each block of `size`: two `[B, ceil(T / size)]`."""
    import torch  # noqa: PLC0415

    def blocks(fill: int) -> torch.Tensor:
        padded = torch.nn.functional.pad(values, (0, -values.shape[1] % size), value=fill)
        return padded.view(len(values), -1, size)

    highest = torch.iinfo(values.dtype).max
    return blocks(highest).amin(dim=-1), blocks(-highest).amax(dim=-1)


def _ordered(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Count and list the true columns of each row: `i32[B, 1, M]`, `i32[B, 1, M, N]`."""
    flags = blocks[:, None].int()
    return flags.sum(dim=-1).int(), flags.argsort(dim=-1, descending=True, stable=True).int()
