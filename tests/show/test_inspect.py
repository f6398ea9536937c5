"""What was asked of inspect and is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from two_turns import (
    one_turn,
    two_turns,
)

NO_ID = (
    r"--id: no sample has the id 'x\x1b', expected one of 3, such as 'chat-1', 'a', 'b'. "
    "Fix: check it, or name a row with --row."
)
NOT_IN_ROW = (
    "--id: no sample of row 1 has the id 'chat-1', expected 'a', 'b'. "
    "Fix: name one of these, or leave out --row."
)
NOT_TRAINED = (
    "--view: message 2 is not trained there, expected 1, 3 of 'chat-1' in row 0. "
    "Fix: name one of these messages; they are counted from 0."
)
AMBIGUOUS = (
    "--view: message 1 is trained in 2 samples, expected one. "
    "Fix: choose with --id and --row: 'a' in row 1, 'b' in row 1."
)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--row", 2], "--row: there is no row 2, expected 0 to 1. Fix: name one of those."),
        (["--id", "x\x1b"], NO_ID),
        (["--id", "x\udcff"], NO_ID.replace("x1b", "udcff")),
        (["--row", 1, "--id", "chat-1"], NOT_IN_ROW),
        (["--view", 2], NOT_TRAINED),
        (["--row", 1, "--view", 1], AMBIGUOUS),
        (["--row", -1], "Invalid value for '--row': -1 is not in the range x>=0."),
    ],
)
def test_what_is_not_there(
    args: list[object],
    message: str,
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
) -> None:
    rows = [[two_turns(tokenizer)], [one_turn(tokenizer, "a"), one_turn(tokenizer, "b")]]
    status, out, err = inspect(write(rows), *args)
    assert (status, out) == (2, "")
    assert err.endswith(f"Error: {message}\n")


@pytest.mark.parametrize("args", [[], ["--id", "a"]])
def test_no_rows(args: list[str], write: Any, inspect: Any) -> None:
    status, _, err = inspect(write([]), *args)
    assert status == 2
    assert ", expected a dataset with rows in it; this one has none. Fix: " in err


def test_no_dataset(tmp_path: Path, inspect: Any) -> None:
    status, out, err = inspect(tmp_path)
    assert (status, out) == (1, "")
    assert "manifest.json: no such file, expected a finished dataset" in err
