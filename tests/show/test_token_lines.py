"""`inspect --tokens` and `--boundaries`: tokens in columns."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import tokenizers
from two_turns import row_of_vector, two_turns

from reasonpack.datasets.manifest import read_manifest
from reasonpack.show.row import read_rows
from reasonpack.show.text import token_lines

BOUNDARIES = """\
token   id  label  position  kind   message  text
    0  256      –         0  h            –  <u>
    1   39      –         1  h            0  H
    2   72      –         2  h            0  i
    3  258      –         3  h            0  <e>
    4  198      –         4  h            0  \\n
    5  257      –         5  h            1  <a>
    6  259    259         6  t            1  <think>
    7  198    198         7  t            1  \\n
    8   30     30         8  t            1  ?
    9  260    260         9  t            1  </think>
   10   39     39        10  r_out        1  H
   11  127    127        11  r_out        1  \\xc3
   12  102    102        12  r_out        1  \\xa9
   13  258    258        13  r_out        1  <e>
   14   39      –         6  r_in         1  H
   15  127      –         7  r_in         1  \\xc3
   16  102      –         8  r_in         1  \\xa9
   17  258      –         9  r_in         1  <e>
   18  198      –        10  r_in         1  \\n
   19  256      –        11  h            2  <u>
   20   64      –        12  h            2  a
   21  215      –        13  h            2  \\x1b
    …
   29  106      –        21  h            2  \\xae
   30  258      –        22  h            2  <e>
   31  198      –        23  h            2  \\n
   32  257      –        24  h            3  <a>
   33   46     46        25  r_out        3  O
   34   74     74        26  r_out        3  k
   35   13     13        27  r_out        3  .
   36  258    258        28  r_out        3  <e>
"""


def test_tokens_around_borders(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    directory = write([[two_turns(tokenizer)]])
    assert inspect(directory, "--boundaries") == (0, BOUNDARIES, "")
    status, out, _ = inspect(directory, "--tokens")
    assert status == 0
    assert len(out.splitlines()) == 38
    assert set(BOUNDARIES.splitlines()) - {"    …"} <= set(out.splitlines())


def test_further_columns_have_a_column(tmp_path: Any) -> None:
    row = row_of_vector("calls_weighted", tmp_path)
    lines = list(token_lines(row, [0, 1], lambda token: b"%d" % token, boundaries=False))
    assert lines[0].split() == [
        *("token", "id", "label", "position", "kind", "message", "loss_weights", "text")
    ]
    assert lines[3].split()[-2:] == ["0.75", "31"]
    assert np.count_nonzero(row.columns["loss_weights"]) > 3


def test_rows_are_chosen(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    rows = [[two_turns(tokenizer, f"chat-{n}")] * (1 + (n == 2)) for n in range(4)]
    directory = write(rows)

    def shown(*arguments: object) -> list[int]:
        status, out, _ = inspect(directory, *arguments)
        assert status == 0
        return [
            int(line.split("row ")[1].split(":")[0])
            for line in out.splitlines()
            if line.startswith("data/")
        ]

    assert shown("--most", "length") == [2]
    assert shown("--most", "samples", "--limit", 3) == [2, 0, 1]
    assert shown("--where", "samples=1", "--limit", 9) == [0, 1, 3]
    assert shown("--where", "samples>1", "--where", "kind=t") == [2]
    assert len(set(shown("--sample", 3))) == 3
    assert shown("--sample", 3) == shown("--sample", 3)
    assert inspect(directory, "--where", "samples=1")[2] == (
        "Row 0 of 3 that were asked for; see also 1, 3.\n"
    )
    assert inspect(directory, "--where", "samples>9")[0] == 2
    assert inspect(directory, "--where", "samples=1", "--row", 1)[0] == 2
    _, several, _ = inspect(directory, "--sample", 2, "--json", "--tokens")
    rows = json.loads(several)["rows"]
    assert [row["row"] for row in rows] == shown("--sample", 2)
    for row in rows:
        found = read_rows(directory, read_manifest(directory), [row["row"]])[0]
        for name in ("input_ids", "labels", "position_ids"):
            values = [value for segment in row["segments"] for value in segment[name]]
            assert values == getattr(found, name).tolist()


def test_rejects_are_shown(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    directory = write([[two_turns(tokenizer)]])
    assert inspect(directory, "--where", "rejects") == (0, "", "")
    line = '{"reason": "%s", "error": "a.jsonl:%d: it \\u001b[1m"}\n'
    (directory / "rejects.jsonl").write_text("".join(line % ("role", n) for n in range(3)))
    status, out, _ = inspect(directory, "--where", "rejects", "--limit", 1, "--json")
    assert [each["reason"] for each in json.loads(out)["rejects"]] == ["role"]
    status, out, _ = inspect(directory, "--where", "rejects", "--limit", 2)
    assert (status, out.splitlines()) == (
        0,
        [f"role: a.jsonl:{n}: it \\x1b[1m" for n in range(2)],
    )


@pytest.mark.parametrize("path", ["mask.svg", "-"])
def test_a_picture_is_written(
    path: str, write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Any
) -> None:
    directory = write([[two_turns(tokenizer)]])
    target = path if path == "-" else tmp_path / path
    status, out, err = inspect(directory, "--svg", target)
    assert status == 0
    text = out if path == "-" else target.read_text("utf-8")
    assert text.startswith("<svg ")
    assert (err == "") == (path == "-")
