"""verl SFT: around FlashAttention, after the all-to-all of Ulysses, which hands over the whole row.

`install()` once, before the model is built; `with step(batch["branches"]):` around the forward and
the backward of a micro-batch, whose rows are laid end to end (`Collator(mask="branches")`) and
sliced over the sequence-parallel ranks by verl: pad to a multiple of them. Read in its code, and
run here with a stand-in.
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


@contextlib.contextmanager
def step(branches: dict[str, Any], device: str = "cuda") -> Iterator[None]:
    _index.append(
        BranchIndex(**{k: v.to(device) if torch.is_tensor(v) else v for k, v in branches.items()})
    )
    try:
        yield
    finally:
        _index.pop()


def install() -> None:
    monkey_patch._flash_attention_forward = by_branches(monkey_patch._flash_attention_forward)


def by_branches(stock: Callable[..., Any]) -> Callable[..., Any]:
    def forward(q: Any, k: Any, v: Any, mask: Any, *args: Any, **given: Any) -> Any:
        if not _index:
            return stock(q, k, v, mask, *args, **given)
        index = _index[-1]
        if q.shape[1] != (total := len(index.sum_offsets) - 1):
            fix = "pad_to_multiple_of a multiple of the sequence-parallel ranks"
            raise UsageError("batch", f"{q.shape[1]} tokens", f"{total}, as collated", fix)
        k, v = (gathered(x.transpose(1, 2), index).transpose(1, 2) for x in (k, v))
        given["position_ids"] = None  # would be read for the starts of sequences
        sizes = {
            "cu_seq_lens_q": index.cu_seqlens_q,
            "cu_seq_lens_k": index.cu_seqlens_k,
            "max_length_q": index.max_seqlen_q,
            "max_length_k": index.max_seqlen_k,
        }
        return stock(q, k, v, None, *args, **{**given, **sizes})

    return forward
