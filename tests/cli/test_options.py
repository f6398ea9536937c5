"""`pack --config`: a YAML file gives what the command line does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import tree

from tests.cli.called import TOKENIZER, call, options_of, write


@pytest.mark.long
def test_a_file_says_what_options_say(source: Path, tmp_path: Path) -> None:
    options = ["--max-length", "4000", "--packing", "--overwrite", "--train-on", "last-turn"]
    kwargs = {"enable_thinking": True}
    given = [*options, "--chat-template-kwargs", json.dumps(kwargs), "--unit-size", "2K"]
    plain = call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "a", *given)
    assert plain.exit_code == 0, plain.output
    text = f"""
        # the same
        inputs: [{source}]
        tokenizer: {TOKENIZER}
        output: {tmp_path / "b"}
        max-length: 4000
        packing: true
        overwrite: true
        train_on: last-turn
        chat-template-kwargs: {{enable_thinking: true}}
        unit-size: 2K
    """
    made = call("--config", write(tmp_path, text))
    assert made.exit_code == 0, made.output
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_what_is_null_is_not_given(source: Path, tmp_path: Path) -> None:
    config = write(tmp_path, "\ufefflayout:\ntrain-on: null\nunit-size: ~\nsplit: ~\nsample: ~\n")
    made = call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "out", "--config", config)
    assert made.exit_code == 0, made.output


@pytest.mark.parametrize("option", ["--config", "--template-behaviour"])
def test_a_file_without_end_is_refused(
    source: Path, tmp_path: Path, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reasonpack.cli.options.LONGEST_FILE", 1000)
    made = call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "out", option, "/dev/zero")
    assert made.exit_code == 2
    assert "/dev/zero: has more than 1,000 bytes" in " ".join(made.output.split())


def test_the_command_line_wins(source: Path, tmp_path: Path) -> None:
    config = write(tmp_path, "layout: npass\non-error: skip\nformat: arrow\npacking: true\n")
    arguments = [source, "--tokenizer", TOKENIZER, "-o", tmp_path / "out", "--config", config]
    assert call(*arguments, "--layout", "onepass", "--packing", "none").exit_code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["layout"] == "onepass"
    assert manifest["options"]["on_error"] == "skip"
    assert manifest["shards"][0]["path"].endswith(".arrow")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--output", "\udcff"], "\\udcff: its name is not UTF-8"),
        (["--group-by", "\udcff"], "\\udcff: its name is not UTF-8"),
        (["--ignore-fields", "\udcff"], "\\udcff: its name is not UTF-8"),
        (["--call-columns", "\udcff"], "--call-columns: \\udcff, expected some of "),
        (["--call-columns", "log_probs"], "--call-columns: log_probs, expected some of "),
        (["--output", "x" * 300], "File name too long, expected a shorter one"),
    ],
)
def test_names_that_cannot_be_written_down(
    source: Path, tmp_path: Path, given: list[str], message: str
) -> None:
    made = call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "out", *given)
    assert made.exit_code in {1, 2}
    assert message in " ".join(made.output.split())


def test_a_number_may_end_in_k(source: Path, tmp_path: Path) -> None:
    limits = ["--max-length", "8k", "--max-position", "32K", "--max-cost", "1M", "--packing"]
    assert call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "a", *limits).exit_code == 0
    found = options_of(tmp_path / "a")
    limits_found = (found["max_length"], found["max_position"], found["max_cost"])
    assert limits_found == (8192, 32768, 1 << 20)
    assert found["packing"] == "best-fit"
    for wrong in ("8kb", "-1", "0", "1.5k", "k", "_", "1" * 5000):
        made = call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "b", "--max-length", wrong)
        assert made.exit_code == 2
        assert "expected a number from 1 on, such as 8192 or 8k" in " ".join(made.output.split())


@pytest.mark.parametrize(
    ("given", "packing"),
    [("true", "best-fit"), ("false", "none"), ("sequential", "sequential"), ("none", "none")],
)
def test_a_file_may_say_packing_true(
    source: Path, tmp_path: Path, given: str, packing: str
) -> None:
    config = write(tmp_path, f"max-length: 4k\npacking: {given}\n")
    arguments = [source, "--tokenizer", TOKENIZER, "-o", tmp_path / "out", "--config", config]
    assert call(*arguments).exit_code == 0
    assert options_of(tmp_path / "out")["packing"] == packing


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max-lenght: 5", "max-lenght: is no option of pack, expected max-length"),
        ("xyz: 5", "xyz: is no option of pack, expected some of backend-check, "),
        ("max-length: five", "Invalid value for '--max-length'"),
        ("date: tomorrow", "--date: got 'tomorrow', expected a day such as 2026-01-31"),
        ("template-behaviour: lost.json", "lost.json: No such file or directory"),
        ("train-on: [all]", "pack.yaml: train-on: a list, expected one value"),
        ("shuffle: []", "shuffle: a list, expected one value"),
        ("inputs: &a [*a]\nseed: &b {x: *b}", "seed: Circular reference detected"),
        ('temp-dir: "a\\0b"', "temp-dir: got 'a\\x00b', expected text without NUL"),
        ('field: ["\\ud800=content"]', "field: got '\\ud800=content', expected text without NUL"),
        ("plan_sha256: x", "pack.yaml: no manifest: JSON is malformed"),
        ('{"plan_sha256": "x", "inputs": [5]}', "no manifest: Expected `str` matching regex"),
        ("packing: 7", "Invalid value for '--packing'"),
        ("overwrite: 7", "overwrite: expected true or false"),
        ("resume: true\noverwrite: true", "overwrite: is given twice"),
        ("- 5", "expected lines such as max-length: 8192"),
        ("a: [", "pack.yaml: while parsing"),
        ("config: other.yaml", "config: is no option"),
        ("1: 2", "1: is no option"),
        ("a: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_wrong(source: Path, tmp_path: Path, text: str, message: str) -> None:
    config = write(tmp_path, text)
    made = call(source, "--tokenizer", TOKENIZER, "-o", tmp_path / "out", "--config", config)
    assert made.exit_code == 2, made.output
    assert message in " ".join(made.output.split())
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read(source: Path, tmp_path: Path) -> None:
    made = call(source, "--config", tmp_path / "none.yaml")
    assert made.exit_code == 2
    assert "none.yaml" in made.output


@pytest.mark.long
def test_a_manifest_repeats_its_run(source: Path, tmp_path: Path) -> None:
    behaviour = tmp_path / "behaviour.json"
    behaviour.write_text("{}")
    given = ["--max-length", "4k", "--packing", "sequential", "--unit-size", "2K", "--sample", "5"]
    given += ["--template-behaviour", behaviour, "--chat-template-kwargs", '{"a": 1}']
    given += ["--split", "test=0.4", "--split", "other=0.2", "--train-on", "last-turn"]
    first = call(f"{source}:1.5", "--tokenizer", TOKENIZER, "-o", tmp_path / "a", *given)
    assert first.exit_code == 0, first.output
    again = call("--config", tmp_path / "a" / "manifest.json", "-o", tmp_path / "b")
    assert again.exit_code == 0, again.output
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_a_file_has_shares_of_inputs(source: Path, tmp_path: Path) -> None:
    text = f"inputs: [{{path: {source}, repeat: 2}}, {{path: {source}, conversations: 3}}]\n"
    config = write(tmp_path, text)
    made = call("--config", config, "--tokenizer", TOKENIZER, "-o", tmp_path / "out", "--json")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["counts"]["packed"] == 15
    assert "copies         6 of them, " in made.stderr
    config = write(tmp_path, text.replace("repeat", "times"))
    wrong = call("--config", config, "--tokenizer", TOKENIZER, "-o", tmp_path / "x")
    assert wrong.exit_code == 2
    assert wrong.output.startswith("Error: INPUT: ")
