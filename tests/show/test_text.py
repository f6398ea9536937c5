"""A row as text for a person: tables, colours, and nothing that steers a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import tokenizers
from two_turns import PLAIN, R_OUT, H, _sample, _view, one_turn, two_turns

from reasonpack import read_manifest
from reasonpack.cli import cli, run
from reasonpack.datasets.receipt import as_json
from tests.changed import replace


def test_plain_text(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    assert inspect(write([[two_turns(tokenizer)]])) == (0, PLAIN, "")


def test_json(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    status, out, err = inspect(write([[two_turns(tokenizer)]]), "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert list(found) == ["shard", "row", "length", "samples", "segments"]
    assert found["shard"] == "data/train-00000-of-00001.parquet"
    assert (found["row"], found["length"]) == (0, 37)
    assert found["samples"] == [{"id": "chat-1", "start": 0, "length": 37}]
    assert len(found["segments"]) == 9
    assert found["segments"][5] == {
        "kind": "r_in",
        "message": 1,
        "start": 14,
        "length": 5,
        "position_first": 6,
        "position_last": 10,
        "visible_until": 37,
        "trained": 0,
        "text": "Hé<e>\n",
    }


def test_half_characters(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    whole = _sample("é", _view(tokenizer, [(H, 0, "<u>")], [(R_OUT, 1, "éé")]))
    labels = whole.labels.copy()
    labels[2:4] = -100  # the second byte of one and the first of the other
    sample = replace(whole, labels=labels)
    _, out, _ = inspect(write([[sample]]))
    assert out.endswith("[1 r_out message 1, 2 of 4 trained]\n| «\ufffd»\ufffd\ufffd«\ufffd»\n")


def test_fewer_rows_than_the_manifest_says(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer
) -> None:
    directory = write([[one_turn(tokenizer, "a")]])
    manifest = read_manifest(directory)
    more = replace(manifest, shards=[replace(manifest.shards[0], rows=2)])
    (directory / "manifest.json").write_text(as_json(more))
    status, _, err = inspect(directory, "--row", 1)
    assert (status, "fewer rows, expected those of the manifest" in err) == (1, True)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Run the command with a terminal as standard output; give what the terminal got."""
    keeper, end = pty.openpty()
    with os.fdopen(end, "w", encoding="utf-8") as stdout:

        def call(*args: object) -> str:
            monkeypatch.setattr(sys, "stdout", stdout)
            assert run(partial(cli, ["inspect", *map(str, args)])) == 0
            stdout.flush()
            got = b""
            while select.select([keeper], [], [], 0)[0]:
                got += os.read(keeper, 1 << 16)
            return got.decode().replace("\r\n", "\n")

        yield call
        monkeypatch.undo()
    os.close(keeper)


def _coloured(text: str, *, codes: str) -> str:
    return f"{codes}{text}\x1b[0m"


blue, cyan = partial(_coloured, codes="\x1b[34m"), partial(_coloured, codes="\x1b[36m")
magenta, green = (partial(_coloured, codes=f"\x1b[{c}m\x1b[1m\x1b[4m") for c in (35, 32))


def test_colour(
    write: Any,
    terminal: Any,
    tokenizer: tokenizers.Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "")  # as if it were not set
    shown = terminal(write([[two_turns(tokenizer)]]))
    table, _, text = shown.rpartition("\n\n")
    assert click.unstyle(table) == PLAIN.rpartition("\n\n")[0]
    kinds = dict(zip(["h    ", "t    ", "r_in ", "r_out"], [34, 35, 36, 32], strict=True))
    assert all(f"  \x1b[{code}m{kind}\x1b[0m  " in table for kind, code in kinds.items())
    assert text == (
        blue("<u>") + blue("Hi<e>") + "\n" + blue("<a>")
        + magenta("<think>") + "\n" + magenta("?</think>") + green("Hé<e>")
        + cyan("Hé<e>") + "\n" + blue("<u>a\\x1b[1m\tb\\u202e<e>") + "\n" + blue("<a>")
        + green("Ok.<e>") + "\n"
    )  # fmt: skip
    assert terminal(tmp_path / "packed", "--view", 1) == (
        blue("<u>Hi<e>")
        + "\n"
        + blue("<a>")
        + green("<think>")
        + "\n"
        + green("?</think>Hé<e>")
        + "\n"
    )


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_terminal_without_colour(
    name: str,
    value: str,
    write: Any,
    terminal: Any,
    tokenizer: tokenizers.Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    directory = write([[two_turns(tokenizer)]])
    assert terminal(directory) == PLAIN
    assert terminal(directory, "--view", 3) == (
        "<u>Hi<e>\n<a>Hé<e>\n<u>a\\x1b[1m\tb\\u202e<e>\n<a>«Ok.<e>»\n"
    )


def test_narrow_encoding(
    write: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write([[two_turns(tokenizer)]])
    with monkeypatch.context() as patch, (tmp_path / "out").open("w", encoding="ascii") as file:
        patch.setattr(sys, "stdout", file)
        assert run(partial(cli, ["inspect", str(directory)])) == 0
    shown = (tmp_path / "out").read_text(encoding="ascii")
    assert shown == PLAIN.encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize(
    ("text", "preview"),
    [("x" * 29, "x" * 29), ("x" * 30, "x" * 28 + "…"), ("\n" * 15, r"\n" * 14 + "…")],
)
def test_table_shows_32_characters_of_a_text(
    text: str, preview: str, write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer
) -> None:
    view = _view(tokenizer, [(H, 0, "<u>" + text)], [(R_OUT, 1, "No<e>")])
    _, out, _ = inspect(write([[_sample("a", view)]]))
    assert out.splitlines()[4].endswith(f"  0  <u>{preview}")


def test_names_cannot_steer_the_terminal(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer
) -> None:
    directory = write([[one_turn(tokenizer, "a\x07")]])
    for args in ([], ["--view", 1], ["--json"], ["--json", "--view", 1]):
        _, out, err = inspect(directory, *args)
        assert "\x07" not in (err if args == ["--view", 1] else out + err)
    manifest = read_manifest(directory)
    options = replace(manifest.options, tokenizer="no\x07/tokenizer.json")
    (directory / "manifest.json").write_text(as_json(replace(manifest, options=options)))
    for args in ([], ["--json"]):
        _, out, err = inspect(directory, *args)
        assert r"no\x07/tokenizer.json: does not exist" in err
        assert "\x07" not in out + err
