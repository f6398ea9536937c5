"""A row → a picture of its mask: an SVG, or sampled on a grid as block characters or a PNG.

Queries go down, keys to the right. A visible key is coloured by its kind; a bar at the left marks
trained queries. In the SVG a segment is a triangle, in which its tokens see each other, above a
rectangle, in which later tokens see it. On a grid a cell shows the token in its middle, so details
smaller than a cell may be missing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from html import escape

import click
import numpy as np
from numpy.typing import NDArray

from reasonpack.rows.encoded_views import runs
from reasonpack.rows.kind import BY_LABEL, Kind
from reasonpack.rows.sample import IGNORE
from reasonpack.show.row import RowData, quoted_id
from reasonpack.show.text import COLOURS as TERMINAL
from reasonpack.wording import count, listed, printable

SIZE = 480
BAR = 10
COLOURS = {"h": "#8795ab", "t": "#b58ade", "r_in": "#63b3c0", "r_out": "#74b67b"}
WORDS = {
    "h": "context",
    "t": "reasoning",
    "r_in": "response as later turns see it",
    "r_out": "response as generated",
}


def mask_svg(row: RowData) -> str:
    """Return the mask of a row as an SVG picture."""
    ids = listed(quoted_id(sample.id) for sample in row.samples)
    title = f"Mask of {count(len(row.input_ids), 'token')}: {ids}"
    kinds = [kind for kind in COLOURS if any(each.kind == kind for each in row.segments)]
    height = SIZE + 24 + 20 * (len(kinds) + 1)
    size = f'viewBox="0 0 {SIZE + BAR} {height}"'
    font = 'font-family="system-ui, sans-serif" font-size="13"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        f"<title>{escape(printable(title))}</title>",
        f'<rect x="{BAR}" width="{SIZE}" height="{SIZE}" fill="#fff" stroke="#ccc"/>',
        *(f'<path fill="{COLOURS[kind]}" d="{_area(row, kind)}"/>' for kind in kinds),
        f'<path fill="#1d2127" d="{_trained(row)}"/>',
    ]
    for number, kind in enumerate(kinds):
        lines += _key(number, COLOURS[kind], f"{kind}: {WORDS[kind]}")
    lines += _key(len(kinds), "#1d2127", "trained (bar at the left)")
    return "\n".join([*lines, "</svg>", ""])


def _key(number: int, colour: str, words: str) -> Iterator[str]:
    y = SIZE + 20 + 20 * number
    yield f'<rect x="{BAR}" y="{y}" width="12" height="12" rx="2" fill="{colour}"/>'
    yield f'<text x="{BAR + 20}" y="{y + 11}" fill="#555">{words}</text>'


def _area(row: RowData, kind: str) -> str:
    def at(token: int, left: int = 0) -> str:
        return f"{left + SIZE * token / len(row.input_ids):.2f}".rstrip("0").rstrip(".")

    return "".join(
        f"M{at(each.start, BAR)} {at(each.start)}L{at(end, BAR)} {at(end)}"
        f"V{at(each.visible_until)}H{at(each.start, BAR)}Z"
        for each in row.segments
        if each.kind == kind
        for end in [each.start + each.length]
    )


def _trained(row: RowData) -> str:
    scale = SIZE / len(row.input_ids)
    return "".join(
        f"M0 {scale * start:.2f}H{BAR - 4}V{scale * end:.2f}H0Z"
        for start, end in runs(row.labels != IGNORE)
    )


UNSEEN = 255
SHADES = {"h": "░", "r_in": "▒", "r_out": "▓", "t": "█"}
NARROW, WIDE = 16, 64
"""Least and most characters across a mask that is drawn in characters."""


def cells(row: RowData, down: int, across: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Sample the mask of a row of T tokens on a grid.

    Returns:
        The kind of the key, `UNSEEN` if the query does not see it: u8[down, across]; and whether
        the query is trained: bool[down].
    """
    length = len(row.input_ids)
    looks = (2 * np.arange(down) + 1) * length // (2 * down)
    seen = (2 * np.arange(across) + 1) * length // (2 * across)
    starts = [segment.start for segment in row.segments]
    kinds = np.array([BY_LABEL[segment.kind] for segment in row.segments])
    of = np.searchsorted(starts, seen, side="right") - 1
    until = np.array([segment.visible_until for segment in row.segments])[of]
    visible = (seen <= looks[:, None]) & (looks[:, None] < until)
    grid = np.where(visible, kinds[of], UNSEEN).astype(np.uint8)
    return grid, row.labels[looks] != IGNORE


def mask_lines(row: RowData, *, colour: bool, width: int | None = None) -> Iterator[str]:
    """Yield lines that draw the mask of a row in characters, across at most one per token."""
    across = min(WIDE, max(NARROW, (width or 80) - 4), len(row.input_ids))
    grid, trained = cells(row, max(1, across // 2), across)
    labels = list(BY_LABEL)
    for line, is_trained in zip(grid.tolist(), trained.tolist(), strict=True):
        drawn = "".join(
            " "
            if kind == UNSEEN
            else click.style("█", fg=TERMINAL[labels[kind]])
            if colour
            else SHADES[labels[kind]]
            for kind in line
        )
        yield f"{'▌' if is_trained else ' '} {drawn}".rstrip()
    key = (
        f"{click.style('█', fg=TERMINAL[kind]) if colour else shade} {kind}"
        for kind, shade in SHADES.items()
    )
    yield f"▌ trained   {'   '.join(key)}"


def mask_png(row: RowData) -> bytes:
    """Return the mask of a row as a PNG picture: the SVG without its texts."""
    grid, trained = cells(row, SIZE, SIZE)
    palette = np.full((256, 3), 255, np.uint8)
    for kind in Kind:
        palette[kind] = list(bytes.fromhex(COLOURS[kind.label][1:]))
    bar = np.full((SIZE, BAR, 3), 255, np.uint8)
    bar[trained, : BAR - 4] = (0x1D, 0x21, 0x27)
    picture = np.concatenate([bar, palette[grid]], axis=1)
    lines = b"".join(b"\0" + line.tobytes() for line in picture)  # 0: no filter
    size = struct.pack(">IIBBBBB", BAR + SIZE, SIZE, 8, 2, 0, 0, 0)  # 8 bits, RGB
    parts = ((b"IHDR", size), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
