"""Measure packing against other ways to the same tokens; print Markdown tables.

    python tests/benchmarks/run.py --tokenizer DIR --megabytes 20 --peer-megabytes 2 --repeat 3
    python tests/benchmarks/run.py --tokenizer DIR --megabytes 1000 --only "fastokens, 2"
    python tests/benchmarks/run.py --tokenizer DIR --turns 1,4,16,64 --sizes 10,100,1000
    python tests/benchmarks/run.py --tokenizer DIR --short 20000
    python tests/benchmarks/run.py … --plot times.svg

Each measurement is a process of its own, start-up included, with one round of all after
another, so that what else the machine does falls on all of them; medians of the rounds are
printed, and ratios are taken within a round. `wall` and `CPU` are seconds, `CPU` with that of
all child processes; `peak` is the largest resident size of one process, in MB. Needs
transformers, datasets and trl for the rows of that name, and leaves out what is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from corpus import chats, short_chats

Json = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """What one process took."""

    wall: float
    cpu: float
    peak: float
    tokens: int
    bytes: int
    stages: str = ""


# --- what is measured, each in a child process ------------------------------------------


def texts_of(path: Path) -> Iterator[str]:
    for line in path.open(encoding="utf-8"):
        for message in json.loads(line)["messages"]:
            yield from filter(None, (message.get("reasoning_content"), message["content"]))


def encode_only(path: Path, tokenizer: Path, out: Path, *, processes: int) -> int:
    """Every text of the corpus once, nothing else; the ids are counted and dropped."""
    texts = list(texts_of(path))
    parts = [texts[number::processes] for number in range(processes)]
    if processes == 1:
        return _encode_part(tokenizer, texts)
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return sum(pool.map(partial(_encode_part, tokenizer), parts))


def _encode_part(tokenizer: Path, texts: list[str]) -> int:
    os.environ["RAYON_NUM_THREADS"] = "1"
    import tokenizers

    loaded = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    encode = partial(loaded.encode_batch_fast, add_special_tokens=False)
    batches = (texts[first : first + 1000] for first in range(0, len(texts), 1000))
    return sum(len(each) for batch in batches for each in encode(batch))


def _views(chat: Json) -> Iterator[tuple[list[Json], Json]]:
    messages = chat["messages"]
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            yield messages[:index], message


def _transformers_tokenizer(tokenizer: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    config = json.loads((tokenizer / "tokenizer_config.json").read_text("utf-8"))
    loaded = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer / "tokenizer.json"))
    loaded.chat_template = config["chat_template"]
    loaded.eos_token = config["eos_token"]
    return loaded


def _npass_row(chat: Json, tokenizer: Any) -> Iterator[list[int]]:
    for prompt, answer in _views(chat):
        render = partial(tokenizer.apply_chat_template, tools=chat.get("tools"), tokenize=False)
        text = render(prompt, add_generation_prompt=True)
        whole = render([*prompt, answer])
        yield tokenizer(text, add_special_tokens=False)["input_ids"]
        yield tokenizer(whole[len(text) :], add_special_tokens=False)["input_ids"]


def npass_datasets(path: Path, tokenizer: Path, out: Path, *, processes: int) -> int:
    """One row a view: apply_chat_template twice, encode, in `datasets.map`."""
    import datasets

    datasets.disable_progress_bars()
    loaded = _transformers_tokenizer(tokenizer)

    def rows(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {"input_ids": [], "labels": []}
        for line in batch["line"]:
            ids = _npass_row(json.loads(line), loaded)
            for prompt, completion in zip(ids, ids, strict=True):
                columns["input_ids"].append(prompt + completion)
                columns["labels"].append([-100] * len(prompt) + completion)
        return columns

    lines = datasets.Dataset.from_dict({"line": path.read_text("utf-8").splitlines()})
    made = lines.map(
        rows,
        batched=True,
        batch_size=50,
        num_proc=processes if processes > 1 else None,
        remove_columns=["line"],
        load_from_cache_file=False,
        keep_in_memory=processes == 1,
    )
    made.to_parquet(out / "npass.parquet")
    return sum(map(len, made["input_ids"]))


def megatron_pool(path: Path, tokenizer: Path, out: Path, *, processes: int) -> int:
    """One row a view, as Megatron's preprocess_data does it: a pool, and one file of ids."""
    import numpy as np

    total = 0
    with (
        multiprocessing.get_context("spawn").Pool(processes, _load_global, (tokenizer,)) as pool,
        path.open(encoding="utf-8") as lines,
        (out / "ids.bin").open("wb") as file,
    ):
        for rows in pool.imap(_megatron_rows, lines, 25):
            for row in rows:
                file.write(np.array(row, np.int32).tobytes())
                total += len(row)
    return total


_GLOBAL: dict[str, Any] = {}


def _load_global(tokenizer: Path) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _GLOBAL["tokenizer"] = _transformers_tokenizer(tokenizer)


def _megatron_rows(line: str) -> list[list[int]]:
    ids = _npass_row(json.loads(line), _GLOBAL["tokenizer"])
    return [prompt + completion for prompt, completion in zip(ids, ids, strict=True)]


def trl_views(path: Path, tokenizer: Path, out: Path, *, processes: int) -> int:
    """The views as prompt and completion, tokenized by TRL's SFTTrainer for a tiny model."""
    import datasets
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    loaded = _transformers_tokenizer(tokenizer)
    loaded.pad_token = loaded.eos_token
    rows: list[Json] = []
    for line in path.open(encoding="utf-8"):
        chat = json.loads(line)
        for prompt, answer in _views(chat):
            row = {"prompt": prompt, "completion": [answer], "tools": chat.get("tools")}
            rows.append({key: json.dumps(value) for key, value in row.items()})

    def opened(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        return {key: [json.loads(text) for text in texts] for key, texts in batch.items()}

    views = datasets.Dataset.from_list(rows)
    views = views.map(opened, batched=True, load_from_cache_file=False, on_mixed_types="use_json")
    small = Qwen3Config(
        vocab_size=len(loaded),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
    )
    arguments = SFTConfig(
        output_dir=str(out),
        max_length=None,
        report_to=[],
        use_cpu=True,
        bf16=False,
        dataset_num_proc=processes if processes > 1 else None,
    )
    trainer = SFTTrainer(
        Qwen3ForCausalLM(small), args=arguments, train_dataset=views, processing_class=loaded
    )
    made = trainer.train_dataset
    made.to_parquet(out / "trl.parquet")
    return sum(map(len, made["input_ids"]))


def reasonpack(
    path: Path, tokenizer: Path, out: Path, *, backend: str, processes: int
) -> list[str]:
    """Return the command for `reasonpack pack`, end to end."""
    command = [sys.executable, "-m", "reasonpack", "pack", str(path), "--json"]
    command += ["--tokenizer", str(tokenizer), "--output", str(out / "packed")]
    command += ["--tokenizer-backend", backend, "--num-proc", str(processes)]
    command += ["--max-position", str(10**8)]
    size = path.stat().st_size
    command += ["--unit-size", str(max(1 << 20, min(32 << 20, size // (4 * processes) + 1)))]
    return [*command, "--profile"] if processes == 1 else command


ENCODE: dict[str, Callable[..., int]] = {
    "encode only, 1 process": partial(encode_only, processes=1),
    "encode only, 2 processes": partial(encode_only, processes=2),
}
COMMANDS: dict[str, Callable[..., list[str]]] = {
    f"reasonpack, {backend}, {processes} process{'es' * (processes > 1)}": partial(
        reasonpack, backend=backend, processes=processes
    )
    for backend in ("tokenizers", "gigatoken", "fastokens")
    for processes in (1, 2)
    if backend == "tokenizers" or importlib.util.find_spec(backend)
}
CHATS = [*ENCODE, *COMMANDS]
ALONE = "reasonpack, gigatoken, 1 process"
AS_CALLS = f"{ALONE}, as calls"
COMMANDS[AS_CALLS] = lambda path, *rest: COMMANDS[ALONE](path.with_suffix(".calls"), *rest)
PEERS: dict[str, Callable[..., int]] = {
    "N-pass, transformers + datasets, 2 processes": partial(npass_datasets, processes=2),
    "N-pass, Megatron-style pool, 2 processes": partial(megatron_pool, processes=2),
    "N-pass, TRL, 2 processes": partial(trl_views, processes=2),
}
WAYS = ENCODE | PEERS
"""What a process of this script does, and returns how many tokens; others are `COMMANDS`."""
BASE = "encode only, 2 processes"
BEST = "reasonpack, gigatoken, 2 processes"

# --- measuring ----------------------------------------------------------------------------


def measure(way: str, path: Path, tokenizer: Path, script: str = __file__) -> Measured:
    """Run one way, a command or one that a script knows, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": folder}
        place, out, err = (Path(folder, name) for name in (".", "out.txt", "err.txt"))
        command = [sys.executable, script, "--child", way, str(path), str(tokenizer), folder]
        if way in COMMANDS:
            command = COMMANDS[way](path, tokenizer, place)
        with out.open("wb") as told, err.open("wb") as said:
            before = time.perf_counter()
            started = os.posix_spawn(
                sys.executable,
                command,
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, told.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, said.fileno(), 2),
                ],
            )
            _, status, used = os.wait4(started, 0)
            wall = time.perf_counter() - before
        if status:
            raise SystemExit(f"{way} failed:\n{err.read_text()[-3000:]}")
        text = out.read_text()
        tokens = json.loads(text if way in COMMANDS else text.splitlines()[-1])["counts"]["tokens"]
        size = sum(file.stat().st_size for file in place.rglob("*.parquet"))
        size += sum(file.stat().st_size for file in place.rglob("*.bin"))
        stages = re.findall(
            r"^ *([a-z][a-z -]*?) +([\d.]+) s +(\d+) %$", err.read_text(), re.MULTILINE
        )
    shares = ", ".join(f"{name} {share} %" for name, _, share in stages if int(share) > 0)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 1024
    return Measured(wall, cpu, peak, tokens, size, shares)


def child(way: str, path: str, tokenizer: str, out: str) -> None:
    """Do one way in this process and say how many tokens it made."""
    print(json.dumps({"counts": {"tokens": WAYS[way](Path(path), Path(tokenizer), Path(out))}}))


def rounds(
    ways: list[str], path: Path, tokenizer: Path, repeat: int, script: str = __file__
) -> dict[str, list[Measured]]:
    taken: dict[str, list[Measured]] = {way: [] for way in ways}
    for _ in range(repeat):
        for way in ways:
            taken[way].append(measure(way, path, tokenizer, script))
            print(f"{way}: {taken[way][-1].wall:.1f} s", file=sys.stderr)
    return taken


def median(taken: list[Measured], what: Callable[[Measured], float]) -> float:
    return statistics.median(map(what, taken))


def table(taken: dict[str, list[Measured]], base: str) -> str:
    """One line a way; `ratio` is its wall time over the base's, the median over the rounds."""
    lines = ["| way | wall | CPU | ratio | CPU ratio | peak | Mtokens | MB written |"]
    lines.append("|---|--:|--:|--:|--:|--:|--:|--:|")
    for way, rows in taken.items():
        pairs = list(zip(rows, taken[base], strict=True))
        wall = statistics.median(mine.wall / theirs.wall for mine, theirs in pairs)
        cpu = statistics.median(mine.cpu / theirs.cpu for mine, theirs in pairs)
        lines.append(
            f"| {way} | {median(rows, lambda m: m.wall):.1f} | {median(rows, lambda m: m.cpu):.1f}"
            f" | {wall:.2f} | {cpu:.2f} | {median(rows, lambda m: m.peak):.0f}"
            f" | {rows[0].tokens / 1e6:.2f} | {rows[0].bytes / 1e6:.1f} |"
        )
    lines += ["", "Share of each stage, in one process:", ""]
    lines += [f"- {way}: {rows[-1].stages}" for way, rows in taken.items() if rows[-1].stages]
    return "\n".join(lines)


def against(what: str, corpora: list[tuple[str, Path]], tokenizer: Path, repeat: int) -> str:
    """Print what packing costs a token, against something that the corpora differ in."""
    lines = [f"| {what} | wall | CPU | peak | Mtokens | µs a token |", "|--:|--:|--:|--:|--:|--:|"]
    for name, path in corpora:
        rows = rounds([ALONE], path, tokenizer, repeat)[ALONE]
        cpu, tokens = median(rows, lambda m: m.cpu), rows[0].tokens
        lines.append(
            f"| {name} | {median(rows, lambda m: m.wall):.1f} | {cpu:.1f}"
            f" | {median(rows, lambda m: m.peak):.0f} | {tokens / 1e6:.2f}"
            f" | {cpu / tokens * 1e6:.2f} |"
        )
    return "\n".join(lines)


def plot(seconds: dict[str, float]) -> str:
    """Draw the seconds for a megabyte of text, a bar each, on a logarithmic scale."""
    least, most = min(seconds.values()) / 2, max(seconds.values())
    scale = 380 / math.log(most / least)
    bars = []
    for number, (way, taken) in enumerate(sorted(seconds.items(), key=lambda item: item[1])):
        top, width = 22 * number + 6, math.log(taken / least) * scale
        colour = "#2f855a" if way.startswith("reasonpack") else "#a0aec0"
        bars.append(
            f'<text x="300" y="{top + 13}" text-anchor="end">{way}</text>'
            f'<rect x="308" y="{top}" width="{width:.0f}" height="17" fill="{colour}"/>'
            f'<text x="{314 + width:.0f}" y="{top + 13}">{taken:.3g} s</text>'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{22 * len(bars) + 10}"'
        ' font-family="sans-serif" font-size="12">\n' + "\n".join(bars) + "\n</svg>\n"
    )


def write_corpus(
    path: Path, megabytes: float, turns: int | None = None, tools: float = 0.2
) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for chat in chats(megabytes, turns=turns, tools=tools):
            file.write(json.dumps(chat, ensure_ascii=False) + "\n")
    return path


def write_short(path: Path, count: int) -> Path:
    """Write short chats, and beside them the same as logged calls."""
    with path.open("w", encoding="utf-8") as file, path.with_suffix(".calls").open("w") as calls:
        for chat in short_chats(count):
            file.write(json.dumps(chat, ensure_ascii=False) + "\n")
            *asked, answer = chat["messages"]
            call = {"trace_id": chat["id"], "request": {"model": "m", "messages": asked}}
            call["response"] = {"choices": [{"index": 0, "message": answer}]}
            calls.write(json.dumps(call, ensure_ascii=False) + "\n")
    return path


def main() -> None:
    """Read the command line and print the tables asked for."""
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", type=Path, required=True, help="directory")
    parser.add_argument("--megabytes", type=float, default=0, help="of the first table")
    parser.add_argument("--tools", type=float, default=0.2, help="share of chats that call tools")
    parser.add_argument("--only", default="", help="measure of these only rows that match REGEX")
    parser.add_argument("--peer-megabytes", type=float, default=0, help="of the slow peers' table")
    parser.add_argument("--turns", default="", help="of the third table, such as 1,4,16,64")
    parser.add_argument("--turns-megabytes", type=float, default=5)
    parser.add_argument("--sizes", default="", help="in MB, of the fourth table")
    parser.add_argument("--short", type=int, default=0, help="how many short records")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="draw the first two tables to this SVG file")
    arguments = parser.parse_args()
    tokenizer, repeat = arguments.tokenizer.resolve(), arguments.repeat
    known = [way for way in PEERS if way_installed(way)]
    chosen = [way for way in CHATS if way == BASE or re.search(arguments.only, way)]
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name, size, ways, base in (
            ("chats", arguments.megabytes, chosen, BASE),
            ("peers", arguments.peer_megabytes, [BASE, BEST, *known], BEST),
        ):
            if size:
                path = write_corpus(place / f"{name}.jsonl", size, tools=arguments.tools)
                taken = rounds(ways, path, tokenizer, repeat)
                print(f"\n{size:g} MB of text\n\n" + table(taken, base), flush=True)
                for way, rows in taken.items():
                    seconds.setdefault(way, median(rows, lambda m: m.wall) / size)
        if arguments.short:
            path, (base, *_) = write_short(place / "short.jsonl", arguments.short), ENCODE
            taken = rounds([base, ALONE, AS_CALLS], path, tokenizer, repeat)
            print(f"\n{arguments.short:,} short records\n\n" + table(taken, base), flush=True)
        if arguments.plot and seconds:
            arguments.plot.write_text(plot(seconds), encoding="utf-8")
        for name, sizes in (("turns", arguments.turns), ("MB", arguments.sizes)):
            corpora = []
            for number in filter(None, sizes.split(",")):
                turns = int(number) if name == "turns" else None
                megabytes = float(number) if turns is None else arguments.turns_megabytes
                path = place / f"{name}{number}.jsonl"
                corpora.append((number, write_corpus(path, megabytes, turns)))
            if corpora:
                print(f"\n{ALONE}\n\n" + against(name, corpora, tokenizer, repeat))


def way_installed(way: str) -> bool:
    wanted = ["transformers", *(["datasets"] * ("datasets" in way)), *(["trl"] * ("TRL" in way))]
    return all(importlib.util.find_spec(name) for name in wanted)


if __name__ == "__main__":
    main()
