"""A dataset as torchtitan wants it, endless and stateful, and the mask that its trainer needs.

Give the dataset to torchtitan's `ParallelAwareDataloader`; `class MyTrainer(BranchMasks, Trainer)`
sets the mask. torchtitan compares logits[i] with labels[i], so the labels are shifted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils.data import IterableDataset

from reasonpack.errors import UsageError
from reasonpack.masks import flex
from reasonpack.torch import Collator, RowDataset, RowStream


class PackedChats(IterableDataset):
    def __init__(self, directory: Path, *, seq_len: int, rank: int, world_size: int) -> None:
        self.stream = RowStream(RowDataset(directory), seed=0, rank=rank, world_size=world_size)
        self.collate = Collator(mask="visible_until", pad_to_multiple_of=seq_len, shift_labels=True)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], Any]]:
        while True:
            for row in self.stream:
                if row["length"] > self.collate.pad_to_multiple_of:
                    raise UsageError(
                        "row",
                        f"{row['length']} tokens",
                        f"at most {self.collate.pad_to_multiple_of}",
                        "pack with --max-length seq_len",
                    )
                batch = self.collate([row])
                names = {"input": batch["input_ids"], "positions": batch["position_ids"]}
                names["visible_until"] = batch["visible_until"]
                yield {name: value[0] for name, value in names.items()}, batch["shift_labels"][0]
            self.stream.set_epoch(self.stream.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stream.load_state_dict(state_dict)


class BranchMasks:  # torchtitan's own masks begin a document where a position is 0
    def post_dataloading_process(self, input_dict: dict[str, Any], labels: Any) -> Any:
        until = input_dict.pop("visible_until")
        inputs, labels, extra = super().post_dataloading_process(input_dict, labels)  # type: ignore[misc]
        return inputs, labels, {**extra, "attention_masks": flex.block_mask(until)}
