"""TRL SFTTrainer: rows are tokenized, labelled and packed already, so it must prepare nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from datasets import load_dataset
from loss_by_kind import LossByKind
from trl import SFTConfig, SFTTrainer

from reasonpack import read_manifest
from reasonpack.torch import collator_for, prepare_model


class KindTrainer(LossByKind, SFTTrainer):
    """Logs `loss_t` and `loss_r_out` beside `loss`."""


def train(
    model: Any,
    tokenizer: Any,
    directory: Path,
    output: Path,
    *,
    evaluation: Path | None = None,
    resume: str | bool | None = None,
    **options: Any,
) -> SFTTrainer:
    manifest = read_manifest(directory)  # refuses an unfinished dataset
    prepare_model(model)  # its attention takes the rows, and a batch that lost its mask is refused
    collator = collator_for(model, layout=manifest.layout, pad_to_multiple_of=128)
    trainer = KindTrainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(
            output_dir=str(output),
            dataset_kwargs={"skip_prepare_dataset": True},  # else it truncates and rebuilds
            remove_unused_columns=False,  # the collator needs the segment columns
            packing=False,  # done
            padding_free=False,  # would rebuild position_ids
            max_length=None,  # a row must not be cut
            prediction_loss_only=True,
            **options,
        ),
        train_dataset=load_dataset(str(directory), split="train"),
        eval_dataset=load_dataset(str(evaluation), split="train") if evaluation else None,
        data_collator=dataclasses.replace(collator, kinds=True),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer
