"""ms-swift: onepass rows with FlashAttention by their branches, started from Python.

    python ms_swift_onepass.py --model DIR --dataset PACKED --attn_impl flash_attention_2 \
        --use_logits_to_keep false --router_aux_loss_coef 0 …

PACKED is what pack wrote, with --format arrow; --val_dataset may be another. Leave --packing,
--padding_free and --sequence_parallel_size off: rows are packed, and they make positions anew.
Run by hand with ms-swift 4.6 and sdpa on a CPU, with the gradients of N-pass; here with a stand-in.
"""

from __future__ import annotations

from typing import Any

from swift.pipelines.train.sft import SwiftSft

from reasonpack.errors import UsageError
from reasonpack.torch import RowDataset, collator_for, prepare_model

REBUILT = {"packing": False, "padding_free": False, "sequence_parallel_size": 1}


class PackedChats(SwiftSft):  # type: ignore[misc]
    def _prepare_dataset(self) -> Any:
        for name, expected in REBUILT.items():
            if (found := getattr(self.args, name, expected)) != expected:
                fix = "leave it out; rows are packed already"
                raise UsageError(f"--{name}", f"{found}", f"{expected} with onepass rows", fix)
        directories = [*self.args.dataset[:1], *self.args.val_dataset[:1]]
        self.rows, *held_out = (RowDataset(directory) for directory in directories)
        return [self.rows, held_out[0] if held_out else None]

    def train(self, trainer: Any) -> Any:
        prepare_model(trainer.model)
        trainer.data_collator = collator_for(
            trainer.model, layout=self.rows.layout, packed=self.rows.packed, pad_to_multiple_of=128
        )
        trainer.args.remove_unused_columns = False  # the collator needs the segment columns
        return super().train(trainer)


if __name__ == "__main__":
    PackedChats(None).main()
