"""Fast backends on published tokenizers: each proves itself, and is right wherever it is asked."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import pytest
from assets import TOKENIZERS, tokenizer_dir
from backends_sweep import Found, sweep

from reasonpack.choices import Backend
from reasonpack.tokens.fast_backends import Encoder
from reasonpack.tokens.tokenizer import load_tokenizer
from tests.tokens.test_fast_backends import same

pytestmark = pytest.mark.network


@pytest.mark.parametrize(
    ("model", "name"), [*itertools.product(TOKENIZERS, ("gigatoken", "fastokens"))]
)
def test_real_backends_prove_themselves(name: Backend, model: str) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    tokenizer = load_tokenizer(tokenizer_dir(model))
    encoder = Encoder(tokenizer, [name], check_rate=1)
    folder = Path(__file__).parents[2]
    files = sorted(folder.glob("reasonpack/**/*.py"))[::3]
    texts = [path.read_text("utf-8") for path in files]
    pieces = [piece for text in texts for piece in tokenizer.cut(text)]
    assert same(encoder.encode(pieces), tokenizer, pieces)
    assert (encoder.used.partition(" ")[0], encoder.fault) == (name, None)


@pytest.mark.parametrize(
    "seed", [0, *[pytest.param(n, marks=pytest.mark.slow) for n in range(1, 9)]]
)
@pytest.mark.parametrize("model", TOKENIZERS)
def test_settled_texts_have_the_ids_of_the_reference(model: str, seed: int) -> None:
    share = 0.01
    for name, found in sweep(load_tokenizer(tokenizer_dir(model)), share, seed).items():
        assert isinstance(found, Found), (name, found)
        assert found.wrong == [], name
        assert found.settled > 1_500_000 * share
