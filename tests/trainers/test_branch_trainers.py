"""Trainers hand the index on whole: the weights of N-pass with it, a refusal without.

FlashAttention is the one of `flash.py`; everything else is the trainers' own code.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    RowDataset,
    RowStream,
    attend_by_branches,
    collator_for,
)
from reasonpack.torch.branch_index import BranchIndex  # noqa: E402
from tests.trainers.test_trainers import CONVERSATIONS, SAME, STEPS, packed, tokenizer, updates  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # of trainers: not ours

FLASH = "flash_attention_2"
Drop = Callable[[dict[str, Any]], Any]


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    flash.install(monkeypatch)
    handles = []

    def make(family: str, **fields: Any) -> Any:
        model = flash.with_flash(tiny.model(family, **fields))
        handles.append(attend_by_branches(model))
        return model

    yield make
    for handle in handles:
        handle.remove()


def hf_trainer(model: Any, rows: Any, collator: Any, output: Path, **arguments: Any) -> Any:
    args = transformers.TrainingArguments(
        output_dir=str(output), remove_unused_columns=False, **{**STEPS, **arguments}
    )
    return transformers.Trainer(model=model, args=args, train_dataset=rows, data_collator=collator)


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_the_trainer_ends_at_the_weights_of_npass(
    family: str, attended: Any, tmp_path: Path
) -> None:
    def update(layout: Any, **arguments: Any) -> dict[str, Any]:
        model = attended(family)
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        rows = tiny.rows_of(CONVERSATIONS, layout=layout)
        collator = collator_for(model, layout=layout, pad_to_multiple_of=16)
        hf_trainer(model, rows, collator, tmp_path, **arguments).train()
        return updates(model, start)

    expected = update("npass")
    assert tiny.distance(update("onepass"), expected) < SAME
    checkpointed = update("onepass", gradient_checkpointing=True)
    assert tiny.distance(checkpointed, expected) < SAME


def without(name: str, key: str | None = None) -> Drop:
    def drop(batch: dict[str, Any]) -> None:
        del (batch if key is None else batch[name])[name if key is None else key]

    return drop


DROPS: dict[str, tuple[Drop, str]] = {
    "branches": (without("branches"), "branches None with rows that branch"),
    "position_ids": (without("position_ids"), "no position_ids"),
    **{
        key: (without("branches", key), f"branches without {key}")
        for key in BranchIndex.__dataclass_fields__
    },
}


def dropping(model: Any, drop: Drop) -> Callable[[list[Any]], dict[str, Any]]:
    collate = collator_for(model, layout="onepass")

    def made(rows: list[Any]) -> dict[str, Any]:
        batch = collate(rows)
        drop(batch)
        return batch

    return made


@pytest.mark.parametrize("lost", DROPS)
def test_the_trainer_is_refused_what_it_drops(lost: str, attended: Any, tmp_path: Path) -> None:
    drop, said = DROPS[lost]
    model = attended("qwen3", dtype="float32")
    rows = tiny.rows_of(CONVERSATIONS, layout="onepass")
    trainer = hf_trainer(model, rows, dropping(model, drop), tmp_path)
    with pytest.raises(UsageError, match=said):
        trainer.train()


@pytest.fixture
def trl_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    directory = packed(tmp_path, format="arrow")

    def make(model: Any, collator: Any) -> Any:
        config = trl.SFTConfig(
            output_dir=str(tmp_path / "out"),
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            max_length=None,
            bf16=False,
            gradient_checkpointing=False,
            **STEPS,
        )
        return trl.SFTTrainer(
            model=model,
            processing_class=tokenizer(),
            args=config,
            train_dataset=datasets.load_dataset(str(directory), split="train"),
            data_collator=collator,
        )

    return make


def test_trl_trains_as_the_dense_mask_does(attended: Any, trl_trainer: Any) -> None:
    def update(model: Any) -> dict[str, Any]:
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        trl_trainer(model, collator_for(model, layout="onepass")).train()
        return updates(model, start)

    expected = update(tiny.model("gemma3_text", dtype="float32"))
    assert tiny.distance(update(attended("gemma3_text", dtype="float32")), expected) < 1e-3


@pytest.mark.parametrize("lost", DROPS)
def test_trl_is_refused_what_it_drops(lost: str, attended: Any, trl_trainer: Any) -> None:
    drop, said = DROPS[lost]
    model = attended("qwen3", dtype="float32")
    if lost == "position_ids":
        said += "|Expected 'attention_mask' or 'position_ids'"  # TRL says so itself
    with pytest.raises((UsageError, ValueError), match=said):
        trl_trainer(model, dropping(model, drop)).train()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("stream", [True, False])
def test_batches_that_are_dispatched_are_refused(
    stream: bool, split: bool, attended: Any, tmp_path: Path
) -> None:
    model = attended("qwen3", dtype="float32")
    rows = RowDataset(packed(tmp_path, format="arrow"))
    collator = collator_for(model, layout="onepass")
    by_default = None if stream else True  # None: True for a stream
    dispatched = {"dispatch_batches": by_default, "split_batches": split}
    data = RowStream(rows, seed=0) if stream else rows
    trainer = hf_trainer(model, data, collator, tmp_path / "a", accelerator_config=dispatched)
    with pytest.raises(UsageError, match="dispatch_batches=False and split_batches=False"):
        trainer.train()
    honest = {"accelerator_config": {"dispatch_batches": False}, "max_steps": 1}
    hf_trainer(model, data, collator, tmp_path / "b", **honest).train()


def test_two_processes_find_the_mean_of_both_gradients(tmp_path: Path) -> None:
    import two_processes

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(two_processes.train, (port, str(tmp_path)), nprocs=2)
    expected = two_processes.one_process()
    for way in two_processes.WAYS:
        assert tiny.distance(torch.load(tmp_path / f"{way}.pt"), expected) < 1e-9, way
