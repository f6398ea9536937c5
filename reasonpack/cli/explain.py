"""`reasonpack explain`: what a code of verify, a reject or a fault means, and its fix."""

from __future__ import annotations

import json

import click


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def command(*, codes: tuple[str, ...], as_json: bool) -> None:
    """Say what codes mean, and how to mend what they stand for.

    CODE is a code of verify, such as RP206, the reason of a reject, such as overlong, or a fault
    that check finds, such as stop-untrained. Without CODE all are listed.
    """
    from reasonpack.errors import UsageError  # noqa: PLC0415 (after --help)
    from reasonpack.run.check.written import FAULTS  # noqa: PLC0415
    from reasonpack.show.rejects import WORDS  # noqa: PLC0415
    from reasonpack.verify.findings import CODES, fix_of  # noqa: PLC0415
    from reasonpack.wording import nearest  # noqa: PLC0415

    reject = "its error says what to do; `reasonpack inspect DIR --where rejects` lists them"
    fault = "correct the mask or the template of the trainer, or prepare the chats with pack"
    stops = "do what its error says; it stops a run even with --on-error skip"
    meanings = {
        **{code: (what, fix_of(code)) for code, what in CODES.items()},
        **{reason: (what, reject) for reason, what in WORDS.items()},
        **{code: (what, fault) for code, what in FAULTS.items()},
        "unknown-field": (WORDS["unknown-field"], stops),
    }
    wanted = [code.upper() if code.upper() in CODES else code.lower() for code in codes]
    for given, code in zip(codes, wanted, strict=True):
        if code not in meanings:
            near = nearest(code, [*meanings]) or nearest(code.upper(), [*meanings])
            raise UsageError(
                "explain",
                f"no code {given!r}",
                f"{near}, or another" if near else f"{min(CODES)} to {max(CODES)}, or a reason",
                "call explain without a code to see all",
            )
    chosen = {code: meanings[code] for code in wanted or meanings}
    if as_json:
        click.echo(
            json.dumps({code: {"meaning": w, "fix": fix} for code, (w, fix) in chosen.items()})
        )
        return
    width = max(map(len, chosen))
    for code, (what, fix) in chosen.items():
        click.echo(f"{code:<{width}}  {what}")
        if codes:
            click.echo(f"{'':<{width}}  Fix: {fix}.")
