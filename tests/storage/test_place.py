"""How long a file system on the network is waited for."""

from __future__ import annotations

import pyarrow.fs

from reasonpack.storage.place import file_system


def test_google_s_storage_is_waited_for_a_minute_if_nothing_else_is_said() -> None:
    place = "gs://anonymous@bucket/a.jsonl?scheme=http"
    for given, said in ((place, "&"), (place.partition("?")[0], "?")):
        expected = pyarrow.fs.FileSystem.from_uri(f"{given}{said}retry_limit_seconds=60")
        assert file_system(given) == expected
        assert file_system(f"{given}{said}retry_limit_seconds=5") != expected
