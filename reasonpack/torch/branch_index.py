"""`visible_until` becomes the `branches` of a batch: one dict, which is used whole or refused.

    k_index, cu_seqlens_q, cu_seqlens_k     the keys for the queries of each branch
    max_seqlen_q, max_seqlen_k              upper bounds of the lengths; powers of two
    sum_order, sum_offsets                  the order in which gradients of copies are added up

If one of them were lost, or cut by a trainer that splits the tensors of a batch, a kernel would
read out of bounds. `BranchIndex.of` refuses such a dict by its keys and shapes, without waiting for
the device.

Cost: as `masks.branches`, in the data loader.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reasonpack.errors import UsageError
from reasonpack.masks.branches import branches, sum_order

NAME = "branches"
"""The key of a batch under which the index travels."""
SHORTEST = 128
"""Lengths for a kernel are rounded up to powers of two, at least this one, so that few differ."""


def branch_index(visible_until: NDArray[np.int32]) -> dict[str, Any]:
    """Make the index of a flat batch, given its `visible_until`, `i32[1, T]`.

    >>> index = branch_index(np.array([[5, 2, 5, 5, 5]], np.int32))
    >>> index["k_index"].tolist(), index["sum_offsets"].tolist(), index["max_seqlen_k"]
    ([0, 1, 0, 2, 3, 4], [0, 2, 3, 4, 5, 6], 128)
    """
    found = branches(visible_until)
    order, offsets = sum_order(found.k_index, visible_until.size)
    arrays = {"sum_order": order, "sum_offsets": offsets}
    return {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else _rounded(value)
        for name, value in {**asdict(found), **arrays}.items()
    }


@dataclass(frozen=True)
class BranchIndex:
    """The checked index of a batch of T tokens, which the attention of each layer is given.

    Attributes:
        k_index: `i64[K]`, the tokens of each path, path by path.
        cu_seqlens_q: `i32[N + 1]`, bounds of the branches.
        cu_seqlens_k: `i32[N + 1]`, bounds of the paths.
        max_seqlen_q: at least the length of the longest branch.
        max_seqlen_k: at least the length of the longest path.
        sum_order: `i64[K]`, indices into `k_index`, token by token.
        sum_offsets: `i64[T + 1]`, bounds in `sum_order` of the copies of each token.
    """

    k_index: torch.Tensor
    cu_seqlens_q: torch.Tensor
    cu_seqlens_k: torch.Tensor
    max_seqlen_q: int
    max_seqlen_k: int
    sum_order: torch.Tensor
    sum_offsets: torch.Tensor

    @classmethod
    def of(cls, given: Any, position_ids: torch.Tensor | None) -> BranchIndex:
        """Return the index in the `branches` of a batch; refuse one that a trainer damaged.

        Raises:
            UsageError: keys or the positions of the batch are missing, or tensors were cut.
        """
        names = cls.__dataclass_fields__.keys()
        keys = set(given) if isinstance(given, Mapping) else set()
        if missing := sorted(names - keys):
            what = f"{NAME} without {', '.join(missing)}"
            fix = "let the trainer hand it on as it is"
            raise UsageError("batch", what, "the dict of the collator whole", fix)
        if position_ids is None:
            raise UsageError(
                "batch",
                f"{NAME} and no position_ids",
                "those of the collator: positions would be row indices",
                "let the trainer keep all columns (remove_unused_columns=False)",
            )
        index = cls(**{name: given[name] for name in names})
        copies = index.k_index.shape[0]
        sizes = (len(index.sum_order), len(index.sum_offsets), len(index.cu_seqlens_k))
        expected = (copies, position_ids.shape[-1] + 1, len(index.cu_seqlens_q))
        if sizes != expected or position_ids.shape[0] != 1 or copies < position_ids.shape[-1]:
            raise UsageError(
                "batch",
                f"{NAME} with {copies} keys in {sizes} for positions of shape "
                f"{tuple(position_ids.shape)}",
                "the index of one row of these tokens: the trainer splits the tensors of a batch",
                "set dispatch_batches=False and split_batches=False (accelerator_config; "
                "an IterableDataset has dispatch_batches by default), and take "
                "DistributedDataParallel or FSDP, not DataParallel",
            )
        return index

    def check_positions(self, position_ids: torch.Tensor) -> None:
        """Refuse positions that a trainer replaced; waits for the device.

        Raises:
            UsageError: key j of a path does not have position j.
        """
        if not torch.equal(position_ids[0, self.k_index], path_places(self.cu_seqlens_k)):
            what = "position_ids that do not count the tokens of each path"
            fix = "let the trainer keep them (no padding-free or packing option of its own)"
            raise UsageError("batch", what, "those of the collator", fix)


def path_places(cu_seqlens_k: torch.Tensor) -> torch.Tensor:
    """Count the keys of each path from 0: `i64[K]`, the position that each key must have.

    >>> path_places(torch.tensor([0, 2, 5])).tolist()
    [0, 1, 0, 1, 2]
    """
    bounds = cu_seqlens_k.long()
    counted = torch.arange(int(bounds[-1]), device=bounds.device)
    return counted - bounds[:-1].repeat_interleave(bounds.diff())


def _rounded(length: int) -> int:
    return max(SHORTEST, 1 << (length - 1).bit_length())
