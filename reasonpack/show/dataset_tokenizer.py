"""A dataset's manifest → the tokenizer that it was packed with, checked by its hash."""

from __future__ import annotations

import click

from reasonpack.datasets.manifest import MANIFEST, Manifest
from reasonpack.errors import ReasonpackError, TokenizerError
from reasonpack.storage.place import Place, join, public_name
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer
from reasonpack.wording import printable


def load_own_tokenizer(directory: Place, manifest: Manifest, source: str | None) -> Tokenizer:
    """Load the tokenizer of a dataset from `source`, by default from where the manifest says.

    Raises:
        TokenizerError: it cannot be loaded, or has another hash than the dataset's.
    """
    options, expected = manifest.options, manifest.tokenizer_sha256
    named, revision = (options.tokenizer, options.revision) if source is None else (source, None)
    try:
        tokenizer = load_tokenizer(named, revision=revision)
        if tokenizer.sha256 != expected:
            what = "is not the tokenizer of this dataset (its tokenizer.json has SHA-256 "
            what += f"{tokenizer.sha256})"
            raise TokenizerError(tokenizer.source, what, expected, "pass that one")
    except ReasonpackError as error:
        if source is not None:
            raise
        where = public_name(join(directory, MANIFEST))
        raise TokenizerError(
            f"{where}: options.tokenizer: {error.where}",
            error.what,
            error.expected,
            f"{error.fix}, or say where it is: --tokenizer PATH|HUB_ID",
        ) from error
    return tokenizer


def tokenizer_if_any(
    directory: Place, manifest: Manifest, source: str | None, *, optional: bool = True
) -> tuple[Tokenizer | None, str]:
    """Return the tokenizer of a dataset, and a sentence that says where it is from.

    If it cannot be loaded, None and a sentence that says why only ids are shown, which is written
    to standard error too.

    Raises:
        TokenizerError: it cannot be loaded, or is another one, though it was named or is required.
    """
    try:
        found = load_own_tokenizer(directory, manifest, source)
    except TokenizerError as error:
        if source is not None or not optional:
            raise
        said = f"Ids and no text: {printable(str(error))}"
        click.echo(said, err=True)
        return None, said
    return found, f"Texts by the tokenizer from {found.source}"
