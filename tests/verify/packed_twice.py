"""A dataset of two shards that is packed once, and ways to change one thing in a copy of it.

Each test damages a copy in one way and mends sizes, hashes and counts after that, so that nothing
but the damage shows:

    good ── copy ── one change ── seal ──▶ verify ──▶ exactly one code
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from reasonpack.verify.findings import Findings

Json = dict[str, Any]
FIXTURES = Path(__file__).parents[2] / "fixtures"
TOKENIZER = FIXTURES / "tokenizer"
OPTIONS: Json = {
    "tokenizer": str(TOKENIZER),
    "on_error": "skip",
    "packing": True,
    "max_length": 4096,
}
BROKEN = b'{"id": "broken", "messages": []}'
#: short ones, among them a tool loop; in two files
FIRST = ("bicycle-chain", "umbrella", "small-talk")
SECOND = ("tartib-alaryaf", "dice-at-least-one-six", "root-two")


# --- a good dataset ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packed:
    """A dataset and what it was packed from."""

    directory: Path
    inputs: list[Path]

    def verify(self) -> Findings:
        return verify_dataset(self.directory)

    def compare(self, **options: Any) -> Findings:
        return verify_dataset(self.directory, [str(path) for path in self.inputs], **options)

    def json(self, name: str) -> Any:
        return json.loads((self.directory / name).read_text())

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file; a receipt gets its hash."""
        if name.startswith("receipts/") and "sha256" in value:
            compact = {**value, "sha256": ""}
            text = json.dumps(compact, separators=(",", ":"), ensure_ascii=False)
            value = {**value, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        (self.directory / name).write_text(json.dumps(value))

    @property
    def shards(self) -> list[Path]:
        return sorted((self.directory / "data").iterdir())


def chats() -> dict[str, bytes]:
    lines = (FIXTURES / "chats.jsonl").read_bytes().splitlines()
    return {json.loads(line)["id"]: line for line in lines}


def pack(folder: Path, files: dict[str, list[bytes]], **asked: Any) -> Packed:
    """Pack lines; each file becomes a shard."""
    for name, lines in files.items():
        (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))
    inputs = [folder / name for name in files]
    pack_files(list(map(str, inputs)), folder / "packed", Options(**{**OPTIONS, **asked}))
    return Packed(folder / "packed", inputs)


def pack_two(folder: Path, **asked: Any) -> Packed:
    """Pack six conversations and a broken one into two shards."""
    known = chats()
    files = {
        "a.jsonl": [BROKEN, *(known[id_] for id_ in FIRST)],
        "b.jsonl": [known[id_] for id_ in SECOND],
    }
    return pack(folder, files, **asked)


def copied(made: Packed, folder: Path) -> Packed:
    shutil.copytree(made.directory, folder / "packed")
    return Packed(folder / "packed", [Path(shutil.copy(path, folder)) for path in made.inputs])
