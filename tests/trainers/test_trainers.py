"""The examples run, and a few optimizer steps on one-pass rows end at the weights of N-pass.

Step for step the same conversations: a row is one conversation, in the npass layout all its
leaves, packed. So both runs see the same batches, and any difference is the layout's.
"""

from __future__ import annotations

import importlib
import itertools
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import runs  # noqa: E402
import tiny  # noqa: E402

import reasonpack  # noqa: E402
from reasonpack.choices import Layout  # noqa: E402
from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    RowDataset,
    build_flex_masks,
    collator_for,
    model_windows,
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*", "ignore:.*return_outputs.*"),
]

STEPS = {
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "optim": "sgd",
    "learning_rate": 0.1,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "report_to": [],
    "save_strategy": "no",
    "logging_strategy": "no",
    "disable_tqdm": True,
    "use_cpu": True,
}
SAME, WRONG = 1e-4, 0.1
TURNS = [tiny.random_turns(seed, turns=3) for seed in range(9)]
CONVERSATIONS = [tiny.random_views(seed, turns=3) for seed in range(9)]


def updates(model: Any, start: dict[str, Any]) -> dict[str, Any]:
    return {name: value.detach() - start[name] for name, value in model.named_parameters()}


def trained(family: str, rows: list[tiny.Row], collator: Any, output: Path) -> dict[str, Any]:
    """The change of every weight by a few steps; `collator` makes one for the model."""
    model = tiny.model(family)
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(output), remove_unused_columns=False, **STEPS
        ),
        train_dataset=rows,
        data_collator=collator(model),
    )
    trainer.train()
    return updates(model, start)


@pytest.mark.parametrize("family", ["qwen3", "llama", "gemma3_text"])
def test_the_trainer_ends_at_the_weights_of_npass(family: str, tmp_path: Path) -> None:
    def update(layout: Layout) -> tuple[int, dict[str, Any]]:
        rows = tiny.rows_of(CONVERSATIONS, layout=layout)
        collator = lambda model: collator_for(model, layout=layout)  # noqa: E731
        return sum(row["length"] for row in rows), trained(family, rows, collator, tmp_path)

    (many, expected), (few, found) = update("npass"), update("onepass")
    assert few < many
    assert tiny.distance(found, expected) < SAME

    def papers_collator(model: Any) -> Any:
        return lambda rows: tiny.papers_batch(rows, model_windows(model.config))

    papers = trained(family, [tiny.papers_row(turns) for turns in TURNS], papers_collator, tmp_path)
    assert tiny.distance(papers, expected) > WRONG


# --- examples ------------------------------------------------------------------------------------


def packed(where: Path, layout: Layout = "onepass", **options: Any) -> Path:
    """A dataset of six short conversations, five of which branch."""
    (where / "chats.jsonl").write_bytes(runs.chats(6, bad=False))
    chosen = reasonpack.Options(
        tokenizer=str(tiny.FIXTURES / "tokenizer"), layout=layout, **options
    )
    reasonpack.pack_files([str(where / "chats.jsonl")], where / "packed", chosen)
    return where / "packed"


def tokenizer() -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tiny.tokenizer(), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def test_examples_are_short() -> None:
    for path in (Path(__file__).parent / "examples").glob("*.py"):
        most = 120 if path.stem == "qwen3_5_forked" else 60  # layers of a model, not a recipe
        assert len(path.read_text(encoding="utf-8").splitlines()) < most, path.name


def test_hugging_face_trainer(tmp_path: Path) -> None:
    from examples import hf_trainer

    model = tiny.model("qwen3", dtype="float32")
    directory = packed(tmp_path, format="arrow", packing=True, max_length=2048)
    trainer = hf_trainer.train(model, directory, tmp_path / "out", **STEPS)
    assert trainer.state.global_step == 3


@pytest.mark.filterwarnings("ignore")  # of datasets and trl: not ours
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_trl_sft_trainer_trains_on_what_the_trainer_does(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    from examples import hf_trainer, trl_sft

    directory = packed(tmp_path, format="arrow")

    def update(train: Any) -> dict[str, Any]:
        model = tiny.model(family, dtype="float32")
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        train(model)
        return updates(model, start)

    plain = {**STEPS, "bf16": False, "gradient_checkpointing": False}
    found = update(lambda m: trl_sft.train(m, tokenizer(), directory, tmp_path / "a", **plain))
    expected = update(lambda m: hf_trainer.train(m, directory, tmp_path / "b", **STEPS))
    assert tiny.distance(found, expected) < 1e-3


def test_a_trainer_that_drops_the_columns_is_refused(tmp_path: Path) -> None:
    model = tiny.model("qwen3", dtype="float32")
    args = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), **STEPS)
    trainer = transformers.Trainer(
        model=model,
        args=args,
        train_dataset=RowDataset(packed(tmp_path)),
        data_collator=collator_for(model, layout="onepass"),
    )
    with pytest.raises(UsageError, match="remove_unused_columns=False"):
        trainer.train()


@pytest.mark.filterwarnings("ignore")  # of datasets and trl: not ours
@pytest.mark.parametrize(
    ("mistake", "refused"),
    [
        ({"remove_unused_columns": False}, "tokens, expected length="),  # it cuts ids and labels
        ({}, "row 0: no length, position_ids"),
        ({"data_collator": None}, "batch: no position_ids"),  # its own, which knows no positions
    ],
)
def test_trl_with_its_defaults_is_refused(
    mistake: dict[str, Any], refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    model = tiny.model("llama", dtype="float32")
    build_flex_masks(model)
    given = {"data_collator": collator_for(model, layout="onepass"), **mistake}
    config = {**STEPS, "bf16": False, "gradient_checkpointing": False, "max_length": 64}
    collator = given.pop("data_collator")
    trainer = trl.SFTTrainer(
        model=model,
        processing_class=tokenizer(),
        args=trl.SFTConfig(output_dir=str(tmp_path / "out"), **config, **given),
        train_dataset=datasets.load_dataset(str(packed(tmp_path)), split="train"),
        data_collator=collator,
    )
    with pytest.raises(UsageError, match=refused):
        trainer.train()


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_plain_pytorch_with_flex_attention(tmp_path: Path) -> None:
    from examples import plain_flex
    from torch.nn.attention.flex_attention import flex_attention

    directory = packed(tmp_path, packing=True, max_length=2048)

    class Model(torch.nn.Module):
        """One embedding, read twice; attention itself has no gradient on a CPU."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(tiny.VOCABULARY, 16)

        def forward(self, ids: Any, positions: Any, block_mask: Any) -> Any:
            assert positions.shape == ids.shape
            x = self.embed(ids)
            q = x.detach()[:, None]
            seen = flex_attention(q, q, q, block_mask=block_mask)[:, 0]
            return (x + seen) @ self.embed.weight.T

    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = [
        plain_flex.step(model, optimizer, batch, "cpu")
        for _ in range(3)
        for batch in plain_flex.batches(directory, epoch=0, row_tokens=2048, batch_size=1)
    ]
    assert losses[-1] < losses[0]


def test_torchtitan_dataset_goes_on_over_epochs_and_resumes(tmp_path: Path) -> None:
    from examples import torchtitan_dataset

    directory = packed(tmp_path)

    def dataset(seq_len: int) -> Any:
        return torchtitan_dataset.PackedChats(directory, seq_len=seq_len, rank=0, world_size=1)

    def ids(pairs: Any) -> list[list[int]]:
        return [inputs["input"].tolist() for inputs, _ in pairs]

    whole = ids(itertools.islice(dataset(2048), 15))
    assert sorted(whole[:6]) == sorted(whole[6:12])
    assert whole[:6] != whole[6:12]
    for stop in (1, 6, 7):
        first = dataset(2048)
        iterator = iter(first)
        assert ids(itertools.islice(iterator, stop)) == whole[:stop]
        second = dataset(2048)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert ids(itertools.islice(second, 15 - stop)) == whole[stop:]
    inputs, labels = next(iter(dataset(2048)))
    follows = labels[:-1] != -100
    assert torch.equal(labels[:-1][follows], inputs["input"][1:][follows])
    assert len(inputs["visible_until"]) == len(labels) == len(inputs["positions"]) == 2048
    with pytest.raises(UsageError, match="--max-length"):
        list(itertools.islice(dataset(64), 6))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_torchtitan_trainer_is_given_the_mask_of_the_rows(tmp_path: Path) -> None:
    loaders = pytest.importorskip("torchdata.stateful_dataloader")
    from examples import torchtitan_dataset

    class Trainer:
        """What torchtitan's does: all but the input becomes an argument of the model."""

        def post_dataloading_process(self, input_dict: Any, labels: Any) -> Any:
            extra = {name: value for name, value in input_dict.items() if name != "input"}
            return input_dict["input"], labels, {**extra, "attention_masks": "of documents"}

    class Masked(torchtitan_dataset.BranchMasks, Trainer):
        pass

    chats = torchtitan_dataset.PackedChats(packed(tmp_path), seq_len=2048, rank=0, world_size=1)
    inputs, labels = next(iter(loaders.StatefulDataLoader(chats, batch_size=2)))
    until = inputs["visible_until"]
    _, _, extra = Masked().post_dataloading_process(inputs, labels)
    assert set(extra) == {"positions", "attention_masks"}
    q, k = torch.meshgrid(torch.arange(2048), torch.arange(2048), indexing="ij")
    for row in range(2):
        seen = extra["attention_masks"].mask_mod(torch.tensor(row), torch.tensor(0), q, k)
        assert torch.equal(seen, (k <= q) & (q < until[row]))
        assert seen.sum() < (k <= q).sum()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pretokenized_samples(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from examples import pretokenized

    directory = packed(tmp_path, layout="npass")
    made = pretokenized.pretokenized(directory, cache_dir=str(tmp_path / "cache"))
    assert set(made.column_names) == {"input_ids", "attention_mask", "labels"}
    counts = reasonpack.read_manifest(directory).counts
    assert sum(len(row["input_ids"]) for row in made) == counts.npass_tokens
    assert sum(label != -100 for row in made for label in row["labels"]) == counts.trained_tokens


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_ms_swift_is_handed_the_token_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    from examples import pretokenized

    registered: list[Any] = []
    swift = types.ModuleType("swift.template")  # what the plugin takes of ms-swift
    swift.__dict__.update(
        Template=object,
        TemplateMeta=lambda name, **given: (name, given["template_cls"]),
        register_template=registered.append,
    )
    monkeypatch.setitem(sys.modules, "swift", types.ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.template", swift)
    monkeypatch.delitem(sys.modules, "examples.ms_swift_plugin", raising=False)
    importlib.import_module("examples.ms_swift_plugin")
    ((name, template),) = registered
    directory = packed(tmp_path, layout="npass")
    made = pretokenized.pretokenized(directory, lengths=True, cache_dir=str(tmp_path / "cache"))
    assert name == "token_ids"
    for row in made:
        encoded = template().encode(row, return_length=True)
        assert (encoded["input_ids"], encoded["labels"]) == (row["input_ids"], row["labels"])
        assert [encoded["length"]] == encoded["lengths"] == [row["lengths"]]
        assert row["lengths"] == len(row["input_ids"])


def test_one_pass_rows_are_no_pretokenized_samples(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from examples import pretokenized

    with pytest.raises(UsageError, match="expected npass"):
        pretokenized.pretokenized(packed(tmp_path))
