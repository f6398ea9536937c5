"""Samples of one id are told apart by their splits."""

from __future__ import annotations

from reasonpack.verify import join


def test_two_of_one_id_in_two_splits() -> None:
    splits = ("train", "held")
    samples = [join.Packed(f"data/{split}-00000-of-00001.parquet", 0, 0) for split in splits]
    records = [join.Expected("a.jsonl:1", None, split=split) for split in splits]
    assert join._split_fault(samples, records) == ""
    assert join._split_fault(samples[:1], records) == "in train, expected in held, train"
