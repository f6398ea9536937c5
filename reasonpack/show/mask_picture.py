"""A row → its mask: as an SVG picture, or in small as block characters or as a PNG picture.

Down the token that looks, right the token that it sees, coloured by its kind; at the left what is
trained. In an SVG a segment is a triangle, in which its tokens see each other, and a rectangle
below it, in which later tokens see it. In small a cell is the token in its middle, so what is
thinner than a cell may be missing.
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
    """Draw the mask of a row."""
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
"""Cells of a mask of characters, across."""


def cells(row: RowData, down: int, across: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Sample the mask of a row of T tokens on a grid.

    Returns:
        The kind of the token that is seen, `UNSEEN` where none is: u8[down, across]; and
        whether the token that looks is trained: bool[down].
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
    """Draw the mask of a row in characters, at most as many as there are tokens across."""
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
    """Draw the mask of a row as a PNG picture, as the SVG has it, but for its words."""
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
