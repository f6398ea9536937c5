"""A row → its mask as an SVG picture: down the token that looks, right the token that it sees.

A segment is a triangle, in which its tokens see each other, and a rectangle below it, in which
later tokens see it. Beside the mask a bar marks what is trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from reasonpack.rows.encoded_views import runs
from reasonpack.rows.sample import IGNORE
from reasonpack.show.row import RowData, quoted_id
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
    def at(token: int) -> str:
        return f"{SIZE * token / len(row.input_ids):.2f}".rstrip("0").rstrip(".")

    def across(token: int) -> str:
        return f"{BAR + SIZE * token / len(row.input_ids):.2f}".rstrip("0").rstrip(".")

    return "".join(
        f"M{across(each.start)} {at(each.start)}L{across(end)} {at(end)}"
        f"V{at(each.visible_until)}H{across(each.start)}Z"
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
