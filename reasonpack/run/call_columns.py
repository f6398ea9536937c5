"""A line with a call → the optional columns that it needs, by the names of its keys.

    {"prompt_token_ids": […], "completion_token_ids": […], "logprobs": […], "reward": 1}
                                                            logprobs          call_reward

Keys are looked for as bytes, wherever they stand in a record, since a plan reads all records and
decodes none. A quote within a text is escaped, so that the text of a message looks like no key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from reasonpack.records.call_draft import TOKEN_NAMES, VALUE_NAMES
from reasonpack.rows.optional import OF_CALLS

ALWAYS = ("loss_weights", *OF_CALLS)
"""Columns that every dataset of calls has."""
COLUMNS = ("logprobs", "advantages", "call_reward", "call_role", "preference_labels")
"""Columns that a dataset of calls may have."""
_IDS = rb"\s*:\s*\[\s*\d"
_LIST = rb"\s*:\s*[\[{]\s*[^\s\]}]"
_NUMBERS = rb"(?:\s*:\s*[-.\d]|%b)" % _LIST
_KNOWN: Mapping[str, tuple[str, ...]] = {**TOKEN_NAMES, **VALUE_NAMES}


class KeyColumns:
    """Looks for the keys of optional columns in records.

    Args:
        renamed: names of fields, each with the known name that it is read under.
        ignored: names of fields that are not read.

    Attributes:
        found: columns of which a key was seen.

    >>> keys = KeyColumns()
    >>> line = b'{"prompt_ids": [1], "completion_ids": [2], "logprobs": [-0.5], "reward": null}'
    >>> keys.see(line, line)
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

    def see(self, line: bytes, new: bytes) -> None:
        """Look at the next record, and for keys in that part of it which no record before has."""
        for key in set(self._keys.findall(line if self._lacks_ids else new)):
            name = self._columns[key]
            if name in self.found or not self._patterns[name].search(line):
                continue
            if name != "logprobs" or self._ids.search(line):  # of which tokens they are
                self.found.add(name)
            else:
                self._lacks_ids = True


def _pattern(names: Sequence[str], behind: bytes) -> re.Pattern[bytes]:
    listed = b"|".join(re.escape(name).encode() for name in names) or rb"(?!)"
    return re.compile(rb'"(?:%b)"%b' % (listed, behind))
