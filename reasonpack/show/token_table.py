r"""A row → its tokens in columns: all of them, or some around each border of segments.

token   id  label  position  kind   message  text
    0  266   -100         0  h            –  <u>
    …
   10   39     39        10  r_out        1  H
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from reasonpack.rows.sample import IGNORE
from reasonpack.show.row import RowData
from reasonpack.wording import printable

HEADER = ("token", "id", "label", "position", "kind", "message", "text")
LEFT_ALIGNED = {"kind", "text"}
AROUND = 3
"""Tokens that are shown on either side of a border."""


def token_lines(
    row: RowData, samples: Sequence[int], piece: Callable[[int], bytes], *, boundaries: bool
) -> Iterator[str]:
    """Write tokens of samples of a row in columns; the segments are parted by a line.

    `piece` gives the bytes of a token. With `boundaries` only tokens around the borders of segments
    are shown, and a dot for the others.
    """
    further = [name for name in row.columns if len(row.columns[name])]
    lines: list[tuple[str, ...]] = [(*HEADER[:-1], *further, HEADER[-1])]
    for number in samples:
        for segment in row.segments_of(number):
            shown = row.tokens(segment)
            gap = boundaries and len(shown) > 2 * AROUND + 1
            for token in [*shown[:AROUND], -1, *shown[-AROUND:]] if gap else shown:
                if token < 0:
                    lines.append(("…", *[""] * (len(lines[0]) - 1)))
                    continue
                label = int(row.labels[token])
                values = (
                    int(token),
                    int(row.input_ids[token]),
                    "–" if label == IGNORE else label,
                    int(row.position_ids[token]),
                    segment.kind,
                    "–" if segment.message < 0 else segment.message,
                    *(np.format_float_positional(row.columns[name][token]) for name in further),
                    printable(piece(int(row.input_ids[token])).decode("utf-8", "backslashreplace")),
                )
                lines.append(tuple(map(str, values)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.ljust(width) if name in LEFT_ALIGNED else cell.rjust(width)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        )
        yield "  ".join(cells).rstrip()
