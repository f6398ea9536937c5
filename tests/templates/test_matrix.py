"""Every shape of message under every real template: the view that a person reviewed, or a refusal.

The goldens hold texts of the probes only. `regenerate.py` writes them; what it changes has to be
read against what the model does.
"""

from __future__ import annotations

import pytest
from matrix import GOLDEN, SHAPES, TEMPLATES, golden, golden_path

pytestmark = pytest.mark.network


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_gives_the_reviewed_views(name: str) -> None:
    assert golden(name) == golden_path(name).read_text(encoding="utf-8")


def test_each_golden_is_tested() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        golden_path(name).name for name in TEMPLATES
    }
    assert len(TEMPLATES) >= 40
    assert len(SHAPES) == 16
