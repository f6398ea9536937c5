"""Ctrl-C → a line that says how to go on, and exit status 130."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import click

from reasonpack.cli.progress import Progress

INSISTING = 1.0
"""Seconds after a Ctrl-C from which on another one means it."""


@contextlib.contextmanager
def resumable(progress: Progress) -> Iterator[None]:
    """Turn Ctrl-C into a line that says how to go on, at once: Ray takes seconds to stop."""
    told: list[str] = []

    def tell() -> None:
        if not told:
            progress.close()
            click.echo(progress.interrupted(), err=True)
            told.append("")

    with _one_interrupt(tell):
        try:
            yield
        except KeyboardInterrupt:
            tell()
            raise click.exceptions.Exit(130) from None
        except Exception:
            # What goes wrong once it was told, as a cluster that is gone already, comes of it.
            if not told:
                raise
            raise click.exceptions.Exit(130) from None


@contextlib.contextmanager
def _one_interrupt(tell: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C tell and raise, so that all is tidied up; the next few do nothing.

    One that comes much later ends the process where it stands. Where none has come, all is
    as before; where one has, this lasts until the process is gone.
    """
    first: list[float] = []

    def interrupt(*_: object) -> None:
        if not first:
            first.append(time.monotonic())
            with contextlib.suppress(OSError, RuntimeError):  # in the middle of another line
                tell()
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > INSISTING:
            os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    alone = threading.current_thread() is threading.main_thread()
    if before is not signal.default_int_handler or not alone:  # as under nohup, or in a program
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if not first:
            signal.signal(signal.SIGINT, before)
