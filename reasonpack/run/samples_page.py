"""The shards of a run → `samples.html`, a page with some of its rows.

    at most 20 rows, drawn by hash      the same ones for any number of workers, from few stretches
                                        of the dataset, because reading a row costs as much as
                                        reading all rows before it in its row group
    at most 4,000 tokens of each        the page says how many were left out
    at most 2 MiB                       else fewer rows

The page is for a look before training; `reasonpack report` writes a page on the whole dataset.
"""

from __future__ import annotations

from reasonpack.datasets.manifest import SAMPLES, Manifest
from reasonpack.run.stages import stage
from reasonpack.show.report.report import MARK, page
from reasonpack.show.row import read_rows
from reasonpack.show.row_facts import draw_rows
from reasonpack.storage.place import Place, join
from reasonpack.storage.publish import publish_text
from reasonpack.storage.read import read_bytes
from reasonpack.tokens.token_bytes import bytes_of_tokens
from reasonpack.tokens.tokenizer import Tokenizer

MOST_ROWS = 20
MOST_TOKENS = 4_000
MOST_BYTES = 2 << 20
STRETCH = 1 << 20
"""Tokens of a stretch of rows, a quarter of a row group."""
STRETCHES_EACH = 12
"""Two stretches are read from any dataset, and one more for each so many that it has."""


def write_samples(output: Place, tokenizer: Tokenizer, manifest: Manifest) -> None:
    """Write the page, unless it is there already; a file that is no such page stays."""
    with stage("samples"):
        place = join(output, SAMPLES)
        text = samples_page(output, tokenizer, manifest)
        there = read_bytes(place)
        if there is None or (there != text.encode() and MARK.encode() in there):
            publish_text(place, text)


def samples_page(output: Place, tokenizer: Tokenizer, manifest: Manifest) -> str:
    """Return a page with rows that are drawn, half as many each time that it is too large."""
    counts = manifest.counts
    drawn = drawn_rows(counts.rows, counts.tokens, seed=manifest.content_hash)
    rows = read_rows(output, manifest, drawn)
    piece = bytes_of_tokens(tokenizer)
    source = f"Texts by the tokenizer from {manifest.options.tokenizer}"
    while True:
        text = page("Samples", manifest, rows, piece=piece, source=source, most=MOST_TOKENS)
        if len(text) <= MOST_BYTES or not rows:
            return text
        rows = rows[: len(rows) // 2]


def drawn_rows(rows: int, tokens: int, *, seed: str) -> list[int]:
    """Return the numbers of rows drawn from a few stretches of a dataset with so many `tokens`."""
    stretches = -(-tokens // STRETCH)
    size = max(MOST_ROWS, -(-rows // max(1, stretches)))
    chosen = draw_rows(-(-rows // size), 2 + stretches // STRETCHES_EACH, seed=seed)
    within = [row for at in chosen for row in range(at * size, min(rows, (at + 1) * size))]
    return [within[place] for place in draw_rows(len(within), MOST_ROWS, seed=seed)]
