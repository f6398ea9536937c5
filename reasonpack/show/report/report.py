"""A dataset → one HTML page that is opened from disk.

    manifest, stats, rejects ─┐
    rows, tokens ─────────────┴─→ JSON ─→ page.html with its style and its scripts in it

Figures come from `stats`, sentences from `pack` and `stats`. Text from data is only in JSON, where
it is escaped so that it cannot end the element; the scripts insert it as text. A policy in the page
forbids all other scripts and styles, and any request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from reasonpack.datasets.manifest import Manifest
from reasonpack.datasets.receipt import as_json
from reasonpack.show.advice import advice, works
from reasonpack.show.rejects import rejected
from reasonpack.show.report.row_data import Piece, rows_data
from reasonpack.show.row import RowData
from reasonpack.show.stats import Stats, stats_json
from reasonpack.show.summary import summary_lines

SCRIPTS = ("row.js", "drawn.js", "text.js", "tree.js", "mask.js", "summary.js", "page.js")
MARK = '<meta name="generator" content="reasonpack">'
"""Identifies a page of this package: no other file has this line."""
NOT_SHOWN = ("inputs", "shards", "templates")
"""Fields of the manifest that may be long and are not shown."""


def page(
    name: str,
    manifest: Manifest,
    rows: Sequence[RowData],
    *,
    stats: Stats | None = None,
    first: Mapping[str, str] | None = None,
    piece: Piece | None = None,
    source: str = "",
    most: int | None = None,
) -> str:
    """Return the HTML page.

    Without `stats` it has no histograms and costs. `first`: reason → an error of a record that was
    rejected for it. `piece` returns the bytes of a token, and is None without a tokenizer; `source`
    says where the tokenizer is from or why it is missing. At most `most` tokens of a row are shown.
    """
    found = rows_data(rows, piece, most)
    head = {
        "name": name,
        "summary": _summary(manifest, stats, first or {}),
        "source": source,
        "tokens": found["tokens"],
        "rows": len(found["rows"]),
    }
    parts = [("about", head), *((f"row-{n}", row) for n, row in enumerate(found["rows"]))]
    data = "\n".join(
        f'<script type="application/json" id="{id_}">{_in_html(part)}</script>'
        for id_, part in parts
    )
    style, script = _file("page.css"), "".join(map(_file, SCRIPTS))
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}"
    return Template(_file("page.html")).substitute(
        title=html.escape(name), mark=MARK, policy=policy, style=style, data=data, script=script
    )


def _summary(manifest: Manifest, stats: Stats | None, first: Mapping[str, str]) -> dict[str, Any]:
    """Return the figures and the sentences of the first part of the page."""
    known = json.loads(as_json(manifest))
    described: dict[str, Any] = {
        "manifest": {key: value for key, value in known.items() if key not in NOT_SHOWN},
        "lines": list(summary_lines(manifest, with_stats=stats is not None)),
        "rejects": [
            [each.reason, each.count, each.words, each.example, each.kind]
            for each in rejected(manifest.counts, first)
        ],
    }
    if stats:
        full = stats_json(stats)
        described |= {
            "costs": [
                [name, work.tokens, work.pairs, work.blocks]
                for name, work in works(stats.costs, manifest.layout)
            ],
            "advice": " ".join(advice(stats.costs, manifest.layout)),
            "distributions": full["distributions"],
        }
    return described


def _in_html(value: Any) -> str:
    r"""Return JSON in ASCII without characters that an HTML parser takes for markup.

    >>> _in_html({"</script>": "\u2028"})
    '{"\\u003c/script\\u003e":"\\u2028"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
