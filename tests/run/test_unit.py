"""A run over fields that nobody reads names all of them, ends in 1, and one option ends that."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runs import FIXTURES, chats, run

from reasonpack.cli import cli
from reasonpack.datasets.options import Options
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.run.pack import pack_files, pack_part

OPTIONS = Options(tokenizer=str(FIXTURES / "tokenizer"))


def write(path: Path, **planted: dict[str, Any]) -> Path:
    """Write 40 chats, with fields on the answer, or the record, of a few lines."""
    lines = [json.loads(line) for line in chats(bad=False).splitlines()]
    for place, fields in planted.items():
        kind, _, number = place.partition("_")
        record = lines[int(number)]
        (record["messages"][1] if kind == "answer" else record).update(fields)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = write(
        tmp_path / "a.jsonl",
        answer_3={"cot": "Because.", "name": "bot"},
        answer_20={"cot": "As before.", "step_loss": 0.5},
        record_35={
            "tool": [{"type": "function", "function": {"name": "f"}}],
            "score": 3,
            "mood": "fine",
        },
        answer_39={"cot": "Again."},
    )
    lines = path.read_text().splitlines()
    lines[30] = '{"messages": 5, "tool": [1]}'  # refused for something else too
    lines[31] = "{"
    path.write_text("\n".join(lines) + "\n")
    return path


def pack(source: Path, out: Path, *more: str) -> Result:
    command = ["pack", source, "--tokenizer", FIXTURES / "tokenizer", "-o", out]
    return CliRunner().invoke(cli, [*map(str, command), "--unit-size", "4000", *more])


@pytest.mark.long
@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize("workers", [1, 2])
def test_all_fields_of_the_input_are_named_at_once(
    source: Path, tmp_path: Path, workers: int, on_error: Any
) -> None:
    options = Options(tokenizer=OPTIONS.tokenizer, on_error=on_error)
    if on_error == "stop":  # a line that is wrong otherwise stops it first, or does not
        source.write_text("".join(source.read_text().splitlines(keepends=True)[:30]))
    with pytest.raises(UnknownFieldError) as caught:
        pack_files([str(source)], tmp_path / "out", options, run=run(num_proc=workers))
    found = {each.name: (each.count, each.where) for each in caught.value.fields}
    expected = {"cot": (2, f"{source}:4"), "step_loss": (1, f"{source}:21")}
    if on_error == "skip":
        expected |= {"cot": (3, f"{source}:4"), "tool": (2, f"{source}:31")}
    assert found == expected
    assert "--ignore-fields cot,step_loss" in caught.value.fix
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.long
def test_the_command_ends_in_1_and_the_option_that_it_names_ends_that(
    source: Path, tmp_path: Path
) -> None:
    done = pack(source, tmp_path / "out", "--on-error", "skip")
    assert done.exit_code == 1, done.output
    options = re.findall(r"--[a-z-]+ [\w,=]+", str(done.exception).partition("Fix: ")[2])
    assert options == ["--field tool=tools", "--ignore-fields cot,step_loss"]
    again = pack(source, tmp_path / "out", "--on-error", "skip", *" ".join(options).split())
    assert again.exit_code == 3, again.stderr
    assert "fields that are not read: score 1" not in again.stderr  # score is harmless


def test_options_without_effect_are_said(source: Path, tmp_path: Path) -> None:
    names = "--ignore-fields=tool,step_loss,scratch,mod"
    done = pack(source, tmp_path / "out", "--on-error=skip", names, "--field=cot=thought",
                "--field=thougths=thought")  # fmt: skip
    assert done.exit_code == 3, done.stderr
    without = "made no difference to any record that was packed"
    said = [line for line in done.stderr.splitlines() if without in line]
    assert said == [
        f"--ignore-fields mod: {without}; there is mood",
        f"--ignore-fields scratch: {without}",
        f"--ignore-fields step_loss: {without}",  # it was rejected for its cot
        f"--field cot: {without}",
        f"--field thougths: {without}",
    ]
    assert "fields that --ignore-fields leaves out: tool 1" in done.stderr


def test_a_config_file_names_fields_too(source: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "ignore-fields: [tool, step_loss]\nfield: cot=thought\non-error: skip\n"
    )
    done = pack(source, tmp_path / "out", "--config", str(tmp_path / "c.yaml"))
    assert done.exit_code == 3, done.stderr
    assert "3 conflict" in done.stderr  # those answers have reasoning already


def test_names_may_be_given_in_any_order(source: Path, tmp_path: Path) -> None:
    first = pack(source, tmp_path / "out", "--on-error=skip", "--ignore-fields=cot,step_loss,tool")
    again = pack(
        *(source, tmp_path / "out", "--on-error=skip", "--ignore-fields=tool"),
        *("--ignore-fields=step_loss, cot",),
    )
    assert first.exit_code == again.exit_code == 3, again.stderr


def test_an_option_that_names_no_known_field_is_refused(source: Path, tmp_path: Path) -> None:
    done = pack(source, tmp_path / "out", "--field", "cot=reason")
    assert isinstance(done.exception, Exception)
    assert "expected NAME=KNOWN" in str(done.exception)


def test_a_part_names_the_fields_of_the_whole_input(source: Path, tmp_path: Path) -> None:
    options = Options(tokenizer=OPTIONS.tokenizer, on_error="skip")
    errors = []
    for index in range(3):
        try:
            part = {"index": index, "count": 3, "run": run()}
            pack_part([str(source)], tmp_path / "out", options, **part)
        except UnknownFieldError as error:
            errors.append(str(error))
    assert len(set(errors)) == 1


def test_a_dry_run_ends_in_the_same_way(source: Path, tmp_path: Path) -> None:
    done = pack(source, tmp_path / "out", "--on-error", "skip", "--dry-run")
    assert done.exit_code == 1
    assert "--ignore-fields" in str(done.exception)
