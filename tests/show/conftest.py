"""A dataset of made samples, and the command that shows its rows."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from runs import OPTIONS, chats
from runs import run as settings
from two_turns import SPECIAL, _filled, _manifest, _sha256

from reasonpack.choices import ShardFormat
from reasonpack.cli import cli, run
from reasonpack.datasets.receipt import Shard, as_json
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import schema
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import row_groups
from reasonpack.run.pack import pack_files
from tests.changed import replace


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tokenizers.Tokenizer:
    """A token a byte, and a few added ones; saved beside the dataset that it makes."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[])
    bytewise = tokenizers.Tokenizer(model)
    bytewise.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    bytewise.decoder = tokenizers.decoders.ByteLevel()
    bytewise.add_special_tokens(list(SPECIAL))
    return bytewise


@pytest.fixture
def write(tmp_path: Path, tokenizer: tokenizers.Tokenizer) -> Callable[..., Path]:
    """Write samples as a dataset: shards of rows of samples."""

    def write_dataset(
        *shards: Sequence[Sequence[Sample]], format_: ShardFormat = "parquet"
    ) -> Path:
        directory = tmp_path / "packed"
        (directory / "data").mkdir(parents=True)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        written = []
        for number, rows in enumerate(shards):
            samples = [sample for row in rows for sample in row]
            indices = iter(range(len(samples)))
            members = [[next(indices) for _ in row] for row in rows]
            groups = row_groups(samples, members, schema())
            path = f"data/train-{number:05d}-of-{len(shards):05d}.{format_}"
            with (directory / path).open("wb") as file:
                write_shard(groups, file, schema(), format_=format_, compression="zstd")
            written.append(_filled(Shard, path=path, rows=len(rows)))
        manifest = _manifest(
            written,
            tokenizer=str(tmp_path / "tokenizer.json"),
            tokenizer_sha256=_sha256(tmp_path / "tokenizer.json"),
            packed=sum(len(row) for rows in shards for row in rows),
        )
        (directory / "manifest.json").write_text(as_json(manifest))
        return directory

    return write_dataset


@pytest.fixture
def inspect(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; give exit status, standard output and standard error."""

    def call(*args: object) -> tuple[int, str, str]:
        status = run(partial(cli, ["inspect", *map(str, args)]))
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return call


@pytest.fixture(scope="module", params=["packed", "npass", "arrow"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "chats.jsonl").write_bytes(chats(bad=False))
    change: dict[str, Any] = {
        "packed": {},
        "npass": {"layout": "npass", "packing": False},
        "arrow": {"format": "arrow", "compression": None},
    }[request.param]
    options = replace(OPTIONS, **change)
    pack_files([str(folder / "chats.jsonl")], folder / "out", options, run=settings())
    return folder / "out"
