"""One row → its faults: the rules of the format that it breaks.

    row      h1 t1 r_out1 r_in1 h2
             └─┘└───────┘└──────┘      segments tile it, their intervals nest, positions are
             └── visible_until ─┘      depths, trained tokens follow their parents

A rule that depends on a broken rule is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reasonpack.rows.kind import Kind
from reasonpack.verify.optional_columns import length_faults, value_faults, weight_faults
from reasonpack.verify.paths import Paths, distinct, row_paths
from reasonpack.verify.row import I32, IGNORE, Fault, Row, first


def check_row(row: Row) -> tuple[list[Fault], Paths | None]:
    """Check every rule that a single row can break; each is reported at most once.

    Returns:
        The faults, and the paths of the row's tokens; None instead of paths if there is a fault.
    """
    faults = [*_shape_faults(row), *length_faults(row)]
    if faults:
        return faults, None
    faults += [*_value_faults(row), *value_faults(row)]
    broken = list(_forest_faults(row)) or list(_position_faults(row))
    if broken:
        return faults + broken, None
    paths = row_paths(row)
    faults += _parent_faults(row)
    faults += [*_repeated_faults(row, paths), *weight_faults(row)]
    return faults, None if faults else paths


# --- rules 1 to 3: the tables ----------------------------------------------------------


def _shape_faults(row: Row) -> Iterator[Fault]:
    lengths = [len(column) for column in (row.input_ids, row.position_ids, row.labels)]
    if {*lengths, row.length} != {row.length} or row.length < 1:
        found = "{}, {} and {} tokens".format(*lengths)
        yield Fault("RP201", f"{found}, length {row.length}, expected four times one number > 0")
        return
    names = ("start", "visible_until", "kind", "message")
    counts = [len(getattr(row, f"segment_{name}")) for name in names]
    if len(set(counts)) > 1:
        found = "{}, {}, {} and {} elements".format(*counts)
        yield Fault("RP203", f"segment columns of {found}, expected one number")
    segments_fault = _tiling_fault(row.segment_start, row.length)
    if segments_fault:
        yield Fault("RP202", f"segment_start {segments_fault}")
    if len(row.sample_start) != len(row.sample_id):
        found = f"{len(row.sample_start)} sample_start, {len(row.sample_id)} sample_id"
        yield Fault("RP204", f"{found}, expected as many")
    elif what := _tiling_fault(row.sample_start, row.length):
        yield Fault("RP204", f"sample_start {what}")
    elif not segments_fault:
        bad = first(~np.isin(row.sample_start, row.segment_start))
        if bad is not None:
            start = int(row.sample_start[bad])
            yield Fault("RP205", f"sample_start {start}, expected a segment's start", start)


def _tiling_fault(starts: I32, length: int) -> str:
    """Describe why `starts` do not tile a row with pieces that are not empty; '' if they do.

    >>> _tiling_fault(np.array([0, 2], np.int32), 3), _tiling_fault(np.array([0, 3], np.int32), 3)
    ('', "ends with 3, expected less than the row's 3 tokens")
    """
    if not len(starts) or starts[0] != 0:
        return f"begins with {starts[0] if len(starts) else 'nothing'}, expected 0"
    bounds = np.append(starts.astype(np.int64), length)
    bad = first(np.diff(bounds) <= 0)
    if bad is None:
        return ""
    if bad == len(starts) - 1:
        return f"ends with {bounds[bad]}, expected less than the row's {length} tokens"
    return f"has {bounds[bad + 1]} after {bounds[bad]}, expected more"


# --- values, rule 7 --------------------------------------------------------------------


def _value_faults(row: Row) -> Iterator[Fault]:
    ids, labels, starts = row.input_ids, row.labels, row.segment_start
    if (bad := first(ids < 0)) is not None:
        yield Fault("RP213", f"id {ids[bad]}, expected 0 or more", bad)
    if (bad := first(row.trained & (labels != ids))) is not None:
        yield Fault("RP209", f"label {labels[bad]}, expected {IGNORE} or {ids[bad]}", bad)
    if (bad := first(row.target[row.sample_start])) is not None:
        start = int(row.sample_start[bad])
        yield Fault("RP210", f"label {labels[start]}, expected {IGNORE}", start)
    if (bad := first(row.segment_kind >= len(Kind))) is not None:
        what = f"segment {bad} is of kind {row.segment_kind[bad]}, expected 0 to {len(Kind) - 1}"
        yield Fault("RP214", what, int(starts[bad]))
    if (bad := first(row.segment_message < -1)) is not None:
        what = f"segment {bad} is of message {row.segment_message[bad]}, expected -1 or more"
        yield Fault("RP215", what, int(starts[bad]))


# --- rules 5 and 6: a forest in pre-order ----------------------------------------------


def _forest_faults(row: Row) -> Iterator[Fault]:
    starts, stops, until = row.segment_start, row.segment_stop, row.segment_visible_until
    sample = np.searchsorted(row.sample_start, starts, "right") - 1
    ends = row.sample_stop[sample]
    if (bad := first((until < stops) | (until > ends))) is not None:
        what = f"visible until {until[bad]}, expected {stops[bad]} to {ends[bad]}"
        yield Fault("RP206", what, int(starts[bad]))
        return
    around: list[int] = []  # ends of the intervals around this segment, the innermost last
    for start, end in zip(starts.tolist(), until.tolist(), strict=True):
        while around and around[-1] <= start:
            around.pop()
        if around and around[-1] < end:
            what = f"visible until {end}, expected at most {around[-1]}, as the segment around it"
            yield Fault("RP207", what, start)
            return
        around.append(end)


def _position_faults(row: Row) -> Iterator[Fault]:
    gone = np.zeros(row.length + 1, np.int64)
    np.add.at(gone, row.segment_visible_until, row.segment_stop - row.segment_start)
    seen = np.arange(row.length) - np.cumsum(gone)[: row.length]
    if (bad := first(row.position_ids != seen)) is not None:
        what = f"position {row.position_ids[bad]}, expected {seen[bad]}, the number of tokens seen"
        yield Fault("RP208", what, bad)


# --- rules 8 and 9 ---------------------------------------------------------------------


def _parent_faults(row: Row) -> Iterator[Fault]:
    """Find a trained token that does not directly follow its parent in the tree."""
    branches = np.zeros(row.length, bool)
    branches[1:] = np.diff(row.position_ids) != 1
    branches[row.sample_start] = False  # rule 7 covers these
    if (bad := first(row.target & branches)) is not None:
        before, here = row.position_ids[bad - 1 : bad + 1].tolist()
        what = f"trained at position {here} after a token at {before}, expected {before + 1}"
        yield Fault("RP211", what, bad)


def _repeated_faults(row: Row, paths: Paths) -> Iterator[Fault]:
    """Find a prefix and token that a sample, or one of its calls, trains twice."""
    number = row.call_of_tokens
    for start, stop in zip(row.sample_start, row.sample_stop, strict=True):
        tokens = np.flatnonzero(row.target[start:stop]) + start
        trained = paths.predicted[tokens]
        if len(distinct(trained)) == len(trained):
            continue
        known: dict[tuple[bytes, int], int] = {}
        for token, path in zip(tokens.tolist(), trained, strict=True):
            earlier = known.setdefault((path.tobytes(), int(number[token])), token)
            if earlier != token:
                what = f"trained after the same prefix as token {earlier}, expected once"
                yield Fault("RP212", what, token)
                return
