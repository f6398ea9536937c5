"""Two turns as a row of a dataset, in tokens that are bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import pyarrow as pa
import tokenizers
from encoded import EncodedView, encoded_view, lay_out
from hypothesis import strategies as st
from runs import ROOT

from reasonpack import Manifest, Options
from reasonpack.datasets.manifest import Input
from reasonpack.datasets.receipt import Counts, Shard
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import Sample
from reasonpack.rows.schema import schema
from reasonpack.rows.shard import write_shard
from reasonpack.show.row import RowData, read_rows

SPECIAL = ("<u>", "<a>", "<e>", "<think>", "</think>")
H, T, R_IN, R_OUT = Kind
Part = tuple[Kind, int, str]
SECOND_PROMPT = "<u>Hi<e>\n<a>Hé<e>\n<u>a\x1b[1m\tb\u202e<e>\n<a>"
"""The prompt of the second answer."""

NO_HASH = "0" * 64
HASHES = {"sha256", "tokenizer_sha256", "template_sha256", "plan_sha256", "content_hash"}


def _filled(cls: Any, **known: Any) -> Any:
    """Make a dataclass of which only some fields matter here."""
    empty = {str: "", int: 0, list: []}
    hints = get_type_hints(cls)
    for field in fields(cls):
        if field.default is MISSING and field.default_factory is MISSING:
            hint = hints[field.name]
            value = NO_HASH if field.name in HASHES else empty.get(get_origin(hint) or hint)
            known.setdefault(field.name, value)
    return cls(**known)


def _manifest(
    shards: list[Shard], *, tokenizer: str = "", tokenizer_sha256: str = NO_HASH, packed: int = 0
) -> Manifest:
    return _filled(
        Manifest,
        format_version="1.0",
        layout="onepass",
        options=Options(tokenizer=tokenizer),
        tokenizer_sha256=tokenizer_sha256,
        inputs=[_filled(Input)],
        shards=shards,
        counts=Counts(rows=sum(shard.rows for shard in shards), packed=packed),
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _view(
    tokenizer: tokenizers.Tokenizer, prompt: Sequence[Part], completion: Sequence[Part]
) -> EncodedView:
    parts = [
        (kind, message, tokenizer.encode(text).ids)
        for kind, message, text in [*prompt, *completion]
    ]
    flat = [(token, kind, message) for kind, message, ids in parts for token in ids]
    tokens, kinds, messages = zip(*flat, strict=True)
    length = sum(len(ids) for _, _, ids in parts[: len(prompt)])
    return encoded_view(tokens[:length], tokens[length:], kinds=kinds, messages=messages)


def _sample(id_: str, *views: EncodedView) -> Sample:
    (sample,) = lay_out(id_, views).samples
    return sample


def _two_views(tokenizer: tokenizers.Tokenizer) -> list[EncodedView]:
    """h0 h1 t1 r_out1 r_in1 h2 h3 r_out3, with what could steer a terminal in h2."""
    start: list[Part] = [(H, -1, "<u>"), (H, 0, "Hi<e>\n"), (H, 1, "<a>")]
    later: list[Part] = [(R_IN, 1, "Hé<e>\n"), (H, 2, "<u>a\x1b[1m\tb\u202e<e>\n"), (H, 3, "<a>")]
    return [
        _view(tokenizer, start, [(T, 1, "<think>\n?</think>"), (R_OUT, 1, "Hé<e>")]),
        _view(tokenizer, start + later, [(R_OUT, 3, "Ok.<e>")]),
    ]


def row_of_vector(name: str, folder: Path) -> RowData:
    """Read the row of a vector of the format from a shard, as a dataset has it."""
    row = json.loads((ROOT / "schemas" / "vectors" / f"{name}.json").read_bytes())["row"]
    table = pa.Table.from_pylist([row], schema=schema({}, columns=row.keys()))
    (folder / "data").mkdir()
    shard = _filled(Shard, path="data/train-00000-of-00001.parquet", rows=1)
    with (folder / shard.path).open("wb") as file:
        write_shard([table], file, table.schema, format_="parquet", compression="zstd")
    return read_rows(folder, _manifest([shard]), [0])[0]


def two_turns(tokenizer: tokenizers.Tokenizer, id_: str = "chat-1") -> Sample:
    return _sample(id_, *_two_views(tokenizer))


def one_turn(tokenizer: tokenizers.Tokenizer, id_: str) -> Sample:
    return _sample(id_, _view(tokenizer, [(H, 0, f"<u>{id_}<e>")], [(R_OUT, 1, "No<e>")]))


PLAIN = """\
data/train-00000-of-00001.parquet, row 0: 37 tokens, 12 trained, 1 sample

sample chat-1: 37 tokens from 0, 12 trained
   kind   message  start  length  positions  visible until  trained  text
0  h            –      0       1        0–0             37        0  <u>
1  h            0      1       4        1–4             37        0  Hi<e>\\n
2  h            1      5       1        5–5             37        0  <a>
3  t            1      6       4        6–9             14        4  <think>\\n?</think>
4  r_out        1     10       4      10–13             14        4  Hé<e>
5  r_in         1     14       5       6–10             37        0  Hé<e>\\n
6  h            2     19      13      11–23             37        0  <u>a\\x1b[1m\\tb\\u202e<e>\\n
7  h            3     32       1      24–24             37        0  <a>
8  r_out        3     33       4      25–28             37        4  Ok.<e>

[0 h]
| <u>
[1 h message 0]
| Hi<e>
|
[2 h message 1]
| <a>
[3 t message 1, trained]
| «<think>
| ?</think>»
[4 r_out message 1, trained]
| «Hé<e>»
[5 r_in message 1]
| Hé<e>
|
[6 h message 2]
| <u>a\\x1b[1m\tb\\u202e<e>
|
[7 h message 3]
| <a>
[8 r_out message 3, trained]
| «Ok.<e>»
"""

tokens = st.lists(st.integers(0, 3), min_size=1, max_size=4)
