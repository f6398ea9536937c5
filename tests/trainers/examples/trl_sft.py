"""TRL SFTTrainer: rows are tokenized, labelled and packed already, so it must prepare nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

from reasonpack import read_manifest
from reasonpack.torch import build_flex_masks, collator_for


def train(model: Any, tokenizer: Any, directory: Path, output: Path, **options: Any) -> SFTTrainer:
    manifest = read_manifest(directory)  # refuses an unfinished dataset
    rows = load_dataset(str(directory), split="train")
    collator = collator_for(model, layout=manifest.layout, pad_to_multiple_of=128)
    build_flex_masks(model)
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        args=SFTConfig(
            output_dir=str(output),
            dataset_kwargs={"skip_prepare_dataset": True},  # else it truncates and rebuilds
            remove_unused_columns=False,  # the collator needs the segment columns
            packing=False,  # done
            padding_free=False,  # would rebuild position_ids
            max_length=None,  # a row must not be cut
            **options,
        ),
        train_dataset=rows,
        data_collator=collator,
    )
    trainer.train()
    return trainer
