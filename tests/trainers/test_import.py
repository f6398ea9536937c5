"""The package and its command line work where torch is not installed, and never load it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["reasonpack", "reasonpack.cli", "reasonpack.masks.dense"])
def test_torch_is_not_loaded(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.torch
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")
def test_transformers_is_not_loaded_let_alone_changed() -> None:
    code = "import sys, reasonpack.torch; sys.exit('transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_torch_the_error_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from reasonpack.errors import ReasonpackError\n"
        "import reasonpack.masks.flex, reasonpack.masks.dense\n"
        "for module in ('reasonpack.torch', 'reasonpack.torch.collator'):\n"
        "    try:\n"
        "        __import__(module)\n"
        "    except ReasonpackError as error:\n"
        "        print(isinstance(error, ImportError), error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("True reasonpack.torch: ")
        assert "Fix: pip install 'reasonpack[torch]'" in line
