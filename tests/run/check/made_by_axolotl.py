"""Chats as `axolotl preprocess` prepares them: what it would train, in small files beside this one.

    python tests/run/check/made_by_axolotl.py

in an environment with axolotl writes `axolotl/NAME.parquet` for each of `MADE`, and
`axolotl/made.json` with the date, the versions and the settings. `test_found.py` reads them, and
needs no axolotl.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
FOLDER = Path(__file__).with_name("axolotl")
CHATS = ("bicycle-chain", "dice-at-least-one-six", "twenty-questions")
"""Of the fixtures: several turns, the first with reasoning, in `reasoning_content`."""
PACKAGES = ("axolotl", "transformers", "datasets")
CONFIG: dict[str, Any] = {
    "base_model": "model",
    "chat_template": "tokenizer_default",
    "dataset_prepared_path": "prepared",
    "dataset_num_proc": 1,
    "sequence_len": 2048,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "num_epochs": 1,
    "learning_rate": 1e-4,
    "output_dir": "out",
}
DATASET: dict[str, Any] = {"path": "chats.jsonl", "ds_type": "json", "type": "chat_template"}
MADE: dict[str, dict[str, Any]] = {
    "right": {"turns": 1},
    "packed": {"turns": 1, "sample_packing": True},
    "everything": {"turns": 1, "train_on_inputs": True},
    "untrained": {"turns": 1, "dataset": {"train_on_eos": "none"}},
    "cut": {"turns": 1, "sequence_len": 200, "excess_length_strategy": "truncate"},
    "several": {},
    "last": {"dataset": {"train_on_eos": "last"}},
    "lost": {"chats": ["river-crossing", "pendulum"]},
}
"""By name what is set otherwise than axolotl does it; which chats, and how many turns of each.

The reasoning of the last two is in `thinking` and `reasoning`, which axolotl does not read.
"""


def chats(turns: int | None, ids: Sequence[str] | None) -> list[dict[str, Any]]:
    """Give chats by their ids, of each so many turns; `CHATS`, and all turns, by default."""
    lines = (ROOT / "fixtures" / "chats.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    last = turns and 2 * turns
    return [
        {"messages": each["messages"][:last]}
        for each in records
        if each.get("id") in (ids or CHATS)
    ]


def make(name: str, folder: Path) -> None:
    """Let axolotl prepare one of `MADE` in an empty folder, and keep it."""
    import datasets

    settings = dict(MADE[name])
    given = chats(settings.pop("turns", None), settings.pop("chats", None))
    (folder / "chats.jsonl").write_text("".join(json.dumps(each) + "\n" for each in given))
    shutil.copytree(ROOT / "fixtures" / "tokenizer", folder / "model")
    model = {"model_type": "qwen2", "vocab_size": 4096, "hidden_size": 64, "num_hidden_layers": 1}
    (folder / "model" / "config.json").write_text(json.dumps(model))
    own = [{**DATASET, **settings.pop("dataset", {})}]
    config = {**CONFIG, **settings, "datasets": own}
    (folder / "config.yml").write_text(json.dumps(config))  # which is YAML too
    command = [Path(sys.executable).with_name("axolotl"), "preprocess", "config.yml"]
    offline = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1"}
    subprocess.run(command, cwd=folder, env={**os.environ, **offline}, check=True)
    (prepared,) = (each for each in (folder / "prepared").iterdir() if each.is_dir())
    table = datasets.load_from_disk(str(prepared)).with_format("arrow")[:]
    import pyarrow.parquet as pq

    plain = table.replace_schema_metadata(None)
    pq.write_table(plain, FOLDER / f"{name}.parquet", compression="zstd")


def main() -> None:
    """Make all, or those that are named, and say of what and when."""
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or MADE:
        with tempfile.TemporaryDirectory() as folder:
            make(name, Path(folder))
    made = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {package: version(package) for package in PACKAGES},
        "made": MADE,
    }
    (FOLDER / "made.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
