"""What follows from options: splits, columns, compression, and packing in its older form."""

from __future__ import annotations

import pytest

from reasonpack.datasets.options import Options


@pytest.mark.parametrize(
    ("given", "name", "expected"),
    [
        ({"packing": True}, "packing", "best-fit"),
        ({"packing": False}, "packed", False),
        ({"packing": "sequential"}, "packed", True),
        ({"split": ("val=0.1", "test=0.2")}, "splits", ("train", "val", "test")),
        ({}, "columns", ()),
        ({"field": ("importance=weight",)}, "columns", ("loss_weights",)),
        ({"field": ("importance=weight",), "loss_weights": "none"}, "columns", ()),
        ({"loss_weights": "turn"}, "columns", ("loss_weights",)),
        ({}, "codec", "zstd"),
        ({"format": "arrow"}, "codec", None),
        ({"format": "arrow", "compression": "lz4"}, "codec", "lz4"),
        ({"compression": "none"}, "codec", None),
    ],
)
def test_what_follows_from_options(given: dict[str, object], name: str, expected: object) -> None:
    assert getattr(Options(tokenizer="x", **given), name) == expected  # type: ignore[arg-type]
