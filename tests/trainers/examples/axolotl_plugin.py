"""axolotl: plugins that train onepass rows by their branches, and that divide a step as a whole.

    plugins: [axolotl_plugin.PackedChats]
    datasets: [{path: packed}]          # what pack wrote, with --format arrow
    attn_implementation: flash_attention_2
    sample_packing: false               # done
    remove_unused_columns: false

Run by hand with axolotl 0.19 and sdpa on a CPU, with the gradients of N-pass; here with stand-ins.
"""

from __future__ import annotations

import math
from typing import Any

from axolotl.common.datasets import TrainDatasetMeta
from axolotl.integrations.base import BasePlugin

from reasonpack.torch import RowDataset, collator_for, prepare_model


class Rows(RowDataset):
    column_names = None  # of named columns its trainer takes `length` away


class MeanOverStep(BasePlugin):
    """axolotl divides each accumulated batch by its own trained tokens; this, by those of all."""

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        trainer.model_accepts_loss_kwargs = True


class PackedChats(MeanOverStep):
    def load_datasets(self, cfg: Any, preprocess: bool = False) -> Any:
        self.rows = Rows(cfg.datasets[0]["path"])
        held_out = cfg.test_datasets
        steps = cfg.max_steps or math.ceil(len(self.rows) * cfg.num_epochs / cfg.batch_size)
        return TrainDatasetMeta(
            train_dataset=self.rows,
            eval_dataset=Rows(held_out[0]["path"]) if held_out else None,
            total_num_steps=steps,
        )

    def post_model_load(self, cfg: Any, model: Any) -> None:
        prepare_model(model)

    def post_trainer_create(self, cfg: Any, trainer: Any) -> None:
        super().post_trainer_create(cfg, trainer)
        trainer.data_collator = collator_for(
            trainer.model, layout=self.rows.layout, packed=self.rows.packed, pad_to_multiple_of=128
        )
        trainer.args.remove_unused_columns = False  # the collator needs the segment columns
