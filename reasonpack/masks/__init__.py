"""Attention masks from a row's segments, one module per consumer.

    rows ──stack, flat──> visible_until i32[B, T]
                        ├── dense.visible, dense.additive   SDPA, eager attention
                        ├── flex.mask_mod, flex.block_mask  PyTorch FlexAttention
                        ├── flashmask.startend_row_indices  FlashMask
                        ├── magi.slices                     MagiAttention
                        ├── blocks.forward, blocks.backward FlashAttention-4 (CuTe)
                        ├── branches.branches               any varlen kernel, keys gathered
                        └── varlen.cu_seqlens               any varlen kernel, npass rows only

    visible(q, k)  ⇔  k <= q < visible_until[k]      q and k counted from the start of the row

`stack` pads each row to the longest: a padding token p has `visible_until[p] = p + 1`,
so it sees only itself and no other token sees it. `flat` lays rows end to end as one row
`[1, T]`: its padding is one more plain sequence at the end. So no row of a softmax is empty.

Letters in shapes: B rows of a batch, T tokens of a padded row, S segments of a
row. Importing this package does not import torch.
"""

from __future__ import annotations

from reasonpack.masks.rows import Window, flat, stack, visible_until

__all__ = ["Window", "flat", "stack", "visible_until"]
