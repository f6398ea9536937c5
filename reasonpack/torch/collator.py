"""Rows become a padded batch, with the mask in the form that the model's attention takes.

    rows of 5 and 3 tokens, pad_to_multiple_of=4
    input_ids, position_ids, labels   i64[2, 8]      padded with pad_token_id, 0, -100
    attention_mask, by `mask=`
        "sdpa"       bool[2, 1, 8, 8]                SDPA; O(B·T²)
        "eager"      dtype[2, 1, 8, 8], additive     HF eager (and SDPA); O(B·T²)
        "flex"       FlexMask, i32[2, 8] inside      FlexAttention; becomes a BlockMask in the step
    no attention_mask
        "flashmask"  startend_row_indices i32[2, 1, 8, 1]
        "visible_until"  i32[2, 8], of which the step makes what any other kernel takes
                         (`masks.magi`, `masks.blocks`)
        "varlen"     one row i64[1, 8], cu_seq_lens_q …   FlashAttention; plain causal rows only
        "none"       is_causal kernels; rows of one plain causal sample only

With a window the masks count in positions. A model that mixes layers takes a dict of masks:
`window={"full_attention": None, "sliding_attention": 512}` gives `attention_mask` those keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Optional, Union, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from reasonpack.errors import UsageError
from reasonpack.masks import Window, dense, flashmask, flex, stack, varlen
from reasonpack.rows.forest import IGNORE

__all__ = ["Collator", "FlexMask", "MaskForm", "Windows", "build_flex_masks"]

MaskForm = Literal["sdpa", "eager", "flex", "flashmask", "visible_until", "varlen", "none"]
Windows = Union[int, Mapping[str, Optional[int]], None]  # noqa: UP007, UP045 (an alias runs on 3.10)
Batch = dict[str, Any]
COLUMNS = frozenset(
    {"input_ids", "position_ids", "labels", "length", "segment_start", "segment_visible_until"}
)
"""What a row must have to become part of a batch."""
MASKS_BESIDE = frozenset({"startend_row_indices", "visible_until"})
"""Names under which a batch brings its mask where it has no `attention_mask`."""


@dataclass(frozen=True, slots=True)
class FlexMask:
    """What a `BlockMask` is made of, until it is on the right device.

    A `BlockMask` keeps the tensors that its `mask_mod` captures where they were made, so it is
    built in the training step. Data loaders move and pin this object as they do tensors; a
    model that is given it as it is fails at once, where a missing mask would train in silence.

    Attributes:
        visible_until: `i32[B, T]`.
        position_ids: `i64[B, T]`.
        window: as in `Collator`.
        tokens: in the batch without padding.
    """

    visible_until: torch.Tensor
    position_ids: torch.Tensor
    window: Windows
    tokens: int

    def build(self, block_size: tuple[int, int] = (128, 128)) -> Any:
        """Build the `BlockMask`, or the dict of them where the window is a mapping."""

        def block_mask(size: int | None) -> Any:
            window = None if size is None else Window(self.position_ids, size)
            return flex.block_mask(self.visible_until, block_size=block_size, window=window)

        return _per_layer_type(self.window, block_mask)

    def to(self, *args: Any, **kwargs: Any) -> FlexMask:
        """Move to a device, as `Tensor.to`."""
        return self._moved(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self, *args: Any) -> FlexMask:
        """Pin, as `Tensor.pin_memory`."""
        return self._moved(lambda tensor: tensor.pin_memory(*args))

    def sum(self) -> torch.Tensor:
        """Count the tokens: trainers log the sum of a mask as that."""
        return torch.tensor(self.tokens, device=self.visible_until.device)

    def __getattr__(self, name: str) -> Any:
        """Say what to do where a model takes this for a tensor."""
        raise AttributeError(
            f"FlexMask has no {name!r}, as it is no tensor yet. "
            "Fix: call build_flex_masks(model) before training, or build() in the step."
        )

    def _moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> FlexMask:
        return FlexMask(move(self.visible_until), move(self.position_ids), self.window, self.tokens)


def build_flex_masks(model: torch.nn.Module) -> Any:
    """Let a model build the `FlexMask` that it is given, and refuse rows whose mask was lost.

    No change to the trainer is needed. A batch that comes without a mask, or with one of padding
    alone, as where a trainer drops or rebuilds it, raises `UsageError` if that is wrong for its
    rows: without a mask a model takes every jump in the positions for the start of a sample, so a
    branch is wrong; with one of padding it looks at no position, so a second sample is wrong too.
    If the positions were lost as well, nothing can be said of the rows: a batch to train on is
    then refused, one for a model in `eval()`, as in `generate`, is let through.

    Returns:
        The handle of the hook; `handle.remove()` takes it off.
    """

    def build(
        model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask = kwargs.get("attention_mask")
        if isinstance(mask, FlexMask):
            kwargs = {**kwargs, "attention_mask": mask.build()}
        elif not MASKS_BESIDE & kwargs.keys() and _is_of_padding(mask):
            _check_plain(kwargs.get("position_ids"), mask, training=model.training)
        return args, kwargs

    return model.register_forward_pre_hook(build, with_kwargs=True)


def _is_of_padding(mask: Any) -> bool:
    return mask is None or (isinstance(mask, torch.Tensor) and mask.ndim == 2)


def _check_plain(position_ids: Any, mask: Any, *, training: bool) -> None:
    """Refuse rows that need a mask: positions that jump, but not to 0, are those of a branch."""
    if position_ids is None and training:
        raise UsageError(
            "batch: no position_ids, expected those of the collator: which rows these are, nobody "
            "can tell. Fix: give the trainer the collator of collator_for(model, …), and let it "
            "keep all columns (remove_unused_columns=False)."
        )
    if position_ids is None or position_ids.ndim != 2:
        return
    jumps = position_ids[:, 1:] != position_ids[:, :-1] + 1
    if mask is None:
        jumps &= position_ids[:, 1:] != 0
    else:  # whatever padding has for positions
        jumps &= (mask[:, 1:] != 0) & (mask[:, :-1] != 0)
    if bool(jumps.any()):
        found = "None" if mask is None else f"of shape {tuple(mask.shape)}"
        rows = "branch" if mask is None else "branch or hold several samples"
        raise UsageError(
            f"batch: attention_mask {found} with rows that {rows}, expected the one of the "
            "collator. Fix: let the trainer keep it (remove_unused_columns=False, no padding-free "
            "or packing option of its own), or pack with --layout npass, without --packing."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """Collate rows; give it to a `DataLoader` as `collate_fn`, to a trainer as `data_collator`.

    A batch holds `input_ids`, `position_ids` and `labels` (`i64[B, T]`, labels unshifted) and the
    mask. Rows come from `RowDataset`, `RowStream` or `datasets.load_dataset`.

    Attributes:
        mask: see the head of this module.
        window: positions a token sees, itself included; or one for each of the model's
            `layer_types`, None for all; None for no window.
        dtype: of the "eager" mask: that of the model's scores.
        pad_token_id: any id of the vocabulary; nothing sees padding.
        pad_to_multiple_of: T is a multiple of this; a row length of the dataset gives batches of
            one shape.
        shift_labels: add `shift_labels` `i64[B, T]`, the label that each token predicts, for
            losses that do not shift, as under sequence parallelism.
        loss_weights: add `loss_weights` `f32[B, T]`, 0 in padding; unshifted, as `labels`.
        max_position: refuse rows with a position from here on; None for no limit.

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
    max_position: int | None = None

    def __post_init__(self) -> None:
        if self.mask not in get_args(MaskForm):
            raise UsageError(
                f"mask: {self.mask!r}, expected one of {', '.join(get_args(MaskForm))}. "
                "Fix: take the one of the model's attention implementation."
            )
        if self.window is not None and self.mask not in ("sdpa", "eager", "flex"):
            raise UsageError(
                f'mask: "{self.mask}" with a window, expected "sdpa", "eager" or "flex". '
                "Fix: leave the window to the kernel where rows are plain causal, and take "
                "another mask where they are not."
            )

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Collate a batch of rows.

        Raises:
            UsageError: the rows have branches and `mask` cannot say so, or columns are missing, or
                they have loss weights and `loss_weights` is off, or the reverse, or a position is
                too large.
            FormatError: the segments of a row are damaged.
        """
        _check_columns(rows)
        self._check_weights(rows)
        self._check_positions(rows)
        lengths = [int(row["length"]) for row in rows]
        if self.mask == "varlen":
            return self._flat(rows, lengths)
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

        return {"attention_mask": _per_layer_type(self.window, written_out)}

    def _flat(self, rows: Sequence[Mapping[str, Any]], lengths: Sequence[int]) -> Batch:
        """Lay the rows end to end as one; padding is one more sequence, which nobody trains."""
        bounds = [0]
        for row in rows:
            bounds += (varlen.cu_seqlens(stack([row]))[1:] + bounds[-1]).tolist()
        total = self._padded(bounds[-1])
        if total > bounds[-1]:
            bounds.append(total)
        joined = {
            name: np.concatenate([np.asarray(row[name]) for row in rows]) for name in self._fills()
        }
        batch = self._columns([joined], total)
        batch["position_ids"][0, sum(lengths) :] = torch.arange(total - sum(lengths))
        cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
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
        for name, fill in self._fills().items():
            dtype = np.float32 if name == "loss_weights" else np.int64
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
        """Name the columns of a batch, each with what pads it."""
        fills = {"input_ids": self.pad_token_id, "position_ids": 0, "labels": IGNORE}
        return {**fills, "loss_weights": 0} if self.loss_weights else fills

    def _padded(self, length: int) -> int:
        return -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of

    def _check_weights(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for number, row in enumerate(rows):
            if ("loss_weights" in row) != self.loss_weights:
                found = "no loss_weights" if self.loss_weights else "loss_weights"
                raise UsageError(
                    f"row {number}: {found}, expected loss_weights={self.loss_weights}. "
                    "Fix: pass Collator(loss_weights=True) if and only if the dataset has weights "
                    "and the loss uses them."
                )

    def _check_positions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.max_position is None:
            return
        for number, row in enumerate(rows):
            if (highest := int(np.max(row["position_ids"]))) >= self.max_position:
                raise UsageError(
                    f"row {number}: position {highest:,}, expected below {self.max_position:,}, "
                    "where the model's positions end or its dynamic RoPE begins to change with "
                    f"the batch. Fix: pack with --max-position {self.max_position}, or give the "
                    "model a static RoPE scaling."
                )


class _LayerMasks(dict[str, Any]):
    """A mask for each type of layer, of which TRL asks for the sum, as it does of a tensor."""

    def sum(self) -> torch.Tensor:
        total: torch.Tensor = next(iter(self.values())).sum()
        return total


def _per_layer_type(window: Windows, make: Callable[[int | None], Any]) -> Any:
    if isinstance(window, Mapping):
        return _LayerMasks({name: make(size) for name, size in window.items()})
    return make(window)


def _check_columns(rows: Sequence[Mapping[str, Any]]) -> None:
    for number, row in enumerate(rows):
        if missing := sorted(COLUMNS - row.keys()):
            raise UsageError(
                f"row {number}: no {', '.join(missing)}, expected the columns of a packed dataset. "
                "Fix: let the trainer keep them (remove_unused_columns=False), and take the rows "
                "of RowDataset, RowStream or datasets.load_dataset as they are."
            )
        lengths = {name: len(row[name]) for name in ("input_ids", "position_ids", "labels")}
        if set(lengths.values()) != {int(row["length"])}:
            raise UsageError(
                f"row {number}: {lengths} tokens, expected length={row['length']} of each. "
                "Fix: let the trainer cut no row (max_length=None, skip_prepare_dataset)."
            )


def _check_single(until: NDArray[np.int32], lengths: Sequence[int]) -> None:
    for number, (line, length) in enumerate(zip(until, lengths, strict=True)):
        if np.any(line[:length] != length):
            raise UsageError(
                f'row {number}: branches or several samples, and mask "none", expected one plain '
                "causal sample a row. Fix: take a mask; or pack with --layout npass and without "
                "--packing."
            )
