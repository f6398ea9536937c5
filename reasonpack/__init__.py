"""Pack multi-turn reasoning chats once, trained exactly as N passes would.

    import reasonpack
    options = reasonpack.Options(tokenizer="fixtures/tokenizer")
    manifest = reasonpack.pack_files(["fixtures/chats.jsonl"], Path("packed"), options)

README.md in this folder describes the subfolders, in the order in which data passes through
them. Names of the public API are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reasonpack.errors import (
    FormatError,
    ReasonpackError,
    RecordError,
    StorageError,
    TemplateError,
    TokenizerError,
    UsageError,
)

if TYPE_CHECKING:
    from reasonpack.datasets.manifest import Manifest, read_manifest
    from reasonpack.datasets.options import Options
    from reasonpack.run.pack import pack_files

__all__ = [
    "FormatError",
    "Manifest",
    "Options",
    "ReasonpackError",
    "RecordError",
    "StorageError",
    "TemplateError",
    "TokenizerError",
    "UsageError",
    "pack_files",
    "read_manifest",
]

_HOMES = {
    "Manifest": "reasonpack.datasets.manifest",
    "Options": "reasonpack.datasets.options",
    "pack_files": "reasonpack.run.pack",
    "read_manifest": "reasonpack.datasets.manifest",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'reasonpack' has no attribute {name!r}")
