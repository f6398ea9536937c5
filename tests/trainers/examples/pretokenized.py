"""npass rows as trainers without custom masks take them: input_ids, attention_mask, labels.

axolotl reads such a dataset as it is (`datasets: - path: … ds_type: json`, no `type`), packs it
with `sample_packing: true` and gives each sample its own positions. LLaMA-Factory reads it with
`tokenized_path` and ms-swift with `--cached_dataset`, both as a saved dataset. Pack with
`--layout npass` and without `--packing`: these trainers pack by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset

from reasonpack.errors import UsageError
from reasonpack.torch import RowDataset


def pretokenized(directory: Path, **options: Any) -> Dataset:
    """A dataset to `save_to_disk` or `to_json`; refuses rows that such a trainer would break."""
    rows = RowDataset(directory)
    if rows.layout != "npass" or rows.packed:
        raise UsageError(
            f"{directory}: layout {rows.layout}, packed {rows.packed}, expected npass, unpacked. "
            "Fix: pack with --layout npass and without --packing."
        )

    def examples() -> Iterator[dict[str, Any]]:
        for row in rows:  # type: ignore[attr-defined]
            yield {
                "input_ids": row["input_ids"].tolist(),
                "attention_mask": [1] * row["length"],
                "labels": row["labels"].tolist(),
            }

    return Dataset.from_generator(examples, **options)
