"""The tokenizer of a dataset: missing, another one, or of another revision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from two_turns import (
    PLAIN,
    _sha256,
    two_turns,
)

from reasonpack import read_manifest
from reasonpack.datasets.receipt import as_json
from tests.changed import replace


def test_missing_tokenizer(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    directory = write([[two_turns(tokenizer)]])
    moved = (tmp_path / "tokenizer.json").rename(tmp_path / "moved.json")
    status, out, err = inspect(directory)
    assert (status, "\n| «" in out, "<u>" in out) == (0, True, False)
    assert err.startswith(f"Ids and no text: {directory}/manifest.json: options.tokenizer: ")
    status, out, err = inspect(directory, "--view", 1)
    assert (status, out) == (1, "")
    assert f"{directory}/manifest.json: options.tokenizer: {tmp_path}/tokenizer.json: " in err
    assert err.endswith(", or say where it is: --tokenizer PATH|HUB_ID.\n")
    assert inspect(directory, "--tokenizer", moved) == (0, PLAIN, "")

    status, out, err = inspect(directory, "--json")
    assert (status, err.startswith("Ids and no text: ")) == (0, True)
    assert all("text" not in segment for segment in json.loads(out)["segments"])
    status, out, _ = inspect(directory, "--json", "--view", 1)
    assert (status, list(json.loads(out))[-1]) == (0, "position_ids")
    status, out, err = inspect(directory, "--json", "--tokenizer", tmp_path / "nowhere.json")
    assert (status, out) == (1, "")
    assert err.startswith(f"Error: {tmp_path}/nowhere.json: does not exist")


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_another_tokenizer(
    args: list[str],
    write: Any,
    inspect: Any,
    tokenizer: tokenizers.Tokenizer,
    tmp_path: Path,
) -> None:
    directory = write([[two_turns(tokenizer)]])
    other = tmp_path / "other.json"
    other.write_text((tmp_path / "tokenizer.json").read_text() + "\n")
    status, out, err = inspect(directory, "--tokenizer", other, *args)
    assert (status, out) == (1, "")
    assert f"SHA-256 {_sha256(other)}), expected {_sha256(tmp_path / 'tokenizer.json')}." in err
    (tmp_path / "tokenizer.json").write_text(other.read_text())
    status, out, err = inspect(directory, *args)
    assert (status, "is not the tokenizer of this dataset" in err) == (0, True)
    assert '"text"' not in out
    assert "<u>" not in out


def test_revision_belongs_to_the_manifest_s_tokenizer(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    directory = write([[two_turns(tokenizer)]])
    manifest = read_manifest(directory)
    options = replace(manifest.options, revision="v1")
    (directory / "manifest.json").write_text(as_json(replace(manifest, options=options)))
    _, _, err = inspect(directory)
    assert "tokenizer.json: is on disk and has no revision 'v1'" in err
    assert inspect(directory, "--tokenizer", tmp_path / "tokenizer.json") == (0, PLAIN, "")
