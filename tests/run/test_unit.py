"""A run over fields that nobody reads names all of them, ends in 1, and one option ends that."""

from __future__ import annotations

import gc
import json
import re
import weakref
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from runs import FIXTURES, chats, run, tree

from reasonpack.cli import cli
from reasonpack.datasets.options import Options
from reasonpack.records.unit import Record
from reasonpack.records.unknown import UnknownFieldError
from reasonpack.run.context import load_context
from reasonpack.run.conversations import Chats
from reasonpack.run.pack import pack_files, pack_part
from reasonpack.show.summary import summary

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


def test_what_is_noticed_is_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.jsonl",
        answer_1={"thought": ""},
        answer_5={"finish_reason": "length"},
        answer_9={"content": ""},
        answer_12={"content": "<thinking>Hm.</thinking>4", "reasoning_content": None},
        record_7={"mood": "good", "chat_template_kwargs": {"colour": "red"}},
        record_30={"mood": "bad", "chat_template_kwargs": {"enable_thinking": True}},
    )
    made = [
        pack_files([str(source)], tmp_path / str(n), OPTIONS, run=run(num_proc=n)) for n in (1, 2)
    ]
    assert tree(tmp_path / "1") == tree(tmp_path / "2")
    notes = made[0].counts.notes
    assert notes.items() >= {
        ("unread mood", 2),
        ("variable colour", 1),
        ("reasoning-alone", 1),
        ("unfinished", 1),
        ("form <thinking>", 1),
    }
    said = summary(made[0]).splitlines()
    assert "noticed        fields that are not read: mood 2" in said
    assert len([line for line in said if line.startswith("noticed")]) == len(notes)


def test_names_without_end_are_counted_together(tmp_path: Path) -> None:
    source = write(
        tmp_path / "a.jsonl",
        record_1={f"field {n}": 1 for n in range(150)},
        record_39={f"other {n}": 1 for n in range(150)},
    )
    manifest = pack_files([str(source)], tmp_path / "out", OPTIONS, run=run())
    notes = manifest.counts.notes
    assert len(notes) == 100
    assert sum(notes.values()) == 300
    assert notes["more"] == 201
    assert "and 87 more" in summary(manifest)


def test_names_that_cannot_be_shown_are_escaped(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", record_1={"\x1b[2J": 1, "long" * 50: 1})
    notes = pack_files([str(source)], tmp_path / "out", OPTIONS, run=run()).counts.notes
    assert notes == {"unread '" + ("long" * 50)[:60] + "'…": 1, "unread '\\x1b[2J'": 1}


def test_variables_of_the_run_that_the_template_does_not_read_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl")
    variables = """{"colour": "red", "enable_thinking": true}"""
    done = pack(source, tmp_path / "out", "--chat-template-kwargs", variables)
    assert done.exit_code == 0, done.stderr
    assert "--chat-template-kwargs: the template does not read colour\n" in done.stderr


def test_a_dry_run_ends_in_the_same_way(source: Path, tmp_path: Path) -> None:
    done = pack(source, tmp_path / "out", "--on-error", "skip", "--dry-run")
    assert done.exit_code == 1
    assert "--ignore-fields" in str(done.exception)


@pytest.mark.parametrize("bad", [b"{}", b'{"messages": [', b"\xff"])
def test_a_rejected_record_does_not_keep_the_samples_of_its_unit(bad: bytes) -> None:
    options = Options(tokenizer=str(FIXTURES / "tokenizer"), on_error="skip")
    lines = [chats(1, bad=False).strip(), bad]
    gc.collect()
    gc.disable()  # what is searched for seldom has to be freed without it
    try:
        records = [Record(f"a:{number}", line) for number, line in enumerate(lines)]
        laid = Chats(options, load_context(options)).lay_out(records)
        assert (len(laid.samples), len(laid.rejects)) == (1, 1)
        ids = weakref.ref(laid.samples[0].input_ids)
        del laid
        assert ids() is None
    finally:
        gc.enable()
