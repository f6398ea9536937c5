"""A dataset as torchtitan wants it: endless, stateful, yielding (inputs, labels).

Give it to torchtitan's `ParallelAwareDataloader`; the model's `get_attention_masks` builds the
BlockMask from `inputs["attention_mask"].build()`. torchtitan compares logits[i] with labels[i],
so the labels are shifted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset

from reasonpack.torch import Collator, RowDataset, RowStream


class PackedChats(IterableDataset):
    def __init__(self, directory: Path, *, seq_len: int, rank: int, world_size: int) -> None:
        rows = RowDataset(directory)
        self.stream = RowStream(rows, seed=0, rank=rank, world_size=world_size)
        self.collate = Collator(mask="flex", pad_to_multiple_of=seq_len, shift_labels=True)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Any]]:
        while True:
            for row in self.stream:
                batch = self.collate([row])
                yield (
                    {
                        "input": batch["input_ids"][0],
                        "positions": batch["position_ids"][0],
                        "attention_mask": batch["attention_mask"],
                    },
                    batch["shift_labels"][0],
                )
            self.stream.set_epoch(self.stream.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stream.load_state_dict(state_dict)
