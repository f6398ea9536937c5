"""What users import is there: a public name goes, comes or moves only with this list."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "reasonpack": "FormatError Manifest Options ReasonpackError RecordError StorageError"
    " TemplateError TokenizerError UsageError pack_files read_manifest",
    "reasonpack.masks": "Window flat stack visible_until",
    "reasonpack.masks.blocks": "BlockLists backward classify forward grid",
    "reasonpack.masks.branches": "Branches branches sum_order",
    "reasonpack.masks.dense": "additive visible",
    "reasonpack.masks.flashmask": "startend_row_indices",
    "reasonpack.masks.magi": "Slices slices",
    "reasonpack.masks.varlen": "cu_seqlens",
    "reasonpack.run.ray": "pack_table run_ray",
}
WITH_TORCH = {
    "reasonpack.masks.flex": "block_mask mask_mod",
    "reasonpack.torch": "BranchAttention BranchIndex Collator FlexMask MaskForm RowDataset"
    " RowStream WeightedLoss attend_by_branches build_flex_masks check_context"
    " check_model collator_for gathered model_max_position model_windows prepare_model"
    " regathered weighted_loss",
}


def check(module: str, names: str) -> None:
    found = importlib.import_module(module)
    assert sorted(found.__all__) == names.split()
    assert all(getattr(found, name) is not None for name in names.split())


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_can_be_imported(module: str) -> None:
    check(module, PUBLIC[module])


@pytest.mark.torch
@pytest.mark.parametrize("module", WITH_TORCH)
def test_public_names_of_torch_can_be_imported(module: str) -> None:
    pytest.importorskip("torch")
    check(module, WITH_TORCH[module])
