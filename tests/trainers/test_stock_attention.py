"""Other attentions of transformers take branches; the reference of SDPA is the definition."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402
from branching import (  # noqa: E402
    EQUAL,
    FLASH,
    PACKED,
    branch_loss,
    conversations,
    dense_loss,
)

from reasonpack.torch import (  # noqa: E402
    collator_for,
)
from reasonpack.torch.stock_attention import varlen_attention  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]


@pytest.mark.parametrize("name", ["flash_attention_3", "flash_attention_4", "of-a/hub-flash"])
def test_other_flash_attentions_take_branches(
    name: str, attended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered = transformers.AttentionInterface._global_mapping
    monkeypatch.setitem(registered, name, registered[FLASH])  # as a kernel of the hub is
    model = attended("mistral", name)
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    assert collator_for(model, layout="onepass").mask == "branches"
    assert abs(branch_loss(model, rows).item() / dense_loss(model, rows).item() - 1) < EQUAL


@pytest.mark.parametrize("given", [{}, {"window": 3}, {"softcap": 0.5}, {"sinks": True}])
def test_the_reference_of_sdpa_is_the_definition(given: dict[str, Any]) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(n, heads, 4).double() for n, heads in ((9, 4), (16, 2), (16, 2)))
    bounds = torch.tensor([0, 5, 9]), torch.tensor([0, 5, 16])
    if "sinks" in given:
        given = {"sinks": torch.randn(4).double()}
    window = given["window"] - 1 if "window" in given else -1
    said = {"softmax_scale": 0.5, "softcap": given.get("softcap"), "s_aux": given.get("sinks")}
    expected = flash.attention(q, k, v, bounds, {**said, "window_size": (window, 0)})
    assert torch.allclose(varlen_attention(q, k, v, *bounds, **given), expected, atol=1e-12)
