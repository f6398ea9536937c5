"""The shapes in which trainers save tokens, each by its columns; ours are sent to verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reasonpack.errors import FormatError, ReasonpackError, UsageError
from reasonpack.run.check.prepared import documents, sorted_inputs
from tests.run.check.saved_sets import save_to_disk

IDS = [5, 6, 7, 8]


def read(place: Path) -> list[tuple[str, list[int], list[int]]]:
    files, chats = sorted_inputs([str(place)])
    assert not chats
    found = [each for file in files for each in documents(file)]
    return [
        (each.where.partition(", ")[2], each.ids.tolist(), each.ids[each.trained].tolist())
        for each in found
    ]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        # axolotl: padding is no part of a document
        (
            {"labels": [-100, 6, 7, -100], "attention_mask": [1, 1, 1, 0]},
            [("row 0", [5, 6, 7], [6, 7])],
        ),
        # TRL, packed
        (
            {"labels": [-100, 6, 7, 8], "seq_lengths": [2, 2]},
            [("row 0, document 0", [5, 6], [6]), ("row 0, document 1", [7, 8], [7, 8])],
        ),
        # TRL before labels: all masks have to agree
        (
            {"completion_mask": [0, 1, 1, 1], "assistant_masks": [0, 0, 1, 1]},
            [("row 0", IDS, [7, 8])],
        ),
        # LLaMA-Factory's neat packing
        (
            {"labels": [-100, 6, -100, 8], "attention_mask": [1, 1, 2, 2]},
            [("row 0, document 0", [5, 6], [6]), ("row 0, document 1", [7, 8], [8])],
        ),
        # LLaMA-Factory's other packing, with padding
        (
            {"labels": [-100, 6, -100, -100], "position_ids": [0, 1, 0, 0]},
            [("row 0, document 0", [5, 6], [6])],
        ),
        ({"labels": IDS, "position_ids": [0, 1, 2, 3]}, [("row 0", IDS, IDS)]),
        (
            {"labels": IDS, "position_ids": [0, 0, 1, 2]},
            [("row 0, document 0", [5], [5]), ("row 0, document 1", [6, 7, 8], [6, 7, 8])],
        ),
        # SkyRL
        ({"loss_mask": [0, 1, 1, 0]}, [("row 0", IDS, [6, 7])]),
        ({}, [("row 0", IDS, IDS)]),
    ],
)
def test_columns(tmp_path: Path, columns: dict[str, Any], expected: list[Any]) -> None:
    rows = {"input_ids": [IDS], **{name: [values] for name, values in columns.items()}}
    assert read(save_to_disk(tmp_path / "set", rows)) == expected
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    assert read(tmp_path / "rows.parquet") == expected
    row = {"input_ids": IDS, **columns}
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(row)}\n")
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    for name in ("rows.jsonl", "rows.json"):
        assert [each[1:] for each in read(tmp_path / name)] == [each[1:] for each in expected]


def test_splits_of_a_dataset_dict(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        save_to_disk(tmp_path / split, {"input_ids": [IDS], "labels": [IDS]})
    (tmp_path / "dataset_dict.json").write_text("{}")
    assert len(read(tmp_path)) == 2


def test_a_mask_of_the_answer_alone_is_refused(tmp_path: Path) -> None:
    rows = {"input_ids": [IDS], "loss_mask": [[1, 1]]}
    with pytest.raises(FormatError, match="loss_mask: not as long as input_ids"):
        read(save_to_disk(tmp_path / "set", rows))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"input_ids": [5, 6.5]}', "jsonl:2: input_ids: no list of whole numbers"),
        ('{"input_ids": [5], "labels": 5}', "jsonl:2: labels: no list of whole numbers"),
        ('{"input_ids": [10000000000000000000]}', "jsonl:2: input_ids: no list of whole numbers"),
        (
            '{"input_ids": [4294967301]}',
            "jsonl:2: input_ids: 4,294,967,301, expected ids of tokens",
        ),
        ('{"messages": []}', "jsonl:2: input_ids: no list of whole numbers"),
        ('{"input_ids": [5], "labels": [5, 6]}', "jsonl:2: labels: not as long as input_ids"),
        ('{"input_ids": [5', "jsonl:2: "),
    ],
)
def test_a_line_that_is_no_row_is_refused(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(f'{{"input_ids": [5]}}\n{line}\n')
    with pytest.raises(ReasonpackError, match=said):
        read(tmp_path / "rows.jsonl")


def test_ours_are_sent_to_verify(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    rows = {"input_ids": [IDS], "segment_visible_until": [[4]]}
    for ours in (tmp_path, save_to_disk(tmp_path / "data", rows)):
        with pytest.raises(UsageError, match=r"rows that pack wrote.*call `reasonpack verify DIR`"):
            sorted_inputs([str(ours)])


def test_chats_are_no_tokens(tmp_path: Path) -> None:
    pq.write_table(pa.table({"messages": [["a"]]}), tmp_path / "chats.parquet")
    (tmp_path / "chats.jsonl").write_text("{}\n")
    given = [str(tmp_path / "chats.parquet"), str(tmp_path / "chats.jsonl"), "-"]
    assert sorted_inputs(given) == ([], given)
