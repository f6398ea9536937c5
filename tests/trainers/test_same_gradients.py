"""One-pass rows train as N-pass does: the same summed loss, the same gradient of every parameter.

The reference knows nothing of the package: each view is one plain sequence by itself, with the
model's own causal mask, window and positions. Models compute norms, rotary embeddings and
(eager) softmax in float32 whatever their dtype, so "the same" is float32 rounding: 1e-5 here,
1e-7 as measured. A wrong row is off by more than 1e-2 in some gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest

from tests.changed import replace

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import oracle  # noqa: E402

from reasonpack.choices import Layout  # noqa: E402
from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.masks import Window, dense, stack  # noqa: E402
from reasonpack.torch import Collator, build_flex_masks, collator_for, model_windows  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]

SAME, WRONG = 1e-5, 1e-2
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
PACKED = [[0, 2], [1]]


def short(template: str) -> list[list[oracle.View]]:
    """Three short fixture conversations: a tool loop, several turns, one more."""
    found = [
        views for views in tiny.views_of(template) if sum(len(v.prompt_ids) for v in views) < 800
    ]
    found.sort(key=len, reverse=True)
    assert len(found[0]) > 2
    return found[:3]


def differences(
    model: Any, batch: dict[str, Any], conversations: Sequence[tiny.Views]
) -> tuple[float, float]:
    """Relative difference of the loss, and of the worst gradient."""
    expected = tiny.npass_loss(model, conversations)
    wanted = tiny.gradients(model, expected)
    loss = tiny.batch_loss(model, batch)
    found = tiny.gradients(model, loss)
    return abs(loss.item() / expected.item() - 1), tiny.distance(found, wanted)


def assert_same(model: Any, batch: dict[str, Any], conversations: Sequence[tiny.Views]) -> None:
    loss, gradient = differences(model, batch, conversations)
    assert loss < SAME
    assert gradient < SAME


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_packed_rows_give_the_gradients_of_npass(family: str, layout: Layout) -> None:
    conversations = [tiny.random_views(seed, turns=seed + 2) for seed in range(3)]
    model = tiny.model(family)
    rows = tiny.rows_of(conversations, PACKED, layout=layout)
    collator = collator_for(model, layout=layout, pad_to_multiple_of=8)
    assert_same(model, collator(rows), conversations)


def with_retries(seed: int) -> list[oracle.View]:
    """A conversation in which each answer was sampled twice; both begin alike."""
    views = tiny.random_views(seed, turns=4)
    return [
        each
        for view in views
        for each in (view, view._replace(completion_ids=[*view.completion_ids[:3], 7, seed]))
    ]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_divided_conversations_give_the_gradients_of_undivided_ones(family: str) -> None:
    conversations = [tiny.random_views(0, turns=6), with_retries(1), with_retries(2)]
    longest = max(
        len(view.prompt_ids) + len(view.completion_ids) for each in conversations for view in each
    )
    model = tiny.model(family)
    collator = collator_for(model, layout="onepass")
    rows = tiny.divided_rows(conversations, max_length=longest)
    assert len(rows) > len(conversations) + 2
    assert max(row["length"] for row in rows) <= longest
    assert_same(model, collator(rows), conversations)
    whole = tiny.rows_of(conversations, layout="onepass")
    losses = [tiny.batch_loss(model, collator(each)) for each in (whole, rows)]
    expected, found = (tiny.gradients(model, loss) for loss in losses)
    assert tiny.distance(found, expected) < SAME


def test_repeated_history_that_is_trained_again_is_caught() -> None:
    conversations = [with_retries(1)]
    model = tiny.model("qwen3")
    longest = max(len(view.prompt_ids) + len(view.completion_ids) for view in conversations[0])
    rows = tiny.divided_rows(conversations, max_length=longest)
    row = rows[1]
    at = int(np.flatnonzero(row["labels"] < 0)[1])
    row["labels"][at] = row["input_ids"][at]
    _, gradient = differences(model, collator_for(model, layout="onepass")(rows), conversations)
    assert gradient > WRONG


def test_fixture_conversations_with_tool_loops() -> None:
    conversations = short("stripped")
    model = tiny.model("gemma3_text")
    rows = tiny.rows_of(conversations, PACKED, layout="onepass")
    assert all(len(set(row["segment_visible_until"].tolist())) > 1 for row in rows)
    assert_same(model, collator_for(model, layout="onepass")(rows), conversations)


@pytest.mark.skipif(not tiny.REAL, reason="no real conversations beside the checkout")
@pytest.mark.parametrize(("template", "family"), [("stripped", "qwen3"), ("tool_loop", "llama")])
def test_real_conversations_with_tool_loops_packed(template: str, family: str) -> None:
    taken = tiny.views_of(template, *tiny.REAL, longest=7000)
    found = sorted(
        (each for each in taken if len(each) > 2), key=lambda each: len(each[-1].prompt_ids)
    )
    found = found[:3]
    rows = tiny.rows_of(found, PACKED, layout="onepass")
    branches = [len(set(row["segment_visible_until"].tolist())) for row in rows]
    assert max(branches) > 2
    model = tiny.model(family)
    assert_same(model, collator_for(model, layout="onepass")(rows), found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "family"),
    list(zip(oracle.FAMILIES, itertools.cycle(tiny.FAMILIES), strict=False)),
)
def test_every_template(template: str, family: str) -> None:
    conversations = tiny.views_of(template, longest=2500)[:4]
    model = tiny.model(family, attention="eager" if template == "stripped" else "sdpa")
    for layout in LAYOUTS:
        collator = collator_for(model, layout=layout)
        for members in ([0, 3], [1, 2]):
            some = [conversations[index] for index in members]
            (row,) = tiny.rows_of(some, [[0, 1]], layout=layout)
            assert_same(model, collator([row]), some)


def test_a_mixture_of_experts_without_auxiliary_loss() -> None:
    # the auxiliary loss is a statistic of the tokens that are there, so it differs by nature
    conversations = [tiny.random_views(seed, turns=3) for seed in range(2)]
    model = tiny.model("qwen3_moe")
    rows = tiny.rows_of(conversations, [[0, 1]], layout="onepass")
    assert_same(model, collator_for(model, layout="onepass")(rows), conversations)


@pytest.mark.parametrize("original", [512, 32])
def test_dynamic_rope_agrees_within_its_original_length_and_not_beyond(original: int) -> None:
    conversations = [tiny.random_views(seed, turns=4) for seed in range(2)]
    lengths = [len(v.prompt_ids) + len(v.completion_ids) for views in conversations for v in views]
    assert min(lengths) < 32 < max(lengths) < 512
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    model = tiny.model("llama", max_position_embeddings=original, rope_parameters=rope)
    collator = collator_for(model, layout="onepass")
    rows = tiny.rows_of(conversations, layout="onepass")
    if original == 512:
        assert_same(model, collator(rows), conversations)
        return
    with pytest.raises(UsageError, match="dynamic RoPE"):
        collator(rows)
    unlimited = replace(collator, max_position=None)
    assert differences(model, unlimited(rows), conversations)[1] > SAME


@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_eager_attention_takes_the_additive_mask(family: str) -> None:
    conversations = [tiny.random_views(seed, turns=3) for seed in range(3)]
    model = tiny.model(family, attention="eager")
    collator = collator_for(model, layout="onepass")
    assert collator.mask == "eager"
    assert_same(model, collator(tiny.rows_of(conversations, layout="onepass")), conversations)


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
def test_varlen_batches_give_the_gradients_of_npass(family: str) -> None:
    # Without FlashAttention the model itself finds the sequences in the positions, which
    # shows that these are right; cu_seqlens say the same, as test_collator tests.
    conversations = [tiny.random_views(seed, turns=3) for seed in range(3)]
    model = tiny.model(family)
    batch = Collator(mask="varlen", pad_to_multiple_of=16)(
        tiny.rows_of(conversations, PACKED, layout="npass")
    )
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "labels")}
    assert_same(model, inputs, conversations)


def test_unpacked_npass_rows_need_no_mask() -> None:
    conversations = [tiny.random_views(seed, turns=3) for seed in range(2)]
    model = tiny.model("qwen3")
    leaves = [[view] for views in conversations for view in views]
    batch = Collator(mask="none")(tiny.rows_of(leaves, layout="npass"))
    assert_same(model, batch, conversations)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
def test_flex_attention_gives_the_logits_of_sdpa(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.nn.attention import flex_attention
    from transformers.integrations import flex_attention as integration

    uncompiled = lambda _training: lambda: flex_attention.flex_attention  # noqa: E731
    monkeypatch.setattr(integration, "WrappedFlexAttention", uncompiled)
    rows = tiny.rows_of([tiny.random_views(s, turns=3) for s in range(3)], PACKED, layout="onepass")

    def logits(attention: str) -> Any:
        model = tiny.model(family, attention=attention, dtype="float32").eval()
        build_flex_masks(model)
        batch = collator_for(model, layout="onepass", pad_to_multiple_of=128)(rows)
        del batch["labels"]
        return model(**batch, use_cache=False).logits

    with torch.no_grad():
        expected, found = logits("sdpa"), logits("flex_attention")
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


# --- planted faults ------------------------------------------------------------------------------


def first_words(model: Any, turns: Sequence[tiny.Turn]) -> tuple[Any, Any]:
    """The loss of the first token of each response: after its reasoning, and after the response."""
    history: list[int] = []
    losses: tuple[list[Any], list[Any]] = ([], [])
    for message, reasoning, response in turns:
        history = history + message
        for found, before in zip(losses, (reasoning, response), strict=True):
            ids = torch.tensor([[*history, *before, response[0]]])
            labels = torch.full_like(ids, -100)
            labels[0, -1] = response[0]
            found.append(tiny.batch_loss(model, {"input_ids": ids, "labels": labels}))
        history = history + response
    return sum(losses[0]), sum(losses[1])


# How far the worst gradient is off, relative to its own size, with the conversations below.
PAPERS_MARGIN = {"qwen3": 0.58, "llama": 0.49, "gemma3_text": 0.55}


@pytest.mark.parametrize("family", PAPERS_MARGIN)
def test_the_papers_order_is_caught_by_the_margin_that_it_must_have(family: str) -> None:
    # h t r_in r_out with the stock shift: the first token of r_out is predicted from r_in, all
    # others are right. So its loss and gradients follow from N-pass, and are off by just that.
    model = tiny.model(family)
    conversations = [tiny.random_turns(seed, turns=4) for seed in range(2)]
    batch = tiny.papers_batch(
        [tiny.papers_row(turns) for turns in conversations], model_windows(model.config)
    )

    def npass() -> Any:
        return tiny.npass_loss(model, [tiny.random_views(seed, turns=4) for seed in range(2)])

    def as_it_must_be() -> Any:
        right, wrong = zip(*(first_words(model, turns) for turns in conversations), strict=True)
        return npass() - sum(right) + sum(wrong)

    loss, expected = tiny.batch_loss(model, batch), as_it_must_be()
    assert abs(loss.item() / expected.item() - 1) < SAME
    found = tiny.gradients(model, loss)
    assert tiny.distance(found, tiny.gradients(model, expected)) < SAME
    margin = tiny.distance(found, tiny.gradients(model, npass()))
    assert margin == pytest.approx(PAPERS_MARGIN[family], rel=0.05)
    assert margin > 10 * WRONG


# "until-short" takes a token from the last one of the row, which predicts nothing.
@pytest.mark.parametrize("fault", sorted({*oracle.FAULTS} - {"context-first", "until-short"}))
def test_planted_faults_are_caught(fault: str) -> None:
    conversations = [tiny.random_views(3, turns=4)]
    model = tiny.model("qwen3")
    (row,) = tiny.rows_of(conversations, layout="onepass")
    columns = {name: value.tolist() for name, value in row.items() if hasattr(value, "tolist")}
    wrong = oracle.planted(columns, fault)
    assert wrong is not None
    until = torch.from_numpy(oracle.visible(wrong))[None, None]
    batch = {name: torch.tensor([wrong[name]]) for name in ("input_ids", "position_ids", "labels")}
    _, gradient = differences(model, {**batch, "attention_mask": until}, conversations)
    assert gradient > WRONG


@pytest.mark.parametrize("family", ["gemma3_text", "mistral"])
def test_a_window_in_row_indices_is_caught(family: str) -> None:
    conversations = [tiny.random_views(3, turns=5)]
    model = tiny.model(family)
    collator = collator_for(model, layout="onepass")
    rows = tiny.rows_of(conversations, layout="onepass")
    batch = collator(rows)
    until = stack(rows)
    window = Window(np.arange(until.shape[1])[None], 24)
    wrong = torch.from_numpy(dense.visible(until, window=window))[:, None]
    mask = batch["attention_mask"]
    mixed = isinstance(mask, dict)
    batch["attention_mask"] = {**mask, "sliding_attention": wrong} if mixed else wrong
    _, gradient = differences(model, batch, conversations)
    assert gradient > WRONG


def test_a_forgotten_window_is_caught() -> None:
    conversations = [tiny.random_views(3, turns=5)]
    model = tiny.model("gemma3_text")
    plain = replace(collator_for(model, layout="onepass"), window=None)
    batch = plain(tiny.rows_of(conversations, layout="onepass"))
    _, gradient = differences(model, batch, conversations)
    assert gradient > WRONG
