"""`samples.html` beside a dataset: some rows, bounded, the same for any number of workers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from runs import FIXTURES, OPTIONS, chats, run, tree

from reasonpack.cli import cli
from reasonpack.errors import StorageError, UsageError
from reasonpack.run import samples_page
from reasonpack.run.pack import merge_parts, pack_files, pack_part
from tests.changed import replace


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "chats.jsonl").write_bytes(chats(60, bad=False))
    return str(tmp_path / "chats.jsonl")


def rows_in(page: Path) -> list[dict[str, Any]]:
    found = re.findall(
        r'<script type="application/json" id="row-\d+">(.*)</script>', page.read_text()
    )
    return [json.loads(each) for each in found]


@pytest.mark.long
def test_the_same_bytes_for_any_number_of_workers(source: str, tmp_path: Path) -> None:
    for number in (1, 2):
        settings = run(num_proc=number, samples=True)
        options = replace(OPTIONS, packing=False)
        pack_files([source], tmp_path / f"{number}", options, run=settings)
    assert "samples.html" in tree(tmp_path / "1")
    assert len(rows_in(tmp_path / "1" / "samples.html")) == 20, "some of 60"
    assert tree(tmp_path / "1") == tree(tmp_path / "2")


def test_what_is_in_it_is_bounded_and_what_is_left_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(OPTIONS, packing=False)
    pack_files([str(FIXTURES / "chats.jsonl")], tmp_path / "out", options, run=run(samples=True))
    rows = rows_in(tmp_path / "out" / "samples.html")
    assert len(rows) == samples_page.MOST_ROWS
    assert (tmp_path / "out" / "samples.html").stat().st_size <= samples_page.MOST_BYTES
    assert all(len(row["ids"]) <= samples_page.MOST_TOKENS for row in rows)
    assert all(row["left_out"] == row["length"] - len(row["ids"]) for row in rows)
    monkeypatch.setattr(samples_page, "MOST_TOKENS", 500)
    monkeypatch.setattr(samples_page, "MOST_BYTES", 80_000)
    pack_files([str(FIXTURES / "chats.jsonl")], tmp_path / "few", options, run=run(samples=True))
    few = rows_in(tmp_path / "few" / "samples.html")
    assert 0 < len(few) < samples_page.MOST_ROWS
    assert (tmp_path / "few" / "samples.html").stat().st_size <= 80_000
    assert max(len(row["ids"]) for row in few) == 500
    assert all(row["left_out"] == row["length"] - len(row["ids"]) for row in few)


def test_rows_are_of_few_stretches_and_every_row_may_be_drawn() -> None:
    drawn = samples_page.drawn_rows(60_000, 60 << 20, seed="a")
    assert len(drawn) == samples_page.MOST_ROWS
    assert len({row // 1_000 for row in drawn}) <= 2 + 60 // samples_page.STRETCHES_EACH
    assert samples_page.drawn_rows(7, 100 << 20, seed="a") == list(range(7))
    assert samples_page.drawn_rows(0, 0, seed="a") == []
    every = (samples_page.drawn_rows(90, 9 << 20, seed=str(seed)) for seed in range(99))
    assert {row for drawn in every for row in drawn} == set(range(90))


def test_a_part_has_none_and_the_whole_of_parts_neither(source: str, tmp_path: Path) -> None:
    for index in range(2):
        settings = run(samples=True)
        pack_part([source], tmp_path / "out", OPTIONS, index=index, count=2, run=settings)
    merge_parts(tmp_path / "out")
    assert not (tmp_path / "out" / "samples.html").exists()


def test_the_command_writes_it_unless_told_not_to(source: str, tmp_path: Path) -> None:
    def call(*arguments: object) -> Any:
        return CliRunner().invoke(cli, list(map(str, arguments)))

    pack = ("pack", source, "--tokenizer", OPTIONS.tokenizer, "--output")
    assert call(*pack, tmp_path / "none", "--no-samples").exit_code == 0
    assert not (tmp_path / "none" / "samples.html").exists()
    assert call(*pack, tmp_path / "out").exit_code == 0
    page = tmp_path / "out" / "samples.html"
    before = page.stat().st_mtime_ns
    verified = call("verify", tmp_path / "out")
    assert verified.exit_code == 0
    assert "samples.html" not in verified.output
    assert call(*pack, tmp_path / "out").exit_code == 0
    assert page.stat().st_mtime_ns == before, "a run that goes on left it alone"
    assert call(*pack, tmp_path / "out", "--overwrite", "--no-samples").exit_code == 0
    assert not page.exists()


def test_a_page_of_somebody_else_is_not_removed(source: str, tmp_path: Path) -> None:
    pack_files([source], tmp_path / "out", OPTIONS, run=run())
    (tmp_path / "out" / "samples.html").write_text("<p>mine</p>")
    with pytest.raises(UsageError, match=r"samples\.html: reasonpack did not write it"):
        pack_files([source], tmp_path / "out", OPTIONS, run=run(), overwrite=True)
    pack_files([source], tmp_path / "out", OPTIONS, run=run(samples=True))
    assert (tmp_path / "out" / "samples.html").read_text() == "<p>mine</p>"


def test_it_stands_there_before_the_manifest(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(place: object, text: str) -> None:
        raise StorageError(place, "no space left", "a disk with space", "make some")

    monkeypatch.setattr(samples_page, "publish_text", full)
    with pytest.raises(StorageError, match=r"samples\.html"):
        pack_files([source], tmp_path / "out", OPTIONS, run=run(samples=True))
    assert not (tmp_path / "out" / "manifest.json").exists()
    monkeypatch.undo()
    pack_files([source], tmp_path / "out", OPTIONS, run=run(samples=True))
    assert (tmp_path / "out" / "samples.html").exists()
    assert (tmp_path / "out" / "manifest.json").exists()
