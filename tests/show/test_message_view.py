"""Views are found in rows as they were laid out, and decoded as a whole."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tokenizers
from encoded import EncodedView, encoded_view, lay_out
from hypothesis import given
from hypothesis import strategies as st
from runs import FIXTURES
from two_turns import (
    R_IN,
    R_OUT,
    SECOND_PROMPT,
    H,
    T,
    _filled,
    _manifest,
    _sample,
    _two_views,
    _view,
    tokens,
)

from reasonpack import Options, pack_files, read_manifest
from reasonpack.choices import Layout
from reasonpack.datasets.receipt import Shard
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import schema
from reasonpack.rows.shard import write_shard
from reasonpack.rows.table import row_groups
from reasonpack.show.message_view import find_view, view_text
from reasonpack.show.row import RowData, read_rows

END = 8


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
