"""What the system denies a command ends it in one line and status 1, never in a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crashing import ENVIRONMENT
from runs import FIXTURES, ROOT, SKIPPING, chats, tree

from reasonpack.cli import cli, run
from reasonpack.run.pack import pack_files

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here"),
]
TOKENIZER = str(FIXTURES / "tokenizer")
READERS = [
    "stats out",
    "stats out --json",
    "inspect out",
    "inspect out --view 1",
    "inspect out --json",
    "verify out --json",
    "merge out --json",
    f"template --tokenizer {TOKENIZER}",
    "--help",
    "--version",
]
PACK = f"pack chats.jsonl --tokenizer {TOKENIZER} -o new --on-error skip --json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with chats and a dataset of them, one row of which fills more than a pipe."""
    folder = tmp_path_factory.mktemp("limits")
    long = {"role": "user", "content": "2 + 2? " * 15_000}
    record = {"messages": [long, {"role": "assistant", "content": "4", "reasoning": "a"}]}
    (folder / "chats.jsonl").write_bytes(json.dumps(record).encode() + b"\n" + chats())
    pack_files([str(folder / "chats.jsonl")], folder / "out", SKIPPING)
    return folder


def shell(line: str, folder: Path) -> tuple[int, str, str]:
    """Run a line of bash; `reasonpack` is the command, and status is that of it."""
    command = f"{sys.executable} -m reasonpack"
    done = subprocess.run(
        ["bash", "-c", f"{line.replace('reasonpack', command, 1)}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        check=False,
        timeout=100,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


Undisturbed = Callable[[str], tuple[tuple[int, str, str], dict[str, bytes]]]


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Undisturbed:
    """Give a function that says, once run, what a command ends with and writes where it may."""

    @cache
    def of(command: str) -> tuple[tuple[int, str, str], dict[str, bytes]]:
        return shell(f"rm -rf new; reasonpack {command}", folder), tree(folder / "new")

    return of


def check_error(found: tuple[int, str, str], words: str) -> None:
    status, _, error = found
    *_, last = error.splitlines()
    assert status == 1
    assert last.startswith(f"Error: {words}"), error
    assert "Fix: " in last


@pytest.mark.parametrize("command", [PACK, *READERS])
def test_standard_output_that_is_full_or_closed(command: str, folder: Path) -> None:
    full = shell(f"rm -rf new; reasonpack {command} > /dev/full", folder)
    check_error(full, "standard output: No space left on device")
    closed = shell(f"rm -rf new; reasonpack {command} >&-", folder)
    check_error(closed, "standard output: Bad file descriptor")
    if command is PACK:  # its work is done
        assert (folder / "new" / "manifest.json").exists()


@pytest.mark.parametrize("command", READERS[::3])
def test_a_reader_that_goes_away_is_nothing_to_speak_of(
    command: str, folder: Path, undisturbed: Undisturbed
) -> None:
    status, _, error = shell(f"reasonpack {command} | head -c 1", folder)
    assert status in {0, 1, 3}
    (_, _, said), _ = undisturbed(command)
    assert error in {"", said}


@pytest.mark.parametrize("to", ["&-", "/dev/full"])
@pytest.mark.parametrize(
    "command", [PACK, *READERS[::3], "inspect out --view 1", "stats missing", "nonsense"]
)
def test_standard_error_that_is_closed_or_full_changes_nothing_else(
    command: str, to: str, folder: Path, undisturbed: Undisturbed
) -> None:
    """Nor does what a library prints there get into a file of the dataset."""
    (status, out, _), expected = undisturbed(command)
    assert shell(f"rm -rf new; reasonpack {command} 2>{to}", folder) == (status, out, "")
    assert tree(folder / "new") == expected


def test_all_standard_streams_closed(folder: Path) -> None:
    command = PACK.replace(" --json", "")
    assert shell(f"rm -rf new; reasonpack {command} <&- >&- 2>&-", folder)[0] == 3
    assert shell("reasonpack verify new --against chats.jsonl", folder)[0] == 0


@pytest.mark.parametrize("files", [6, 10, 14, 18, 20, 24])
def test_few_open_files(files: int, folder: Path) -> None:
    """With two processes each needs pipes of its own."""
    line = f"rm -rf new; ulimit -n {files}; reasonpack {PACK} --num-proc 2 --unit-size 4000"
    found = shell(line, folder)
    if found[0] != 3:
        *_, last = found[2].splitlines()
        assert found[0] == 1
        assert last.endswith("Fix: raise the limit of open files, e.g. `ulimit -n 1024`.")
        assert not (folder / "new" / "manifest.json").exists()
    elif files < 10:
        pytest.fail("they are enough")


@pytest.mark.parametrize("mebibytes", [200, 300, 500, 700])
def test_little_memory(mebibytes: int, folder: Path) -> None:
    for command in (PACK, "stats out"):
        found = shell(f"ulimit -v {mebibytes << 10}; reasonpack {command}", folder)
        check_error(found, f"memory: limited to {mebibytes} MiB, expected at least 768 MiB")


def test_memory_that_runs_out(folder: Path) -> None:
    """A record that takes more than there is."""
    record = {"messages": [{"role": "user", "content": "2 + 2? " * (1 << 23)}]}
    record["messages"].append({"role": "assistant", "content": "4", "reasoning": "a"})
    (folder / "long.jsonl").write_text(json.dumps(record))
    line = f"rm -rf new; ulimit -v {(768 << 10) + 1000}; reasonpack {PACK}"
    status, _, error = shell(line.replace("chats.jsonl", "long.jsonl"), folder)
    assert status in {1, 128 + 6}, error  # a library may abort, in a line of its own
    assert not (folder / "new" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["ParquetFile", "read_metadata"])
def test_memory_that_arrow_lacks_is_no_damage(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in chats(2, bad=False).splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), folder / "chats.parquet")

    def fail(*given: object, **named: object) -> None:
        raise pa.ArrowMemoryError("realloc of size 32768 failed")

    monkeypatch.setattr(pq, name, fail)
    monkeypatch.chdir(folder)
    pack = ["pack", "chats.parquet", "--tokenizer", TOKENIZER, "-o", "other", "--overwrite"]
    for arguments in (pack, ["inspect", "out"])[: 1 if name == "read_metadata" else 2]:
        monkeypatch.setattr(sys, "argv", ["reasonpack", *arguments])
        assert run(cli) == 1
        assert "memory: none is left, expected more" in capsys.readouterr().err
