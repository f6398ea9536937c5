"""The costs of a dataset's layouts → a table, and advice on which to train with which kernel.

    what a layer computes                    tokens        pairs   128×128 blocks
      onepass, branches (varlen kernel)      31,494   17,615,903            1,506
      npass, varlen kernel                   42,757   21,067,364            1,662
    Take onepass by branches …

One ratio decides: the operations of npass divided by those of onepass by branches, which runs in
the same kernel. Below `PAYS`, onepass is not recommended.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from reasonpack.show.cost import BLOCK, Costs, Work
from reasonpack.show.model_shape import ModelShape
from reasonpack.show.terminal import fitted
from reasonpack.wording import count

WIDTH = 85
"""Characters of the table and of a line of text."""
PAYS = 1.05
"""Least ratio of operations at which onepass is worthwhile; gathering keys takes 1 to 3 %."""
BLOCK_MASK = "a block mask (FlexAttention, FlashMask, MagiAttention)"


def cost_lines(
    costs: Costs, layout: str, shape: ModelShape | None = None, width: int | None = None
) -> Iterator[str]:
    """Yield the counts as a table, then advice for a model of this shape."""
    if width is not None and width < WIDTH:
        yield "what a layer computes"
        for name, work in works(costs, layout):
            numbers = ((work.tokens, "token"), (work.pairs, "pair"), (work.blocks, "block"))
            counts = ", ".join(count(*each) for each in numbers)
            yield from fitted(f"  {name}: {counts}", width, indent=4)
        yield from textwrap.wrap(" ".join(advice(costs, layout, shape)), width)
        return
    yield f"{'what a layer computes':<35} {'tokens':>13} {'pairs':>17} {'128×128 blocks':>16}"
    for name, work in works(costs, layout):
        yield f"  {name:<33} {work.tokens:>13,} {work.pairs:>17,} {work.blocks:>16,}"
    yield from textwrap.wrap(" ".join(advice(costs, layout, shape)), WIDTH)


def works(costs: Costs, layout: str) -> list[tuple[str, Work]]:
    """Return (name, work) of each way to train a dataset whose rows have this layout."""
    npass, dense = ("npass, varlen kernel", costs.npass), (f"{layout}, dense mask", costs.dense)
    branches = ("onepass, branches (varlen kernel)", costs.branches)
    masked = ("onepass, block mask", costs.block_sparse)
    return [npass, dense] if layout == "npass" else [branches, masked, dense, npass]


def advice(costs: Costs, layout: str, shape: ModelShape | None = None) -> Iterator[str]:
    """Yield sentences of advice for a model of this shape."""
    shape = shape or ModelShape()
    if not costs.npass.tokens:
        return
    if layout == "npass":
        yield "A varlen kernel that is given the borders of the samples computes exactly this."
        yield "To see what onepass would save, call pack with --layout onepass --dry-run."
    elif costs.npass.tokens == costs.branches.tokens:
        yield "No conversation has a branch: onepass and npass are the same, and either will do."
    else:
        yield from _onepass(costs, shape)
    yield _dense(costs)
    if shape.layers:
        of = costs.npass if layout == "npass" else costs.branches
        names = "npass" if layout == "npass" else "onepass by branches"
        epoch = f"An epoch takes about {shape.operations(of):.1e} operations as {names}"
        yield epoch + (
            "." if layout == "npass" else f", {shape.operations(costs.npass):.1e} as npass."
        )


def _onepass(costs: Costs, shape: ModelShape) -> Iterator[str]:
    """Yield sentences on whether onepass pays, by branches and with a block mask."""
    times = shape.operations(costs.npass) / shape.operations(costs.branches)
    size = f"in a model of hidden size {shape.hidden_size:,}"
    if times < PAYS:
        yield (
            f"Take npass: onepass by branches needs {1 / times:.2f} times as many operations "
            f"{size}, and has to gather keys."
        )
        return
    tokens = costs.npass.tokens / costs.branches.tokens
    yield (
        "Take onepass by branches (FlashAttention 2, 3, 4): "
        f"{tokens:.2f} times fewer tokens and {times:.2f} times fewer operations than npass {size}."
    )
    masked = costs.block_sparse
    saved = shape.token * (costs.npass.tokens - masked.tokens) / (shape.pair * BLOCK**2)
    slower = (saved + costs.npass.blocks) / masked.blocks
    if slower < PAYS:
        yield f"With {BLOCK_MASK} it does not pay."
    else:
        yield (
            f"With {BLOCK_MASK} it pays if that kernel takes less than {slower:.2f} times as long "
            "for a block as a varlen kernel."
        )


def _dense(costs: Costs) -> str:
    visible = costs.branches.pairs
    times = f"computes {costs.dense.pairs / visible:.1f} times the visible pairs"
    dense = f"A dense mask (SDPA, eager) {times}"
    if costs.dense.pairs > costs.npass.pairs:
        return f"{dense}: for short rows and tests."
    return f"{dense}, which is less than npass does, but takes a T × T mask."
