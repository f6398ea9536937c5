"""What one conversation becomes in the data code of trainers: tokens trained, wrong, lost.

    python tests/benchmarks/trainers.py --tokenizer DIR --chat-template FILE \\
        --trl PYTHON --llamafactory PYTHON --ms-swift PYTHON --axolotl PYTHON

prints the table; with --write it goes into README.md. DIR holds Qwen3's tokenizer, FILE is its chat
template. Each PYTHON is that of an environment in which the trainer is installed; those that are
not given are left out. There this script is called again with --prepare: it hands the conversation
to the trainer's own code, with the defaults of the trainer and what the table names.

The ids and labels are then compared, as `reasonpack check` does it, with what the model sees and
writes at each of its answers. `wrong` are tokens that are trained and that no view has there;
`lost` are tokens that the model writes and that are trained nowhere behind what it sees.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("README.md")
CHAT = "dice-at-least-one-six"
"""Of the fixtures: three turns, each with reasoning."""
BEGIN, END = "<!-- trainers -->\n", "<!-- end of trainers -->\n"
Rows = list[tuple[list[int], list[int]]]


# --- in the environments of the trainers ---------------------------------------------------------


def load_tokenizer(directory: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def with_tags(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write the reasoning into the content, as LLaMA-Factory and ms-swift read it."""
    return [
        {
            "role": each["role"],
            "content": f"<think>\n{each['reasoning_content']}\n</think>\n\n{each['content']}"
            if each.get("reasoning_content")
            else each["content"],
        }
        for each in messages
    ]


def trl(messages: list[dict[str, Any]], directory: str, *, only_answers: bool) -> Rows:
    """`SFTTrainer`; for answers alone it takes a template of its own in place of Qwen3's."""
    from types import SimpleNamespace

    import datasets
    import trl as package
    from trl.chat_template_utils import get_training_chat_template

    tokenizer = load_tokenizer(directory)
    template = get_training_chat_template(tokenizer) if only_answers else None
    args = package.SFTConfig(
        output_dir="unused",
        report_to="none",
        max_length=None,
        assistant_only_loss=only_answers,
        use_cpu=True,
        bf16=False,
    )
    trainer = SimpleNamespace(
        _tokenizer=tokenizer, chat_template=template, completion_only_loss=False
    )
    given = datasets.Dataset.from_list([{"messages": messages}])
    prepare = package.SFTTrainer._prepare_dataset
    rows = prepare(trainer, given, tokenizer, args, False, None, "train")
    return [(row["input_ids"], row["labels"]) for row in rows]


def llamafactory(messages: list[dict[str, Any]], directory: str, **given: Any) -> Rows:
    """Its supervised processor, with its template `qwen3`."""
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    tokenizer = load_tokenizer(directory)
    args = DataArguments(template="qwen3", cutoff_len=8192, **given)
    template = get_template_and_fix_tokenizer(tokenizer, args)
    processor = SupervisedDatasetProcessor(template, tokenizer, None, args)
    tagged = with_tags(messages)
    ids, labels = processor._encode_data_example(
        prompt=tagged[:-1],
        response=tagged[-1:],
        system=None,
        tools=None,
        images=[],
        videos=[],
        audios=[],
    )
    return [(ids, labels)]


def swift(messages: list[dict[str, Any]], directory: str, **given: Any) -> Rows:
    """Its template of Qwen3 for thinking, in training."""
    from swift.model import get_processor
    from swift.template.register import get_template

    processor = get_processor(directory, model_type="qwen3", torch_dtype=None)
    template = get_template(processor, template_type="qwen3", **given)
    template.set_mode("train")
    encoded = template.encode({"messages": with_tags(messages)})
    return [(encoded["input_ids"], encoded["labels"])]


def axolotl(messages: list[dict[str, Any]], directory: str, **given: Any) -> Rows:
    """`type: chat_template` with the template of the tokenizer."""
    from axolotl.prompt_strategies.chat_template import load
    from axolotl.utils.dict import DictDefault

    cfg = DictDefault(
        {"sequence_len": 8192, "train_on_inputs": False, "chat_template": "tokenizer_default"}
    )
    strategy = load(load_tokenizer(directory), cfg, {"type": "chat_template", **given})
    rows = strategy.tokenize_prompt({"messages": messages})
    if isinstance(rows["input_ids"][0], list):
        return list(zip(rows["input_ids"], rows["labels"], strict=True))
    return [(rows["input_ids"], rows["labels"])]


PREPARE: dict[str, tuple[str, str, Callable[..., Rows], dict[str, Any]]] = {
    "TRL, as it comes": ("trl", "trl", trl, {"only_answers": False}),
    "TRL, `assistant_only_loss`": ("trl", "trl", trl, {"only_answers": True}),
    "LLaMA-Factory, as it comes": ("llamafactory", "llamafactory", llamafactory, {}),
    "LLaMA-Factory, `mask_history`": (
        "llamafactory",
        "llamafactory",
        llamafactory,
        {"mask_history": True},
    ),
    "ms-swift, as it comes": ("ms_swift", "ms-swift", swift, {}),
    "ms-swift, `loss_scale last_round`": (
        "ms_swift",
        "ms-swift",
        swift,
        {"loss_scale": "last_round"},
    ),
    "axolotl, as it comes": ("axolotl", "axolotl", axolotl, {}),
    "axolotl, `train_on_eos: last`": (
        "axolotl",
        "axolotl",
        axolotl,
        {"train_on_eos": "last"},
    ),
}
"""By the row of the table: the environment, the package, the function and what it is given."""


def prepare(name: str, directory: str, output: Path) -> None:
    """Write what a trainer makes of the conversation."""
    _, package, function, given = PREPARE[name]
    rows = function(conversation()["messages"], directory, **given)
    found = {
        "version": version(package),
        "rows": [[list(map(int, part)) for part in row] for row in rows],
    }
    output.write_text(json.dumps(found))


def conversation() -> dict[str, Any]:
    lines = (ROOT / "fixtures" / "chats.jsonl").read_text("utf-8").splitlines()
    found: dict[str, Any] = next(
        each for line in lines if (each := json.loads(line)).get("id") == CHAT
    )
    return found


# --- here ----------------------------------------------------------------------------------------


def counted(rows: Rows, directory: str, chat: Path) -> tuple[int, int, int, int]:
    """Count tokens trained, wrong of them, and lost, and what the model writes in all."""
    import numpy as np

    from reasonpack.datasets.options import Options
    from reasonpack.rows.encoded_views import common_prefix
    from reasonpack.run.check.source import Compared, read_source
    from reasonpack.run.check.written import Reader
    from reasonpack.run.context import load_context

    options = Options(tokenizer=directory, missing_reasoning="empty-think")
    context = load_context(options)
    views = Compared(read_source([str(chat)], options, context), Reader(context)).views(0)
    learned = [np.zeros(len(view.ids), bool) for view in views]
    trained = wrong = 0
    for ids, labels in rows:
        tokens, own = np.array(ids, np.int32), np.array(labels) != -100
        right = np.zeros(len(tokens), bool)
        for view, seen in zip(views, learned, strict=True):
            part = slice(view.prompt, common_prefix(tokens, view.ids))
            right[part] = True
            seen[part] |= own[part]
        trained += int(own.sum())
        wrong += int((own & ~right).sum())
    written = sum(len(view.ids) - view.prompt for view in views)
    return trained, wrong, written - sum(int(each.sum()) for each in learned), written


def model_of(tokenizer: Path, template: Path, folder: Path) -> Path:
    """Make the directory of a model without weights: Qwen3's, with a chat template."""
    model = folder / "Qwen3"
    model.mkdir()
    (model / "tokenizer.json").write_bytes((tokenizer / "tokenizer.json").read_bytes())
    config = json.loads((tokenizer / "tokenizer_config.json").read_text("utf-8"))
    config["chat_template"] = template.read_text("utf-8")
    (model / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    shape = {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "torch_dtype": "float32"}
    (model / "config.json").write_text(json.dumps(shape), "utf-8")
    return model


def table(arguments: argparse.Namespace, folder: Path) -> list[str]:
    """Prepare, compare, and write a line for each."""
    model = str(model_of(arguments.tokenizer, arguments.chat_template, folder))
    chat = folder / "chat.jsonl"
    chat.write_text(json.dumps(conversation()) + "\n")
    lines = [
        "| data code of | version | trained | wrong | lost |",
        "|---|---|--:|--:|--:|",
    ]
    written = 0
    for name, (environment, _, _, _) in PREPARE.items():
        if not (python := getattr(arguments, environment)):
            continue
        output = folder / "rows.json"
        call = [python, __file__, "--prepare", name, "--tokenizer", model]
        subprocess.run([*call, "--output", str(output)], check=True, cwd=folder)
        found = json.loads(output.read_text())
        *numbers, written = counted(found["rows"], model, chat)
        cells = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {name} | {found['version']} | {cells} |")
    lines.append(f"| reasonpack | {version('reasonpack')} | {written:,} | 0 | 0 |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", required=True, type=Path)
    parser.add_argument("--chat-template", type=Path)
    parser.add_argument("--prepare", choices=PREPARE)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--write", action="store_true")
    for name in ("trl", "llamafactory", "ms-swift", "axolotl"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    arguments = parser.parse_args()
    if arguments.prepare:
        prepare(arguments.prepare, str(arguments.tokenizer), arguments.output)
        return
    with tempfile.TemporaryDirectory() as folder:
        lines = table(arguments, Path(folder))
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write:
        day = datetime.datetime.now(tz=datetime.timezone.utc).date()
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        body = f"Made on {day}.\n\n{text}"
        PAGE.write_text(before + BEGIN + body + END + rest.partition(END)[2], "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
