"""The conformance vectors say what a slow token trie says, and the masks agree with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forests import join, trie, visible
from kernels import bottom_right, covered, end_to_end, tiles

from reasonpack.errors import FormatError, UsageError
from reasonpack.masks import (
    Window,
    blocks,
    dense,
    flashmask,
    flat,
    flex,
    magi,
    stack,
    varlen,
    visible_until,
)
from reasonpack.masks.branches import Branches, branches

FILES = sorted((Path(__file__).parents[2] / "schemas" / "vectors").glob("*.json"))
COLUMNS = {
    "input_ids",
    "position_ids",
    "labels",
    "length",
    "segment_start",
    "segment_visible_until",
    "segment_kind",
    "segment_message",
    "sample_start",
    "sample_id",
}
OF_CALLS = {"loss_weights", "segment_call", "call_id", "call_sample"}
FIELDS = {
    "description",
    "tokens",
    "views",
    "row",
    "padded_length",
    "visible",
    "cu_seqlens",
    "branches",
}

each_vector = pytest.mark.parametrize("vector", FILES, ids=lambda path: path.stem, indirect=True)


@pytest.fixture
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text(encoding="utf-8"))


def matrix(lines: list[str]) -> np.ndarray:
    return np.array([[{"0": False, "1": True}[cell] for cell in line] for line in lines])


def test_there_are_vectors() -> None:
    assert [path.stem for path in FILES] == [
        "calls_weighted",
        "kept_history",
        "npass",
        "packed_two_samples",
        "padded",
        "siblings_common_beginning",
        "siblings_context_first",
        "siblings_copied_root",
        "siblings_later_prompt",
        "siblings_two_answers",
        "single_turn",
        "tool_loop",
        "two_turns_stripped",
    ]


@each_vector
def test_vector_is_whole(vector: dict[str, Any]) -> None:
    assert FIELDS <= set(vector) <= FIELDS | {"sliding_window", "calls"}
    line = vector["row"]
    assert set(line) == COLUMNS | (OF_CALLS if "calls" in vector else set())
    names, ids = vector["tokens"].split(), line["input_ids"]
    assert len(names) == len(ids) == line["length"] <= vector["padded_length"]
    assert len(dict(zip(names, ids, strict=True))) == len(set(zip(names, ids, strict=True)))
    for column in ("segment_visible_until", "segment_kind", "segment_message"):
        assert len(line[column]) == len(line["segment_start"])
    assert len(line["sample_id"]) == len(line["sample_start"]) == len(vector["views"])


@each_vector
def test_row_and_mask_follow_from_the_views(vector: dict[str, Any]) -> None:
    samples = [
        trie([(view["prompt"], view["completion"]) for view in views]) for views in vector["views"]
    ]
    ids, labels, positions = (
        [token for sample in samples for token in sample[i]] for i in range(3)
    )
    line = vector["row"]
    assert line["input_ids"] == ids
    assert line["labels"] == labels
    assert line["position_ids"] == positions
    starts = np.cumsum([0, *(len(sample[0]) for sample in samples)])[:-1]
    assert line["sample_start"] == starts.tolist()
    forest = join([sample[3] for sample in samples])
    np.testing.assert_array_equal(
        matrix(vector["visible"]), visible(forest, vector["padded_length"])
    )


@each_vector
def test_weights_and_calls_follow_from_the_calls(vector: dict[str, Any]) -> None:
    line, samples = vector["row"], vector.get("calls", [])
    given = [
        (sample, call["id"], call["weight"], view)
        for sample, (calls, views) in enumerate(zip(samples, vector["views"], strict=bool(samples)))
        for call, view in zip(calls, views, strict=True)
    ]
    assert line.get("call_id", []) == [id_ for _, id_, _, _ in given]
    assert line.get("call_sample", []) == [sample for sample, _, _, _ in given]
    if not samples:
        return
    sizes = np.diff(line["segment_start"], append=line["length"])
    call = np.repeat(line["segment_call"], sizes)
    ids, positions = np.array(line["input_ids"]), np.array(line["position_ids"])
    for token, seen in enumerate(matrix(vector["visible"])):
        keys = np.flatnonzero(seen)
        path = ids[keys[np.argsort(positions[keys])]].tolist()
        sample = sum(start <= token for start in line["sample_start"]) - 1
        own = [
            (number, weight)
            for number, (of, _, weight, view) in enumerate(given)
            if of == sample
            and len(path) > len(view["prompt"])
            and [*view["prompt"], *view["completion"]][: len(path)] == path
        ]
        is_trained = line["labels"][token] != -100
        assert line["loss_weights"][token] == (sum(w for _, w in own) if is_trained else 0)
        assert call[token] == (own[0][0] if is_trained else -1)


@each_vector
def test_trained_tokens_see_exactly_their_view(vector: dict[str, Any]) -> None:
    line, seen = vector["row"], matrix(vector["visible"])
    ids, positions = np.array(line["input_ids"]), np.array(line["position_ids"])
    trained = []
    for q in np.flatnonzero(np.array(line["labels"]) != -100):
        keys = np.flatnonzero(seen[q])
        keys = keys[np.argsort(positions[keys])]
        assert positions[keys].tolist() == list(range(len(keys)))
        assert keys[-2] == q - 1, "a trained token directly follows its parent"
        trained.append(tuple(ids[keys].tolist()))
    expected = {
        (number, *view["prompt"], *view["completion"][: place + 1])
        for number, views in enumerate(vector["views"])
        for view in views
        for place in range(len(view["completion"]))
    }
    assert sorted(trained) == sorted(tuple(tokens) for _, *tokens in expected)


def copied(line: dict[str, Any]) -> list[bool]:
    """Of each token, whether it is behind another that is the same in all but its label."""
    sizes = np.diff(line["segment_start"], append=line["length"])
    sample = np.searchsorted(line["sample_start"], np.arange(line["length"]), "right")
    spread = [np.repeat(line[name], sizes) for name in ("segment_kind", "segment_message")]
    columns = np.array([sample, line["input_ids"], line["position_ids"], *spread])
    paths = [columns[:, seen].tolist() for seen in dense.visible(visible_until(line))]
    return [path in paths[:place] for place, path in enumerate(paths)]


@each_vector
def test_kinds_agree_with_labels(vector: dict[str, Any]) -> None:
    line = vector["row"]
    sizes = np.diff(line["segment_start"], append=line["length"])
    trained = np.array(line["labels"]) != -100
    kind = np.repeat(line["segment_kind"], sizes)
    message = np.repeat(line["segment_message"], sizes)
    copies = np.array(copied(line))
    np.testing.assert_array_equal(trained | copies, np.isin(kind, [1, 3]) | copies)
    assert not (trained & copies).any()
    assert (kind[message == -1] == 0).all()
    roles = [name[0] for name in vector["tokens"].split()]
    letters = {0: "uvoA", 1: "ts", 2: "rcE", 3: "rcE"}
    assert all(role in letters[k] for role, k in zip(roles, kind.tolist(), strict=True))


@each_vector
def test_masks_agree(vector: dict[str, Any]) -> None:
    line, total = vector["row"], vector["padded_length"]
    expected = matrix(vector["visible"])
    until = visible_until(line, total)
    np.testing.assert_array_equal(dense.visible(until), expected)
    if "sliding_window" in vector:
        position = np.zeros(total, np.int32)
        position[: line["length"]] = line["position_ids"]
        window = Window(position, vector["sliding_window"]["size"])
        np.testing.assert_array_equal(
            dense.visible(until, window=window), matrix(vector["sliding_window"]["visible"])
        )


@each_vector
def test_the_masks_of_kernels_agree(vector: dict[str, Any]) -> None:
    until = stack([vector["row"]], vector["padded_length"])
    expected = matrix(vector["visible"])[None]
    bound = flashmask.startend_row_indices(until)[0, 0, :, 0]
    q, k = np.indices(expected[0].shape)
    np.testing.assert_array_equal((k <= q) & (q < bound), expected[0])
    np.testing.assert_array_equal(covered(magi.slices(until), until.size), end_to_end(expected))
    for size in ((1, 1), (2, 3), (4, 4)):
        for found, wanted in zip(
            blocks.grid(until, block_size=size), tiles(expected, size), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.torch
@each_vector
def test_flex_agrees(vector: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    until = stack([vector["row"]], vector["padded_length"])
    expected = matrix(vector["visible"])
    mask = flex.block_mask(until, block_size=(4, 4))
    q, k = torch.meshgrid(*[torch.arange(len(expected))] * 2, indexing="ij")
    found = mask.mask_mod(torch.tensor(0), torch.tensor(0), q, k)
    np.testing.assert_array_equal(found.numpy(), expected)
    partial, full = tiles(expected[None], (4, 4))
    np.testing.assert_array_equal(mask.to_dense()[:, 0].numpy(), partial | full)


@each_vector
def test_varlen_agrees(vector: dict[str, Any]) -> None:
    until = flat([vector["row"]], vector["padded_length"])
    if vector["cu_seqlens"] is None:
        with pytest.raises(UsageError, match="--layout npass"):
            varlen.cu_seqlens(until)
    else:
        assert varlen.cu_seqlens(until).tolist() == vector["cu_seqlens"]


@each_vector
def test_branches_agree(vector: dict[str, Any]) -> None:
    given, length = vector["branches"], vector["row"]["length"]
    found = asdict(branches(flat([vector["row"]], vector["padded_length"])))
    assert {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in found.items()
    } == given
    arrays = {name: np.array(value) for name, value in given.items() if isinstance(value, list)}
    seen = bottom_right(Branches(**{**given, **arrays}))
    expected = matrix(vector["visible"])
    np.testing.assert_array_equal(seen[:length], expected[:length])
    size = len(expected) - length  # padding is one plain sequence
    np.testing.assert_array_equal(seen[length:, length:], np.tril(np.ones((size, size), bool)))
    assert not seen[length:, :length].any()


def two_turns(**planted: list[int]) -> tuple[dict[str, Any], np.ndarray]:
    path = next(path for path in FILES if path.stem == "two_turns_stripped")
    vector = json.loads(path.read_text(encoding="utf-8"))
    return {**vector["row"], **planted}, matrix(vector["visible"])


@pytest.mark.parametrize("end", [6, 8])
def test_planted_off_by_one_in_segment_visible_until_is_refused(end: int) -> None:
    line, _ = two_turns(segment_visible_until=[14, 14, end, end, *[14] * 5])
    with pytest.raises(FormatError, match="segment_visible_until"):
        visible_until(line)


@pytest.mark.parametrize("start", [2, 4])
def test_planted_off_by_one_in_segment_start_is_seen(start: int) -> None:
    line, expected = two_turns(segment_start=[0, 1, start, 5, 7, 9, 10, 11, 12])
    assert (dense.visible(visible_until(line)) != expected).any()
