"""`reasonpack verify`: a finished dataset, checked by itself and against its source."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec

from reasonpack.cli.progress import new_bar
from reasonpack.verify.findings import CODES
from reasonpack.wording import count, printable

if TYPE_CHECKING:  # loaded after --help
    from reasonpack.verify.findings import Findings

STOPS = {
    "stops: files": "from the model's files",
    "stops: files, next role": "from the model's files, as the header of the next message",
    "stops: rendering": "from the rendering alone",
    "stops: stated": "stated by the user",
    "stops: manifest": "from the manifest",
    "stops: none: cut off": "answers cut off, without one",
}
"""Name of a count → where the stop tokens it counts come from."""
SHOWN = 20
"""How many violations are printed."""


@click.command("verify", epilog="\b\n" + "\n".join(f"{code}  {CODES[code]}" for code in CODES))
@click.argument("directory", metavar="DIR")
@click.argument("more", nargs=-1, metavar="")
@click.option(
    "--against",
    multiple=True,
    metavar="INPUT...",
    help="Files or directories that DIR was packed from: rebuild every view and compare.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Rebuild N conversations, spread over the dataset, and not all.",
)
@click.option(
    "--tokenizer",
    metavar="PATH|HUB_ID",
    help="Where the tokenizer is, if not where it was when DIR was packed.",
)
@click.option(
    "--allow-unchecked", is_flag=True, help="Exit 0 although some records could not be checked."
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    *,
    directory: str,
    more: tuple[str, ...],
    against: tuple[str, ...],
    sample: int | None,
    tokenizer: str | None,
    allow_unchecked: bool,
    as_json: bool,
) -> None:
    """Check a finished dataset, and with --against prove that it is what its source gives.

    DIR is a dataset that pack wrote. Hashes, counts, the schema and every rule of the format
    are checked on every row. With --against every record is read and every view rendered and
    encoded again, by code that packs nothing: each trained token must see exactly what its view
    has before it, at the same positions, and no token may be missing. Exit status 1 if anything
    is wrong, or if a record has what this check does not know.
    """
    from reasonpack.show.terminal import moves_cursor  # noqa: PLC0415 (after --help)
    from reasonpack.verify.check import verify_dataset  # noqa: PLC0415

    inputs = (*against, *more)
    if inputs and not against:
        raise click.UsageError(f"Unexpected argument {more[0]!r}. Name inputs after --against.")
    if not inputs and (sample is not None or tokenizer is not None or allow_unchecked):
        raise click.UsageError("--sample, --tokenizer and --allow-unchecked need --against.")

    quiet = not moves_cursor(sys.stderr)
    with new_bar(total=0, unit="shard", desc="verify", disable=quiet, delay=1.0) as bar:

        def on_unit(units: int) -> None:
            bar.total = units
            bar.update()

        findings = verify_dataset(
            directory, inputs, sample=sample, tokenizer=tokenizer, on_unit=on_unit
        )
    for warning in findings.warnings:
        click.echo(f"Warning: {printable(warning)}", err=True)
    if as_json:
        click.echo(json.dumps(_as_json(findings)))
    else:
        for finding in findings.listed[:SHOWN]:
            click.echo(printable(str(finding)))
    click.echo(f"{printable(directory)}: {printable(_summary(findings))}", err=True)
    for line in _extent(findings):
        click.echo(printable(line), err=True)
    ctx.exit(1 if findings.total or (findings.unchecked and not allow_unchecked) else 0)


def _as_json(findings: Findings) -> dict[str, Any]:
    return {
        "ok": not findings.total and not findings.unchecked,
        "checked": findings.checked,
        "total": findings.total,
        "counts": dict(sorted(findings.counts.items())),
        "violations": [msgspec.to_builtins(finding) for finding in findings.listed],
        "warnings": findings.warnings,
        "taken_from_manifest": findings.taken,
        "unchecked": {
            reason: {"records": number, "first": first}
            for reason, (number, first) in sorted(findings.unchecked.items())
        },
    }


def _summary(findings: Findings) -> str:
    """Return one line that says what was proved, or how much is wrong."""
    if findings.total:
        codes = ", ".join(f"{code} {times:,}" for code, times in sorted(findings.counts.items()))
        shown = f"; the first {SHOWN} are shown" if findings.total > SHOWN else ""
        return f"violations: {findings.total:,} ({codes}){shown}"

    number = Counter(findings.checked)
    unchecked = sum(records for records, _ in findings.unchecked.values())
    head = f"{count(unchecked, 'record')} not checked, the rest is sound" if unchecked else "sound"
    held = ", ".join(count(number[f"{what}s"], what) for what in ("row", "sample", "token"))
    rows = f"{head}: {held}"
    if "records" not in findings.checked:
        return rows
    confirmed = f" ({number['rejects confirmed']:,} confirmed)" if number["rejects"] else ""
    return (
        f"{rows}; {count(number['records'], 'record')} of the input, {_packed(findings)} "
        f"and {number['rejects']:,} rejected{confirmed}"
    )


def _packed(findings: Findings) -> str:
    """Return how many records were packed, once or more often, and how many were not taken."""
    found = dict.fromkeys(("packed", "copies", "duplicates", "not_taken"), 0) | findings.checked
    if findings.of_calls:
        return f"in {count(found['packed'], 'group')} packed"
    said = f"of which {found['packed'] - found['copies']:,} packed"
    if found["copies"]:
        said += f" ({found['packed']:,} with copies)"
    if found["duplicates"]:
        said += f", {count(found['duplicates'], 'duplicate')}"
    return f"{said}, {found['not_taken']:,} not taken" if found["not_taken"] else said


def _extent(findings: Findings) -> Iterator[str]:
    """Yield lines: what was rebuilt from the source, taken from the manifest, or not checked."""
    checked = findings.checked
    if "records" not in checked:
        return
    stops = [f"{checked[name]:,} {STOPS[name]}" for name in STOPS if name in checked]
    names = ("group", "call") if findings.of_calls else ("conversation", "view")
    numbers = (checked.get(name, 0) for name in (f"{names[0]}s", "views"))
    what = " with ".join(map(count, numbers, names))
    once = "once, with the weights of all, or once for each that has values of its own"
    once = f"what they train is trained {once if findings.of_calls else 'once'}, after the same "
    once += "prefixes, as the same kinds, and nothing else"
    yield f"rebuilt: {what}" + ("" if findings.total else f": {once}")
    if "left out" in checked:
        yield f"left out, and too long indeed: {count(checked['left out'], 'message')}"
    if "kept as context" in checked:
        yield f"kept as context, as packing decided: {count(checked['kept as context'], 'message')}"
    yield f"stop tokens: {', '.join(stops) or 'none'}"
    compared = sum(checked.get(name, 0) for name in list(STOPS)[:4])
    yield f"compared with the stop tokens that manifest and card name: {compared:,}"
    yield f"taken from the manifest: {', '.join(findings.taken) or 'nothing'}"
    places = ", where records are in their files" if findings.of_calls else ""
    yield f"shared with pack: decoding JSON{places}, the tokenizer and the text of the template"
    context = count(checked.get("context tokens", 0), "token")
    yield (
        f"kinds and messages of context compared: {context} within the texts of messages; "
        "not checked: those between"
    )
    for reason, (records, first) in sorted(findings.unchecked.items()):
        yield f"not checked: {count(records, 'record')}: {reason}; the first is {first}"
