"""Datasets that cannot be one are refused; so is to relax a limit that left something out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import FIXTURES

from reasonpack.datasets.manifest import Manifest, Share, read_manifest
from reasonpack.datasets.options import Options
from reasonpack.datasets.receipt import Counts
from reasonpack.errors import FormatError, UsageError
from reasonpack.run.pack import pack_files
from reasonpack.run.sources import Source, longest_view, options_for, read_sources
from tests.changed import replace

PLAIN = Options(tokenizer=str(FIXTURES / "tokenizer"))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "out"
    pack_files([str(FIXTURES / "chats.jsonl")], folder, PLAIN)
    return folder


@pytest.fixture
def manifest(packed: Path) -> Manifest:
    return read_manifest(packed)


def source(manifest: Manifest, name: str = "one", **options: Any) -> Source:
    changed = replace(manifest, options=replace(manifest.options, **options))
    return Source(name, "0" * 64, changed, [], Share(path=name))


def fault(call: Callable[[], object]) -> str:
    with pytest.raises((UsageError, FormatError)) as caught:
        call()
    return str(caught.value)


def written(directory: Path, packed: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a dataset with another manifest."""
    directory.mkdir()
    (directory / "receipts").symlink_to(packed / "receipts")
    manifest = json.loads((packed / "manifest.json").read_bytes())
    change(manifest)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made.update(tokenizer_sha256="0" * 64), "tokenizer_sha256 0000"),
        (lambda made: made.update(template_sha256="0" * 64), "template_sha256 0000"),
        (
            lambda made: made["options"].update(layout=made.update(layout="npass") or "npass"),
            "layout npass, and onepass in ",
        ),
        (lambda made: made.update(columns=["loss_weights"]), "columns loss_weights, and none in "),
        (
            lambda made: made["options"].update(train_on="last-turn"),
            "--train-on last-turn, and all",
        ),
        (lambda made: made["templates"][0].update(closer="x"), "what was learned of the template"),
    ],
)
def test_it_is_said_what_differs(
    packed: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    other = written(tmp_path / "other", packed, change)
    error = fault(lambda: read_sources([packed, other]))
    assert said in error
    assert error.startswith(f"{other}: ")


def test_where_tokenizer_and_template_are_may_differ(packed: Path, tmp_path: Path) -> None:
    def moved(made: dict[str, Any]) -> None:
        made["options"].update(tokenizer="elsewhere", on_error="skip")
        made["templates"][0]["template"] = "another name"

    other = written(tmp_path / "other", packed, moved)
    sources = read_sources([packed, other])
    options = options_for(sources, {})
    assert (options.tokenizer, options.on_error) == (PLAIN.tokenizer, "skip")


def test_a_receipt_of_another_run_is_refused(packed: Path, tmp_path: Path) -> None:
    other = written(tmp_path / "other", packed, lambda made: made.update(plan_sha256="0" * 64))
    assert "the receipt of unit 0 is not that of its manifest" in fault(
        lambda: read_sources([other])
    )
    (other / "receipts").unlink()
    assert "00000.json: no such file, expected a receipt" in fault(lambda: read_sources([other]))


# --- options -------------------------------------------------------------------------------------


def test_options_that_are_not_given_have_to_be_the_same(manifest: Manifest) -> None:
    both = [source(manifest), source(manifest, "two", max_length=8_000)]
    error = fault(lambda: options_for(both, {}))
    assert error.startswith("--max-length: none in one, 8000 in two, expected the same in all.")
    assert error.endswith("Fix: pass --max-length.")
    assert options_for(both, {"max_length": 4_000}).max_length == 4_000


def test_what_is_given_wins_and_the_rest_stays(manifest: Manifest) -> None:
    old = source(manifest, compression="lz4", max_length=4_000, packing=True)
    options = options_for([old], {"max_length": 2_000})
    assert (options.max_length, options.packing, options.compression) == (2_000, "best-fit", "lz4")
    assert options_for([old], {"format": "arrow"}).compression is None
    assert options_for([old], {"format": "arrow", "compression": "zstd"}).compression == "zstd"


def test_rows_need_a_length_to_be_packed_to(manifest: Manifest) -> None:
    error = fault(lambda: options_for([source(manifest)], {"packing": "best-fit"}))
    assert "pass --max-length" in error


@pytest.mark.parametrize(
    ("counted", "given", "option"),
    [
        (Counts(left_out={"over-max-length": 2}), {"max_length": 5_000}, "--max-length"),
        (Counts(left_out={"over-max-position": 2}), {"max_position": 9_000}, "--max-position"),
        (Counts(rejects={"overlong": 2}), {"max_length": 5_000}, "--max-length"),
        (Counts(rejects={"overlong": 2}), {"max_position": 9_000}, "--max-position"),
    ],
)
def test_a_limit_that_left_something_out_is_not_relaxed(
    manifest: Manifest, counted: Counts, given: dict[str, int], option: str
) -> None:
    (name,) = given
    old = source(replace(manifest, counts=counted), max_length=4_000)
    error = fault(lambda: options_for([old], given))
    assert error.startswith(f"{option}: {given[name]}, but one lacks what was longer than ")
    assert error.endswith("Fix: pack the inputs again with the longer limit.")
    assert options_for([old], {name: 3_000})
    assert options_for([source(manifest, max_length=4_000)], given)


def test_it_divides_unless_conversations_were_rejected_whole(manifest: Manifest) -> None:
    assert options_for([source(manifest, overlong="error")], {}).overlong == "split"
    rejected = replace(manifest, counts=Counts(rejects={"overlong": 1}))
    old = source(rejected, overlong="skip")
    assert options_for([old, source(manifest)], {}).overlong == "skip"
    divided = replace(manifest, counts=Counts(extra_samples=1))
    error = fault(lambda: options_for([old, source(divided, "two")], {}))
    assert error.startswith("two: packed with --overlong split, and one with skip")


def test_the_longest_view_goes_by_the_rule_of_pack(manifest: Manifest) -> None:
    """As it is asked for, else the model's, else the length of a row."""

    def longest(max_position: int | None, given: dict[str, int], **options: Any) -> int | None:
        old = source(replace(manifest, max_position=max_position), **options)
        return longest_view([old], options_for([old], given))

    assert longest(8_192, {"max_length": 4_000}) == 8_192
    assert longest(6_000, {"max_length": 4_000}, max_length=6_000) == 4_000
    assert longest(None, {"max_length": 4_000}) == 4_000
    assert longest(None, {}) is None
    assert longest(5_000, {"max_position": 3_000}) == 3_000
    asked = source(manifest, max_position=5_000)
    assert longest_view([asked], options_for([asked], {"max_length": 900})) == 5_000
    both = [source(replace(manifest, max_position=each), str(each)) for each in (10, 20)]
    said = "--max-position: 10 in 10, 20 in 20, expected the same in all"
    assert fault(lambda: longest_view(both, options_for(both, {}))).startswith(said)
