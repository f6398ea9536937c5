"""The bytes of records → the optional columns of a dataset of calls that they need.

    "logprobs": [-0.1, …] beside ids      logprobs
    "reward": 1.0                         call_reward

Keys are looked for at any depth, because a plan reads all records and decodes none. The text of a
message is not taken for a key, because quotes within a text are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from reasonpack.records.call_draft import TOKEN_NAMES, VALUE_NAMES

_IDS = rb"\s*:\s*\[\s*\d"
_LIST = rb"\s*:\s*[\[{]\s*[^\s\]}]"
_NUMBERS = rb"(?:\s*:\s*[-.\d]|%b)" % _LIST
_KNOWN: Mapping[str, tuple[str, ...]] = {**TOKEN_NAMES, **VALUE_NAMES}


class KeyColumns:
    """Finds the optional columns that records need, by the keys in their bytes.

    Args:
        renamed: names of fields, each with the known name that it is read as.
        ignored: names of fields that are not read.

    Attributes:
        found: columns for which a record has a key with a value.

    >>> keys = KeyColumns()
    >>> line = b'{"prompt_ids": [1], "completion_ids": [2], "logprobs": [-0.5], "reward": null}'
    >>> keys.see(line, line)
    False
    >>> sorted(keys.found)
    ['logprobs']
    """

    def __init__(
        self, renamed: Mapping[str, str] | None = None, ignored: Iterable[str] = ()
    ) -> None:
        left_out = {name.rpartition(".")[2] for name in ignored}
        own = [(name.rpartition(".")[2], known) for name, known in (renamed or {}).items()]

        def keys(kind: str, *more: str) -> list[str]:
            known = _KNOWN[kind]
            names = [*known, *more, *(name for name, as_known in own if as_known in known)]
            return [name for name in names if name not in left_out]

        self.found: set[str] = set()
        self._lacks_ids = False
        self._ids = _pattern(keys("completion_ids", "tokens"), _IDS)
        looked_for = {
            "logprobs": (keys("logprobs"), _LIST),
            "advantages": (keys("advantages"), _NUMBERS),
            "call_reward": (keys("reward", "rewards"), _NUMBERS),
            "preference_labels": (["chosen", "rejected"], rb"\s*:\s*[\"\[{]"),
        }
        self._patterns = {name: _pattern(*each) for name, each in looked_for.items()}
        self._columns = {
            f'"{key}"'.encode(): name for name, (names, _) in looked_for.items() for key in names
        }
        self._keys = _pattern([key for names, _ in looked_for.values() for key in names], b"")

    def see(self, line: bytes, new: bytes) -> bool:
        """Search the next record, `line`, for keys; `new` is what no earlier record has of it.

        Returns:
            Whether it may have text: messages, or no token ids.
        """
        for key in set(self._keys.findall(line if self._lacks_ids else new)):
            name = self._columns[key]
            if name in self.found or not self._patterns[name].search(line):
                continue
            if name != "logprobs" or self._ids.search(line):  # logprobs need token ids
                self.found.add(name)
            else:
                self._lacks_ids = True
        return self.has_text(line, new)

    def has_text(self, line: bytes, new: bytes | None = None) -> bool:
        """Return whether a record may have text; see `see`."""
        return b'"role"' in (line if new is None else new) or not self._ids.search(line)


def _pattern(names: Sequence[str], after: bytes) -> re.Pattern[bytes]:
    listed = b"|".join(re.escape(name).encode() for name in names) or rb"(?!)"
    return re.compile(rb'"(?:%b)"%b' % (listed, after))
