"""The command line: one module for each command, imported when the command is called.

Exit status: `run` here returns 1 for an error and 2 for a wrong usage; `pack`, `merge` and `repack`
end with 3 if they left something out, `verify` and `check` with 1 if they found a fault.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from reasonpack.wording import printable

__all__ = ["cli", "main"]

COMMANDS = {
    "pack": "Pack chats into rows that train exactly as N passes would.",
    "merge": "Check the parts of a run on several machines, and make them one dataset.",
    "repack": "Pack finished datasets again, without rendering or tokenizing.",
    "template": "Show what a chat template does to reasoning.",
    "verify": "Check a finished dataset, by itself and against its source.",
    "stats": "Count what a dataset holds and costs, with histograms.",
    "inspect": "Show a row of a dataset: segments, text, what is trained.",
    "check": "Check tokens of other tools against inference, or chats before they are packed.",
    "explain": "Say what a code of verify or a reason of a reject means.",
    "report": "Write a dataset as one HTML page.",
}
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True}
COLLECTED = 300_000
"""How many new objects start a search for garbage in cycles, of which there is hardly any. With
Python's 700, searching takes a twentieth of packing."""


class _Lazy(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"reasonpack.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy, context_settings=SETTINGS)
@click.version_option(package_name="reasonpack", message="%(prog)s %(version)s")
def cli() -> None:
    """Pack multi-turn reasoning chats once, trained exactly as N passes would.

    Data goes to standard output, progress and messages to standard error. Exit status:
    0 done, 1 stopped by an error, or faults found, 2 wrong usage, 3 done, with records rejected or
    messages left out.
    """


def main() -> None:
    """Run the command line; a `ReasonpackError` ends it with one line and an exit status."""
    from reasonpack.cli.denied import (  # noqa: PLC0415
        give_up_standard_output_if_broken,
        mend_standard_streams,
        short_of_memory,
    )

    # Importing NumPy (OpenBLAS) and Arrow (its allocator) must not start threads: a process with
    # threads cannot be forked, and its workers would import everything again.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    gc.set_threshold(COLLECTED)
    mend_standard_streams()
    if said := short_of_memory():
        click.echo(f"Error: {said}", err=True)
        sys.exit(1)
    status = run(cli)
    give_up_standard_output_if_broken()
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End this process without freeing memory, which takes a fifth of a short command's time."""
    if not _is_watched():
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _is_watched() -> bool:
    """Return whether a profiler or a tracer is active, which writes its results at exit."""
    monitoring: Any = getattr(sys, "monitoring", None)  # they use it from Python 3.12 on
    tools = monitoring and any(map(monitoring.get_tool, range(6)))
    return bool(sys.getprofile() or sys.gettrace() or tools)


def run(entry: Callable[..., Any]) -> int:
    """Call a click command and return the exit status."""
    from reasonpack.cli.denied import denied  # noqa: PLC0415
    from reasonpack.errors import ReasonpackError, UsageError  # noqa: PLC0415

    try:
        status = int(entry(standalone_mode=False, prog_name="reasonpack") or 0)
        sys.stdout.flush()
        return status
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return 130
    except Exception as error:
        said = error if isinstance(error, ReasonpackError) else denied(error)
        if said is None:
            raise
        click.echo(f"Error: {printable(str(said))}", err=True)
        return 2 if isinstance(said, UsageError) else 1
