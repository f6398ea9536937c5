"""Leave nothing of one test in the process of the next."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

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


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a tiny model whose attention takes branches; taken back at the end."""
    import flash
    import tiny

    from reasonpack.torch import attend_by_branches

    handles = []

    def make(
        family: str, name: str = "flash_attention_2", kernel: Any = None, **fields: Any
    ) -> Any:
        flash.install(monkeypatch, name, kernel)
        model = flash.with_flash(tiny.model(family, attention="eager", **fields), name)
        handles.append(attend_by_branches(model))
        return model

    yield make
    for handle in handles:
        handle.remove()
