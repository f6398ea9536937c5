"""Shares of inputs, written behind their names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from again import chdir

from reasonpack.datasets.manifest import Share
from reasonpack.datasets.shares import read_share
from reasonpack.errors import UsageError


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a.jsonl", Share(path="a.jsonl")),
        ("a.jsonl:2", Share(path="a.jsonl", repeat=2.0)),
        ("a.jsonl:0.25", Share(path="a.jsonl", repeat=0.25)),
        ("a.jsonl#50", Share(path="a.jsonl", conversations=50)),
        ("b#1:2", Share(path="b#1", repeat=2.0)),
        ("a.jsonl:x", Share(path="a.jsonl:x")),
        ("-", Share(path="-")),
        (json.dumps({"path": "b:2", "repeat": 3}), Share(path="b:2", repeat=3.0)),
        (json.dumps({"path": "b", "conversations": 3}), Share(path="b", conversations=3)),
    ],
)
def test_a_share_stands_behind_the_name(text: str, share: Share, tmp_path: Path) -> None:
    with chdir(tmp_path):
        assert read_share(text) == share


def test_the_full_name_of_a_file_is_no_share(tmp_path: Path) -> None:
    with chdir(tmp_path):
        for name in ("a.jsonl:2", "b#7", '{"path": "c"}'):
            Path(name).write_text("")
            assert read_share(name) == Share(path=name)


@pytest.mark.parametrize(
    "text",
    [
        "a:0",
        "a#0",
        '{"path": "a", "times": 2}',
        '{"path": "a", "repeat": "x"}',
        '{"path": "a", "repeat": 2, "conversations": 2}',
        '{"path": "a", "conversations": 0}',
        '{"repeat": 2}',
        "{}",
    ],
)
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^INPUT: .*Fix: write a\.jsonl:2\.0, b\.jsonl#5000"):
        read_share(text)


def test_a_slip_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(unknown field repaet, did you mean repeat\?\)"):
        read_share('{"path": "a", "repaet": 2}')
    with chdir(tmp_path):
        Path("a.jsonl").write_text("")
        for text in ("a.jsonl:-1", "a.jsonl:1e3", "a.jsonl#1.5", "a.jsonl:nan"):
            with pytest.raises(UsageError, match=r"write a\.jsonl:2\.0, b\.jsonl#5000"):
                read_share(text)
