"""Hugging Face Trainer: full fine-tuning on a packed dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Trainer, TrainingArguments

from reasonpack.torch import RowDataset, build_flex_masks, collator_for


def train(model: Any, directory: Path, output: Path, **arguments: Any) -> Trainer:
    rows = RowDataset(directory)  # --format arrow: the Trainer shuffles by itself
    collator = collator_for(model, layout=rows.layout, packed=rows.packed, pad_to_multiple_of=128)
    build_flex_masks(model)  # on the model's device; refuses a batch whose mask was lost
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(output),
            remove_unused_columns=False,  # the collator needs the segment columns
            **arguments,
        ),
        train_dataset=rows,
        data_collator=collator,
    )
    trainer.train()
    return trainer
