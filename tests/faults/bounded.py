"""The command line, within 4 GiB of memory, with templates that may take a second and
512 MiB.

As a script it reads lines of JSON, `["pack", …]`, and answers each with how it ended:
`{"status": 1, "out": "", "err": "Error: …"}`; what is no error of ours gives the status −1 and
its traceback.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import traceback

from reasonpack.cli import cli, run
from reasonpack.templates import limits

MEMORY = 4 << 30


def answer(arguments: list[str]) -> dict[str, object]:
    """Run one command."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2))
    sys.argv = ["reasonpack", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = run(cli)
        except BaseException:  # noqa: BLE001 (a crash is what is looked for)
            status = -1
            traceback.print_exc()
    return {"status": status, "out": _text(out), "err": _text(err)}


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()


if __name__ == "__main__":
    limits.SECONDS, limits.SECONDS_TOGETHER, limits.HEADROOM = 1.0, 3.0, 1 << 29
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers = sys.stdout
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
