"""A group of calls trains as its calls do one by one: the same weighed loss, the same gradients.

The reference knows nothing of the package: each call is one plain sequence by itself, times its
weight. Here are retries with equal and with other answers, histories that go on, that are cut
short and that are rewritten, two agents in turn, masks, and a call that is logged twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.changed import replace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from reasonpack.datasets.options import Options  # noqa: E402
from reasonpack.run.pack import pack_files  # noqa: E402
from reasonpack.torch import Collator, attend_by_branches, collator_for, weighted_loss  # noqa: E402
from reasonpack.verify.check import verify_dataset  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]

SAME, WRONG = 1e-5, 1e-2
Json = dict[str, Any]


def agents(seed: int, *, values: bool = False) -> list[Json]:
    """Make the calls of a group: two agents in turn, as their harness may have sent them."""
    draw = np.random.default_rng(seed)

    def tokens(most: int = 9) -> list[int]:
        return draw.integers(5, 3000, draw.integers(2, most)).tolist()

    calls: list[Json] = []
    histories = [tokens(), tokens()]
    for turn in range(8):
        history, answer = histories[turn % 2], tokens()
        calls.append({"prompt_ids": history, "completion_ids": answer, "weight": 1 + turn % 3})
        if turn % 3 == 0:  # answered again, the same, and otherwise from the third token on
            calls.append({**calls[-1], "weight": 0.5})
            calls.append({**calls[-1], "completion_ids": answer[:2] + tokens()})
        if turn == 3:  # rewritten from its second token on
            history = history[:1] + tokens()
        histories[turn % 2] = history + answer[1 if turn == 5 else 0 :] + tokens()
    for number, call in enumerate(calls):
        call |= {"trace_id": f"{seed}", "id": f"{number}"}
        size = len(call["completion_ids"])
        if number % 4 == 1:
            call["loss_mask"] = [1] + [int(draw.integers(0, 2)) for _ in range(size - 1)]
        if values:
            call["advantage"] = float(draw.normal())
            call["logprobs"] = (-draw.random(size)).tolist()
    return [*calls, calls[2]]


def packed(folder: Path, calls: list[Json], layout: str) -> list[tiny.Row]:
    """Pack calls, in another order; return their rows, after verify has compared them."""
    source = folder / "calls.jsonl"
    source.write_text("".join(json.dumps(call) + "\n" for call in calls[::-1]))
    options = Options(
        tokenizer=str(tiny.FIXTURES / "tokenizer"), layout=layout, packing=True, max_length=400
    )
    manifest = pack_files([str(source)], folder / "out", options)
    assert verify_dataset(folder / "out", [str(source)]).total == 0
    (shard,) = manifest.shards
    return tiny.as_rows(pq.read_table(folder / "out" / shard.path))


def one_by_one(model: Any, calls: list[Json]) -> Any:
    """Sum up the losses of calls, each once and a sequence by itself."""
    total = torch.zeros((), dtype=torch.float64)
    for call in {(call["trace_id"], call["id"]): call for call in calls}.values():
        prompt, completion = call["prompt_ids"], call["completion_ids"]
        mask = call.get("loss_mask", [1] * len(completion))
        labels = [-100] * len(prompt)
        labels += [token if on else -100 for token, on in zip(completion, mask, strict=True)]
        batch = {"input_ids": torch.tensor([prompt + completion]), "labels": torch.tensor([labels])}
        weight = call["weight"] * call.get("advantage", 1.0)
        total = total + weight * tiny.batch_loss(model, batch)
    return total


def loss_of(model: Any, rows: list[tiny.Row], collator: Any) -> Any:
    """Sum up the loss of rows, times their weights and their advantages."""
    has = "advantages" in rows[0]
    batch = replace(collator, loss_weights=True, advantages=has, logprobs=has)(rows)
    weights = batch.pop("loss_weights").double()
    if has:
        weights = weights * batch.pop("advantages")
        del batch["logprobs"]
    labels = batch.pop("labels")
    return weighted_loss(model(**batch, use_cache=False).logits, labels, weights)


def off(model: Any, found: Any, expected: Any) -> tuple[float, float]:
    wanted, have = tiny.gradients(model, expected), tiny.gradients(model, found)
    return abs(found.item() / expected.item() - 1), tiny.distance(have, wanted)


@pytest.mark.parametrize(
    ("family", "layout", "values"),
    [
        ("qwen3", "onepass", False),
        ("gemma3_text", "onepass", True),
        ("gemma3_text", "npass", False),
        ("qwen3", "npass", True),
    ],
)
def test_by_a_dense_mask(family: str, layout: Any, values: bool, tmp_path: Path) -> None:
    calls = agents(0, values=values) + agents(1, values=values)
    rows, model = packed(tmp_path, calls, layout), tiny.model(family)
    found = loss_of(model, rows, collator_for(model, layout=layout, pad_to_multiple_of=8))
    assert max(off(model, found, one_by_one(model, calls))) < SAME


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a tiny model whose attention takes branches; taken back at the end."""
    handles = []

    def make(family: str) -> Any:
        flash.install(monkeypatch, "flash_attention_2", None)
        model = flash.with_flash(tiny.model(family, attention="eager"), "flash_attention_2")
        handles.append(attend_by_branches(model))
        return model

    yield make
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(("family", "values"), [("gemma3_text", False), ("qwen3", True)])
def test_by_branches(family: str, values: bool, attended: Any, tmp_path: Path) -> None:
    calls = agents(2, values=values) + agents(3, values=values)
    rows, model = packed(tmp_path, calls, "onepass"), attended(family)
    found = loss_of(model, rows, Collator(mask="branches", pad_to_multiple_of=8))
    have, plain = tiny.gradients(model, found), tiny.model(family)
    expected = one_by_one(plain, calls)
    assert abs(found.item() / expected.item() - 1) < SAME
    assert tiny.distance(have, tiny.gradients(plain, expected)) < SAME


def alike(rows: list[tiny.Row]) -> None:
    """Weigh all trained tokens the same, as if none was trained by several calls."""
    for row in rows:
        row["loss_weights"] = row["loss_weights"].clip(max=1)


def by_row(rows: list[tiny.Row]) -> None:
    """Normalise advantages by row."""
    for row in rows:
        trained = row["labels"] >= 0
        mean = row["advantages"][trained].mean()
        row["advantages"] = np.where(trained, row["advantages"] - mean, 0)


def in_order(rows: list[tiny.Row]) -> None:
    """Let each token see all before it in its row, as if no call was beside another."""
    for row in rows:
        row["segment_visible_until"] = np.full_like(row["segment_visible_until"], row["length"])
        row["position_ids"] = np.arange(row["length"])


@pytest.mark.parametrize("fault", [alike, by_row, in_order])
def test_planted_faults_are_caught(fault: Any, tmp_path: Path) -> None:
    calls, model = agents(0, values=fault is by_row), tiny.model("qwen3")
    rows = packed(tmp_path, calls, "onepass")
    fault(rows)
    found = loss_of(model, rows, collator_for(model, layout="onepass"))
    assert max(off(model, found, one_by_one(model, calls))) > WRONG
