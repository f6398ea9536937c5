"""A shell completes commands, options and their values."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from runs import ROOT


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("reasonpack ins", ["plain,inspect"]),
        ("reasonpack inspect --ma", ["plain,--mask"]),
        ("reasonpack pack --layout n", ["plain,npass"]),
    ],
)
def test_words_are_completed(words: str, expected: list[str]) -> None:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "reasonpack"],
        env={**os.environ, **asked, "_REASONPACK_COMPLETE": "bash_complete"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == expected
