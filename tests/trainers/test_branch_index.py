"""An index that is wrong changes the gradients, and is refused; a wrong kernel too."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402

# isort: split
import flash  # noqa: E402
from branching import (  # noqa: E402
    PACKED,
    WRONG,
    conversations,
    dense_loss,
    off,
)

from reasonpack.errors import UsageError  # noqa: E402
from reasonpack.torch import (  # noqa: E402
    Collator,
)
from reasonpack.torch.branch_index import NAME, BranchIndex  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*is deprecated")]


def shifted(index: dict[str, Any]) -> None:
    index["k_index"] = (index["k_index"] - 1).clamp(min=0)


def misordered(index: dict[str, Any]) -> None:
    """The paths of the first two branches change places."""
    first, second = index["cu_seqlens_k"][1:3].tolist()
    k_index = index["k_index"]
    index["k_index"] = torch.cat([k_index[first:second], k_index[:first], k_index[second:]])
    index["cu_seqlens_k"][1] = second - first


KERNELS = {"a window forgotten": {"window_size": (-1, -1)}, "top left": {"top_left": True}}


def planted_gradient(model: Any, fault: str) -> float:
    rows = tiny.rows_of(conversations(), PACKED, layout="onepass")
    batch = Collator(mask="branches")(rows)
    if fault not in KERNELS:
        {"an index shifted by one": shifted, "a branch in the wrong order": misordered}[fault](
            batch[NAME]
        )
    found = tiny.batch_loss(model, batch)
    return off(model, found, dense_loss(model, rows))[1]


@pytest.mark.parametrize(
    "fault", [*KERNELS, "an index shifted by one", "a branch in the wrong order"]
)
def test_planted_faults_change_the_gradients(
    fault: str, attended: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = attended("mistral", kernel=flash.varlen(**KERNELS.get(fault, {})))
    monkeypatch.setattr(BranchIndex, "check_positions", lambda *_: None)
    monkeypatch.setattr(
        "reasonpack.torch.branch_attention.check_aligned", lambda *_args, **_given: None
    )
    assert planted_gradient(model, fault) > WRONG


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("top left", r"gives \[1.0, 1.5, 1.0\].*not aligned bottom right"),
        ("an index shifted by one", "position_ids that do not count"),
    ],
)
def test_planted_faults_are_refused(fault: str, said: str, attended: Any) -> None:
    model = attended("mistral", kernel=flash.varlen(**KERNELS.get(fault, {})))
    with pytest.raises(UsageError, match=said):
        planted_gradient(model, fault)
