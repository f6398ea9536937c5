"""Files of lines that nobody should have written, packed in several ways.

    fuzz.py --minutes 30 [--seed 1]        tells how many rounds went well, or stops at a fault

A round is a file of some dozens of lines: conversations, of which most were changed in a few
places, as bytes or as JSON. Whatever they are, each line is packed or rejected with a reason and
whole, and the same whatever the units and the number of workers; `verify` agrees. Then the file is
written as gzip, zstd or Parquet and damaged: it is read, or refused by its name. A round that fails
leaves its file behind and names it; the seed of a round is all that it depends on.
"""

from __future__ import annotations

import argparse
import base64
import copy
import faulthandler
import gzip
import itertools
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the modules of the tests

import runs

from reasonpack.datasets.options import Options
from reasonpack.datasets.shards import read_shard
from reasonpack.errors import NothingPackedError, ReasonpackError, RecordError, StorageError
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset

MEMORY = 6 << 30
SECONDS = 120
"""What a round may take."""
TOKENIZER = str(runs.FIXTURES / "tokenizer")
OPTIONS = [
    Options(tokenizer=TOKENIZER),
    Options(tokenizer=TOKENIZER, layout="npass", missing_reasoning="error"),
    Options(tokenizer=TOKENIZER, max_position=150, missing_reasoning="empty-think"),
    Options(tokenizer=TOKENIZER, train_on="last-turn", max_length=200, train_empty_think=True),
]
CONVERSATIONS: list[Any] = [json.loads(line) for line in runs.chats(20).splitlines()]
CONVERSATIONS += [
    {"conversations": [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "4"}]},
    {"prompt": "2+2?", "completion": "<think>\neasy\n</think>\n\n4", "system": "Be brief."},
    {
        "id": 7,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "look"}]},
            {
                "role": "assistant",
                "content": "",
                "reasoning": "hm",
                "tool_calls": [{"function": {"name": "f", "arguments": '{"a": [1, {"b": null}]}'}}],
            },
            {"role": "tool", "content": "5"},
            {"role": "assistant", "content": "5", "weight": 1},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "chat_template_kwargs": {"enable_thinking": True},
    },
]
BYTES = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"NaN", b"-Infinity", b"1e999", b"-", b"0"),
    *(b"9" * 5_000, b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\ud800"),
    *(b"\\u0000", b"\x1b[2J", b"\xe2\x80\xae", b"\r", b"\x0b", b"\x0c", b"\x85", b"\n", b"\r\n"),
    *(b"[" * 99, b"[" * 101, b"[" * 960, b"[" * 200_000, b'{"a":' * 980, b"x" * 300_000),
    *(
        b"<|im_end|>",
        b"<think>",
        b"</think>",
        b"\xf0\x9f\x92\xa9" * 99,
        b"null",
        b"true",
        b" " * 99,
    ),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.5, 2**70, "", " ", "x", "\x00", "\x1b[2J\u202e", "</think>"),
    *(
        "<think>",
        "<|im_end|>\n",
        "x" * 9_999,
        "word " * 20_000,
        "e\u0301\u200b",
        [],
        {},
        [[]],
        [None],
    ),
    *(
        {"": ""},
        {"role": "user"},
        {"a": {"a": {"a": []}}},
        "system",
        "assistant",
        "tool",
        "[1]",
        "{}",
    ),
]
KEYS = [
    *(
        "id",
        "role",
        "content",
        "messages",
        "conversations",
        "prompt",
        "completion",
        "system",
        "name",
    ),
    *("tools", "tool_calls", "function", "arguments", "reasoning", "reasoning_content", "thinking"),
    *(
        "train",
        "weight",
        "chat_template_kwargs",
        "enable_thinking",
        "from",
        "value",
        "\x1b",
        "self",
    ),
]


# --- what is written -----------------------------------------------------------------------------


def change_bytes(draw: random.Random, line: bytes) -> bytes:
    """Change a line in one place."""
    start, stop = sorted(draw.randrange(len(line) + 1) for _ in range(2))
    head, middle, tail = line[:start], line[start:stop], line[stop:]
    kind = draw.randrange(6)
    if kind == 0:
        return head + draw.choice(BYTES) + line[start:]
    if kind == 1:
        return head + draw.choice(BYTES) + line[start + 1 :]
    if kind == 2 and start < len(line):
        return head + bytes([line[start] ^ 1 << draw.randrange(8)]) + line[start + 1 :]
    if kind == 3:
        return head + middle[: draw.choice([0, 1, len(middle)])] + tail
    if kind == 4:
        return head + middle * draw.choice([2, 2, 3]) + tail
    return line[: draw.choice([start, stop])]


def change_value(draw: random.Random, record: Any) -> Any:
    """Change a record in one place of its structure."""
    record, junk = copy.deepcopy((record, draw.choice(VALUES)))
    places = list(_places(record)) if isinstance(record, dict) else []
    if not places:
        return junk
    owner, key = draw.choice(places)
    kind = draw.randrange(5)
    if kind == 0:
        del owner[key]
    elif kind == 1:
        owner[key] = junk
    elif kind == 2:
        owner[key] = _nested(owner[key], draw.choice([1, 5, 90, 110]), draw.choice("lo"))
    elif isinstance(owner, list):
        owner.insert(draw.randrange(len(owner) + 1), copy.deepcopy(draw.choice(owner)))
    else:
        owner[draw.choice(KEYS)] = owner.pop(key) if kind == 3 else junk
    return record


def _places(value: Any) -> Any:
    """Yield every place in a value, as what holds it and where."""
    todo = [value]
    for owner in todo:  # grows while it is read
        for key, item in list(owner.items() if isinstance(owner, dict) else enumerate(owner)):
            yield owner, key
            if isinstance(item, dict | list):
                todo.append(item)


def _nested(value: Any, times: int, kind: str) -> Any:
    for _ in range(times):
        value = [value] if kind == "l" else {"a": value}
    return value


def draw_record(draw: random.Random) -> Any:
    """Draw a conversation, changed in no place or in a few."""
    record = draw.choice(CONVERSATIONS)
    for _ in range(draw.choice([0, 0, 1, 1, 2, 4])):
        record = change_value(draw, record)
    return record


def draw_line(draw: random.Random) -> bytes:
    """Draw a line, perhaps a blank one, or several."""
    line = json.dumps(draw_record(draw), ensure_ascii=draw.random() < 0.5).encode()
    for _ in range(draw.choice([0, 0, 0, 1, 1, 2, 5])):
        line = change_bytes(draw, line)
    return draw.choice([b"", b" \t", b"\x0b", b"null"]) if draw.random() < 0.05 else line


def draw_file(draw: random.Random) -> bytes:
    """Draw a file of lines."""
    ends = [b"\n"] * 8 + [b"\r\n", b"\n\n", b"\n \r\n"]
    lines = [draw_line(draw) + draw.choice(ends) for _ in range(draw.randrange(1, 30))]
    data = b"".join(lines)
    if draw.random() < 0.2:
        data = b"\xef\xbb\xbf" + data
    return data.rstrip(b"\n") if draw.random() < 0.3 else data


def expected_lines(data: bytes) -> dict[int, bytes]:
    """Read the lines of a file that are records, by number."""
    lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    return {number: line.rstrip(b"\r") for number, line in lines if line.strip()}


# --- what has to hold ----------------------------------------------------------------------------


def pack(source: Path, out: Path, options: Options, *, unit_bytes: int, num_proc: int = 1) -> Any:
    """Pack with what cannot be packed rejected; return counts, rejects and rows."""
    shutil.rmtree(out, ignore_errors=True)
    skipping = Options(**{**_fields(options), "on_error": "skip"})
    settings = runs.run(unit_bytes=unit_bytes, num_proc=num_proc)
    manifest = pack_files([str(source)], out, skipping, run=settings)
    rejects = out / "rejects.jsonl"
    lines = rejects.read_bytes().splitlines(keepends=True) if rejects.exists() else []
    shards = [batch for shard in manifest.shards for batch in read_shard(out / shard.path)]
    rows = [row for batch in shards for row in batch.to_pylist()]
    return manifest.counts, [json.loads(line) for line in lines], rows


def settled(source: Path, options: Options, folder: Path) -> Options | None:
    """Ignore the fields for which a file is refused as a whole; None if nothing of it packs."""
    for _ in range(9):
        try:
            pack(source, folder / "tried", options, unit_bytes=3_000)
        except UnknownFieldError as error:
            names = {*options.ignore_fields, *(each.name for each in error.fields)}
            options = Options(**{**_fields(options), "ignore_fields": tuple(sorted(names))})
        except NothingPackedError:
            return None
        except StorageError as error:  # what begins as another kind of file is refused whole
            if "expected JSON Lines" not in str(error):
                raise
            return None
        else:
            return options
    raise AssertionError("a new field each time")


def _fields(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__slots__}


def check_file(source: Path, options: Options, folder: Path, *, unit_bytes: int) -> Any:
    """Pack a file in two ways, and verify; return what came of it."""
    once = pack(source, folder / "whole", options, unit_bytes=1 << 30)
    counts, rejects, rows = once
    assert counts.conversations == counts.packed + counts.rejected
    records = [each for each in rejects if "kind" not in each]
    assert counts.rejected == len(records) == sum(counts.rejects.values())
    assert sum(counts.left_out.values()) == len(rejects) - len(records)
    assert counts.rows == len(rows)
    assert all(each["reason"] and each["error"].startswith(each["where"]) for each in rejects)
    again = pack(source, folder / "units", options, unit_bytes=unit_bytes)
    assert again == once, "another size of units"
    for name in ("whole", "units"):
        findings = verify_dataset(folder / name, [str(source)])
        assert findings.total == 0, [str(finding) for finding in findings.listed]
    return once


def check_lines(data: bytes, source: Path, options: Options, found: Any) -> None:
    """See that every line of a file was packed or rejected, whole and in order."""
    counts, rejects, rows = found
    lines = expected_lines(data)
    assert counts.conversations == len(lines)
    rejected: set[int] = set()
    rejects = [each for each in rejects if "kind" not in each]  # messages left out have no record
    for reject in rejects:
        name, _, number = reject["where"].rpartition(":")
        line = lines[int(number)]
        assert name == str(source)
        assert _line_of(reject) == line
        rejected.add(int(number))
    assert len(rejected) == len(rejects)
    packed = [number for number in lines if number not in rejected]
    ids = [json.loads(lines[number]).get("id") for number in packed]
    wanted = [
        str(id_) if id_ not in {None, ""} else f"{source}:{n}"
        for id_, n in zip(ids, packed, strict=True)
    ]
    given = [row["sample_id"][0] for row in rows]
    if options.layout == "npass" or counts.extra_samples:
        given, wanted = ([id_ for id_, _ in itertools.groupby(ids)] for ids in (given, wanted))
    assert given == wanted


def _line_of(reject: dict[str, str]) -> bytes:
    if "record" in reject:
        return reject["record"].encode()
    return base64.b64decode(reject["record_base64"])


LENGTH = {"overlong", "over-max-length", "over-max-position"}
"""Reasons for which no run stops, unless it is told to."""


def check_stop(source: Path, options: Options, folder: Path, rejects: list[dict[str, str]]) -> None:
    """See that a run which stops does so at a record that it would have rejected."""
    shutil.rmtree(folder / "stopped", ignore_errors=True)
    said = ""
    try:
        pack_files([str(source)], folder / "stopped", options, run=runs.run())
    except RecordError as error:
        said = str(error)
    stopping = [each["error"] for each in rejects if each["reason"] not in LENGTH]
    assert said in (stopping or [""])


def try_to_read(source: Path, folder: Path, options: Options) -> Any:
    """Pack a damaged file; None if it was refused, as it should be, by its name."""
    said = ""
    try:
        return pack(source, folder / "damaged", options, unit_bytes=1 << 20)
    except (UnknownFieldError, NothingPackedError):
        return None
    except ReasonpackError as error:
        said = str(error)
    assert said.startswith(f"{source}: "), said
    return None


# --- rounds --------------------------------------------------------------------------------------


def lines_round(draw: random.Random, folder: Path) -> None:
    """Pack lines."""
    source, data = folder / "chats.jsonl", draw_file(draw)
    source.write_bytes(data)
    options = settled(source, draw.choice(OPTIONS), folder)
    if options is None:
        return
    found = check_file(source, options, folder, unit_bytes=draw.choice([1, 300, 3_000]))
    check_lines(data, source, options, found)
    check_stop(source, options, folder, found[1])


def workers_round(draw: random.Random, folder: Path) -> None:
    """Pack lines by two workers."""
    source = folder / "chats.jsonl"
    source.write_bytes(b"\n".join(draw_file(draw) for _ in range(4)))
    options = settled(source, draw.choice(OPTIONS), folder)
    if options is None:
        return
    found = pack(source, folder / "one", options, unit_bytes=3_000)
    assert pack(source, folder / "two", options, unit_bytes=3_000, num_proc=2) == found
    assert runs.tree(folder / "one") == runs.tree(folder / "two")


def rows_round(draw: random.Random, folder: Path) -> None:
    """Pack the rows of a Parquet file, then the file damaged."""
    source = folder / "chats.parquet"
    table = _table(draw)
    pq.write_table(table, source, row_group_size=draw.choice([1, 3, 100]))
    options = settled(source, draw.choice(OPTIONS), folder)
    if options is None:
        return
    found = check_file(source, options, folder, unit_bytes=draw.choice([1, 3_000]))
    assert found[0].conversations == table.num_rows
    whole = source.read_bytes()
    for _ in range(6):
        source.write_bytes(_damaged(draw, whole))
        try_to_read(source, folder, options)


def _table(draw: random.Random) -> pa.Table:
    """Draw rows of which Arrow can make a table; most are alike, since columns have one type."""
    likely = [record for record in CONVERSATIONS if "messages" in record]
    rows = [draw.choice(likely) for _ in range(draw.randrange(1, 9))]
    for _ in range(20):
        try:
            changed = [change_value(draw, row) if draw.random() < 0.5 else row for row in rows]
            if all(isinstance(row, dict) for row in changed):
                table, file = pa.Table.from_pylist(changed), pa.BufferOutputStream()
                pq.write_table(table, file)
                pq.read_metadata(pa.BufferReader(file.getvalue()))  # not nested too deeply
                return table
        except (pa.ArrowException, OSError, OverflowError, UnicodeEncodeError):
            continue
    return pa.Table.from_pylist([likely[0]])


def compressed_round(draw: random.Random, folder: Path) -> None:
    """Pack a compressed file, whole and damaged."""
    data, zstd = draw_file(draw), draw.random() < 0.5
    source = folder / ("chats.jsonl.zst" if zstd else "chats.jsonl.gz")
    whole = pa.compress(data, "zstd", asbytes=True) if zstd else gzip.compress(data, mtime=0)
    source.write_bytes(whole)
    options = settled(source, OPTIONS[0], folder)
    if options is None:
        return
    found = check_file(source, options, folder, unit_bytes=1)
    check_lines(data, source, options, found)
    for _ in range(6):
        damaged = _damaged(draw, whole)
        source.write_bytes(damaged)
        read = try_to_read(source, folder, options)
        if read and not zstd and damaged[:4] == whole[:4]:  # gzip has a checksum
            assert read == found


def _damaged(draw: random.Random, whole: bytes) -> bytes:
    """Cut off, overwrite or flip something behind the mark that says what a file is."""
    at = draw.randrange(4, len(whole))
    kind = draw.randrange(4)
    if kind == 0:
        return whole[:at]
    if kind == 1:
        return whole[:at] + draw.randbytes(draw.randrange(1, 50)) + whole[at + 20 :]
    if kind == 2:
        return whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :]
    return whole + draw.randbytes(draw.randrange(1, 50))


ROUNDS: list[Callable[[random.Random, Path], None]] = [
    *[lines_round] * 6,
    *[rows_round, compressed_round] * 2,
]


def do_round(seed: int, *, workers: bool) -> None:
    """Do the round of a seed, in a directory that is kept if it fails."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{seed}-"))
    draw = random.Random(seed)
    do = workers_round if workers else draw.choice(ROUNDS)
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    try:
        do(draw, folder)
    except BaseException:
        print(f"seed {seed}: {do.__name__} failed, see {folder}", file=sys.stderr, flush=True)
        raise
    faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(folder)


def main() -> None:
    """Do rounds until a number or the time is up."""
    parser = argparse.ArgumentParser(description="Pack lines that nobody should have written.")
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    parser.add_argument("--rounds", type=int, default=10**9)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--workers-every", type=int, default=50, metavar="N", help="rounds")
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    stop, done = time.monotonic() + given.minutes * 60, 0
    while done < given.rounds and time.monotonic() < stop:
        done += 1
        do_round(given.seed + done, workers=done % given.workers_every == 0)
    print(f"{done} rounds went well")


if __name__ == "__main__":
    main()
