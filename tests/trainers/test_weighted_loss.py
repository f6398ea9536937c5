"""Rows with weights train as N-pass does with the same weights, whatever the layout.

The reference weighs each view by itself: it sums up weight times loss of plain sequences, by the
formulas of FORMAT.md, written down again here. What two views train is trained for both.
"""

from __future__ import annotations

import json
import types
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.changed import replace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny  # noqa: E402

# isort: split
import oracle  # noqa: E402
from encoded import encoded_views  # noqa: E402

import reasonpack  # noqa: E402
from reasonpack.choices import Layout  # noqa: E402
from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.rows.forest import lay_out, plant  # noqa: E402
from reasonpack.rows.sample import write  # noqa: E402
from reasonpack.rows.schema import schema  # noqa: E402
from reasonpack.rows.table import rows_to_table  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    RowDataset,
    WeightedLoss,
    collator_for,
    weighted_loss,
)

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore:.*is deprecated"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*pin_memory.*", "ignore:.*return_outputs.*"),
]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SAME, WRONG = 1e-5, 1e-2
Weighed = Sequence[tuple[oracle.View, float]]
STEPS = {
    "max_steps": 2,
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


def npass(model: Any, views: Weighed) -> Any:
    """The loss of N-pass, each view a sequence by itself whose tokens have one weight."""
    total = torch.zeros((), dtype=torch.float64)
    for view, weight in views:
        ids = [*view.prompt_ids, *view.completion_ids]
        labels = [-100] * len(view.prompt_ids) + list(view.completion_ids)
        batch = {"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels])}
        total = total + weight * tiny.batch_loss(model, batch)
    return total


def weighing(model: Any, layout: Layout) -> Any:
    return replace(collator_for(model, layout=layout, pad_to_multiple_of=8), loss_weights=True)


def onepass(model: Any, rows: Sequence[tiny.Row], layout: Layout) -> tuple[Any, float]:
    """The weighed loss of rows, and the sum of their weights."""
    batch = weighing(model, layout)(rows)
    labels, weights = batch.pop("labels"), batch.pop("loss_weights")
    loss = weighted_loss(model(**batch, use_cache=False).logits, labels, weights)
    return loss, float(weights.sum())


def rows_of(conversations: Sequence[Weighed], layout: Layout) -> list[tiny.Row]:
    """A row for each conversation, with the weights of its views."""
    forest = plant(
        encoded_views(
            [[tiny.encoded(view) for view, _ in views] for views in conversations],
            extra={"loss_weights": [weight for views in conversations for _, weight in views]},
        )
    )
    written = [
        (str(number), lay_out(forest, number, layout=layout))
        for number in range(len(conversations))
    ]
    samples = write(forest, written)
    members: list[list[int]] = [[] for _ in written]
    for place, sample in enumerate(samples):
        members[int(sample.id)].append(place)
    return tiny.as_rows(rows_to_table(samples, members, schema(columns=["loss_weights"])))


def weighed(seed: int) -> Weighed:
    views = tiny.random_views(seed, turns=3)
    return [(view, [0.5, 2.0, 0.25][number % 3]) for number, view in enumerate(views)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_the_loss_and_all_gradients_are_those_of_npass(family: str, layout: Layout) -> None:
    conversations = [weighed(seed) for seed in range(3)]
    model = tiny.model(family)
    expected = npass(model, [each for views in conversations for each in views])
    wanted = tiny.gradients(model, expected)
    loss, _ = onepass(model, rows_of(conversations, layout), layout)
    assert abs(loss.item() / expected.item() - 1) < SAME
    assert tiny.distance(tiny.gradients(model, loss), wanted) < SAME
    equal = [[(view, 1.0) for view, _ in views] for views in conversations]
    loss, _ = onepass(model, rows_of(equal, layout), layout)
    assert tiny.distance(tiny.gradients(model, loss), wanted) > WRONG


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_two_views_train_is_trained_for_both(layout: Layout) -> None:
    """The same prompt, answered twice with the same beginning: its weights add up."""
    prompt = tiny.random_views(0, turns=1)[0].prompt_ids
    views = [oracle.View(1, prompt, [5, 6, 7]), oracle.View(3, prompt, [5, 6, 9])]
    one: Weighed = [(views[0], 0.5), (views[1], 0.25)]
    model = tiny.model("qwen3")
    expected = npass(model, one)
    loss, total = onepass(model, rows_of([one], layout), layout)
    assert total == pytest.approx(3 * 0.5 + 3 * 0.25)
    assert abs(loss.item() / expected.item() - 1) < SAME


# --- from records --------------------------------------------------------------------------------

FAMILY = oracle.FAMILIES["tool_loop"]
SCHEMES = ["data", "message", "turn", "conversation"]


def records() -> list[oracle.Json]:
    """Short fixture chats, with weights."""
    lines = (tiny.FIXTURES / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(sorted(lines, key=len)[:4]):
        record = json.loads(line)
        messages, tools = oracle.plain_chat(record)
        for place, message in enumerate(messages):
            if message["role"] == "assistant" and (place + number) % 3:
                message["weight"] = 0.25 * (place + 1)
        found.append({"id": str(number), "messages": messages, "weight": number + 0.5})
        found[-1] |= {"tools": tools} if tools else {}
    return found


def formula(record: oracle.Json, views: Sequence[oracle.View], scheme: str) -> Weighed:
    """FORMAT.md: record × message ÷ trained tokens of what weighs the same."""
    messages = record["messages"]

    def group(message: int) -> int:
        users = sum(each["role"] == "user" for each in messages[: message + 1])
        return {"message": message, "turn": users, "conversation": 0}.get(scheme, -1)

    tokens: Counter[int] = Counter()
    for view in views:
        tokens[group(view.message)] += len(view.completion_ids)
    return [
        (
            view,
            record["weight"]
            * messages[view.message].get("weight", 1)
            / (1 if scheme == "data" else tokens[group(view.message)]),
        )
        for view in views
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    ("scheme", "layout"), [*((each, "onepass") for each in SCHEMES), ("message", "npass")]
)
def test_records_with_weights_train_as_npass_does(
    scheme: Any, layout: Layout, tmp_path: Path
) -> None:
    """The sum over tokens, and the mean over what all of them weigh."""
    chats, source = records(), (tiny.FIXTURES / "templates/tool_loop.jinja").read_text("utf-8")
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(chat) + "\n" for chat in chats), "utf-8")
    options = reasonpack.Options(
        tokenizer=str(tiny.FIXTURES / "tokenizer"),
        chat_template=str(tiny.FIXTURES / "templates/tool_loop.jinja"),
        layout=layout,
        loss_weights=scheme,
    )
    reasonpack.pack_files([str(path)], tmp_path / "packed", options)
    views = []
    for chat in chats:
        plain = [{k: v for k, v in each.items() if k != "weight"} for each in chat["messages"]]
        made = oracle.views(
            plain,
            source,
            tiny.tokenizer(),
            stop=FAMILY.stop,
            tools=chat.get("tools"),
            reasoning_field=FAMILY.reasoning_field,
        )
        views += formula(chat, made, scheme)
    model = tiny.model("qwen3")
    expected = npass(model, views)
    wanted = tiny.gradients(model, expected)
    rows = RowDataset(tmp_path / "packed")
    loss, total = onepass(model, [rows[at] for at in range(len(rows))], layout)
    assert total == pytest.approx(sum(w * len(view.completion_ids) for view, w in views), rel=1e-5)
    assert abs(loss.item() / expected.item() - 1) < SAME
    assert tiny.distance(tiny.gradients(model, loss), wanted) < SAME


# --- trainers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_old", [False, True], ids=["transformers", "older transformers"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_trainer_takes_the_steps_of_the_weighed_mean(
    layout: Layout, is_old: bool, tmp_path: Path
) -> None:
    """A step is all rows, in two batches: weight times loss, over the sum of all weights."""
    conversations = [weighed(seed) for seed in range(4)]
    model = tiny.model("qwen3")
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    trainer = type("Weighted", (WeightedLoss, transformers.Trainer), {})(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path), remove_unused_columns=False, **STEPS
        ),
        train_dataset=rows_of(conversations, layout),
        data_collator=weighing(model, layout),
    )
    if is_old:  # it asks only whether the model takes the number of trained tokens
        trainer.loss_is_scaled_for_ga, trainer.model_accepts_loss_kwargs = None, False
    trainer.train()
    found = {name: value.detach() - start[name] for name, value in model.named_parameters()}

    model = tiny.model("qwen3")
    views = [each for views in conversations for each in views]
    total = sum(weight * len(view.completion_ids) for view, weight in views)
    for _ in range(2):
        gradient = tiny.gradients(model, npass(model, views) / total)
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.sub_(0.1 * gradient[name])
    expected = {name: value.detach() - start[name] for name, value in model.named_parameters()}
    assert tiny.distance(found, expected) < 1e-4


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # of datasets and trl: not ours
def test_trl_takes_the_same_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    lines = (tiny.FIXTURES / "chats.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "chats.jsonl").write_text("\n".join(sorted(lines, key=len)[:4]) + "\n", "utf-8")
    options = reasonpack.Options(tokenizer=str(tiny.FIXTURES / "tokenizer"), loss_weights="message")
    reasonpack.pack_files([str(tmp_path / "chats.jsonl")], tmp_path / "packed", options)

    def update(base: Any, arguments: Any, rows: Any, **more: Any) -> dict[str, Any]:
        model = tiny.model("llama", dtype="float32")
        start = {name: value.detach().clone() for name, value in model.named_parameters()}
        type("Weighted", (WeightedLoss, base), {})(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=weighing(model, "onepass"),
            **more,
        ).train()
        return {name: value.detach() - start[name] for name, value in model.named_parameters()}

    plain = transformers.TrainingArguments(
        output_dir=str(tmp_path / "a"), remove_unused_columns=False, **STEPS
    )
    expected = update(transformers.Trainer, plain, RowDataset(tmp_path / "packed"))
    prepared = trl.SFTConfig(
        output_dir=str(tmp_path / "b"),
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        **STEPS,
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tiny.tokenizer(), eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    rows = datasets.load_dataset(str(tmp_path / "packed"), split="train")
    found = update(trl.SFTTrainer, prepared, rows, processing_class=tokenizer)
    assert tiny.distance(found, expected) < 1e-3


def test_weights_of_another_shape_are_refused() -> None:
    """One weight for all tokens but the first would have counted for each."""
    logits, labels = torch.zeros(1, 3, 8), torch.tensor([[-100, 5, 2]])
    for given in (torch.ones(1, 2), torch.ones(3), None):
        with pytest.raises(UsageError, match=r"weighted_loss: .*batch as the collator made them"):
            weighted_loss(logits, labels, given)  # type: ignore[arg-type]


@pytest.mark.parametrize("other", ["label_smoothing_factor", "compute_loss_func", "loss_type"])
def test_another_loss_is_refused(other: str) -> None:
    """They did nothing, without a word."""
    args = types.SimpleNamespace(label_smoothing_factor=0.0, loss_type="nll")
    trainer = WeightedLoss()
    trainer.args = args
    if other == "compute_loss_func":
        trainer.compute_loss_func = print  # type: ignore[attr-defined]
    else:
        setattr(args, other, {"label_smoothing_factor": 0.1, "loss_type": "dft"}[other])
    with pytest.raises(UsageError, match=f"WeightedLoss: {other}.*expected cross entropy alone"):
        trainer.compute_loss(None, {})


def test_rows_without_weights_are_refused() -> None:
    rows = tiny.rows_of([tiny.random_views(0, turns=2)], layout="onepass")
    model = tiny.model("qwen3")
    with pytest.raises(UsageError, match="no loss_weights"):
        weighing(model, "onepass")(rows)
