"""A row, or two views of a sample → lines for a person.

    2  r_out        1      4       3        4–6              7        3  Yes.<end>

    [2 r_out message 1, trained]
    | «Yes.<end>»

    token   id  label  position  kind   message  text
        0  266      –         0  h            –  <u>

    view 1 and view 3 have 4 tokens in common, the last of them:

With colour the text is not cut into blocks: kinds have colours, and trained text is bold and
underlined. Control characters in text from data are escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import click
import numpy as np

from reasonpack.rows.encoded_views import common_prefix
from reasonpack.rows.sample import IGNORE
from reasonpack.show.call_tree import tree_lines
from reasonpack.show.message_view import MessageView
from reasonpack.show.row import LONGEST_ID, Decode, RowData, Segment
from reasonpack.show.terminal import fitted, shortened
from reasonpack.wording import count, printable

COLOURS = {"h": "blue", "t": "magenta", "r_in": "cyan", "r_out": "green"}
HEADER = ("", "kind", "message", "start", "length", "positions", "visible until", "trained", "text")
TOKEN_HEADER = ("token", "id", "label", "position", "kind", "message")
LEFT_ALIGNED = {"kind", "text"}
AROUND = 3
"""How many tokens are shown on either side of a border between segments."""
NARROW_WITHOUT = ("visible until", "positions", "start", "message", "trained")
"""Columns to leave out, in this order, if a terminal has no room for the text."""
PREVIEW, LEAST = 32, 12
"""Characters of a segment's text in the table: without a terminal, and the least on one."""

Runs = Sequence[tuple[str, bool]]
"""The text of a segment in runs, each with whether it is trained."""


def columns(lines: Iterable[tuple[str, str]], width: int | None = None) -> str:
    """Return lines (name, text) as two columns, within `width` if given."""
    return "\n".join(
        part for name, text in lines for part in fitted(f"{name:<15}{text}", width, indent=15)
    )


def marked(text: str, kind: str, *, trained: bool, colour: bool) -> str:
    """Mark text by kind and as trained or not; without colour only trained text is marked.

    >>> marked("4<end>", "r_out", trained=True, colour=False)
    '«4<end>»'
    """
    text = printable(text, keep="\n\t")
    if not colour:
        return f"«{text}»" if trained else text
    style = trained or None
    # Line by line, since a pager forgets the style at the end of a line.
    return "\n".join(
        line and click.style(line, fg=COLOURS[kind], bold=style, underline=style)
        for line in text.split("\n")
    )


def row_lines(
    row: RowData, samples: Sequence[int], decode: Decode, *, colour: bool, width: int | None = None
) -> Iterator[str]:
    """Yield lines that show the samples of a row with these numbers; the table fits `width`."""
    trained = sum(segment.trained for segment in row.segments)
    yield (
        f"{printable(row.shard)}, row {row.number}: {count(len(row.input_ids), 'token')}, "
        f"{trained:,} trained, {count(len(row.samples), 'sample')}"
    )
    for number in samples:
        sample, segments = row.samples[number], row.segments_of(number)
        texts = [list(_runs(row, segment, decode)) for segment in segments]
        trained = sum(segment.trained for segment in segments)
        yield ""
        yield (
            f"sample {_id(sample.id)}: {count(sample.length, 'token')} from "
            f"{sample.start:,}, {trained:,} trained"
        )
        yield from tree_lines(row, number)
        yield from _table(segments, texts, colour=colour, width=width)
        yield ""
        shown = [
            "".join(marked(text, segment.kind, trained=flag, colour=colour) for text, flag in runs)
            for segment, runs in zip(segments, texts, strict=True)
        ]
        if colour:
            yield "".join(shown)
            continue
        for index, (segment, text) in enumerate(zip(segments, shown, strict=True)):
            yield f"[{index} {_name(segment)}]"
            # The bar tells text from the line that names the segment.
            yield from (f"| {line}" if line else "|" for line in text.split("\n"))


def _runs(row: RowData, segment: Segment, decode: Decode) -> Iterator[tuple[str, bool]]:
    """Yield the runs of a segment, each decoded at once: a token may be half a character."""
    tokens = range(segment.start, segment.start + segment.length)
    for trained, run in groupby(tokens, lambda token: bool(row.labels[token] != IGNORE)):
        yield decode(row.input_ids[list(run)]), trained


def _table(
    segments: Sequence[Segment], texts: Sequence[Runs], *, colour: bool, width: int | None
) -> Iterator[str]:
    lines: list[tuple[str, ...]] = [HEADER]
    for index, (segment, runs) in enumerate(zip(segments, texts, strict=True)):
        cells = (
            index,
            segment.kind,
            "–" if segment.message < 0 else segment.message,
            segment.start,
            segment.length,
            f"{segment.position_first}–{segment.position_last}",
            segment.visible_until,
            segment.trained,
            "".join(text for text, _ in runs),
        )
        lines.append(tuple(map(str, cells)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = list(range(len(HEADER)))
    for name in NARROW_WITHOUT:
        if width is not None and _room(widths, shown, width) < LEAST:
            shown.remove(HEADER.index(name))
    if left_out := [name for at, name in enumerate(HEADER) if at not in shown]:
        yield from fitted(f"no room here for: {', '.join(left_out)}", width)
    preview = PREVIEW if width is None else max(LEAST, _room(widths, shown, width))
    lines[1:] = [(*line[:-1], shortened(line[-1], preview)) for line in lines[1:]]
    yield from _aligned([[line[at] for at in shown] for line in lines], colour=colour)


def token_lines(
    row: RowData, samples: Sequence[int], piece: Callable[[int], bytes], *, boundaries: bool
) -> Iterator[str]:
    """Yield a table of the tokens in samples of a row.

    `piece` returns the bytes of a token. With `boundaries` only tokens next to the borders of
    segments are shown, and a line `…` for the others.
    """
    further = [name for name in row.columns if len(row.columns[name])]
    lines: list[tuple[str, ...]] = [(*TOKEN_HEADER, *further, "text")]
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
    yield from _aligned(lines)


def _aligned(lines: Sequence[Sequence[str]], *, colour: bool = False) -> Iterator[str]:
    """Yield lines with aligned columns, named in the first line; `colour` colours kinds."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    kind = lines[0].index("kind")
    for line in lines:
        cells = [
            cell.ljust(width) if name in LEFT_ALIGNED else cell.rjust(width)
            for name, cell, width in zip(lines[0], line, widths, strict=True)
        ]
        if colour and line is not lines[0]:
            cells[kind] = click.style(cells[kind], fg=COLOURS[line[kind]])
        yield "  ".join(cells).rstrip()


def _room(widths: Sequence[int], shown: Sequence[int], width: int) -> int:
    """Return how many characters the other columns leave for the text."""
    return width - sum(widths[at] + 2 for at in shown[:-1])


def _name(segment: Segment) -> str:
    name = segment.kind + (f" message {segment.message}" if segment.message >= 0 else "")
    if segment.trained == segment.length:
        return f"{name}, trained"
    return name + (f", {segment.trained} of {segment.length} trained" if segment.trained else "")


def view_line(view: MessageView, prompt: str) -> str:
    """Return a line that describes a view, given the text of its prompt."""
    positions = view.row.position_ids[view.tokens]
    return (
        f"sample {_id(view.sample.id)}, message {view.message}: "
        f"{count(len(positions), 'token')} at positions {positions[0]}–{positions[-1]}, "
        f"trained from token {view.prompt_length} (character {len(prompt)}) to the end"
    )


def _id(text: str) -> str:
    return printable(text[:LONGEST_ID]) + "…" * (len(text) > LONGEST_ID)


# --- where two views differ ------------------------------------------------------------

SHOWN = 24
"""How many tokens are shown before the first difference, and of each view after it."""


def common_tokens(one: MessageView, other: MessageView) -> int:
    """Return how many leading tokens the two views share."""
    return common_prefix(*(view.row.input_ids[view.tokens] for view in (one, other)))


def diff_lines(
    one: MessageView, other: MessageView, names: tuple[str, str], decode: Decode, *, colour: bool
) -> Iterator[str]:
    """Yield lines that show where two views differ."""
    common = common_tokens(one, other)
    yield f"{names[0]} and {names[1]} have {count(common, 'token')} in common, the last of them:"
    yield from _view_lines(one, max(0, common - SHOWN), common, decode, colour=colour)
    for view, name in zip((one, other), names, strict=True):
        rest = len(view.tokens) - common
        yield ""
        yield f"{name} goes on with {count(rest, 'token')}:" if rest else f"{name} ends there."
        if rest:
            yield from _view_lines(view, common, common + SHOWN, decode, colour=colour)
            if rest > SHOWN:
                yield "…"


def _view_lines(
    view: MessageView, start: int, stop: int, decode: Decode, *, colour: bool
) -> Iterator[str]:
    """Yield the text of the tokens from `start` to `stop`, with trained text marked."""
    border = min(max(view.prompt_length, start), stop)
    ids = view.row.input_ids[view.tokens]
    text = "".join(
        marked(decode(ids[first:last]), kind, trained=trained, colour=colour)
        for first, last, kind, trained in (
            (start, border, "h", False),
            (border, stop, "r_out", True),
        )
        if len(ids[first:last])
    )
    yield from (f"| {line}" if line else "|" for line in text.split("\n"))


def diff_json(
    one: MessageView, other: MessageView, names: tuple[str, str], decode: Decode | None
) -> dict[str, Any]:
    """Return where two views differ as a JSON object; with texts only if `decode` is given."""
    common = common_tokens(one, other)
    described: dict[str, Any] = {"sample": one.sample.id, "common": common, "views": []}
    for view, name in zip((one, other), names, strict=True):
        ids = np.asarray(view.row.input_ids[view.tokens])[common:]
        rest = {"view": name, "prompt_length": view.prompt_length, "ids": ids.tolist()}
        described["views"].append({**rest, **({"text": decode(ids)} if decode else {})})
    return described
