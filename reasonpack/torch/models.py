"""A model's configuration becomes the collator whose mask it takes, or a refusal.

    attn_implementation   onepass rows      npass rows
    sdpa                  "sdpa"            "sdpa"
    eager                 "eager"           "eager"
    flex_attention        "flex"            "flex"
    flash_attention_2 …   "branches"        "varlen"       after attend_by_branches(model)
    any                   refused           "none"          recurrent, local or ALiBi layers;
                                                            rows of one sample only

Models without a mask take every jump in `position_ids` for a new sequence, sliding-window layers
count row indices, and recurrent layers read the row from left to right: each would silently train
on the wrong context. `transformers` is not imported: a configuration is read by its attributes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_args

import torch

from reasonpack.choices import Layout
from reasonpack.errors import UsageError
from reasonpack.rows.model_layers import Architecture
from reasonpack.torch.branch_attention import (
    attend_by_branches,
    implementation_of,
    is_attended_by_branches,
    is_flash,
    text_config,
)
from reasonpack.torch.collator import Collator, MaskForm
from reasonpack.torch.flex_masks import Windows, build_flex_masks

FORMS: dict[str, MaskForm] = {"sdpa": "sdpa", "eager": "eager", "flex_attention": "flex"}
FULL, SLIDING = "full_attention", "sliding_attention"


def collator_for(
    model: Any, *, layout: Layout, packed: bool = True, pad_to_multiple_of: int = 1
) -> Collator:
    """Make the collator whose mask this model takes; refuse a model that `check_model` refuses.

    Set further options with `dataclasses.replace(collator, shift_labels=True)`.

    Args:
        model: a `transformers` model, or its configuration with `_attn_implementation` set.
        layout: layout of the rows, `RowDataset.layout`.
        packed: whether a row may hold several samples, `RowDataset.packed`.
        pad_to_multiple_of: as in `Collator`.

    Raises:
        UsageError: as `check_model`.
    """
    config, implementation = text_config(model), implementation_of(model)
    form: MaskForm = FORMS.get(implementation, "sdpa")
    if is_flash(implementation):
        form = "varlen" if layout == "npass" else "branches"
    if layout == "npass" and not packed and _odd_layers(config):
        form = "none"
    collator = Collator(
        mask=form,
        window=model_windows(config) if form in FORMS.values() else None,
        dtype=getattr(model, "dtype", None) or torch.float32,
        pad_to_multiple_of=pad_to_multiple_of,
        max_position=model_max_position(config),
        vocabulary=getattr(config, "vocab_size", None),
    )
    check_model(model, layout=layout, packed=packed, collator=collator)
    return collator


def prepare_model(model: torch.nn.Module) -> Any:
    """Put the hook on a model that its attention needs; call this before making the trainer.

    It is `attend_by_branches` for FlashAttention, else `build_flex_masks`, which for SDPA and
    eager only refuses batches whose mask was lost.

    Returns:
        A handle; its `remove()` undoes this.

    Raises:
        UsageError: as `attend_by_branches`.
    """
    by_branches = is_flash(implementation_of(model))
    return attend_by_branches(model) if by_branches else build_flex_masks(model)


def check_model(
    model: Any, *, layout: Layout, packed: bool = True, collator: Collator | None = None
) -> None:
    """Refuse a model that would train on the wrong context with rows of this layout.

    Args:
        model: a `transformers` model, or its configuration with `_attn_implementation` set.
        layout: layout of the rows, `RowDataset.layout`.
        packed: whether a row may hold several samples, `RowDataset.packed`.
        collator: the collator of the batches; its mask and window are checked too, and its
            `max_position` if the model's RoPE depends on the batch.

    Raises:
        UsageError: recurrent layers or layers of an unknown type; a model that takes no
            `position_ids`; Unsloth's attention, or an attention implementation that ignores the
            mask; a mask, a window or a limit of positions that is not the model's.
    """
    if layout not in get_args(Layout):
        expected = " or ".join(get_args(Layout))
        raise UsageError("layout", f"{layout!r}", expected, "pass the layout of RowDataset")
    config = text_config(model)
    name = getattr(config, "model_type", None) or type(config).__name__
    if layout == "onepass" or packed:
        _check_layers(config, name, layout)
        _check_positions(model, name)
        _check_attention(model, name)
    implementation = implementation_of(model)
    if layout == "onepass" and implementation not in FORMS:
        what = f"attn_implementation {implementation!r} with onepass rows"
        if not is_flash(implementation):
            expected = f"FlashAttention, or one that takes a mask ({', '.join(FORMS)})"
            fix = 'load the model with attn_implementation="flash_attention_2" or '
            fix += '"flex_attention", or pack with --layout npass'
            raise UsageError(name, what, expected, fix)
        if not is_attended_by_branches(model):
            expected = "attend_by_branches(model) before: its kernel would let the next turn "
            expected += "read the old reasoning"
            fix = 'call it, or load the model with attn_implementation="flex_attention", or'
            fix += " pack with --layout npass"
            raise UsageError(name, what, expected, fix)
    if collator is not None:
        _check_collator(collator, model, name, layout)


def model_windows(config: Any) -> Windows:
    """Read the sliding window of a model or its configuration, in the form that `Collator` takes.

    >>> from types import SimpleNamespace
    >>> model_windows(SimpleNamespace(sliding_window=4, layer_types=["sliding_attention"]))
    {'full_attention': None, 'sliding_attention': 4}
    >>> model_windows(SimpleNamespace(sliding_window=4))
    4
    """
    config = text_config(config)
    size = getattr(config, "sliding_window", None)
    if not size or getattr(config, "use_sliding_window", True) is False:
        return None
    types = getattr(config, "layer_types", None)
    if types is None:
        return int(size)
    return {FULL: None, SLIDING: int(size)} if SLIDING in types else None


def model_max_position(config: Any) -> int | None:
    """Read how many positions a model, or its configuration, has; None if that is not said.

    A dynamic RoPE (`dynamic`, `longrope`) has one set of frequencies up to its original length,
    which is returned; beyond, the largest position in a batch decides on its frequencies.

    >>> from types import SimpleNamespace
    >>> model_max_position(SimpleNamespace(max_position_embeddings=4096))
    4096
    >>> yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    >>> model_max_position(SimpleNamespace(max_position_embeddings=8192, rope_parameters=yarn))
    16384
    """
    config = text_config(config)
    longest = getattr(config, "max_position_embeddings", None)
    limits = []
    for rope in _ropes(config):
        original = (
            rope.get("original_max_position_embeddings")
            or getattr(config, "original_max_position_embeddings", None)
            or longest
        )
        if original and _is_dynamic(rope):
            limits.append(int(original))
        elif original and longest:
            longest = max(longest, int(original * (rope.get("factor") or 1)))
    return min([*limits, *([int(longest)] if longest else [])], default=None)


def _ropes(config: Any) -> list[dict[str, Any]]:
    """Return the RoPE parameters of a configuration: one set, or one for each type of layer."""
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None)
    if not isinstance(found, dict):
        return []
    nested = [part for part in found.values() if isinstance(part, dict)]
    return nested or [found]


def _is_dynamic(rope: dict[str, Any]) -> bool:
    kind = str(rope.get("rope_type") or rope.get("type"))
    return "dynamic" in kind or kind == "longrope"


def _odd_layers(config: Any) -> list[str]:
    """Name the types of layers that neither a mask nor the bounds of sequences make right.

    They get batches without either, of one plain sample a row: the model makes its own masks.
    """
    types = getattr(config, "layer_types", None)
    if types is not None:
        odd = sorted(set(types) - {FULL, SLIDING})
    else:
        model_type = getattr(config, "model_type", None)
        recurrent = Architecture.of({**vars(config), "model_type": model_type}).recurrent
        odd = [recurrent] if recurrent else []
    if "local" in str(getattr(config, "attention_types", "")):  # GPT-Neo's window, in row indices
        odd.append("local")
    if getattr(config, "alibi", False):  # positions from the row, not from position_ids
        odd.append("alibi")
    return odd


def _check_layers(config: Any, name: str, layout: Layout) -> None:
    if odd := _odd_layers(config):
        what = f"layers other than full and sliding attention ({', '.join(odd)})"
        rows, part, fix = "packed", "sample", "pack without --packing"
        if layout == "onepass":
            rows, part, fix = "onepass", "branch", "pack --layout npass, without --packing"
        expected = f"none with {rows} rows: one {part} of the row leaks into the next"
        raise UsageError(name, what, expected, fix)


def _check_positions(model: Any, name: str) -> None:
    adapted = getattr(model, "get_base_model", None)  # peft: its own forward takes anything
    forward = getattr(adapted() if adapted else model, "forward", None)
    if forward is not None and "position_ids" not in inspect.signature(forward).parameters:
        expected = "it to: positions would be row indices"
        fix = "pack with --layout npass, without --packing"
        raise UsageError(name, "forward() takes no position_ids", expected, fix)


def _check_attention(model: Any, name: str) -> None:
    """Refuse Unsloth's own attention: its models replace every mask by a causal one in training."""
    for module in model.modules() if isinstance(model, torch.nn.Module) else ():
        home = getattr(module.forward, "__module__", None) or ""
        if "Attention" in type(module).__name__ and home.startswith("unsloth."):
            what = f"attention of {home}, which drops the mask in training"
            fix = "load the model with transformers, or pack --layout npass, without --packing"
            raise UsageError(name, what, "attention that takes it", fix)


def _check_collator(collator: Collator, model: Any, name: str, layout: Layout) -> None:
    if not isinstance(collator, Collator):
        found = type(collator).__name__
        raise UsageError("collator", found, "a Collator", "use collator_for(model, …)")
    config, implementation = text_config(model), implementation_of(model)
    taken: set[str] = {FORMS[implementation]} if implementation in FORMS else set()
    if implementation == "sdpa":
        taken.add("eager")  # SDPA adds a float mask
    if is_attended_by_branches(model):
        taken.add("branches")
    if layout == "npass":
        taken = {"none"} if _odd_layers(config) else taken | {"varlen", "none"}
    fix = "use collator_for(model, …)"
    if collator.mask not in taken:
        what = f"attn_implementation {implementation!r} with mask {collator.mask!r}"
        raise UsageError(name, what, " or ".join(sorted(taken)), fix)
    expected = None if collator.mask in ("branches", "varlen", "none") else model_windows(config)
    given = dict(collator.window) if isinstance(collator.window, Mapping) else collator.window
    if given != expected:
        raise UsageError(name, f"collator with window {given}", f"{expected}, the model's", fix)
    if any(map(_is_dynamic, _ropes(config))):
        limit = model_max_position(config)
        if limit and (collator.max_position is None or collator.max_position > limit):
            what = f"collator with max_position {collator.max_position}"
            most = f"{limit} at most: beyond, dynamic RoPE depends on the other rows of a batch"
            raise UsageError(name, what, most, fix)
