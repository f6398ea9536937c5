"""A dry run looks at all of the input: what it guesses is near what a run counts."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import ROOT, SKIPPING, chats

from reasonpack.datasets.receipt import Counts
from reasonpack.records.plan import plan
from reasonpack.run import estimate as estimates
from reasonpack.run.engine import Run
from reasonpack.run.estimate import estimate, strata
from reasonpack.run.pack import pack_files

pytestmark = pytest.mark.long
REAL = ROOT.parent / "shared" / "data"


def long_chats(count: int) -> bytes:
    """Chats with far more text in a token, and far more of both in a record."""
    text = "internationalisation " * 400
    messages = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": text}]
    messages[1]["reasoning"] = "12345678901234567890 " * 300
    return (
        json.dumps({"messages": messages}).encode() + b"\n"
        if count == 1
        else b"".join(long_chats(1) for _ in range(count))
    )


def as_lines(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def as_list(path: Path, data: bytes) -> None:
    path.write_bytes(b"[" + data[:-1].replace(b"\n", b",\n") + b"]")


def packed(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data))


def rows(path: Path, data: bytes) -> None:
    records = [{"messages": json.loads(line)["messages"]} for line in data.splitlines()]
    pq.write_table(pa.Table.from_pylist(records), path, row_group_size=100)


SHORT = chats(1_000, seed=3)
MIXED = b"".join(
    line + b"\n" + (long_chats(1) if at % 30 == 0 else b"")
    for at, line in enumerate(SHORT.splitlines())
)


@cache
def counted(data: bytes) -> Counts:
    """Count what a run makes of it, in whatever form it is written."""
    with tempfile.TemporaryDirectory() as folder:
        as_lines(Path(folder, "chats"), data)
        return pack_files([f"{folder}/chats"], f"{folder}/out", SKIPPING).counts


@pytest.mark.parametrize("write", [as_lines, as_list, packed, rows])
@pytest.mark.parametrize("data", [SHORT + long_chats(33), long_chats(33) + SHORT, MIXED])
def test_a_guess_is_near_the_truth_whatever_stands_first(
    write: Callable[[Path, bytes], None], data: bytes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    few = {"SMALL": 0, "BYTES": 400_000}
    for name, value in few.items():
        monkeypatch.setattr(estimates, name, value)
    write(tmp_path / "chats", data)
    run = Run(unit_bytes=200_000)
    exact = counted(data)
    guess = estimate([str(tmp_path / "chats")], SKIPPING, run=run)
    assert guess.tokens == pytest.approx(exact.tokens, rel=0.2)
    assert guess.conversations == pytest.approx(exact.packed, rel=0.2)
    share = exact.rejected / exact.conversations
    assert guess.rejected_share == pytest.approx(share, abs=0.05)


def test_an_output_directory_inside_an_input_directory_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(chats(30))
    pack_files([str(tmp_path / "a.jsonl")], tmp_path / "out", SKIPPING)
    guess = estimate([str(tmp_path)], SKIPPING, run=Run(), output=tmp_path / "out")
    assert [input_.name for input_, _ in guess.inputs] == [str(tmp_path / "a.jsonl")]


def test_a_small_input_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(chats(30))
    (tmp_path / "b.jsonl").write_bytes(chats(3, seed=1))
    inputs = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")]
    guess = estimate(inputs, SKIPPING, run=Run(unit_bytes=1_000))
    exact = pack_files(inputs, tmp_path / "out", SKIPPING).counts
    assert (guess.tokens, guess.conversations) == (exact.tokens, exact.packed)


def test_of_many_small_units_some_are_read(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03d}.jsonl").write_bytes(chats(1, seed=number))
    _, units = plan([(path, path.name) for path in sorted(tmp_path.iterdir())], unit_bytes=1 << 30)
    found = [*strata(units, [*sorted(tmp_path.iterdir())])]
    assert len(found) <= estimates.UNITS
    assert sum(each.more * len([*each.records]) for each in found) == pytest.approx(300, rel=0.5)


def test_every_record_is_as_likely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "SMALL", 0)
    monkeypatch.setattr(estimates, "BYTES", 24_000)
    path, taken = tmp_path / "chats.jsonl", Counter[int]()
    lines = [b'{"id": %d, "x": "%s"}\n' % (n, b"x" * (n % 90)) for n in range(1_000)]
    for first in range(0, 1_000, 25):
        path.write_bytes(b"".join(lines[first:] + lines[:first]))
        _, units = plan([(path, "chats")], unit_bytes=1 << 30)
        (found,) = strata(units, [path])
        assert isinstance(found.records, list)
        ids = [json.loads(record.line)["id"] for record in found.records]
        assert len({*ids}) == len(ids)
        assert found.more == pytest.approx(1_000 / len(ids))
        taken.update(each // 100 for each in ids)
    assert min(taken.values()) > 0.8 * max(taken.values())


def test_no_more_records_are_taken_than_a_sample_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(chats(300))
    size = path.stat().st_size // 300
    _, units = plan([(path, "chats")], unit_bytes=size * 20)
    monkeypatch.setattr(estimates, "SMALL", 0)
    monkeypatch.setattr(estimates, "UNITS", 4)
    for most, expected in (40 * size, 40), (1, 4):
        monkeypatch.setattr(estimates, "BYTES", most)
        found = [len(list(each.records)) for each in strata(units, [path])]
        assert len(found) == 4
        assert sum(found) == pytest.approx(expected, rel=0.3)


@pytest.mark.skipif(not REAL.is_dir(), reason="no real conversations here")
def test_real_conversations_of_two_kinds_in_any_order(tmp_path: Path) -> None:
    """Those of one file have eight times as many tokens in a line as those of the other."""
    few, many = (
        path.read_bytes().splitlines(keepends=True) for path in sorted(REAL.glob("*.jsonl"))
    )
    lines = 2 * (few + many)
    by_size = sorted(lines, key=len)
    orders = {
        "short first": [by_size],
        "long first": [by_size[::-1]],
        "two files": [2 * few, 2 * many],
        "two files, the larger first": [2 * many, 2 * few],
    }
    exact: Counts | None = None
    for order, files in orders.items():
        (tmp_path / order).mkdir()
        for number, content in enumerate(files):
            (tmp_path / order / f"{number:02}.jsonl").write_bytes(b"".join(content))
        inputs = [str(tmp_path / order)]
        exact = exact or pack_files(inputs, tmp_path / "out", SKIPPING).counts
        guess = estimate(inputs, SKIPPING, run=Run())
        assert guess.tokens == pytest.approx(exact.tokens, rel=0.2), order
        assert guess.conversations == pytest.approx(exact.packed, rel=0.2), order


def test_small_groups_of_calls_are_sampled_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "SMALL", 40_000)
    ask = {"role": "user", "content": "How many?"}
    with (tmp_path / "calls.jsonl").open("w") as file:
        for number in range(1_200):
            call = {"trace_id": number // 3, "messages": [ask], "response": f"{number}."}
            file.write(json.dumps(call) + "\n")
    guess = estimate([str(tmp_path / "calls.jsonl")], SKIPPING, run=Run())
    manifest = pack_files([str(tmp_path / "calls.jsonl")], tmp_path / "out", SKIPPING)
    assert guess.tokens == pytest.approx(manifest.counts.tokens, rel=0.02)
    assert guess.conversations == manifest.counts.packed == 400
    (shard,) = (tmp_path / "out" / "data").iterdir()
    assert guess.disk is not None
    assert guess.disk < 3 * shard.stat().st_size
