"""`reasonpack inspect`: the row and the view that were asked for, what is read, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow.parquet as pq
import pytest
import tokenizers
from encoded import EncodedView, encoded_view, lay_out
from hypothesis import given
from hypothesis import strategies as st
from two_turns import (
    PLAIN,
    R_IN,
    R_OUT,
    H,
    T,
    _filled,
    _manifest,
    _sample,
    _sha256,
    _two_views,
    _view,
    one_turn,
    tokens,
    two_turns,
)

import reasonpack.rows.schema
import reasonpack.rows.table
from reasonpack import Options, pack_files, read_manifest
from reasonpack.choices import Layout, ShardFormat
from reasonpack.datasets.receipt import Shard, as_json
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import schema
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import row_groups
from reasonpack.show.message_view import find_view, view_text
from reasonpack.show.row import RowData, read_rows
from tests.changed import replace

FIXTURES = Path(__file__).parents[2] / "fixtures"

FIRST_VIEW = (
    "sample chat-1, message 1: 14 tokens at positions 0–13, "
    "trained from token 6 (character 12) to the end\n"
)
SECOND_PROMPT = "<u>Hi<e>\n<a>Hé<e>\n<u>a\x1b[1m\tb\u202e<e>\n<a>"


def test_view_is_the_exact_text(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    directory = write([[two_turns(tokenizer)]])
    assert inspect(directory, "--view", 1) == (
        0,
        "<u>Hi<e>\n<a><think>\n?</think>Hé<e>",
        FIRST_VIEW,
    )
    status, out, _ = inspect(directory, "--view", 3)
    assert (status, out) == (0, SECOND_PROMPT + "Ok.<e>")


def test_view_json(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    _, out, _ = inspect(write([[two_turns(tokenizer)]]), "--view", 3, "--json")
    assert json.loads(out) == {
        "shard": "data/train-00000-of-00001.parquet",
        "row": 0,
        "sample": "chat-1",
        "message": 3,
        "length": 29,
        "prompt_ids": tokenizer.encode(SECOND_PROMPT).ids,
        "completion_ids": tokenizer.encode("Ok.<e>").ids,
        "position_ids": list(range(29)),
        "prompt": SECOND_PROMPT,
        "completion": "Ok.<e>",
    }


@st.composite
def conversations(draw: st.DrawFn) -> list[EncodedView]:
    """Views as templates make them: history kept whole, stripped, or rewritten from the start."""
    views, prompt = [], np.array([9, *draw(tokens)])
    for message in range(draw(st.integers(1, 4))):
        # Each context begins with a token of its own, so that no two answers share a prompt.
        completion = np.array(draw(tokens))
        ids = np.concatenate([prompt, completion])
        labels = np.where(np.arange(len(ids)) < len(prompt), -1, message)
        kinds = np.where(labels < 0, H, R_OUT).astype(np.uint8)
        views.append(
            encoded_view(
                prompt.tolist(), completion.tolist(), kinds=kinds.tolist(), messages=labels.tolist()
            )
        )
        history = draw(
            st.sampled_from([ids, np.concatenate([prompt, completion[1:]]), np.array([9])])
        )
        prompt = np.concatenate([history, [10 + message], draw(tokens)])
    return views


END = 8


@st.composite
def siblings(draw: st.DrawFn) -> list[EncodedView]:
    """Views of several answers to each prompt, which may begin alike; the next turn follows one.

    It may be kept without its beginning, and the next answer may stand right behind it.
    """
    views: list[EncodedView] = []
    prompt = [9, *draw(tokens)]
    prompt_kinds, prompt_messages = [H] * len(prompt), [-1] * len(prompt)
    for _ in range(draw(st.integers(1, 3))):
        beginnings = draw(st.lists(tokens, min_size=1, max_size=4, unique_by=tuple))
        for beginning in beginnings:
            answer = [*beginning, END]
            messages = [*prompt_messages, *[len(views)] * len(answer)]
            kinds = [*prompt_kinds, T, *[R_OUT] * (len(answer) - 1)]
            views.append(encoded_view(prompt, answer, kinds=kinds, messages=messages))
        context = draw(st.sampled_from([[], [10]]))
        number = draw(st.integers(0, len(beginnings) - 1))
        followed = [*beginnings[number], END]
        kept = draw(st.sampled_from([followed, followed[1:]]))
        prompt = [*prompt, *kept, *context]
        prompt_kinds += [R_IN] * len(kept) + [H] * len(context)
        answered = len(views) - len(beginnings) + number
        prompt_messages += [answered] * len(kept) + [-1] * len(context)
    return views


def _one_row(directory: Path, samples: Sequence[Sample]) -> RowData:
    """Write a row and read it again."""
    with (directory / "shard.parquet").open("wb") as file:
        groups = row_groups(samples, [range(len(samples))], schema())
        write_shard(groups, file, schema(), format_="parquet", compression=None)
    return read_rows(directory, _manifest([_filled(Shard, path="shard.parquet", rows=1)]), [0])[0]


def _assert_views_are_found(
    row: RowData, views: Sequence[EncodedView], samples: Sequence[int]
) -> None:
    for message, view in enumerate(views):
        found = find_view([(row, number) for number in samples], message)
        assert row.input_ids[found.tokens].tolist() == view.tokens
        assert row.position_ids[found.tokens].tolist() == list(range(len(view.tokens)))
        assert found.prompt_length == len(view.prompt)


@given(st.lists(conversations(), min_size=1, max_size=3))
def test_views_are_those_that_were_laid_out(
    tmp_path_factory: pytest.TempPathFactory, packed: list[list[EncodedView]]
) -> None:
    samples = [_sample(str(number), *views) for number, views in enumerate(packed)]
    row = _one_row(tmp_path_factory.mktemp("packed"), samples)
    for number, views in enumerate(packed):
        _assert_views_are_found(row, views, [number])


@pytest.mark.parametrize("layout", get_args(Layout))
@given(packed=st.lists(siblings(), min_size=1, max_size=2))
def test_answers_that_begin_alike_have_the_same_prompt(
    tmp_path_factory: pytest.TempPathFactory, packed: list[list[EncodedView]], layout: Layout
) -> None:
    laid_out = [lay_out(str(n), views, layout=layout).samples for n, views in enumerate(packed)]
    samples = [sample for each in laid_out for sample in each]
    row = _one_row(tmp_path_factory.mktemp("packed"), samples)
    for number, views in enumerate(packed):
        own = [place for place, sample in enumerate(samples) if sample.id == str(number)]
        _assert_views_are_found(row, views, own)


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_rows_count_over_shards_and_row_groups(
    format_: ShardFormat,
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reasonpack.rows.table, "ROWS_PER_GROUP", 2)
    ids = "abcdefgh"
    chats = [[one_turn(tokenizer, id_)] for id_ in ids]
    directory = write(chats[:5], [], chats[5:], format_=format_)
    for number, id_ in enumerate(ids):
        _, by_row, _ = inspect(directory, "--row", number, "--json")
        _, by_id, _ = inspect(directory, "--id", id_, "--json")
        assert by_row == by_id
        found = json.loads(by_row)
        assert (found["row"], found["samples"][0]["id"]) == (number, id_)
        assert found["shard"].startswith(f"data/train-0000{0 if number < 5 else 2}-")


def test_id_shows_one_sample(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    rows = [[one_turn(tokenizer, "a")], [one_turn(tokenizer, "b"), two_turns(tokenizer, "c")]]
    directory = write(rows)
    _, out, _ = inspect(directory, "--id", "c")
    lines = out.splitlines()
    assert lines[0] == "data/train-00000-of-00001.parquet, row 1: 43 tokens, 15 trained, 2 samples"
    assert lines[2] == "sample c: 37 tokens from 6, 12 trained"
    assert lines[4].split() == ["0", "h", "–", "6", "1", "0–0", "43", "0", "<u>"]
    assert "sample b" not in out
    _, out, _ = inspect(directory, "--id", "c", "--json")
    assert json.loads(out)["samples"] == [{"id": "c", "start": 6, "length": 37}]
    assert {segment["start"] for segment in json.loads(out)["segments"]} == {
        6, 7, 11, 12, 16, 20, 25, 38, 39,
    }  # fmt: skip
    status, out, _ = inspect(directory, "--row", 1, "--view", 3)
    assert (status, out) == (0, SECOND_PROMPT + "Ok.<e>")
    status, out, _ = inspect(directory, "--id", "b", "--view", 1)
    assert (status, out) == (0, "<u>b<e>No<e>")


def test_id_in_several_rows(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    chats = [[one_turn(tokenizer, "a")], [two_turns(tokenizer, "a"), one_turn(tokenizer, "b")]]
    directory = write(chats, chats)
    for args in (["--id", "a"], ["--id", "a", "--json"]):
        _, first, _ = inspect(directory, "--row", 0, *args)
        see = "Row 0 of 4 with this id; see also 1, 2, 3.\n"
        assert inspect(directory, *args) == (0, first, see)
    status, out, err = inspect(directory, "--id", "a", "--view", 3)
    assert (status, out) == (2, "")
    assert err.endswith("in 2 samples, expected one. Fix: choose with --id and --row: "
                        "'a' in row 1, 'a' in row 3.\n")  # fmt: skip
    status, out, err = inspect(directory, "--id", "a", "--row", 3, "--view", 3)
    assert (status, out) == (0, SECOND_PROMPT + "Ok.<e>")
    assert err.startswith("sample a, message 3")


@pytest.mark.parametrize("packed", [False, True])
def test_view_in_any_leaf(
    packed: bool, write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer
) -> None:
    """In the npass layout a conversation is several samples of one id."""
    leaves = lay_out("a", _two_views(tokenizer), layout="npass").samples
    directory = write([leaves] if packed else [[leaf] for leaf in leaves])
    status, out, _ = inspect(directory, "--id", "a", "--view", 1)
    assert (status, out) == (0, "<u>Hi<e>\n<a><think>\n?</think>Hé<e>")
    status, out, _ = inspect(directory, "--id", "a", "--view", 3)
    assert (status, out) == (0, SECOND_PROMPT + "Ok.<e>")
    status, out, err = inspect(directory, "--id", "a", "--view", 0)
    assert (status, out) == (2, "")
    assert f"expected 1 of 'a' in row 0, 3 of 'a' in row {0 if packed else 1}. Fix" in err


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


def test_missing_tokenizer(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    directory = write([[two_turns(tokenizer)]])
    moved = (tmp_path / "tokenizer.json").rename(tmp_path / "moved.json")
    status, out, err = inspect(directory)
    assert (status, "\n| «" in out, "<u>" in out) == (0, True, False)
    assert err.startswith(f"Ids and no text: {directory}/manifest.json: options.tokenizer: ")
    status, out, err = inspect(directory, "--view", 1)
    assert (status, out) == (1, "")
    assert f"{directory}/manifest.json: options.tokenizer: {tmp_path}/tokenizer.json: " in err
    assert err.endswith(", or say where it is: --tokenizer PATH|HUB_ID.\n")
    assert inspect(directory, "--tokenizer", moved) == (0, PLAIN, "")

    status, out, err = inspect(directory, "--json")
    assert (status, err.startswith("Ids and no text: ")) == (0, True)
    assert all("text" not in segment for segment in json.loads(out)["segments"])
    status, out, _ = inspect(directory, "--json", "--view", 1)
    assert (status, list(json.loads(out))[-1]) == (0, "position_ids")
    status, out, err = inspect(directory, "--json", "--tokenizer", tmp_path / "nowhere.json")
    assert (status, out) == (1, "")
    assert err.startswith(f"Error: {tmp_path}/nowhere.json: does not exist")


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_another_tokenizer(
    args: list[str],
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
    tmp_path: Path,
) -> None:
    directory = write([[two_turns(tokenizer)]])
    other = tmp_path / "other.json"
    other.write_text((tmp_path / "tokenizer.json").read_text() + "\n")
    status, out, err = inspect(directory, "--tokenizer", other, *args)
    assert (status, out) == (1, "")
    assert f"SHA-256 {_sha256(other)}), expected {_sha256(tmp_path / 'tokenizer.json')}." in err
    (tmp_path / "tokenizer.json").write_text(other.read_text())
    status, out, err = inspect(directory, *args)
    assert (status, "is not the tokenizer of this dataset" in err) == (0, True)
    assert '"text"' not in out
    assert "<u>" not in out


def test_reads_only_what_it_needs(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the tokens of the first row group overwritten, ids and other groups still read."""
    monkeypatch.setattr(reasonpack.rows.table, "ROWS_PER_GROUP", 1)
    directory = write([[one_turn(tokenizer, "a")], [two_turns(tokenizer)]])
    shard = directory / "data/train-00000-of-00001.parquet"
    chunk = pq.read_metadata(shard).row_group(0).column(0)
    content = bytearray(shard.read_bytes())
    start = chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    shard.write_bytes(content)
    status, out, err = inspect(directory)
    assert (status, out) == (1, "")
    assert err.startswith(f"Error: {shard}: ")
    assert "expected a whole shard. Fix: pack again with --overwrite." in err
    status, out, _ = inspect(directory, "--id", "chat-1")
    assert (status, out) == (0, PLAIN.replace("row 0", "row 1"))


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
@pytest.mark.parametrize("args", [["--row", 0], ["--id", "a"]])
def test_damaged_shards(
    format_: ShardFormat,
    args: list[object],
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
) -> None:
    directory = write([[one_turn(tokenizer, "a")]], format_=format_)
    shard = next((directory / "data").iterdir())
    shard.write_bytes(shard.read_bytes()[:-200])
    status, out, err = inspect(directory, *args)
    assert (status, out) == (1, "")
    assert err.startswith(f"Error: {shard}: ")


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
@pytest.mark.parametrize("args", [["--row", 0], ["--id", "a"], ["--id", "unknown"]])
def test_shards_of_another_version(
    format_: ShardFormat,
    args: list[object],
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(reasonpack.rows.schema, "FORMAT_VERSION", "2.0")
        directory = write([[one_turn(tokenizer, "a")]], format_=format_)
    status, _, err = inspect(directory, *args)
    assert (status, "format version '2.0', expected 1.x" in err) == (1, True)


def test_revision_belongs_to_the_manifest_s_tokenizer(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    directory = write([[two_turns(tokenizer)]])
    manifest = read_manifest(directory)
    options = replace(manifest.options, revision="v1")
    (directory / "manifest.json").write_text(as_json(replace(manifest, options=options)))
    _, _, err = inspect(directory)
    assert "tokenizer.json: is on disk and has no revision 'v1'" in err
    assert inspect(directory, "--tokenizer", tmp_path / "tokenizer.json") == (0, PLAIN, "")


def test_view_text_with_decoders_that_need_the_whole(
    write: Any, tokenizer: tokenizers.Tokenizer
) -> None:
    view = _view(tokenizer, [(H, 1, " é")], [(R_OUT, 1, " No")])
    # between the bytes of é
    split = view._replace(prompt=view.tokens[:2], completion=view.tokens[2:])
    directory = write([[_sample("a", view)], [_sample("b", split)]])
    manifest = read_manifest(directory)

    def text(number: int) -> tuple[str, str]:
        row = read_rows(directory, manifest, [number])[0]
        found = find_view([(row, 0)], 1)
        return view_text(found, lambda ids: tokenizer.decode(ids.tolist()).lstrip(" "))

    assert text(0) == ("é", " No")
    assert text(1) == ("\ufffd", "\ufffd No")


def test_views_of_a_real_dataset(inspect: Any, tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": "Two and two?"},
        {"role": "assistant", "reasoning_content": "Easy: 四.", "content": "Four."},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "reasoning_content": "Yes.", "content": "Quite."},
    ]
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps({"id": "sum", "messages": messages}) + "\n")
    output = tmp_path / "packed"
    pack_files([str(chats)], output, Options(tokenizer=str(FIXTURES / "tokenizer")))
    status, out, _ = inspect(output, "--view", 3)
    assert status == 0
    assert out == (
        "<|im_start|>user\nTwo and two?<|im_end|>\n"
        "<|im_start|>assistant\nFour.<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nYes.\n</think>\n\nQuite.<|im_end|>"
    )
    _, out, _ = inspect(output, "--view", 1, "--json")
    assert json.loads(out)["prompt"] == (
        "<|im_start|>user\nTwo and two?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert json.loads(out)["completion"] == "<think>\nEasy: 四.\n</think>\n\nFour.<|im_end|>"
