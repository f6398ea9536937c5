"""Receipts → a bar on a terminal, and lines that say how a run goes or how to resume it.

    pack:  41%|████      | 13.1G/32.0G [12:01<17:20, 18.2MB/s, 4.1M tokens/s]

The bar counts input bytes. Lines go to standard error with or without a terminal. Ctrl-C ends a run
with such a line and exit status 130.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from reasonpack.wording import count, printable

if TYPE_CHECKING:
    from reasonpack.datasets.manifest import Manifest
    from reasonpack.datasets.receipt import Receipt
    from reasonpack.records.unit import Unit
    from reasonpack.run.estimate import Estimate


INSISTING = 1.0
"""Seconds after a first Ctrl-C after which another one ends the process at once."""


class Progress:
    """Shows the progress of a run of the command `name`; `close` removes the bar."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar: Any = None
        self._began = time.monotonic()
        self._tokens = 0
        self._units = 0
        self._done = 0

    def begin(self, units: Sequence[Unit], receipts: Sequence[Receipt]) -> None:
        """Say how many units are done already, and show the bar."""
        from reasonpack.show.terminal import moves_cursor  # noqa: PLC0415

        self._units, self._done, self._began = len(units), len(receipts), time.monotonic()
        if receipts and len(receipts) == len(units):
            self.note(f"nothing to do: {_units(len(units))} packed before, every shard as it was")
        elif receipts:
            self.note(f"going on: {len(receipts):,} of {_units(len(units))} are done")
        if not moves_cursor(sys.stderr):
            return
        self._bar = new_bar(
            total=sum(unit.input_bytes for unit in units),
            initial=sum(receipt.unit.input_bytes for receipt in receipts),
            unit="B",
            unit_scale=True,
            desc=self._name,
            dynamic_ncols=True,
        )

    def advance(self, receipt: Receipt) -> None:
        """Count a unit as done."""
        self._done += 1
        self._tokens += receipt.counts.tokens
        if self._bar is not None:
            seconds = max(time.monotonic() - self._began, 1e-9)
            rate = self._bar.format_sizeof(self._tokens / seconds)
            self._bar.set_postfix_str(f"{rate} tokens/s", refresh=False)
            self._bar.update(receipt.unit.input_bytes)

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        click.echo(printable(text), err=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def interrupted(self) -> str:
        """Return the text that says how to resume after Ctrl-C."""
        if not self._units:
            return (
                "Interrupted before packing began. "
                "The same command begins again, and keeps what was done before."
            )
        return (
            f"Interrupted: {self._done:,} of {_units(self._units)} are done. "
            "The same command goes on from there; --overwrite begins anew."
        )


def new_bar(**options: Any) -> Any:
    """Return a tqdm bar with these options, which starts no thread and is removed at its end.

    tqdm's thread redraws a bar whose updates have become rare, which one that looks at the clock
    at each update does not need. A process with two threads cannot be forked for its workers.
    """
    from tqdm import tqdm  # noqa: PLC0415 (where a bar is shown)

    class Bar(tqdm):  # type: ignore[misc]
        monitor_interval = 0

    return Bar(miniters=1, leave=False, **options)


@contextlib.contextmanager
def resumable(progress: Progress) -> Iterator[None]:
    """On Ctrl-C, say at once how to resume, and exit with 130: Ray takes seconds to stop."""
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
            # Errors after Ctrl-C, such as a cluster that is gone, are caused by it.
            if not told:
                raise
            raise click.exceptions.Exit(130) from None


@contextlib.contextmanager
def _one_interrupt(tell: Callable[[], None]) -> Iterator[None]:
    """On the first Ctrl-C call `tell` and raise KeyboardInterrupt; ignore those soon after it.

    One that comes more than `INSISTING` seconds later ends the process at once. The old handler is
    restored after the block if there was no Ctrl-C; otherwise cleaning up must not be interrupted.
    """
    first: list[float] = []

    def interrupt(*_: object) -> None:
        if not first:
            first.append(time.monotonic())
            with contextlib.suppress(OSError, RuntimeError):  # if another line is being written
                tell()
            raise KeyboardInterrupt
        if time.monotonic() - first[0] > INSISTING:
            os._exit(130)

    before = signal.getsignal(signal.SIGINT)
    alone = threading.current_thread() is threading.main_thread()
    if before is not signal.default_int_handler or not alone:  # nohup, or called by a program
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        if not first:
            signal.signal(signal.SIGINT, before)


def summarize(manifest: Manifest, output: str, *, as_json_: bool) -> None:
    """Write the summary of a run to standard error; with `as_json_`, its manifest to stdout too."""
    from reasonpack.datasets.manifest import REJECTS  # noqa: PLC0415
    from reasonpack.datasets.receipt import as_json  # noqa: PLC0415
    from reasonpack.show.rejects import examples  # noqa: PLC0415
    from reasonpack.show.summary import summary  # noqa: PLC0415
    from reasonpack.show.terminal import width_of  # noqa: PLC0415
    from reasonpack.storage.place import join  # noqa: PLC0415

    first = examples([join(output, REJECTS)], manifest.counts.reasons)
    click.echo(summary(manifest, first, width_of(sys.stderr)), err=True)
    if as_json_:
        click.echo(as_json(manifest), nl=False)


def _units(number: int) -> str:
    return count(number, "unit")


def estimate_lines(found: Estimate) -> str:
    """Return what a run would do, with a line for each input and then the sums."""
    lines = [
        f"{printable(input_.name)}  {count(input_.bytes, 'byte')}, {_units(number)}"
        for input_, number in found.inputs
    ]
    lines.append(
        f"input     {count(found.input_bytes, 'byte')}, {_units(found.units)}, each a shard"
    )
    # Texts that calls of a group share are kept once; how much that is, is not known here.
    about = "at most" if found.of_calls else "at least" if found.compressed else "about"
    lines.append(f"workers   {found.workers}, memory {about} {found.memory / 2**30:.1f} GiB")
    if found.compressed:
        lines.append("          a compressed file is one unit; how much it holds is not known yet")
    if found.tokens is None or found.npass_tokens is None:
        lines.append("tokens    not estimated: no record to take a sample of")
    else:
        what = count(round(found.conversations or 0), "group" if found.of_calls else "conversation")
        lines.append(f"tokens    about {found.tokens:,.0f} in {what}")
        if found.tokens:
            times = f"{found.npass_tokens / found.tokens:.2f} times as many"
            lines.append(f"N-pass    about {found.npass_tokens:,.0f} tokens, {times}")
        lines.append(f"time      about {found.seconds:,.0f} s")
        free = "" if found.free is None else f", of {found.free / 1e6:,.1f} MB that are free"
        lines.append(f"disk      about {(found.disk or 0) / 1e6:,.1f} MB{free}")
        lines.append(f"rejected  {found.rejected_share:.1%} of the sample")
    return "\n".join(lines)
