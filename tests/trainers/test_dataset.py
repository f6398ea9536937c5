"""Rows come out as they were written, each once, and go on where they stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonpack.datasets.shards import OpenShard

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from encoded import lay_out  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402

from reasonpack.choices import ShardFormat  # noqa: E402
from reasonpack.errors import FormatError, UsageError  # noqa: E402
from reasonpack.rows import schema as schemas  # noqa: E402
from reasonpack.rows import table  # noqa: E402
from reasonpack.rows.schema import schema  # noqa: E402
from reasonpack.rows.shard import write_shard  # noqa: E402
from reasonpack.rows.table import row_groups  # noqa: E402
from reasonpack.torch import Collator, RowDataset, RowStream  # noqa: E402

pytestmark = pytest.mark.torch

FORMATS: tuple[ShardFormat, ...] = ("parquet", "arrow")
SHARDS = [17, 1, 30]
TOTAL = sum(SHARDS)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a real run, to be filled with shards made here."""
    import reasonpack

    where = tmp_path_factory.mktemp("run")
    first = (tiny.FIXTURES / "chats.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (where / "one.jsonl").write_text(first + "\n", encoding="utf-8")
    options = reasonpack.Options(tokenizer=str(tiny.FIXTURES / "tokenizer"))
    reasonpack.pack_files([str(where / "one.jsonl")], where / "packed", options)
    return dict(json.loads((where / "packed" / "manifest.json").read_text()))


@pytest.fixture(params=FORMATS)
def directory(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    manifest: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A finished dataset of three shards in groups of at most 7 rows; row i has the id `i`."""
    monkeypatch.setattr(table, "ROWS_PER_GROUP", 7)
    return write_dataset(tmp_path / "packed", manifest, request.param)


def write_dataset(directory: Path, manifest: dict[str, Any], format_: ShardFormat) -> Path:
    (directory / "data").mkdir(parents=True)
    shards, numbers = [], itertools.count()
    for index, rows in enumerate(SHARDS):
        views = [(next(numbers), tiny.random_views(seed, turns=2)) for seed in range(rows)]
        samples = [
            lay_out(str(name), [tiny.encoded(view) for view in each]).samples[0]
            for name, each in views
        ]
        path = directory / "data" / f"train-{index:05d}-of-{len(SHARDS):05d}.{format_}"
        groups = row_groups(samples, [[at] for at in range(rows)], schema())
        with path.open("wb") as file:
            write_shard(groups, file, schema(), format_=format_, compression=None)
        content = path.read_bytes()
        shards.append(
            {
                **manifest["shards"][0],
                "path": f"data/{path.name}",
                "rows": rows,
                "tokens": sum(sample.length for sample in samples),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
    options = {**manifest["options"], "format": format_, "compression": None}
    whole = {**manifest, "options": options, "shards": shards}
    (directory / "manifest.json").write_text(json.dumps(whole))
    return directory


def number(row: dict[str, Any]) -> int:
    (sample,) = row["sample_id"]
    return int(sample)


def numbers(stream: Any) -> list[int]:
    return [number(row) for row in stream]


def identity(rows: list[dict[str, Any]]) -> list[int]:
    return [number(row) for row in rows]


def test_a_dataset_is_of_one_split(directory: Path) -> None:
    """Rows for validation are never trained by who says nothing."""
    path = directory / "manifest.json"
    text = path.read_text()
    (first, *_) = [shard["path"] for shard in json.loads(text)["shards"]]
    name = first.replace("train", "validation")
    (directory / first).rename(directory / name)
    path.write_text(text.replace(first, name))
    train, other = RowDataset(directory), RowDataset(directory, "validation")
    assert (len(train), len(other)) == (sum(SHARDS[1:]), SHARDS[0])
    assert identity([other[0], train[0]]) == [0, SHARDS[0]]
    assert train.fingerprint != other.fingerprint
    with pytest.raises(UsageError, match="no split 'test', expected train, validation"):
        RowDataset(directory, "test")


# --- rows ----------------------------------------------------------------------------------------


def test_rows_are_what_was_written(directory: Path) -> None:
    rows = RowDataset(directory)
    assert len(rows) == TOTAL
    assert [number(rows[index]) for index in range(TOTAL)] == list(range(TOTAL))
    (expected,) = tiny.rows_of([tiny.random_views(3, turns=2)], layout="onepass")
    for name, value in expected.items():
        if name != "sample_id":
            found = rows[3][name]
            assert np.array_equal(found, value), name
            assert not isinstance(value, np.ndarray) or isinstance(found, np.ndarray), name
    assert rows[3]["input_ids"].dtype == np.int32


def test_random_access_and_the_ends(directory: Path) -> None:
    rows = RowDataset(directory)
    order = np.random.default_rng(0).permutation(TOTAL)
    assert [number(rows[int(index)]) for index in order] == order.tolist()
    assert number(rows[-1]) == TOTAL - 1
    for outside in (TOTAL, -TOTAL - 1):
        with pytest.raises(IndexError):
            rows[outside]
    assert numbers(rows) == list(range(TOTAL))  # iteration ends at IndexError


def test_few_parquet_groups_stay_in_memory(directory: Path) -> None:
    rows = RowDataset(directory)
    assert len(rows.groups) == 3 + 1 + 5
    assert max(group.rows for group in rows.groups) == 7
    numbers(rows)
    assert len(rows._loaded) == (4 if rows.groups[0].path.suffix == ".parquet" else 9)


def test_pickles_without_its_data(directory: Path) -> None:
    rows = RowDataset(directory)
    empty = len(pickle.dumps(rows))
    numbers(rows)
    assert len(pickle.dumps(rows)) == empty
    assert numbers(pickle.loads(pickle.dumps(rows))) == list(range(TOTAL))


def test_a_data_loader_collates_rows(directory: Path) -> None:
    rows = RowDataset(directory)
    loader = DataLoader(rows, batch_size=5, shuffle=True, collate_fn=Collator(mask="sdpa"))  # type: ignore[arg-type,var-annotated,unused-ignore]
    assert sum(len(batch["input_ids"]) for batch in loader) == TOTAL


# --- refusals ------------------------------------------------------------------------------------


def test_unfinished_directories_are_refused(directory: Path) -> None:
    (directory / "manifest.json").unlink()
    with pytest.raises(FormatError, match=r"manifest\.json"):
        RowDataset(directory)


def test_an_unknown_format_version_is_refused(directory: Path, manifest: dict[str, Any]) -> None:
    (directory / "manifest.json").write_text(json.dumps({**manifest, "format_version": "2.0"}))
    with pytest.raises(FormatError, match=r"2\.0"):
        RowDataset(directory)


def test_a_shard_of_an_unknown_format_version_is_refused(
    tmp_path: Path, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "FORMAT_VERSION", "2.0")
    directory = write_dataset(tmp_path / "packed", manifest, "parquet")
    monkeypatch.undo()
    with pytest.raises(FormatError, match=r"2\.0"):
        RowDataset(directory)


def test_missing_cut_and_foreign_shards_are_refused(directory: Path) -> None:
    first, second, _ = sorted((directory / "data").iterdir())
    content = first.read_bytes()
    first.write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match="Fix: pack again"):
        RowDataset(directory)
    first.write_bytes(second.read_bytes())
    with pytest.raises(FormatError, match="1 row, expected the 17"):
        RowDataset(directory)
    first.unlink()
    with pytest.raises(FormatError, match="Fix: pack again"):
        RowDataset(directory)


def test_what_is_no_file_is_not_waited_for(directory: Path) -> None:
    first = min((directory / "data").iterdir())
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        first.unlink()
        make(first)
        with pytest.raises(FormatError, match=f"{first}: is a pipe, a socket or a device"):
            RowDataset(directory)


@pytest.mark.parametrize("path", ["../secret.parquet", "/etc/passwd", "data/../x", "data/\x00"])
def test_a_manifest_that_names_another_file_is_refused(
    path: str, tmp_path: Path, manifest: dict[str, Any]
) -> None:
    directory = write_dataset(tmp_path / "packed", manifest, "parquet")
    found = json.loads((directory / "manifest.json").read_text())
    found["shards"][1]["path"] = path
    (directory / "manifest.json").write_text(json.dumps(found))
    with pytest.raises(FormatError, match=r"manifest\.json: .*shards\[1\]\.path"):
        RowDataset(directory)


def test_what_is_no_directory_and_no_index_is_refused(directory: Path) -> None:
    for given in (None, [directory], {"path": directory}):
        with pytest.raises(UsageError, match=r"expected a directory\. Fix: pass the path"):
            RowDataset(given)  # type: ignore[arg-type]
    rows = RowDataset(directory)
    for index in (slice(0, 2), [0, 1], "input_ids"):
        with pytest.raises(UsageError, match=r"expected an integer.*\[rows\[i\] for i in"):
            rows[index]  # type: ignore[index]
    assert rows[torch.tensor(1)]["length"] == rows[np.int64(1)]["length"] == rows[1]["length"]


def test_a_remote_directory_is_refused() -> None:
    with pytest.raises(UsageError, match="remote"):
        RowDataset("s3://bucket/packed")


def test_an_empty_dataset_is_refused(directory: Path, manifest: dict[str, Any]) -> None:
    (directory / "manifest.json").write_text(json.dumps({**manifest, "shards": []}))
    with pytest.raises(UsageError, match="no rows, expected at least one"):
        RowDataset(directory)


# --- order and shares ----------------------------------------------------------------------------


def test_order_depends_on_seed_and_epoch_alone(directory: Path) -> None:
    rows = RowDataset(directory)
    orders = {}
    for seed, epoch in itertools.product([0, 1], [0, 1]):
        stream = RowStream(rows, seed=seed)
        stream.set_epoch(epoch)
        orders[seed, epoch] = numbers(stream)
        assert numbers(stream) == orders[seed, epoch]
        assert sorted(orders[seed, epoch]) == list(range(TOTAL))
    assert len({tuple(order) for order in orders.values()}) == 4
    assert numbers(RowStream(rows, seed=None)) == list(range(TOTAL))


def test_a_stream_of_a_directory_is_refused_at_once() -> None:
    with pytest.raises(
        UsageError, match=r"^RowStream: str, .* RowStream\(RowDataset\(directory\)\)"
    ):
        RowStream("dir")  # type: ignore[arg-type]


def test_order_is_the_same_everywhere(directory: Path) -> None:
    # written down, so that a run can be resumed under another version of NumPy
    order = numbers(RowStream(RowDataset(directory), seed=0))
    assert order[:12] == [17, 16, 15, 14, 12, 8, 7, 13, 11, 9, 10, 47]


def test_rows_of_a_group_stay_together(directory: Path) -> None:
    rows = RowDataset(directory)
    order = numbers(RowStream(rows, seed=5))
    groups = [int(np.searchsorted(rows.starts, row, side="right")) - 1 for row in order]
    assert len([group for group, _ in itertools.groupby(groups)]) == len(rows.groups)
    assert any(row > after for row, after in itertools.pairwise(order[:7]))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 60])
def test_ranks_share_the_rows_evenly(directory: Path, world_size: int) -> None:
    rows = RowDataset(directory)
    shares = [
        numbers(RowStream(rows, seed=1, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert {len(share) for share in shares} == {-(-TOTAL // world_size)}
    counted = Counter(itertools.chain(*shares))
    assert set(counted) == set(range(TOTAL))
    assert sum(counted.values()) - TOTAL < world_size


def test_a_rank_reads_its_own_groups_only(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    read: list[Any] = []
    original = OpenShard.read
    monkeypatch.setattr(
        OpenShard, "read", lambda shard, number: read.append(number) or original(shard, number)
    )
    for rank in range(4):
        numbers(RowStream(RowDataset(directory), rank=rank, world_size=4))
    assert len(read) <= 9 + 3 + 1  # each group once, once more at each border


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_rows_of_a_rank(directory: Path, workers: int) -> None:
    stream = RowStream(RowDataset(directory), rank=1, world_size=2)
    loader: Any = DataLoader(
        stream, batch_size=None, num_workers=workers, collate_fn=number, **METHOD
    )
    assert sorted(loader) == sorted(numbers(stream))


def test_more_ranks_and_workers_than_groups_and_rows(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reasonpack.torch import dataset

    rows = RowDataset(directory)
    ranks, workers = 6, 2 * len(rows.groups)
    assert ranks * workers > TOTAL > workers > len(rows.groups)
    found = []
    for rank in range(ranks):
        stream = RowStream(rows, rank=rank, world_size=ranks)
        for worker in range(workers):
            info = types.SimpleNamespace(id=worker, num_workers=workers, dataset=None)
            monkeypatch.setattr(dataset, "get_worker_info", lambda info=info: info)
            found.append(numbers(stream))
    assert any(not share for share in found)
    assert sorted(itertools.chain(*found)) == list(range(TOTAL))


METHOD: dict[str, Any] = {"multiprocessing_context": "fork" if sys.platform == "linux" else None}


def test_persistent_workers_hear_of_the_epoch(directory: Path) -> None:
    stream = RowStream(RowDataset(directory))
    loader: Any = DataLoader(
        stream,
        batch_size=None,
        num_workers=1,
        persistent_workers=True,
        collate_fn=number,
        **METHOD,
    )
    first = list(loader)
    stream.set_epoch(1)
    assert list(loader) == numbers(stream) != first


def test_the_rank_is_that_of_torch_distributed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowDataset(directory)
    expected = numbers(RowStream(rows, rank=2, world_size=3))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    stream = RowStream(rows)
    monkeypatch.undo()  # as in a spawned worker, which knows no process group
    assert numbers(stream) == expected


def test_a_rank_outside_the_world_is_refused(directory: Path) -> None:
    with pytest.raises(UsageError, match="rank: '0' of '2', expected integers"):
        RowStream(RowDataset(directory), rank="0", world_size="2")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="rank: 2 of 2"):
        RowStream(RowDataset(directory), rank=2, world_size=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_share_that_accelerate_would_divide_again_is_refused(
    directory: Path, workers: int
) -> None:
    loaders = pytest.importorskip("accelerate.data_loader")
    rows = RowDataset(directory)
    options: dict[str, Any] = {"batch_size": None, "collate_fn": number, "num_workers": workers}
    options |= METHOD if workers else {}

    def part(process: int, **share: Any) -> list[int]:
        stream = RowStream(rows, **share)
        part = loaders.IterableDatasetShard(stream, 1, num_processes=2, process_index=process)
        return list(DataLoader(part, **options))

    said = r"share of rank 1[\s\S]* RowStream\(rows, rank=0, world_size=1"
    with pytest.raises((UsageError, RuntimeError), match=said):  # a worker's is raised as another
        part(1, rank=1, world_size=2)
    whole = {"rank": 0, "world_size": 1}
    assert {*part(0, **whole), *part(1, **whole)} == set(range(TOTAL))


def test_a_share_that_accelerate_would_dispatch_is_refused(directory: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    options = accelerate.DataLoaderConfiguration(dispatch_batches=True)
    prepared = accelerate.Accelerator(cpu=True, dataloader_config=options).prepare
    rows = RowDataset(directory)

    def loader(**share: Any) -> Any:
        made = DataLoader(RowStream(rows, **share), collate_fn=lambda row: torch.tensor([0]))
        return iter(prepared(made))

    with pytest.raises(UsageError, match="the whole stream: else rows are left out"):
        next(loader(rank=0, world_size=2))
    next(loader(rank=0, world_size=1))


# --- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [0, 1, 6, 7, 8, 23, 24])
def test_resumes_at_the_exact_row(directory: Path, done: int) -> None:
    rows = RowDataset(directory)
    stream = RowStream(rows, seed=2, rank=1, world_size=2)
    stream.set_epoch(3)
    whole = numbers(stream)
    assert [number(row) for row in itertools.islice(stream, done)] == whole[:done]
    state = json.loads(json.dumps(stream.state_dict()))
    other = RowStream(RowDataset(directory), seed=2, rank=1, world_size=2)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert numbers(other) == whole[done:]
    assert numbers(other) == whole  # the iteration after that is a whole one
    assert other.epoch == 3


def test_a_state_of_another_dataset_is_refused(
    directory: Path, tmp_path: Path, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "SHARDS", [17, 1, 29])
    other = write_dataset(tmp_path / "other", manifest, "parquet")
    state = RowStream(RowDataset(directory)).state_dict()
    with pytest.raises(UsageError, match=r"state: dataset .*Fix: resume with the same dataset"):
        RowStream(RowDataset(other)).load_state_dict(state)


def test_a_state_of_something_else_is_refused(directory: Path) -> None:
    rows = RowDataset(directory)
    state = RowStream(rows, seed=0).state_dict()
    with pytest.raises(UsageError, match="no dataset, done, epoch, seed, share, expected"):
        RowStream(rows).load_state_dict({"rows": state})
    with pytest.raises(UsageError, match="seed"):
        RowStream(rows, seed=1).load_state_dict(state)
    with pytest.raises(UsageError, match="dataset"):
        RowStream(rows).load_state_dict({**state, "dataset": "another"})
    stream = RowStream(rows, rank=0, world_size=2)
    stream.load_state_dict(state)
    with pytest.raises(UsageError, match="share"):
        next(iter(stream))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batches", [1, 4, 7])
def test_resumes_in_a_stateful_data_loader(directory: Path, workers: int, batches: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def loader() -> Any:
        return stateful.StatefulDataLoader(
            RowStream(RowDataset(directory), seed=4),
            batch_size=5,
            num_workers=workers,
            collate_fn=identity,
            **(METHOD if workers else {}),
        )

    whole = list(loader())
    first = loader()
    iterator = iter(first)
    assert [next(iterator) for _ in range(batches)] == whole[:batches]
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    assert list(second) == whole[batches:]
