"""Leave nothing of one test in the process of the next."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def take_back() -> Iterator[None]:
    """Take back the attention that a test registered, and that recipes leave to the process."""
    yield
    module = sys.modules.get("reasonpack.torch.stock_attention")
    if module is not None:
        for name, (_, models) in list(module._stock.items()):
            for _ in range(models):
                module.unregister(name)
