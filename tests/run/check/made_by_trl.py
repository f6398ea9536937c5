"""Chats as TRL's own code prepares them: what `SFTTrainer` would train, as a set of `datasets`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import transformers
import trl
from runs import FIXTURES

SHIPPED = (Path(trl.__file__).parent / "chat_templates" / "qwen3_training.jinja").read_text("utf-8")
"""What TRL takes in place of Qwen3's template where only answers are to be trained."""
OWN = (FIXTURES / "tokenizer" / "chat_template.jinja").read_text("utf-8")
STOP = "{{- '<|im_end|>\\n' }}"


def marked(*, stop: str = "<|im_end|>", marked_stop: bool = True) -> str:
    """Mark what the model writes in the template of the fixtures, up to its stop token."""
    head, own = "{{- '<|im_start|>assistant\\n' }}", OWN.index("message.role == 'assistant'")
    before, rest = OWN[:own], OWN[own:].replace(head, head + "{% generation %}", 1)
    inside, outside = f"{{{{- '{stop}' }}}}", "{% endgeneration %}"
    parts = (inside, outside) if marked_stop else (outside, inside)
    return before + rest.replace(STOP, "".join(parts) + "{{- '\\n' }}", 1)


def prepared(
    records: list[dict[str, Any]],
    template: str | None = None,
    *,
    only_answers: bool = True,
    max_length: int | None = None,
    packing: str = "",
) -> datasets.Dataset:
    """Let TRL prepare some chats."""
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(FIXTURES / "tokenizer" / "tokenizer.json"), eos_token="<|im_end|>"
    )
    args = trl.SFTConfig(
        output_dir="unused",
        report_to="none",
        max_length=max_length,
        assistant_only_loss=only_answers,
        packing_strategy=packing or "bfd",
        use_cpu=True,
        bf16=False,
    )
    trainer = SimpleNamespace(
        _tokenizer=tokenizer, chat_template=template or marked(), completion_only_loss=False
    )
    given = datasets.Dataset.from_list([{"messages": each["messages"]} for each in records])
    prepare = trl.SFTTrainer._prepare_dataset
    return prepare(trainer, given, tokenizer, args, bool(packing), None, "train")
