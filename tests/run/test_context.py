"""What options name is loaded once for a run, in each process, and anew for the next run."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import pytest
from runs import FIXTURES, OPTIONS, chats, run

from reasonpack.errors import UsageError
from reasonpack.run import context
from reasonpack.run.check.records import check_records
from reasonpack.run.context import Context, Loaded
from reasonpack.run.estimate import estimate
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.tokens import fast_backends
from reasonpack.tokens.fast_backends import Choice
from tests.changed import replace


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Context]:
    """Return what is loaded from now on in this process."""
    found: list[Context] = []
    load = context.load_context

    def noted(*given: object) -> Context:
        found.append(load(*given))  # type: ignore[arg-type]
        return found[-1]

    monkeypatch.setattr(context, "load_context", noted)
    return found


def test_a_run_loads_it_once(loads: list[Context], source: Path, tmp_path: Path) -> None:
    options = replace(OPTIONS, dedup="exact", on_error="skip")
    pack_files([str(source)], tmp_path / "out", options, run=run())
    assert len(loads) == 1
    pack_files([str(source)], tmp_path / "two", options, run=run(num_proc=2))
    assert len(loads) == 2
    repack([f"{tmp_path / 'out'}:0.5"], tmp_path / "half", {}, run=run())
    assert len(loads) == 3
    estimate([str(source)], options, run=run())
    assert len(loads) == 4
    check_records([str(source)], options, run())
    assert len(loads) == 5


@pytest.mark.parametrize(
    ("attribute", "value"),
    [("input_format", "chats"), ("max_length", 0), ("tokenizer", Path("x")), ("seed", "1")],
)
def test_values_from_python_that_are_of_no_type_are_refused(attribute: str, value: object) -> None:
    options = dataclasses.replace(OPTIONS, **{attribute: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"Fix: see reasonpack\.Options"):
        context.load_context(options)


def test_files_that_are_mended_are_read_anew(tmp_path: Path) -> None:
    model, source = tmp_path / "model", tmp_path / "chats.jsonl"
    shutil.copytree(FIXTURES / "tokenizer", model)
    source.write_bytes(chats(4, bad=False))
    options = replace(OPTIONS, tokenizer=str(model))
    hashes = []
    for number in range(2):
        manifest = pack_files([str(source)], tmp_path / f"{number}", options, run=run())
        hashes.append((manifest.tokenizer_sha256, manifest.template_sha256))
        template = model / "chat_template.jinja"
        template.write_text(template.read_text() + "{# mended #}")
        (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text() + " ")
    before, after = hashes
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_it_pickles_as_what_it_is_loaded_from() -> None:
    loaded = Loaded(OPTIONS, Choice("tokenizers"))
    bare = pickle.dumps(loaded)
    loaded.load(7)
    assert pickle.dumps(loaded) == bare
    again = pickle.loads(bare)
    assert (again.options, again.choice) == (OPTIONS, loaded.choice)
    assert pickle.loads(bare) is again, "each task of a process would load anew"


def test_the_encoder_goes_by_the_input_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_backends, "installed", lambda: ["gigatoken", "fastokens"])
    loaded = Loaded(OPTIONS)
    small, large = loaded.encoder(0), loaded.encoder(fast_backends.WORTH_IT)
    assert small._names == []
    assert large._names == ["gigatoken", "fastokens"]
    assert loaded.encoder(fast_backends.WORTH_IT + 1) is large
