"""npass rows as trainers without custom masks take them: input_ids, attention_mask, labels.

What to set in axolotl, LLaMA-Factory and ms-swift, and what cannot be had there, stands in
reasonpack/torch/README.md. Pack with `--layout npass` and without `--packing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from reasonpack.errors import UsageError
from reasonpack.torch import RowDataset


def pretokenized(directory: Path, *, lengths: bool = False, **options: Any) -> Dataset:
    """A dataset to `save_to_disk` or `to_json`; refuses rows that such a trainer would break.

    `lengths` adds the column of that name, which ms-swift reads and others would hand to the model.
    """
    rows = RowDataset(directory)
    if rows.layout != "npass" or rows.packed:
        raise UsageError(
            directory,
            f"layout {rows.layout}, packed {rows.packed}",
            "npass, unpacked",
            "pack with --layout npass and without --packing",
        )

    def examples() -> Iterator[dict[str, Any]]:
        for row in rows:  # type: ignore[attr-defined]
            yield {
                "input_ids": row["input_ids"].tolist(),
                "attention_mask": [1] * row["length"],
                "labels": row["labels"].tolist(),
                **({"lengths": row["length"]} if lengths else {}),
            }

    return Dataset.from_generator(examples, **options)
