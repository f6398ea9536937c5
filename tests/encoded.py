"""Views in tokens, said token by token.

encoded_view([7, 8, 9], prompt_length=2, kinds=[0, 0, 3], messages=[0, 1, 1])
    ──→ EncodedView with the runs (1, 0, 0), (2, 0, 1), (3, 3, 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from reasonpack.rows.forest import EncodedView, Run


def encoded_view(
    tokens: Sequence[int], *, prompt_length: int, kinds: Sequence[Any], messages: Sequence[int]
) -> EncodedView:
    """Make a view from the kind and the message of each of its tokens."""
    each = list(zip(map(int, kinds), map(int, messages), strict=True))
    changes = [at for at, (one, other) in enumerate(pairwise(each), 1) if one != other]
    runs = [Run(stop, *each[stop - 1]) for stop in [*changes, len(each)] if stop]
    array = np.array(tokens, np.int32)
    assert len(array) == len(each)
    array.setflags(write=False)  # laying out must not write into its input
    return EncodedView(array, prompt_length, runs)


def per_token(view: EncodedView) -> list[tuple[int, int, int]]:
    """Spread the runs of a view that shares nothing: token, kind and message of each."""
    spread, at = [], 0
    for stop, kind, message in view.runs:
        assert at < stop, "an empty run"
        spread += [(kind, message)] * (stop - at)
        at = stop
    return [(token, *what) for token, what in zip(view.tokens.tolist(), spread, strict=True)]
