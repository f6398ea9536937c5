"""The tokenizer of the fixtures, and what keeps tests of many short texts quick."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(Path(__file__).parents[2] / "fixtures" / "tokenizer")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Waking a pool of threads costs more than these short texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield
