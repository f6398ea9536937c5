"""hf:// for input, tokenizer and output: the same bytes, kept, begun anew."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crashing import ENVIRONMENT
from hub import REPOSITORY, hub
from runs import FIXTURES, ROOT, SKIPPING, UNIT_BYTES, chats, run, tree

from reasonpack.run.pack import pack_files

pytestmark = pytest.mark.faults
pytest.importorskip("huggingface_hub")
URL = f"hf://{REPOSITORY}"
Repository = tuple[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write chats for three units; each request to a hub takes its time."""
    path = tmp_path_factory.mktemp("in") / "chats.jsonl"
    path.write_bytes(chats(15))
    return path


@pytest.fixture(scope="module")
def undisturbed(source: Path) -> dict[str, bytes]:
    pack_files([str(source)], source.parent / "undisturbed", SKIPPING, run=run())
    return tree(source.parent / "undisturbed")


@pytest.fixture
def repository(source: Path) -> Iterator[Repository]:
    with hub() as (address, files):
        files["in/chats.jsonl"] = source.read_bytes()
        for path in (FIXTURES / "tokenizer").iterdir():
            files[f"tokenizer/{path.name}"] = path.read_bytes()
        yield address, files


def pack(address: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Pack in a process of its own, since the client reads its settings when it is loaded."""
    options = ["--tokenizer", f"{URL}/tokenizer", "-o", f"{URL}/out", "--on-error", "skip"]
    sizes = ["--unit-size", str(UNIT_BYTES), "--num-proc", "2"]
    return python(address, "-m", "reasonpack", "pack", f"{URL}/in", *options, *sizes, *more)


def python(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**ENVIRONMENT, "HF_ENDPOINT": address, "HF_TOKEN": "hf_token"},
        check=False,
    )


def shards(files: dict[str, bytes]) -> dict[str, bytes]:
    there = "out/data/"
    return {name[4:]: data for name, data in files.items() if name.startswith(there)}


def test_input_tokenizer_and_output_on_the_hub(
    repository: Repository, undisturbed: dict[str, bytes]
) -> None:
    address, files = repository
    expected = {name: data for name, data in undisturbed.items() if name.startswith("data/")}
    done = pack(address)
    assert done.returncode == 3, done.stderr
    assert shards(files) == expected
    assert files["out/rejects.jsonl"].count(b"\n") == 1
    before = dict(files)
    again = pack(address)
    assert "every shard as it was" in again.stderr
    assert files == before
    files[f"out/{min(expected)}"] += b"x"
    del files["out/receipts/00002.json"]
    assert pack(address).returncode == 3
    assert shards(files) == expected
    assert {name for name in files if name.rpartition("/")[2].startswith(".")} == set()


RUNS = f"""
import runs
from reasonpack.errors import UsageError
from reasonpack.run.pack import pack_files
from reasonpack.storage.place import remove
from reasonpack.storage.publish import publish

def pack(**more):
    return pack_files(["{URL}/in"], "{URL}/out", runs.SKIPPING, run=runs.run(), **more)

first = pack()
with publish("{URL}/out/data/notes.txt") as file:
    file.write(b"mine")
try:
    pack(overwrite=True)
except UsageError as error:
    print(error)
remove("{URL}/out/data/notes.txt")
assert pack(overwrite=True) == first
"""


def test_a_process_sees_what_has_changed_since_it_looked(
    repository: Repository, undisturbed: dict[str, bytes]
) -> None:
    address, files = repository
    done = python(address, "-c", RUNS)
    assert done.returncode == 0, done.stderr
    assert f"{URL}/out/data/notes.txt: reasonpack did not write it" in done.stdout
    assert shards(files).items() <= undisturbed.items()
    assert len(shards(files)) > 2


def test_a_hub_that_is_not_there_is_named_in_one_line() -> None:
    done = pack("http://127.0.0.1:9")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Connection refused" in done.stderr
    assert "Fix: check the connection" in done.stderr
