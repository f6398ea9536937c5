"""Imported by the process from which workers are forked, so that they begin with all they need.

    parent ── options in the environment ──→ a process that loads ──fork──→ worker
                                                                  └─fork──→ worker

What is loaded starts no threads, which a process that is forked would be without. A fast
backend is left to the workers: each loads it beside its work.
"""

from __future__ import annotations

import contextlib
import os

import msgspec

import reasonpack.run.unit  # noqa: F401 (what workers are going to import)
from reasonpack.run.context import Options, load_context

__all__ = ["REQUEST", "request"]

REQUEST = "REASONPACK_PRELOAD"
"""Environment variable with the options to load for."""


def request(options: Options) -> str:
    """Say what the workers of a run need."""
    return msgspec.json.encode(options).decode()


def _load(text: str) -> None:
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        load_context(msgspec.json.decode(text, type=Options))
    finally:
        del os.environ["TOKENIZERS_PARALLELISM"]
        if before is not None:
            os.environ["TOKENIZERS_PARALLELISM"] = before


if wanted := os.environ.pop(REQUEST, ""):
    with contextlib.suppress(Exception):  # the workers will say what is wrong
        _load(wanted)
