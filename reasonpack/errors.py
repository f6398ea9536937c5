"""The exceptions that reasonpack raises on purpose, as one tree.

    ReasonpackError                 where: what, expected what. Fix: …
    ├── UsageError                  the command line or an option         exit 2
    │   └── MissingExtraError       a package of an extra is missing; an ImportError too
    ├── RecordError                 one record of the input                exit 1, or a reject
    ├── TemplateError               the chat template itself               exit 1
    ├── TokenizerError              the tokenizer file                     exit 1
    ├── FormatError                 a dataset directory, a shard           exit 1
    ├── StorageError                a path that cannot be read or written  exit 1
    │   └── DiskFullError           no room to write it
    └── NothingPackedError          a whole run without any packed record  exit 1

A message says where the fault is, what was found, what was expected and how to
fix it, in that order and on one line, so that it reads the same on a terminal,
in `rejects.jsonl` and in a log.
"""

from __future__ import annotations

__all__ = [
    "DiskFullError",
    "FormatError",
    "MissingExtraError",
    "NothingPackedError",
    "ReasonpackError",
    "RecordError",
    "StorageError",
    "TemplateError",
    "TokenizerError",
    "UsageError",
]


class ReasonpackError(Exception):
    """Base of every error that reasonpack raises on purpose.

    Attributes:
        where: the file, option, part of a batch, … that is at fault.
        what: what was found there.
        expected: what should have been there instead.
        fix: what the user can do; begins in lower case, ends without a period.

    >>> print(StorageError("chats.jsonl", "no such file", "a file of chats", "check the path"))
    chats.jsonl: no such file, expected a file of chats. Fix: check the path.
    """

    def __init__(self, where: object, what: object, expected: str, fix: str) -> None:
        self.where, self.what, self.expected, self.fix = str(where), str(what), expected, fix
        super().__init__(self.where, self.what, expected, fix)

    @property
    def place(self) -> str:
        """How the message begins."""
        return self.where

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        return f"{place}{self.what}, expected {self.expected}. Fix: {self.fix}."


class UsageError(ReasonpackError):
    """An option, or a combination of options, that makes no sense."""


class MissingExtraError(UsageError, ImportError):
    """A missing package that one of the extras installs."""


class TemplateError(ReasonpackError):
    """A chat template that cannot be loaded, or that cannot be trusted."""


class TokenizerError(ReasonpackError):
    """A tokenizer that cannot be loaded, or whose ids cannot be reproduced."""


class FormatError(ReasonpackError):
    """A dataset or shard that is damaged, incomplete, or of an unknown format version."""


class StorageError(ReasonpackError):
    """A path that cannot be read or written."""


class DiskFullError(StorageError):
    """A path that cannot be written because the disk, or the user's quota on it, is full."""


class NothingPackedError(ReasonpackError):
    """A run that packed no record; `rejects` counts the rejected records by reason."""

    def __init__(
        self, where: object, what: str, expected: str, fix: str, rejects: dict[str, int]
    ) -> None:
        super().__init__(where, what, expected, fix)
        self.args = (*self.args, rejects)
        self.rejects = rejects


class RecordError(ReasonpackError):
    """One record that cannot be packed.

    Attributes:
        reason: short stable code, counted in the manifest, e.g. `overlong`.
        path: field within the record, e.g. `messages[3].content`; may be empty.
        where: `file:line` of the record; set by the caller that knows it, empty until then.

    >>> print(RecordError("type", "messages[0].role", "got an integer", "a string",
    ...                   "write it in quotes", where="chats.jsonl:7"))
    chats.jsonl:7: messages[0].role: got an integer, expected a string. Fix: write it in quotes.
    """

    def __init__(
        self, reason: str, path: str, what: str, expected: str, fix: str, where: str = ""
    ) -> None:
        super().__init__(where, what, expected, fix)
        self.args = (reason, path, what, expected, fix, where)
        self.reason, self.path = reason, path

    @property
    def place(self) -> str:
        """`where` and `path`, as far as they are known."""
        return ": ".join(filter(None, (self.where, self.path)))
