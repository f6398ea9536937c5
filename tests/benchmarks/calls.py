"""Measure packing calls against what cannot be left out; print a Markdown table.

    python tests/benchmarks/calls.py --tokenizer DIR --megabytes 100 --repeat 3
    python tests/benchmarks/calls.py --tokenizer DIR --megabytes 1000 --repeat 1
    python tests/benchmarks/calls.py --tokenizer DIR --sessions 2 --calls 386 --result 2400
    python tests/benchmarks/calls.py --plan 1000000

The calls are those of coding sessions that grow: each shows all that was said before, with the
reasoning of earlier turns left out. The baseline of calls in messages reads, hashes and decodes
every record, renders each distinct message once and encodes each distinct text once; that of calls
in ids reads, hashes and decodes. Each measurement is a process of its own, start-up included, which
the way `start-up` shows: that of reasonpack, with one call of the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import run
from corpus import _draws

Json = dict[str, Any]
TOOL = {
    "type": "function",
    "function": {
        "name": "shell",
        "description": "Run a command.",
        "parameters": {"type": "object", "properties": {"command": {"type": "string"}}},
    },
}


# --- the calls ----------------------------------------------------------------------------------


def sessions(count: int, calls: int, result: int = 1_200, seed: int = 0) -> Iterator[str]:
    """Yield the lines of sessions: 25 calls of a tool for each message of the user's."""
    chance = random.Random(seed)
    prose, code, *_ = _draws(chance)
    for session in range(count):
        history: list[Json] = [{"role": "system", "content": prose(8_000)}]
        for number in range(calls):
            if number % 25 == 0:
                history.append({"role": "user", "content": prose(400)})
            answer: Json = {"role": "assistant", "content": "", "reasoning_content": prose(500)}
            if number % 25 == 24:
                answer["content"] = prose(600)
            else:
                arguments = json.dumps({"command": prose(60)})
                named = {"name": "shell", "arguments": arguments}
                answer["tool_calls"] = [{"id": f"c{number}", "type": "function", "function": named}]
            request = {"model": "m", "messages": history, "tools": [TOOL]}
            response = {"id": f"r{session}.{number}", "choices": [{"message": answer}]}
            record = {"trace_id": f"s{session}", "request": request, "response": response}
            yield json.dumps(record, ensure_ascii=False)
            history.append(answer)
            if "tool_calls" in answer:
                history.append(
                    {"role": "tool", "tool_call_id": f"c{number}", "content": code(result)}
                )


def id_sessions(count: int, calls: int, seed: int = 0) -> Iterator[str]:
    """Yield the lines of sessions in token ids, with log probabilities."""
    chance = random.Random(seed)
    for session in range(count):
        ids = chance.choices(range(150_000), k=2_000)
        for _ in range(calls):
            wrote = chance.choices(range(150_000), k=150)
            yield json.dumps(
                {
                    "trace_id": f"s{session}",
                    "prompt_token_ids": ids,
                    "completion_token_ids": wrote,
                    "logprobs": [-round(chance.random(), 4) for _ in wrote],
                }
            )
            ids += [*wrote, *chance.choices(range(150_000), k=300)]


def written(path: Path, lines: Iterator[str], megabytes: float | None) -> Path:
    size = 0
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            size += file.write(line + "\n")
            if megabytes is not None and size > megabytes * 1e6:
                break
    return path


# --- what is measured, each in a process of its own -----------------------------------------


def _records(path: Path) -> Iterator[Json]:
    import msgspec

    hash_, decode = hashlib.sha256(), msgspec.json.Decoder().decode
    with path.open("rb") as lines:
        for line in lines:
            hash_.update(line)
            yield decode(line)


def decoded(path: Path, tokenizer: Path, out: Path) -> int:
    return sum(len(record.get("completion_token_ids", "1")) for record in _records(path))


def rendered_once(path: Path, tokenizer: Path, out: Path) -> int:
    """Read, hash, decode; render each distinct message and encode each distinct text, once."""
    import jinja2
    import tokenizers

    config = json.loads((tokenizer / "tokenizer_config.json").read_text("utf-8"))
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    render = template.from_string(config["chat_template"]).render
    loaded = tokenizers.Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    known: set[str] = set()
    texts: dict[str, None] = {}
    for record in _records(path):
        messages = record["request"]["messages"]
        for message in [*messages, record["response"]["choices"][0]["message"]]:
            key = "\0".join((message["role"], message["content"], str(message.get("tool_calls"))))
            if key not in known:
                known.add(key)
                texts[render(messages=[{"role": "user", "content": ""}, message])] = None
    return sum(map(len, loaded.encode_batch_fast(list(texts), add_special_tokens=False)))


def one_call(path: Path, tokenizer: Path, out: Path) -> list[str]:
    """Return the command for the first record alone: what starting takes."""
    with path.open("rb") as lines:
        (out / "one.jsonl").write_bytes(next(lines))
    return run.reasonpack(out / "one.jsonl", tokenizer, out, backend="tokenizers", processes=1)


def no_option(path: Path, tokenizer: Path, out: Path) -> list[str]:
    """Return the command without an option that chooses processes, backend or units."""
    command = [sys.executable, "-m", "reasonpack", "pack", str(path), "--json"]
    return [*command, "--tokenizer", str(tokenizer), "--output", str(out / "packed")]


START, PACK = "reasonpack, one call: start-up", "reasonpack, tokenizers, 1 process"
PLAIN = "reasonpack, no option"
FAST = "reasonpack, gigatoken, 1 process"
DECODE, ONCE = "read, hash, decode", "read, hash, decode, render and encode once"
run.WAYS.update({DECODE: decoded, ONCE: rendered_once})
run.COMMANDS.update({START: one_call, PLAIN: no_option})


def planned(records: int, folder: Path) -> str:
    """Plan so many calls of about 10 KB; return what that took."""
    path = folder / "calls.jsonl"
    text = "x" * 10_000
    with path.open("w") as file:
        for number in range(records):
            file.write(
                f'{{"trace_id": {number * 7919 % (records // 10 + 1)}, "messages": '
                f'[{{"role": "user", "content": "{text}"}}], "response": "4"}}\n'
            )
    code = (
        "import resource, time; from pathlib import Path\n"
        "from reasonpack.records.group_index import plan_groups\n"
        "began = time.perf_counter()\n"
        f"path = Path({str(path)!r})\n"
        "found = plan_groups([(path, path.name)], field='trace_id', unit_bytes=1 << 26, "
        "folder=path.parent)\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(f'{found.grouping.records:,} records in {found.grouping.groups:,} groups: '\n"
        "      f'{time.perf_counter() - began:.0f} s, {peak:,.0f} MB')\n"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--megabytes", type=float, help="of each file; by default all sessions")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--calls", type=int, default=120, help="of a session")
    parser.add_argument("--result", type=int, default=1_200, help="characters of a tool's result")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plan", type=int, help="plan so many calls of 10 KB, and nothing else")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.plan:
            print(planned(options.plan, folder))
            return
        said = sessions(options.sessions, options.calls, options.result)
        made = {ONCE: said, DECODE: id_sessions(options.sessions, options.calls)}
        for base, lines in made.items():
            path = written(folder / "calls.jsonl", lines, options.megabytes)
            ways = [base, START, PLAIN, PACK, *({FAST} & run.COMMANDS.keys())]
            taken = run.rounds(ways, path, options.tokenizer, options.repeat, __file__)
            what = "messages" if base == ONCE else "ids"
            print(f"\n{what}, {path.stat().st_size / 1e6:.0f} MB\n\n{run.table(taken, base)}")


if __name__ == "__main__":
    if "--child" in sys.argv:
        run.child(*sys.argv[sys.argv.index("--child") + 1 :])
    else:
        main()
