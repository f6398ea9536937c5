"""Hugging Face Trainer: full fine-tuning on a packed dataset, with any `attn_implementation`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from loss_by_kind import LossByKind
from transformers import Trainer, TrainingArguments

from reasonpack.torch import RowDataset, collator_for, prepare_model


class KindTrainer(LossByKind, Trainer):
    """Logs `loss_t` and `loss_r_out` beside `loss`."""


def train(
    model: Any,
    directory: Path,
    output: Path,
    *,
    evaluation: Path | None = None,
    resume: str | bool | None = None,
    **arguments: Any,
) -> Trainer:
    rows = RowDataset(directory)  # --format arrow: the Trainer shuffles by itself
    prepare_model(model)  # its attention takes the rows, and a batch that lost its mask is refused
    collator = collator_for(model, layout=rows.layout, packed=rows.packed, pad_to_multiple_of=128)
    trainer = KindTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(output),
            remove_unused_columns=False,  # the collator needs the segment columns
            prediction_loss_only=True,
            **arguments,
        ),
        train_dataset=rows,
        eval_dataset=RowDataset(evaluation) if evaluation else None,
        data_collator=dataclasses.replace(collator, kinds=True),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer
