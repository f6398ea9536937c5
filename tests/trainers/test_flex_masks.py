"""Masks for FlexAttention: moved, counted and built."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from tests.changed import replace

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.attention.flex_attention")


# isort: split

from reasonpack.torch import Collator, FlexMask, build_flex_masks  # noqa: E402
from tests.trainers.test_collator import BRANCHES, CHAIN, full_row  # noqa: E402

pytestmark = pytest.mark.torch


def test_flex_masks_move_count_tokens_and_fail_where_they_are_not_built() -> None:
    mask = Collator(mask="flex", window=3, pad_to_multiple_of=8)([full_row(CHAIN)])[
        "attention_mask"
    ]
    moved = mask.to("meta", non_blocking=True)
    assert isinstance(moved, FlexMask)
    assert moved.visible_until.device.type == moved.position_ids.device.type == "meta"
    assert int(mask.sum()) == 5
    assert replace(mask, window=None).build().shape == (1, 1, 8, 8)
    assert not hasattr(mask, "shape")
    with pytest.raises(AttributeError, match=r"FlexMask has no 'ndim'.*build_flex_masks\(model\)"):
        mask.ndim  # noqa: B018
    assert pickle.loads(pickle.dumps(mask)).tokens == 5  # as workers hand it over


def test_the_hook_builds_flex_masks() -> None:
    class Model(torch.nn.Module):
        def forward(self, attention_mask: Any = None, **_: Any) -> Any:
            return attention_mask

    model, made = Model(), Collator(mask="flex")([full_row(BRANCHES)])
    handle = build_flex_masks(model)
    assert model(**made).shape == (1, 1, 5, 5)
    plain = torch.ones(1, 1, 5, 5)
    assert model(attention_mask=plain) is plain
    handle.remove()
    assert model(**made) is made["attention_mask"]
