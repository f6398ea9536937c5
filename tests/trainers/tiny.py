"""Tiny random models, the fixture conversations as views, and what N-pass makes of them.

    fixtures/chats.jsonl ── oracle.views ──▶ views ─┬─ rows_of ──▶ rows of the package
                                                    └─ npass_loss: one plain sequence a view

Importing this module makes those of the neighbouring folders importable: import it first.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / each) for each in (".", "masks", "gpu", "trainers/examples")]

import numpy as np  # noqa: E402
import oracle  # noqa: E402
import pyarrow as pa  # noqa: E402
from encoded import EncodedView, encoded_view, lay_out  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from reasonpack.choices import Layout  # noqa: E402
from reasonpack.rows.schema import schema  # noqa: E402
from reasonpack.rows.table import rows_to_table  # noqa: E402

FIXTURES = TESTS.parent / "fixtures"
REAL = sorted((TESTS.parents[1] / "shared" / "data").glob("*.jsonl"))
VOCABULARY = 4096
Row = dict[str, Any]
Views = Sequence[oracle.View]
Turn = tuple[list[int], list[int], list[int]]  # message, reasoning, response


@functools.cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FIXTURES / "tokenizer" / "tokenizer.json"))


@functools.cache
def chats(
    *paths: Path, longest: int
) -> tuple[tuple[list[dict[str, Any]], list[dict[str, Any]] | None], ...]:
    """The conversations of at most `longest` characters: messages and tools."""
    lines = [line for path in paths for line in path.read_text("utf-8").split("\n") if line]
    return tuple(oracle.plain_chat(json.loads(line)) for line in lines if len(line) <= longest)


def views_of(template: str, *paths: Path, longest: int = 6000) -> list[list[oracle.View]]:
    """The views of each conversation that this template takes; by default of the fixture."""
    source = (FIXTURES / "templates" / f"{template}.jinja").read_text(encoding="utf-8")
    family = oracle.FAMILIES[template]
    found = []
    for messages, tools in chats(*(paths or [FIXTURES / "chats.jsonl"]), longest=longest):
        try:
            views = oracle.views(
                messages,
                source,
                tokenizer(),
                stop=family.stop,
                tools=tools,
                reasoning_field=family.reasoning_field,
            )
        except oracle.PrefixError:
            continue  # this template cannot say it
        found.append(views)
    return found


def random_turns(seed: int, *, turns: int, unit: int = 12) -> list[Turn]:
    """Messages, reasoning and responses of random tokens."""
    random = np.random.default_rng(seed)

    def tokens() -> list[int]:
        return random.integers(1, VOCABULARY, random.integers(2, unit)).tolist()

    return [(tokens(), tokens(), tokens()) for _ in range(turns)]


def random_views(seed: int, *, turns: int, unit: int = 12) -> list[oracle.View]:
    """A conversation of random tokens whose old reasoning is dropped."""
    views, history = [], []
    for turn, (message, reasoning, response) in enumerate(
        random_turns(seed, turns=turns, unit=unit)
    ):
        history = history + message
        views.append(oracle.View(turn, history, reasoning + response))
        history = history + response
    return views


def rows_of(
    conversations: Sequence[Views], rows: Sequence[Sequence[int]] | None = None, *, layout: Layout
) -> list[Row]:
    """Lay conversations out as rows, one each unless `rows` says which share one."""
    per_row = rows if rows is not None else [[index] for index in range(len(conversations))]
    laid_out = [
        lay_out(str(index), [encoded(view) for view in views], layout=layout).samples
        for index, views in enumerate(conversations)
    ]
    samples = [sample for samples in laid_out for sample in samples]
    first = np.cumsum([0] + [len(each) for each in laid_out])
    members = [
        [place for index in row for place in range(first[index], first[index + 1])]
        for row in per_row
    ]
    return as_rows(rows_to_table(samples, members, schema()))


def divided_rows(conversations: Sequence[Views], *, max_length: int) -> list[Row]:
    """Lay conversations out in rows of at most `max_length` tokens, one for each sample."""
    samples = [
        sample
        for index, views in enumerate(conversations)
        for sample in lay_out(str(index), list(map(encoded, views)), max_length=max_length).samples
    ]
    members = [[place] for place in range(len(samples))]
    return as_rows(rows_to_table(samples, members, schema()))


def as_rows(table: pa.Table) -> list[Row]:
    """Rows as a reader gives them: arrays of NumPy."""
    return [
        {
            name: np.asarray(value) if isinstance(value, list) and name != "sample_id" else value
            for name, value in row.items()
        }
        for row in table.to_pylist()
    ]


def encoded(view: oracle.View) -> EncodedView:
    return encoded_view(view.prompt_ids, view.completion_ids)


PAPERS_ORDER = ("h", "t", "r_in", "r_out")


def papers_row(turns: Sequence[Turn]) -> Row:
    """A conversation in the paper's order, `h t r_in r_out`, with the paper's own visibility sets.

    No `visible_until` says this, so the row carries `visible`, `bool[T, T]`. Every token sees what
    it should and stands where it should; but with the stock shift by one the first token of each
    `r_out` is predicted from the last of `r_in`, which did not see the reasoning.
    """
    messages, reasonings, responses = zip(*turns, strict=True)
    streams = {"h": messages, "t": reasonings, "r_in": responses, "r_out": responses}
    paper = oracle.paper_visibility(
        **{name: [len(tokens) for tokens in stream] for name, stream in streams.items()}
    )
    order = sorted(
        paper.visible, key=lambda token: (token[0][1], PAPERS_ORDER.index(token[0][0]), token[1])
    )
    ids = np.array([streams[name][turn - 1][offset] for (name, turn), offset in order])
    trained = np.array([token in paper.trained for token in order])
    return {
        "input_ids": ids,
        "position_ids": np.array([paper.position[token] for token in order]),
        "labels": np.where(trained, ids, -100),
        "visible": np.array([[key in paper.visible[query] for key in order] for query in order]),
    }


def papers_batch(rows: Sequence[Row], windows: Any = None) -> dict[str, Any]:
    """Rows in the paper's order, padded, with the 4-D mask of a model with these windows."""
    import torch

    total = max(len(row["input_ids"]) for row in rows)
    columns = {
        name: np.full((len(rows), total), fill)
        for name, fill in (("input_ids", 0), ("position_ids", 0), ("labels", -100))
    }
    visible = np.eye(total, dtype=bool)[None].repeat(len(rows), axis=0)
    for index, row in enumerate(rows):
        size = len(row["input_ids"])
        visible[index, :size, :size] = row["visible"]
        for name, column in columns.items():
            column[index, :size] = row[name]
    position = columns["position_ids"]
    behind = position[:, :, None] - position[:, None, :]
    masks = {
        name: torch.from_numpy(visible if size is None else visible & (behind < size))[:, None]
        for name, size in (windows or {"": None}).items()
    }
    batch = {name: torch.from_numpy(column) for name, column in columns.items()}
    return {**batch, "attention_mask": masks if windows else masks[""]}


# --- models --------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 8192,
    "initializer_range": 0.3,  # so that attention is far from uniform
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {},
    "gemma3_text": {
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 8,
    },
    "mistral": {"sliding_window": 24},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def model(family: str, *, attention: str = "sdpa", dtype: str = "float64", **fields: Any) -> Any:
    """A random causal model, the same at every call; `fields` go into its configuration."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.set_num_threads(1)  # threads cost more than they give at this size
    torch.manual_seed(7)
    sizes = {**SIZES, **FAMILIES.get(family, EXPERTS), **fields}
    config = AutoConfig.for_model(family, **sizes)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    if family not in FAMILIES and hasattr(made, "set_experts_implementation"):
        made.set_experts_implementation("eager")  # the grouped kernel knows no float64
    return made.to(getattr(torch, dtype))


def batch_loss(model: Any, batch: Mapping[str, Any]) -> Any:
    """The summed loss of a batch with the stock shift by one, in the model's own precision."""
    import torch

    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), reduction="sum"
    )


def npass_loss(model: Any, conversations: Sequence[Views]) -> Any:
    """The summed loss of N-pass: each view a plain sequence by itself, each pair trained once."""
    import torch

    total = torch.zeros((), dtype=torch.float64)
    for views in conversations:
        trained: set[tuple[bytes, int]] = set()
        for view in views:
            ids = [*view.prompt_ids, *view.completion_ids]
            labels = [-100] * len(ids)
            for place in range(len(view.prompt_ids), len(ids)):
                pair = (oracle.digest(ids[:place]), ids[place])
                if pair not in trained:
                    labels[place] = ids[place]
                trained.add(pair)
            total = total + batch_loss(
                model, {"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])}
            )
    return total


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    """The gradient of every parameter, after which the model has none."""
    model.zero_grad()
    loss.backward()
    found = {name: each.grad.clone() for name, each in model.named_parameters()}
    model.zero_grad()
    return found


def distance(left: Mapping[str, Any], right: Mapping[str, Any]) -> float:
    """The largest over all tensors of |left − right| / |right|."""
    assert left.keys() == right.keys()
    return max(
        float((left[name] - right[name]).norm() / right[name].norm().clamp(min=1e-30))
        for name in left
    )
