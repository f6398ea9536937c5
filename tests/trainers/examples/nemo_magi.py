"""NeMo Automodel: onepass rows by MagiAttention, with `backend.attn: magi`.

`set_active_attn_spec(spec_of(visible_until))` after its preparation of a batch and before the
forward; `Collator(mask="visible_until")` gives `visible_until`. Its own mask of documents, from
`cu_seqlens`, is wrong for onepass rows. With more than one context-parallel rank it builds a plain
causal key of its own: not for these rows. Read in its code, and run here with a stand-in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from nemo_automodel.components.distributed.context_parallel.magi import AttnMaskSpec
from numpy.typing import NDArray

from reasonpack.masks import magi

NAMES = {magi.FULL: "full", magi.CAUSAL: "causal"}


def spec_of(visible_until: NDArray[np.int32]) -> Any:
    """The mask of the rows of a batch laid end to end."""
    found = magi.slices(visible_until)
    q_ranges, k_ranges, types = [], [], []
    for q, k, kind in zip(
        found.q_ranges.tolist(),
        found.k_ranges.tolist(),
        found.attn_type_map.tolist(),
        strict=True,
    ):
        # It names no bi-causal slice: its tokens, which see themselves only, stand one by one.
        single = [[token, token + 1] for token in range(*q)] if kind == magi.BI_CAUSAL else [q]
        q_ranges += single
        k_ranges += single if kind == magi.BI_CAUSAL else [k]
        types += [NAMES.get(kind, "causal")] * len(single)
    return AttnMaskSpec(q_ranges, k_ranges, types, visible_until.size)
