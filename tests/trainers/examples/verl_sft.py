"""verl SFT: around FlashAttention, after the all-to-all of Ulysses, which hands over the whole row.

`install()` once, before the model is built with `use_remove_padding=True`; `with step(branches):`
around forward and backward of a micro-batch of `Collator(mask="branches")`, padded to a multiple of
the sequence-parallel ranks. verl's own batches (`data.custom_cls`) have `loss_mask` for labels, 1
where trained, unshifted. Read in its code, and run here with a stand-in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from verl.models.transformers import monkey_patch

from reasonpack.errors import UsageError
from reasonpack.torch import BranchIndex, gathered

_index: list[BranchIndex] = []
_taken: list[BranchIndex] = []


@contextlib.contextmanager
def step(branches: dict[str, Any], device: str = "cuda") -> Iterator[None]:
    _index.append(
        BranchIndex(**{k: v.to(device) if torch.is_tensor(v) else v for k, v in branches.items()})
    )
    _taken.clear()
    try:
        yield
    finally:
        _index.pop()
    if not _taken:
        fix = "use_remove_padding=True, and flash_attention_2"
        raise UsageError("model", "attention that did not take the branches", "it to", fix)


def install() -> None:
    monkey_patch._flash_attention_forward = by_branches(monkey_patch._flash_attention_forward)


def by_branches(stock: Callable[..., Any]) -> Callable[..., Any]:
    def forward(q: Any, k: Any, v: Any, mask: Any, *args: Any, **given: Any) -> Any:
        if not _index:
            return stock(q, k, v, mask, *args, **given)
        _taken[:] = [index := _index[-1]]
        if q.shape[1] != (total := len(index.sum_offsets) - 1):
            fix = "pad_to_multiple_of a multiple of the sequence-parallel ranks"
            raise UsageError("batch", f"{q.shape[1]} tokens", f"{total}, as collated", fix)
        k, v = (gathered(x.transpose(1, 2), index).transpose(1, 2) for x in (k, v))
        given["position_ids"] = None  # would be read for the starts of sequences
        for side in "qk":
            given[f"cu_seq_lens_{side}"] = getattr(index, f"cu_seqlens_{side}")
            given[f"max_length_{side}"] = getattr(index, f"max_seqlen_{side}")
        return stock(q, k, v, None, *args, **given)

    return forward
