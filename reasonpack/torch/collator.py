"""Rows become a padded batch, with the mask in the form that the model's attention takes.

    rows of 5 and 3 tokens, pad_to_multiple_of=4
    input_ids, position_ids, labels   i64[2, 8]      padded with pad_token_id, 0, -100
    attention_mask, by `mask=`
        "sdpa"       bool[2, 1, 8, 8]                SDPA; O(B·T²)
        "eager"      dtype[2, 1, 8, 8], additive     HF eager (and SDPA); O(B·T²)
        "flex"       FlexMask, i32[2, 8] inside      FlexAttention; becomes a BlockMask in the step
    no attention_mask
        "flashmask"  startend_row_indices i32[2, 1, 8, 1]
        "visible_until"  i32[2, 8], from which the training step makes the mask of another
                         kernel (`masks.magi`, `masks.blocks`)
        "branches"   one row i64[1, 8], and `branches`    FlashAttention, keys gathered
                         (`attend_by_branches`)
        "varlen"     one row i64[1, 8], cu_seq_lens_q …   FlashAttention; plain causal rows only
        "none"       is_causal kernels; rows of one plain causal sample only

Windows count positions. A model with layers of several types takes a dict of masks:
`window={"full_attention": None, "sliding_attention": 512}` gives `attention_mask` these keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from reasonpack.errors import FormatError, UsageError
from reasonpack.masks import Window, dense, flashmask, flat, stack, varlen
from reasonpack.masks.rows import SEGMENTS, listed
from reasonpack.rows.optional_columns import APPLIED, FILLS
from reasonpack.rows.sample import IGNORE
from reasonpack.torch.branch_index import NAME, branch_index, path_places
from reasonpack.torch.flex_masks import FlexMask, Windows, per_layer_type

MaskForm = Literal[
    "sdpa", "eager", "flex", "flashmask", "visible_until", "branches", "varlen", "none"
]
Batch = dict[str, Any]
FLOATS = ("loss_weights", "logprobs", "advantages")
OF_TOKENS = ("input_ids", "position_ids", "labels", *FILLS)
COLUMNS = SEGMENTS | {"input_ids", "position_ids", "labels"}
"""Columns that every row must have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """Collate rows; give it to a `DataLoader` as `collate_fn`, to a trainer as `data_collator`.

    A batch holds `input_ids`, `position_ids` and `labels` (`i64[B, T]`, labels unshifted) and the
    mask. Rows come from `RowDataset`, `RowStream` or `datasets.load_dataset`.

    Attributes:
        mask: form of the mask; see the head of this module.
        window: how many positions a token sees, its own included, None for all; or a mapping to
            such values from the model's `layer_types`.
        dtype: dtype of the "eager" mask, which is that of the model's scores.
        pad_token_id: any id of the vocabulary; no token of a row sees padding.
        pad_to_multiple_of: T is a multiple of this; with the dataset's row length, all batches
            have one shape.
        shift_labels: add `shift_labels` `i64[B, T]`, the label that each token predicts, for
            losses that do not shift, as under sequence parallelism.
        loss_weights: add `loss_weights` `f32[B, T]`, 0 in padding; unshifted, as `labels`.
        logprobs: add `logprobs`, likewise: log probabilities, from when tokens were sampled.
        advantages: add `advantages`, likewise.
        call_role: add `call_role` `i64[B, T]`, 1 in a chosen answer, 2 in a rejected one, else 0;
            `calls` and `groups` `i64[B, T]`, the numbers in the batch of each token's call and of
            its `sample_id`, −1 for none; and `preference_labels`, if the rows have them.
        kinds: add `kinds` `i64[B, T]`, `segment_kind` of each token, 0 in padding: to log losses
            by kind. Take it out of the batch before calling the model.
        max_position: refuse rows with a position of this or more; None for no limit.
        vocabulary: refuse rows with a token id of this or more; None for no limit.

    >>> row = {"length": 2, "input_ids": [5, 6], "position_ids": [0, 1], "labels": [-100, 6],
    ...        "segment_start": [0], "segment_visible_until": [2]}
    >>> batch = Collator(mask="sdpa", pad_to_multiple_of=3)([row])
    >>> batch["labels"].tolist(), batch["attention_mask"].int().tolist()
    ([[-100, 6, -100]], [[[[1, 0, 0], [1, 1, 0], [0, 0, 1]]]])
    """

    mask: MaskForm
    window: Windows = None
    dtype: torch.dtype = torch.float32
    pad_token_id: int = 0
    pad_to_multiple_of: int = 1
    shift_labels: bool = False
    loss_weights: bool = False
    logprobs: bool = False
    advantages: bool = False
    call_role: bool = False
    kinds: bool = False
    max_position: int | None = None
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        if self.mask not in get_args(MaskForm):
            expected = f"one of {', '.join(get_args(MaskForm))}"
            fix = "take the one of the model's attention implementation"
            raise UsageError("mask", f"{self.mask!r}", expected, fix)
        for name, is_sound, expected in (
            (
                "window",
                isinstance(self.window, (Integral, Mapping, type(None))),
                "a number of positions, a mapping to these, or None",
            ),
            (
                "dtype",
                isinstance(self.dtype, torch.dtype),
                "a dtype of torch, such as torch.bfloat16",
            ),
            (
                "pad_token_id",
                isinstance(self.pad_token_id, Integral),
                "any id of the vocabulary, such as 0",
            ),
            (
                "pad_to_multiple_of",
                isinstance(self.pad_to_multiple_of, Integral) and self.pad_to_multiple_of > 0,
                "1 or more",
            ),
        ):
            if not is_sound:
                what = f"{name}={getattr(self, name)!r}"
                raise UsageError("Collator", what, expected, "pass that, or leave it out")
        if self.window is not None and self.mask not in ("sdpa", "eager", "flex"):
            raise UsageError(
                "mask",
                f'"{self.mask}" with a window',
                '"sdpa", "eager" or "flex"',
                "leave the window to the kernel where rows are plain causal, and take "
                "another mask where they are not",
            )

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Collate a batch of rows.

        Raises:
            UsageError: `rows` is no list of rows; they have branches that `mask` cannot express;
                columns are missing; a column that must be applied is there but its argument is
                off, or the reverse; a position or a token id is too large.
            FormatError: a row's segments are damaged, or its positions (checked with "branches").
        """
        rows = listed(rows, COLUMNS)
        _check_columns(rows)
        self._check_applied(rows)
        self._check_limits(rows)
        if self.call_role:
            rows = list(_with_calls(rows))
        if self.kinds:
            rows = [{**row, "kinds": _per_token(row, "segment_kind")} for row in rows]
        lengths = [int(row["length"]) for row in rows]
        if self.mask in ("branches", "varlen"):
            return self._flat(rows, sum(lengths))
        total = self._padded(max(lengths, default=0))
        until = stack(rows, total)
        batch = self._columns(rows, total)
        return {**batch, **self._mask(until, batch["position_ids"], lengths)}

    def _mask(
        self, until: NDArray[np.int32], position_ids: torch.Tensor, lengths: Sequence[int]
    ) -> Batch:
        if self.mask == "none":
            _check_single(until, lengths)
            return {}
        if self.mask == "flashmask":
            return {"startend_row_indices": torch.from_numpy(flashmask.startend_row_indices(until))}
        if self.mask == "visible_until":
            return {"visible_until": torch.from_numpy(until)}
        if self.mask == "flex":
            found = FlexMask(torch.from_numpy(until), position_ids, self.window, sum(lengths))
            return {"attention_mask": found}

        def written_out(size: int | None) -> torch.Tensor:
            window = None if size is None else Window(position_ids.numpy(), size)
            seen = dense.visible(until, window=window)
            if self.mask == "sdpa":
                return torch.from_numpy(seen)[:, None]
            additive: torch.Tensor = dense.additive(seen, self.dtype)
            return additive

        return {"attention_mask": per_layer_type(self.window, written_out)}

    def _flat(self, rows: Sequence[Mapping[str, Any]], tokens: int) -> Batch:
        """Lay the rows end to end as one; padding is one more sequence, which is not trained."""
        total = self._padded(tokens)
        until = flat(rows, total)
        joined = {
            name: np.concatenate([np.asarray(row[name]) for row in rows])
            for name in self._fills()
            if name in rows[0]
        }
        batch = self._columns([joined], total)
        batch["position_ids"][0, tokens:] = torch.arange(total - tokens)
        if self.mask == "branches":
            index = branch_index(until)
            _check_paths(index, batch["position_ids"])
            return {**batch, NAME: index}
        bounds = varlen.cu_seqlens(until)
        cu_seqlens = torch.from_numpy(bounds)
        longest = int(np.diff(bounds).max())
        return {
            **batch,
            "cu_seq_lens_q": cu_seqlens,
            "cu_seq_lens_k": cu_seqlens.clone(),
            "max_length_q": longest,
            "max_length_k": longest,
        }

    def _columns(self, rows: Sequence[Mapping[str, Any]], total: int) -> Batch:
        batch: Batch = {}
        held = rows[0].keys() if rows else ()
        for name, fill in self._fills().items():
            if name not in held:
                continue
            dtype = np.float32 if name in FLOATS else np.int64
            padded = np.full((len(rows), total), fill, dtype)
            for line, row in zip(padded, rows, strict=True):
                line[: len(row[name])] = row[name]
            batch[name] = torch.from_numpy(padded)
        if self.shift_labels:
            shifted = torch.full_like(batch["labels"], IGNORE)
            shifted[:, :-1] = batch["labels"][:, 1:]
            batch["shift_labels"] = shifted
        return batch

    def _fills(self) -> dict[str, int]:
        """Return the columns of a batch, each with the value of padding."""
        fills = {"input_ids": self.pad_token_id, "position_ids": 0, "labels": IGNORE}
        added = {name: getattr(self, name) for name in (*FLOATS, "kinds", "call_role")}
        fills |= {name: 0 for name, wanted in added.items() if wanted}
        ours = {"calls": -1, "groups": -1, "preference_labels": IGNORE}
        return {**fills, **ours} if self.call_role else fills

    def _padded(self, length: int) -> int:
        return -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of

    def _check_applied(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for number, row in enumerate(rows):
            for name in APPLIED:
                told = getattr(self, name)
                if (name in row) != told:
                    raise UsageError(
                        f"row {number}",
                        f"no {name}" if told else name,
                        f"{name}={told}",
                        f"pass Collator({name}=True) if and only if the dataset has the column "
                        "and the loss uses it",
                    )

    def _check_limits(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for number, row in enumerate(rows):
            highest = int(np.asarray(row["position_ids"]).max())
            if self.max_position is not None and highest >= self.max_position:
                raise UsageError(
                    f"row {number}",
                    f"position {highest:,}",
                    f"below {self.max_position:,}, where the model's positions end or its "
                    "dynamic RoPE begins to change with the batch",
                    f"pack with --max-position {self.max_position}, or give the model a static"
                    " RoPE scaling",
                )
            largest = int(np.asarray(row["input_ids"]).max())
            if self.vocabulary is not None and largest >= self.vocabulary:
                raise UsageError(
                    f"row {number}",
                    f"token id {largest:,}",
                    f"below {self.vocabulary:,}, the model's vocab_size: the rows are of another "
                    "tokenizer",
                    "pack with the tokenizer of this model, or resize its embeddings",
                )


def _with_calls(rows: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield rows with `calls`, `groups` and `call_role` of each token, counted over all rows."""
    before, numbers = 0, dict[str, int]()
    for row in rows:
        call = _per_token(row, "segment_call")
        role = np.append(np.asarray(row["call_role"], np.int64), 0)[call]
        names = [row["sample_id"][each] for each in row["call_sample"]]
        group = np.array([*(numbers.setdefault(name, len(numbers)) for name in names), -1])[call]
        call = np.where(call < 0, -1, call + before)
        yield {**row, "call_role": role, "calls": call, "groups": group}
        before += len(row["call_role"])


def _per_token(row: Mapping[str, Any], name: str) -> NDArray[np.int64]:
    sizes, values = np.diff(row["segment_start"], append=row["length"]), row[name]
    if len(sizes) != len(values) or (sizes < 1).any():
        what = f"{len(values)} {name}, and {len(sizes)} segments that do not tile the row"
        raise FormatError("row", what, "one for each", "read the row whole, or pack it again")
    return np.repeat(np.asarray(values, np.int64), sizes)


def _check_paths(index: Mapping[str, Any], position_ids: torch.Tensor) -> None:
    """Refuse rows where key j of a path does not have position j, which windows rely on."""
    places = path_places(index["cu_seqlens_k"])
    wrong = torch.nonzero(position_ids[0, index["k_index"]] != places).flatten()
    if wrong.numel():
        token = int(index["k_index"][wrong[0]])
        what = f"token {token} has position {int(position_ids[0, token])}"
        expected = f"{int(places[wrong[0]])}, how many tokens it sees besides itself"
        raise FormatError("batch", what, expected, "read the row whole, or pack it again")


def _check_columns(rows: Sequence[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        if nulls := [name for name, value in row.items() if value is None]:
            what = f"no {', '.join(nulls)}, which other rows have"
            fix = "pack the datasets of a mixture with the same options"
            raise UsageError(f"row {number}", what, "rows of the same columns", fix)
        lengths = {name: len(row[name]) for name in OF_TOKENS if name in row}
        if set(lengths.values()) != {int(row["length"])}:
            expected = f"length={row['length']} of each"
            fix = "let the trainer cut no row (max_length=None, skip_prepare_dataset)"
            raise UsageError(f"row {number}", f"{lengths} tokens", expected, fix)


def _check_single(until: NDArray[np.int32], lengths: Sequence[int]) -> None:
    for number, (line, length) in enumerate(zip(until, lengths, strict=True)):
        if np.any(line[:length] != length):
            what = 'branches or several samples, and mask "none"'
            fix = "take a mask; or pack with --layout npass and without --packing"
            raise UsageError(f"row {number}", what, "one plain causal sample a row", fix)
