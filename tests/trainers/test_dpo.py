"""DPO over rows is DPO over plain sequences, one for each answer: loss and gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.changed import replace

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402
from dpo import dpo_loss  # noqa: E402

import reasonpack  # noqa: E402
from reasonpack.choices import Layout  # noqa: E402
from reasonpack.torch import RowDataset, collator_for, prepare_model  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]
Answers = dict[str, list[str]]
ASKED: dict[str, Answers] = {
    "2+2?": {"chosen": ["It is 4."], "rejected": ["It is 5, I guess."]},  # they begin alike
    "3+3?": {"chosen": ["6"], "rejected": ["7."]},
}


def packed(folder: Path, layout: Layout) -> list[tiny.Row]:
    """Two pairs, in one row where the layout allows it."""
    said = lambda role, text: {"role": role, "content": text}  # noqa: E731
    with (folder / "pairs.jsonl").open("w") as file:
        for question, answers in ASKED.items():
            pair = {kind: [said("assistant", text) for text in answers[kind]] for kind in answers}
            print(json.dumps({"messages": [said("user", question)], **pair}), file=file)
    options = reasonpack.Options(
        tokenizer=str(tiny.FIXTURES / "tokenizer"), layout=layout, packing=True, max_length=400
    )
    reasonpack.pack_files([str(folder / "pairs.jsonl")], folder / "out", options)
    return list(RowDataset(folder / "out"))


def gain(models: tuple[Any, Any], question: str, answer: str) -> Any:
    """How much more likely the model finds an answer than the reference does."""
    spoken = transformers.AutoTokenizer.from_pretrained(tiny.FIXTURES / "tokenizer")
    messages = [{"role": "user", "content": question}]
    prompt = spoken.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    messages += [{"role": "assistant", "content": answer}]
    whole = spoken.apply_chat_template(messages, tokenize=False)
    assert whole.startswith(prompt)
    written = whole[len(prompt) :].removesuffix("\n")
    ids = [spoken.encode(text, add_special_tokens=False) for text in (prompt, written)]

    def log_probability(model: Any) -> Any:
        logits = model(torch.tensor([ids[0] + ids[1]])).logits[0, len(ids[0]) - 1 : -1]
        return logits.log_softmax(-1)[range(len(ids[1])), ids[1]].sum()

    model, reference = models
    return log_probability(model) - log_probability(reference).detach()


def two_models() -> tuple[Any, Any]:
    models = tiny.model("qwen3"), tiny.model("qwen3")
    with torch.no_grad():
        for value in models[1].parameters():
            value.mul_(0.9)
    return models


@pytest.mark.parametrize(
    ("layout", "by_branches"), [("npass", False), ("onepass", False), ("onepass", True)]
)
def test_the_loss_and_all_gradients_are_those_of_plain_sequences(
    layout: Layout, by_branches: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = two_models()
    margins = [
        gain(plain, question, answers["chosen"][0]) - gain(plain, question, answers["rejected"][0])
        for question, answers in ASKED.items()
    ]
    expected = -torch.nn.functional.logsigmoid(0.1 * torch.stack(margins)).mean()
    model, reference = two_models()
    if by_branches:
        flash.install(monkeypatch)
        model, reference = flash.with_flash(model), flash.with_flash(reference)
    prepare_model(model)
    prepare_model(reference)
    collator = collator_for(model, layout=layout, packed=True, pad_to_multiple_of=8)
    batch = replace(collator, call_role=True, loss_weights=True)(packed(tmp_path, layout))
    found = dpo_loss(model, reference, batch, beta=0.1)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    wanted = tiny.gradients(plain[0], expected)
    assert tiny.distance(tiny.gradients(model, found), wanted) < 1e-5
