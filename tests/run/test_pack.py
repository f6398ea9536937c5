"""A run: the same bytes by any number of workers, the first error whatever the timing."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from runs import FIXTURES, OPTIONS, ROOT, SKIPPING, UNIT_BYTES, chats, run, tree

from reasonpack.cli import cli
from reasonpack.errors import ReasonpackError, RecordError, StorageError, UsageError
from reasonpack.run import disk, engine
from reasonpack.run.conversations import Chats
from reasonpack.run.estimate import estimate
from reasonpack.run.named_inputs import PREFIX
from reasonpack.run.output_directory import STDIN_COPY
from reasonpack.run.pack import merge_parts, pack_files, pack_part
from tests.changed import replace

# --- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_do_not_change_a_byte(
    workers: int, source: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    seen: list[int] = []
    watch = engine.Watch(on_receipt=lambda receipt: seen.append(receipt.unit.number))
    settings = run(num_proc=workers, watch=watch)
    manifest = pack_files([str(source)], tmp_path / "out", SKIPPING, run=settings)
    assert sorted(seen) == list(range(len(manifest.shards)))
    assert tree(tmp_path / "out") == expected


def test_parts_on_several_machines_do_not_change_a_byte(
    source: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    out = tmp_path / "out"
    for index in (2, 0, 1):
        with pytest.raises(ReasonpackError):
            merge_parts(out)
        assert not (out / "manifest.json").exists()
        pack_part([str(source)], out, SKIPPING, index=index, count=3, run=run())
    merge_parts(out)
    assert tree(out) == expected


def test_a_part_packs_its_units_only(source: Path, tmp_path: Path) -> None:
    counts = pack_part([str(source)], tmp_path / "out", SKIPPING, index=1, count=4, run=run())
    numbers = [int(path.stem) for path in (tmp_path / "out/receipts").glob("?????.json")]
    assert numbers
    assert {number % 4 for number in numbers} == {1}
    assert 0 < counts.packed < 36
    with pytest.raises(UsageError, match="--shard-index: 4, expected 0 to 3"):
        pack_part([str(source)], tmp_path / "out", SKIPPING, index=4, count=4, run=run())


def test_a_url_is_written_as_a_path_is(
    source: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """`file://` goes the way of object stores: a local temporary file, then one upload."""
    url, template = (tmp_path / "out").as_uri(), FIXTURES / "tokenizer" / "chat_template.jinja"
    options = replace(
        SKIPPING,
        tokenizer=(FIXTURES / "tokenizer").as_uri(),
        chat_template=template.as_uri(),
    )
    found = pack_files([source.as_uri()], url, options, run=run(num_proc=2))
    assert found.inputs[0].path == source.as_uri()
    shards = {name: data for name, data in expected.items() if name.startswith("data/")}
    assert {n: d for n, d in tree(tmp_path / "out").items() if n.startswith("data/")} == shards
    again = pack_files([source.as_uri()], url, options, run=run())
    assert again == found


def test_standard_input_for_a_url_is_stored_where_a_later_run_removes_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, found = tmp_path / "temporary", set()
    temporary.mkdir()

    class Lines(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            found.update(each.parts[-3] for each in temporary.rglob(STDIN_COPY))
            return super().read(size)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Lines(source.read_bytes())))
    settings = replace(run(), temp_dir=str(temporary))
    pack_files(["-"], (tmp_path / "out").as_uri(), SKIPPING, run=settings)
    assert [name.startswith(PREFIX) for name in found] == [True]


def test_fsspec_is_asked_where_pyarrow_knows_nothing(source: Path, tmp_path: Path) -> None:
    fsspec: Any = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.pipe("/in/chats.jsonl", source.read_bytes())
    found = pack_files(["memory://in"], "memory://out", SKIPPING, run=run())
    assert [input_.path for input_ in found.inputs] == ["memory://in/chats.jsonl"]
    assert pack_files(["memory://in"], "memory://out", SKIPPING, run=run()) == found
    pack_files([str(source)], tmp_path / "here", SKIPPING, run=run())
    for shard in found.shards:
        assert memory.cat(f"/out/{shard.path}") == (tmp_path / "here" / shard.path).read_bytes()


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.long
def test_the_first_bad_record_stops_a_run_and_what_is_done_stays(tmp_path: Path) -> None:
    lines = chats(bad=False).splitlines(keepends=True)
    lines[17] = lines[33] = b'{"messages": 3}\n'
    (tmp_path / "chats.jsonl").write_bytes(b"".join(lines))
    messages = set()
    for workers in (1, 3):
        settings = run(num_proc=workers)
        with pytest.raises(RecordError) as caught:
            pack_files([str(tmp_path / "chats.jsonl")], tmp_path / "out", OPTIONS, run=settings)
        messages.add(str(caught.value))
        assert list((tmp_path / "out/receipts").glob("*.json"))
        assert not (tmp_path / "out/manifest.json").exists()
    (message,) = messages
    assert message.startswith(f"{tmp_path / 'chats.jsonl'}:18: messages")


def test_input_that_is_written_to_meanwhile_is_refused(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(*arguments: Any, **more: Any) -> Any:
        with source.open("ab") as file:
            file.write(b"\n")
        return whole(*arguments, **more)

    whole = Chats.lay_out
    monkeypatch.setattr(Chats, "lay_out", append)
    with pytest.raises(StorageError, match=r"chats\.jsonl: it was written to while"):
        pack_files([str(source)], tmp_path / "out", SKIPPING, run=run())
    assert not list((tmp_path / "out").rglob("*.parquet"))


# --- the command ---------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys
from reasonpack.cli import main
from reasonpack.cli import progress

class Progress(progress.Progress):
    def advance(self, receipt):
        super().advance(receipt)
        os.killpg(0, signal.SIGINT)  # as a terminal does: to the workers too

progress.Progress = Progress
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
    main()
"""


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.faults
def test_ctrl_c_says_how_to_go_on(
    workers: str, source: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTED)
    out, tokenizer = tmp_path / "out", FIXTURES / "tokenizer"
    command = ["pack", source, "--tokenizer", tokenizer, "-o", out, "--on-error", "skip"]
    command += ["--no-samples", "--unit-size", str(UNIT_BYTES), "--num-proc", workers]
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        timeout=100,
        check=False,
        cwd=ROOT,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("Interrupted: 1 of ")
    assert "The same command goes on from there" in line
    assert done.returncode == 130
    left = tree(out)
    assert {name for name in left if name.rpartition("/")[2].startswith(".")} == set()
    assert left.items() < expected.items()
    found = CliRunner().invoke(cli, [str(part) for part in command[:-2]])
    assert found.exit_code == 3, found.stderr
    assert found.stderr.startswith("going on: ")
    assert tree(out) == expected


def invoke(*arguments: object) -> Any:
    tokenizer = ["--tokenizer", str(FIXTURES / "tokenizer")]
    return CliRunner().invoke(cli, ["pack", *tokenizer, *map(str, arguments)])


def test_a_dry_run_writes_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Missing option '-o'" in invoke(source).stderr
    monkeypatch.chdir(tmp_path)
    Path("dry.yaml").write_text("dry-run: true")
    assert invoke(source, "--config", "dry.yaml").exit_code == 0
    before = sorted(tmp_path.rglob("*"))
    found = invoke(source, "--dry-run", "--unit-size", "4K")
    assert found.exit_code == 0
    assert "that are free" not in found.stdout
    assert sorted(tmp_path.rglob("*")) == before
    assert f"{source}  {source.stat().st_size:,} bytes, " in found.stdout
    guess = estimate([str(source)], OPTIONS, run=run(num_proc=2))
    exact = pack_files([str(source)], tmp_path / "out", SKIPPING, run=run())
    assert (guess.units, guess.workers) == (len(exact.shards), 2)
    assert guess.tokens == pytest.approx(exact.counts.tokens)
    assert guess.npass_tokens == pytest.approx(exact.counts.npass_tokens)
    times = guess.npass_tokens / guess.tokens
    assert f"N-pass    about {guess.npass_tokens:,.0f} tokens, {times:.2f} times" in found.stdout
    found = invoke(source, "-o", tmp_path / "out", "--dry-run", "--dedup", "exact", "--sample", 10)
    assert " in 9 conversations\n" in found.stdout
    assert re.search(
        r"^disk      about \d\.\d MB, of [\d,.]+ MB that are free$", found.stdout, re.M
    )
    guess = estimate([f"{source}:2.0"], SKIPPING, run=run())
    assert guess.tokens == pytest.approx(2 * exact.counts.tokens, rel=0.1)
    assert guess.disk == pytest.approx(2 * sum(shard.bytes for shard in exact.shards), rel=0.5)
    (tmp_path / "chats.jsonl.gz").write_bytes(gzip.compress(source.read_bytes()))
    found = invoke(tmp_path / "chats.jsonl.gz", "-o", tmp_path / "out", "--dry-run")
    assert "memory at least 0.4 GiB" in found.stdout
    for stdin in ("-", "-:2"):
        with pytest.raises(UsageError, match="cannot be read twice"):
            estimate([stdin], OPTIONS, run=run())


def test_too_little_room_is_said_before(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    settings = run(watch=engine.Watch(on_note=notes.append))
    monkeypatch.setattr(disk, "free_bytes", lambda _: 20_000)
    pack_files([str(source)], tmp_path / "out", SKIPPING, run=settings)
    words = r"out: 0\.0 MB are free, and the shards may take about 0\.\d MB; --dry-run measures it"
    assert re.search(words, notes[0])
    monkeypatch.setattr(disk, "free_bytes", lambda _: 200_000)
    pack_files([str(source)], tmp_path / "other", SKIPPING, run=settings)
    assert len(notes) == 1


@pytest.mark.parametrize("text", ["0", "3X", "-1", "", "1.5M"])
def test_sizes_that_are_none(text: str, source: Path, tmp_path: Path) -> None:
    found = invoke(source, "-o", tmp_path / "out", "--unit-size", text)
    assert found.exit_code == 2


@pytest.mark.parametrize("name", ["\x1b[31mred.jsonl", "../a\nb.jsonl"])
def test_names_of_files_do_not_steer_the_terminal(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.write_bytes(b'{"id": "../../\\u001b[2J", "messages": 1}\n')
    for more in ([], ["--on-error", "skip"], ["--dry-run"]):
        found = invoke(path, "-o", tmp_path / "out", *more)
        assert all(text.isprintable() for text in (found.stdout + found.stderr).split("\n"))


def test_ids_do_not_become_names(tmp_path: Path) -> None:
    hostile = chats(1).replace(b'"chat 0"', b'"../../../\\u001b[2J\\u0000/etc"')
    (tmp_path / "chats.jsonl").write_bytes(hostile)
    pack_files([str(tmp_path / "chats.jsonl")], tmp_path / "out", OPTIONS, run=run())
    assert set(tree(tmp_path / "out")) == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "manifest.json",
        "receipts/00000.json",
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chats.jsonl", "out"]


def test_the_comparison_catches_a_byte(
    source: Path, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """What the tests above rest on: one byte of a shard that differs is seen."""
    pack_files([str(source)], tmp_path / "out", SKIPPING, run=run())
    assert tree(tmp_path / "out") == expected
    path = next((tmp_path / "out/data").iterdir())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert tree(tmp_path / "out") != expected


def test_a_day_from_python_that_is_none_is_wrong_usage(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--date: Invalid isoformat string: 'foo', expected a day"):
        pack_files([str(source)], tmp_path, replace(OPTIONS, date="foo"))
