"""How full rows are, and how even their cost, by several rules of packing, on the same samples.

    python tests/benchmarks/packing.py --tokenizer DIR --max-length 8192 CHATS...

The rules of others are written here from what they publish, in a few lines each; samples are those
of `pack`, so that none is longer than a row. Fill is tokens over rows times their length. Spread is
the standard deviation of the pairs of tokens in a row over their mean: how uneven ranks are.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from reasonpack.datasets.options import Options
from reasonpack.datasets.shards import read_shard
from reasonpack.rows.cut_rows import cut_rows
from reasonpack.rows.packing import best_fit, in_sequence
from reasonpack.run.pack import pack_files

Rows = list[list[int]]
SHUFFLES = 20
"""Random orders over which a rule that draws one is averaged."""


def first_fit(lengths: Sequence[int], most: int, order: Sequence[int]) -> Rows:
    """Put each sample, in this order, into the first row that has room."""
    rows: Rows = []
    rooms: list[int] = []
    for index in order:
        at = next((at for at, room in enumerate(rooms) if room >= lengths[index]), len(rows))
        if at == len(rows):
            rows.append([])
            rooms.append(most)
        rows[at].append(index)
        rooms[at] -= lengths[index]
    return rows


def in_order(lengths: Sequence[int], most: int, _: int) -> Rows:
    """First fit in the order of the input."""
    return first_fit(lengths, most, range(len(lengths)))


def decreasing(lengths: Sequence[int], most: int, _: int) -> Rows:
    """First fit, the longest first."""
    return first_fit(lengths, most, sorted(range(len(lengths)), key=lambda at: -lengths[at]))


def shuffled(lengths: Sequence[int], most: int, seed: int) -> Rows:
    """First fit in a random order, the default of Nemotron's recipes (first_fit_shuffle)."""
    order = random.Random(seed).sample(range(len(lengths)), len(lengths))
    return first_fit(lengths, most, order)


def concatenated(lengths: Sequence[int], most: int, _: int) -> Rows:
    """Append in the order of the input until the next does not fit, as prime-rl's `cat` does.

    What is longer than a row is cut there; no sample is here.
    """
    rows: Rows = [[]]
    for index, length in enumerate(lengths):
        if sum(lengths[each] for each in rows[-1]) + length > most:
            rows.append([])
        rows[-1].append(index)
    return rows


def measured(rows: Rows, lengths: Sequence[int], pairs: Sequence[int], most: int) -> list[float]:
    """Return the number of rows, their fill, and the spread of their pairs."""
    costs = np.array([sum(pairs[index] for index in row) for row in rows], np.float64)
    return [len(rows), sum(lengths) / (len(rows) * most), float(costs.std() / costs.mean())]


def sizes(inputs: Sequence[str], tokenizer: str, most: int) -> tuple[list[int], list[int]]:
    """Pack, and return the tokens and the pairs of each sample."""
    options = Options(
        tokenizer=tokenizer, max_length=most, on_error="skip", on_message_error="context"
    )
    with tempfile.TemporaryDirectory() as folder:
        manifest = pack_files(inputs, Path(folder, "out"), options)
        places = [Path(folder, "out", shard.path) for shard in manifest.shards]
        batches = [batch for place in places for batch in read_shard(place)]
        samples = [sample for batch in batches for row in cut_rows(batch) for sample in row]
        return [sample.length for sample in samples], [sample.pairs for sample in samples]


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--max-length", type=int, action="append", required=True)
    given = parser.parse_args()
    print("| row | samples | rule | rows | fill | spread |\n|--:|--:|---|--:|--:|--:|")
    for most in given.max_length:
        lengths, pairs = sizes(given.inputs, given.tokenizer, most)
        own = {"costs": pairs, "max_cost": sum(pairs) // max(1, len(best_fit(lengths, most)))}
        rules: dict[str, Callable[[Sequence[int], int, int], Rows]] = {
            "`--packing best-fit`": lambda lengths, most, _: best_fit(lengths, most),
            "the same, `--max-cost` at its mean": lambda lengths, most, _, own=own: best_fit(
                lengths, most, **own
            ),
            "`--packing sequential`": lambda lengths, most, _: in_sequence(lengths, most),
            "first fit": in_order,
            "first fit, longest first": decreasing,
            "Nemotron: first fit, shuffled": shuffled,
            "prime-rl: cat": concatenated,
        }
        for name, rule in rules.items():
            pack = partial(rule, lengths, most)
            found = [measured(pack(seed), lengths, pairs, most) for seed in range(SHUFFLES)]
            count, fill, spread = np.mean(found, axis=0)
            print(
                f"| {most:,} | {len(lengths):,} | {name} | {count:,.1f} | {fill:.1%} "
                f"| {spread:.2f} |"
            )


if __name__ == "__main__":
    main()
