"""`reasonpack stats`: what a dataset holds and costs, as numbers and histograms."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from reasonpack.show.model_shape import ModelShape


@click.command("stats")
@click.argument("directory", metavar="DIR")
@click.option(
    "--model-config",
    metavar="PATH",
    type=click.Path(exists=True, path_type=Path),
    help="The config.json of the model to train, or its directory.",
)
@click.option(
    "--hidden-size", type=click.IntRange(1), help="Width of the model to train. [default: 1024]"
)
@click.option("--layers", type=click.IntRange(1), help="Number of its layers.")
@click.option("--heads", type=click.IntRange(1), help="Number of its query heads, 128 wide each.")
@click.option("--json", "as_json_", is_flag=True, help="Write one JSON object.")
def command(
    *,
    directory: str,
    model_config: Path | None,
    hidden_size: int | None,
    layers: int | None,
    heads: int | None,
    as_json_: bool,
) -> None:
    """Count what a dataset holds, and draw how lengths, turns and reasoning are distributed.

    Shows what each layout costs with each kernel: tokens, visible pairs of tokens and 128×128
    blocks of attention, for the rows and for the npass samples of the same conversations. Name
    the model to train to get the figures for it.

    DIR is a dataset that pack wrote. All shards are read; one that does not hold what the
    manifest says is an error.
    """
    from reasonpack.datasets.receipt import as_json  # noqa: PLC0415 (after --help)
    from reasonpack.show.stats import gather, stats_json, stats_lines  # noqa: PLC0415
    from reasonpack.show.summary import summary  # noqa: PLC0415
    from reasonpack.show.terminal import width_of  # noqa: PLC0415

    shape = _shape(model_config, hidden_size, layers, heads)
    stats = gather(directory)
    if as_json_:
        click.echo(as_json(stats_json(stats, shape)), nl=False)
        return
    encoding = sys.stdout.encoding or "ascii"
    width = width_of(sys.stdout)
    said = summary(stats.manifest, width=width, with_stats=True)
    for line in (said, *stats_lines(stats, shape, width)):
        click.echo(line.encode(encoding, "replace").decode(encoding))


def _shape(
    path: Path | None, hidden_size: int | None, layers: int | None, heads: int | None
) -> ModelShape | None:
    """Return the shape of the model to train; None if no option describes it."""
    from reasonpack.show.model_shape import ModelShape  # noqa: PLC0415
    from reasonpack.tokens.files import read_json  # noqa: PLC0415

    given = {
        "hidden_size": hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "head_dim": 128 if heads else None,
    }
    if path is None and not any(given.values()):
        return None
    if path is None:
        return ModelShape.of({**given, "hidden_size": hidden_size or 1024})
    if any(given.values()):
        raise click.UsageError(
            "--model-config gives --hidden-size, --layers and --heads: leave these out."
        )
    config = path / "config.json" if path.is_dir() else path
    if not config.exists():
        raise click.UsageError(f"--model-config: {path} holds no config.json.")
    return ModelShape.of(read_json(config))
