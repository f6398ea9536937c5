"""NeMo Automodel: onepass rows by MagiAttention, as a `prefix_tree`, which its recipe takes.

    model: {backend: {attn: magi, rope_fusion: false, …}, …}
    dataset: {_target_: nemo_prefix_tree.dataset, directory: packed}
    dataloader: {collate_fn: nemo_prefix_tree.collate, num_workers: 0, …}
    distributed: {cp_size: 1, pp_size: 1, …}    # with NEMO_ENABLE_USER_MODULES=1 in the environment

Each node of the tree sees its ancestors, and itself causally. The loss does not shift, so the
labels are shifted here. NeMo 0.7's dense models (Llama, Qwen2, Qwen3) ignore the tree without a
word: `collate` refuses their second step. Its mixtures of experts read it.
Run by hand with its loader, mask, model (Qwen3 MoE) and loss on a CPU, and the kernel's definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nemo_automodel.components.distributed.context_parallel import magi
from numpy.typing import NDArray

from reasonpack.errors import UsageError
from reasonpack.masks import flat
from reasonpack.torch import Collator, RowDataset


def dataset(directory: str, **_: Any) -> RowDataset:
    return RowDataset(directory)


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows laid end to end, `[1, T]`."""
    if magi.get_active_attn_spec() is not None and not magi._FLEX_KEY_CACHE:
        what = "attention that did not read the prefix_tree of the batch before"
        fix = "take a model with magi's attention, or pack --layout npass"
        raise UsageError("model", what, "a kernel with its mask", fix)
    batch = Collator(mask="branches", shift_labels=True)(rows)
    return {
        "input_ids": batch["input_ids"],
        "position_ids": batch["position_ids"],
        "labels": batch["shift_labels"],
        "prefix_tree": prefix_tree(flat(rows)[0]),
    }


def prefix_tree(visible_until: NDArray[np.int32]) -> tuple[list[int], list[list[int]]]:
    """The lengths of the nodes, in order, and the nodes on the way to each leaf."""
    starts = np.flatnonzero(np.diff(visible_until, prepend=-1))
    ends = visible_until[starts].tolist()
    paths: list[list[int]] = []
    path: list[int] = []
    for node, start in enumerate(starts.tolist()):
        if path and ends[path[-1]] <= start:  # the node before is a leaf
            paths.append(list(path))
        while path and ends[path[-1]] <= start:
            path.pop()
        path.append(node)
    return np.diff(starts, append=visible_until.size).tolist(), [*paths, path]
