"""Recipes evaluate, resume and log by kind; those of trainers that are not here have stand-ins."""

from __future__ import annotations

import importlib
import itertools
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.masks import dense, flat  # noqa: E402
from reasonpack.rows.kind import Kind  # noqa: E402
from reasonpack.torch import Collator, RowDataset, RowStream  # noqa: E402
from reasonpack.torch.stock_attention import varlen_attention  # noqa: E402
from tests.trainers.test_trainers import STEPS, packed, tokenizer  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]  # of trainers: not ours

LOGGED = {**STEPS, "logging_strategy": "steps", "logging_steps": 1}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    flash.install(monkeypatch)
    return flash.with_flash(tiny.model("qwen3", dtype="float32"))


@pytest.fixture(params=["hf", "trl"])
def recipe(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "hf":
        import hf_trainer

        return hf_trainer.train
    pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    import trl_sft

    plain = {"bf16": False, "gradient_checkpointing": False}
    return lambda model, *rest, **given: trl_sft.train(model, tokenizer(), *rest, **plain, **given)


def weights(model: Any) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def fresh(model: Any) -> Any:
    """The same model anew, with its implementation."""
    return flash.with_flash(tiny.model("qwen3", dtype="float32"))


def by_kind(model: Any, directory: Path) -> Iterator[tuple[Kind, float]]:
    """The loss of reasoning and of responses, read off the segments."""
    rows = list(RowDataset(directory))
    batch = Collator(mask="branches")(rows)
    labels = batch.pop("labels")[0, 1:]
    losses = torch.nn.functional.cross_entropy(
        model.eval()(**batch).logits[0, :-1], labels, reduction="none", ignore_index=-100
    )
    kinds = np.concatenate(
        [
            np.repeat(r["segment_kind"], np.diff(r["segment_start"], append=r["length"]))
            for r in rows
        ]
    )
    for kind in (Kind.REASONING, Kind.R_OUT):
        taken = (labels != -100).numpy() & (kinds[1:] == kind)
        yield kind, float(losses.detach().numpy()[taken].mean())


def test_recipes_log_by_kind_evaluate_and_resume(model: Any, recipe: Any, tmp_path: Path) -> None:
    directory = packed(tmp_path, format="arrow")
    given = {**LOGGED, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps"}
    given |= {"eval_steps": 2, "logging_steps": 3}  # evaluated between two logs
    trainer = recipe(model, directory, tmp_path / "out", evaluation=directory, **given)
    history = trainer.state.log_history
    for loss, number in {"loss": 1, "eval_loss": 2}.items():
        found = [each for each in history if loss in each]
        assert len(found) == number
        for each in found:  # of the same batches, before much was learned
            assert [each[f"{loss}_t"], each[f"{loss}_r_out"]] == pytest.approx(
                [each[loss]] * 2, rel=0.02
            )
    expected = {f"eval_loss_{kind.label}": value for kind, value in by_kind(model, directory)}
    assert {name: history[-2][name] for name in expected} == pytest.approx(expected, rel=1e-4)
    resumed = fresh(model)
    with torch.no_grad():
        for value in resumed.parameters():
            value.mul_(2)  # the checkpoint has to replace it
    recipe(
        resumed, directory, tmp_path / "out", resume=str(tmp_path / "out/checkpoint-2"), **LOGGED
    )
    assert tiny.distance(weights(resumed), weights(model)) < 1e-6


# --- plain PyTorch, and trainers that are not here ------------------------------------------------


def rows() -> list[tiny.Row]:
    return tiny.rows_of([tiny.random_views(seed, turns=3) for seed in range(2)], layout="onepass")


def flat_kernel(q: Any, k: Any, v: Any, *sizes: Any, window_size: Any = (-1, 0), **_: Any) -> Any:
    """`torch.nn.attention.varlen.varlen_attn`, which has no kernel for a CPU."""
    window = None if window_size[0] < 0 else window_size[0] + 1
    return varlen_attention(q, k, v, *sizes[:2], window=window)


def test_plain_pytorch_with_varlen_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import plain_varlen
    import qwen3
    from torch.nn.attention import varlen

    monkeypatch.setattr(varlen, "varlen_attn", flat_kernel)
    shape = qwen3.Shape(32, 2, heads=4, groups=2, head_dim=8, inner=64, vocabulary=tiny.VOCABULARY)
    directory = packed(tmp_path)

    def model() -> Any:
        torch.manual_seed(0)
        return qwen3.Model(shape).double()

    def dense_loss(batch: Any) -> float:
        """The same batch with the dense mask of each of its rows."""
        mask = batch["attention_mask"]
        sdpa = torch.nn.functional.scaled_dot_product_attention
        attend = lambda q, k, v: sdpa(q, k, v, attn_mask=mask, enable_gqa=True)  # noqa: E731
        logits = model()(batch["input_ids"], batch["position_ids"], attend)
        labels = batch["labels"]
        return float(
            torch.nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
            )
        )

    batches = list(plain_varlen.batches(directory, epoch=0, batch_size=2))
    assert sum(batch["input_ids"].shape[1] for batch in batches) > 300
    by_branches = model()
    still = torch.optim.SGD(by_branches.parameters(), lr=0.0)
    found = plain_varlen.step(by_branches, still, batches[0], "cpu")
    first = list(itertools.islice(RowStream(RowDataset(directory), seed=0), 2))
    expected = dense_loss(Collator(mask="sdpa")(first))
    assert found / (batches[0]["labels"] != -100).sum() == pytest.approx(expected, rel=1e-9)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a module in the place of one that is not installed."""

    def put(name: str, **attributes: Any) -> None:
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            module = types.ModuleType(".".join(parts[:depth]))
            monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), module)
            if depth > 1:
                setattr(sys.modules[".".join(parts[: depth - 1])], parts[depth - 1], module)
        module.__dict__.update(attributes)

    return put


def imported(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def test_axolotl_is_given_rows_model_and_collator(
    model: Any, tmp_path: Path, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("axolotl.common.datasets", TrainDatasetMeta=lambda **given: given)
    common = sys.modules["axolotl"]
    stand_in("axolotl.integrations.base", BasePlugin=object)
    sys.modules["axolotl"].common = common.common  # type: ignore[attr-defined]
    plugin = imported("axolotl_plugin", monkeypatch).PackedChats()
    directory = packed(tmp_path, format="arrow")
    cfg = types.SimpleNamespace(
        datasets=[{"path": directory}], test_datasets=None, max_steps=0, num_epochs=2, batch_size=4
    )
    data = plugin.load_datasets(cfg)
    assert (len(data["train_dataset"]), data["total_num_steps"]) == (6, 3)
    assert data["train_dataset"].column_names is None  # else its trainer removes `length`
    plugin.post_model_load(cfg, model)
    args = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), **STEPS)
    trainer = transformers.Trainer(model=model, args=args, train_dataset=data["train_dataset"])
    trainer.model_accepts_loss_kwargs = False  # as its trainer does
    plugin.post_trainer_create(cfg, trainer)
    assert trainer.data_collator.mask == "branches"
    assert trainer.model_accepts_loss_kwargs  # else a step is the mean of its batches' means
    assert trainer.train().training_loss > 0


@pytest.fixture
def swift(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example over a stand-in for `SwiftSft`: it asks for data, makes a trainer, trains."""

    class SwiftSft:
        def __init__(self, args: Any) -> None:
            self.args, self.model = args

        def main(self) -> Any:
            rows, held_out = self._prepare_dataset()  # type: ignore[attr-defined]
            assert held_out is None
            trainer = transformers.Trainer(
                model=self.model, args=self.args.training_args, train_dataset=rows
            )
            return self.train(trainer)

        def train(self, trainer: Any) -> Any:
            trainer.train()
            return trainer

    stand_in("swift.pipelines.train.sft", SwiftSft=SwiftSft)
    return imported("ms_swift_onepass", monkeypatch).PackedChats


def test_ms_swift_trains_onepass_rows_by_branches(model: Any, swift: Any, tmp_path: Path) -> None:
    import hf_trainer

    directory = packed(tmp_path, format="arrow")
    arguments = transformers.TrainingArguments(output_dir=str(tmp_path / "out"), **LOGGED)
    args = types.SimpleNamespace(
        dataset=[directory], val_dataset=[], packing=False, training_args=arguments
    )
    trainer = swift((args, model)).main()
    assert trainer.data_collator.mask == "branches"
    expected = hf_trainer.train(fresh(model), directory, tmp_path / "plain", **LOGGED)
    losses = [
        [step["loss"] for step in each.state.log_history if "loss" in step]
        for each in (trainer, expected)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    args.packing = True
    with pytest.raises(UsageError, match="--packing: True, expected False with onepass rows"):
        swift((args, model)).main()


def one_layer(dtype: Any = None) -> tuple[Any, Any, Any, Any, Any]:
    """Queries, keys, values `[T, heads, 8]` of a flat batch, its index and what attention gives.

    Their values are exact in `dtype`."""
    batch = Collator(mask="branches")(rows())
    until = flat(rows())
    total = until.shape[1]
    torch.manual_seed(0)
    drawn = (torch.randn(total, heads, 8, dtype=torch.float64) for heads in (4, 2, 2))
    q, k, v = (x.to(dtype or x.dtype).double() for x in drawn)
    seen = torch.from_numpy(dense.visible(until))
    tokens = [x.transpose(0, 1)[None] for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*tokens, attn_mask=seen, enable_gqa=True)
    return (q, k, v), batch, until, out[0].transpose(0, 1), total


@pytest.mark.parametrize("shape", [(-1,), (1, -1)], ids=["tokens", "batch"])  # of main, of 0.3
def test_torchtitan_attends_by_branches(
    shape: tuple[int, ...], stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import varlen

    def kernel(q: Any, k: Any, v: Any, *sizes: Any, **given: Any) -> Any:
        assert {x.dtype for x in (q, k, v)} == {torch.bfloat16}
        return flat_kernel(*(x.double() for x in (q, k, v)), *sizes, **given)

    class VarlenMetadata(NamedTuple):
        cu_seq_q: Any
        cu_seq_k: Any
        max_q: int
        max_k: int
        cu_seq_q_host: Any = None

    class VarlenAttention(torch.nn.Module):
        window_size = (-1, 0)

    class Trainer:
        def post_dataloading_process(self, input_dict: Any, labels: Any) -> Any:
            return input_dict["input"], labels, {"attention_masks": "of documents"}

    stand_in(
        "torchtitan.models.common.attention",
        VarlenAttention=VarlenAttention,
        VarlenMetadata=VarlenMetadata,
    )
    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    example = imported("torchtitan_varlen", monkeypatch)
    tokens, batch, until, expected, _ = one_layer(dtype=torch.bfloat16)

    class Both(example.Branches, Trainer):
        pass

    given = {"input": batch["input_ids"], "visible_until": torch.from_numpy(until)}
    _, _, extra = Both().post_dataloading_process(given, batch["labels"])
    assert isinstance(extra["attention_masks"], VarlenMetadata)
    model = torch.nn.Sequential(VarlenAttention())
    example.attend_by_branches(model)
    tokens = tuple(x.reshape(*shape, *x.shape[1:]) for x in tokens)
    out = model[0](*tokens, **extra, enable_gqa=True)
    assert torch.allclose(out, expected.reshape(out.shape), atol=1e-12)
    with pytest.raises(UsageError, match="attention: an out_transform"):
        model[0](*tokens, **extra, out_transform=lambda out, lse: out)


def test_verl_attends_by_branches_after_its_all_to_all(
    stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stock(q: Any, k: Any, v: Any, mask: Any, length: int, **given: Any) -> Any:
        assert mask is None or given.get("cu_seq_lens_q") is None
        assert given["position_ids"] is None
        q, k, v = (each[0] for each in (q, k, v))
        return flat_kernel(q, k, v, given["cu_seq_lens_q"], given["cu_seq_lens_k"])[None]

    stand_in("verl.models.transformers.monkey_patch", _flash_attention_forward=stock)
    example = imported("verl_sft", monkeypatch)
    example.install()
    patched = sys.modules["verl.models.transformers.monkey_patch"]._flash_attention_forward
    (q, k, v), batch, _, expected, total = one_layer()
    with example.step(batch["branches"], "cpu"):
        given = {"position_ids": batch["position_ids"]}
        out = patched(q[None], k[None], v[None], None, total, **given)
        padded = [torch.nn.functional.pad(x, (0, 0, 0, 0, 0, 1))[None] for x in (q, k, v)]
        with pytest.raises(UsageError, match=f"{total + 1} tokens, expected {total}, as collated"):
            patched(*padded, None, total + 1, **given)
    assert torch.allclose(out[0], expected, atol=1e-12)
    match = "model: attention that did not take the branches"
    with pytest.raises(UsageError, match=match), example.step(batch["branches"], "cpu"):
        pass  # another attention, or verl without use_remove_padding, which does not patch it


@pytest.fixture
def nemo(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The example over a stand-in for NeMo's MagiAttention: a step's spec, keys made of it."""
    parent = "nemo_automodel.components.distributed.context_parallel"
    state = types.SimpleNamespace(spec=None)
    stand_in(f"{parent}.magi", get_active_attn_spec=lambda: state.spec, _FLEX_KEY_CACHE={})
    state.keys = sys.modules[f"{parent}.magi"]._FLEX_KEY_CACHE
    return imported("nemo_prefix_tree", monkeypatch), state


def test_nemo_is_given_the_tree_and_shifted_labels(nemo: Any) -> None:
    batch = nemo[0].collate(rows())
    lengths, paths = batch["prefix_tree"]
    bounds = np.cumsum([0, *lengths])
    total = batch["input_ids"].shape[1]
    found = np.zeros((total, total), bool)
    for path in paths:  # a node sees its ancestors, and itself causally
        for depth, node in enumerate(path):
            own = slice(bounds[node], bounds[node + 1])
            for above in path[:depth]:
                found[own, bounds[above] : bounds[above + 1]] = True
            found[own, own] |= np.tri(lengths[node], dtype=bool)
    np.testing.assert_array_equal(found, dense.visible(flat(rows()))[0])
    labels = np.concatenate([row["labels"] for row in rows()])
    assert batch["labels"][0].tolist() == [*labels[1:].tolist(), -100]
    assert batch["position_ids"][0].tolist() == [p for r in rows() for p in r["position_ids"]]


def test_nemo_model_that_ignores_the_tree_is_refused(nemo: Any) -> None:
    example, state = nemo
    state.spec = object()  # of the first batch
    state.keys["group"] = "made of it"
    example.collate(rows())
    state.keys.clear()
    with pytest.raises(UsageError, match="model: attention that did not read the prefix_tree"):
        example.collate(rows())
