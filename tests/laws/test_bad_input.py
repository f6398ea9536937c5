"""Bad input: one test a kind, from the command line, with the error that a user reads.

Every case is run twice: by default it stops the run with status 1 and that error; with
`--on-error skip` the good conversation beside it is packed, the bad line is in
rejects.jsonl with the same error and whole, and the status is 3.
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reasonpack.cli import cli, run
from reasonpack.datasets.options import Options
from reasonpack.run.pack import pack_files
from reasonpack.verify.check import verify_dataset
from reasonpack.wording import printable

ROOT = Path(__file__).parents[2]
TOKENIZER = str(ROOT / "fixtures" / "tokenizer")
GOOD = {"id": "good", "messages": [{"role": "user", "content": "2+2?"},
                                   {"role": "assistant", "content": "4"}]}  # fmt: skip

Pack = Callable[..., tuple[int, str]]


@pytest.fixture
def pack(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> Pack:
    def call(*arguments: str | Path, output: Path = tmp_path / "packed") -> tuple[int, str]:
        command = ["reasonpack", "pack", *map(str, arguments), "-o", str(output)]
        monkeypatch.setattr(sys, "argv", [*command, "--tokenizer", TOKENIZER])
        status = run(cli)
        return status, capsys.readouterr().err

    return call


def chat(*messages: Any, **fields: Any) -> bytes:
    return json.dumps({"messages": list(messages), **fields}).encode()


def user(content: Any = "2+2?") -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any = "4", **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **fields}


@dataclass(frozen=True)
class Case:
    """A bad line, the reason it is counted by, and words of the error."""

    line: bytes
    reason: str
    words: tuple[str, ...]


CASES = {
    "broken json": Case(b'{"messages": [}', "json", ("column 15",)),
    "cut off": Case(chat(user(), assistant())[:-9], "json", ("column",)),
    "no object": Case(b'["messages"]', "type", ("object",)),
    "not utf-8": Case(b'{"messages": "\xff"}', "encoding", ("UTF-8", "byte")),
    "a byte order mark": Case(b"\xef\xbb\xbf" + chat(user(), assistant()), "encoding", ("mark",)),
    "wrong type": Case(chat(user(7), assistant()), "type", ("messages[0].content", "int")),
    "messages is text": Case(b'{"messages": "hi"}', "type", ("messages", "list")),
    "unknown role": Case(chat({"role": "bard", "content": "Hm"}, assistant()), "role", ("bard",)),
    "no messages": Case(b'{"messages": []}', "empty", ("messages",)),
    "no container": Case(b'{"text": "hi"}', "missing", ("messages",)),
    "no assistant": Case(chat(user()), "no-assistant", ("assistant",)),
    "assistant first": Case(chat(assistant("Hello")), "no-prompt", ("messages[0]",)),
    "content null": Case(chat(user(None), assistant()), "content", ("messages[0].content",)),
    "an image": Case(
        chat(user([{"type": "image_url", "image_url": "x"}]), assistant()), "media", ("image",)
    ),
    "a lone surrogate": Case(
        rb'{"messages": [{"role": "user", "content": "\ud800"}]}', "encoding", ("character",)
    ),
    "nan": Case(b'{"messages": [], "weight": NaN}', "json", ("NaN",)),
    "duplicate keys": Case(
        b'{"messages": [{"role": "user", "role": "user", "content": "a"}]}',
        "duplicate-key",
        ("role",),
    ),
    "two reasonings": Case(
        chat(user(), assistant(reasoning="a", thinking="b")), "conflict", ("reasoning", "thinking")
    ),
    "a weight": Case(chat(user(), assistant(weight=-0.5)), "weight", ("messages[1].weight",)),
    "nothing to train": Case(
        chat(user(), assistant(train=False)), "nothing-to-train", ("assistant",)
    ),
    "a think tag never closed": Case(
        chat(user(), assistant("<think>hm")), "content", ("<think>",)
    ),
    "deep nesting": Case(b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "json", ()),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bad_line(name: str, pack: Pack, tmp_path: Path) -> None:
    case = CASES[name]
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(json.dumps(GOOD).encode() + b"\n" + case.line + b"\n")

    status, error = pack(chats)
    assert status == 1
    assert f"{chats}:2" in error
    assert all(word in error for word in case.words), error
    assert not (tmp_path / "packed" / "manifest.json").exists()

    status, summary = pack(chats, "--on-error", "skip", output=tmp_path / "skipped")
    assert status == 3
    assert f"1 {case.reason}" in summary
    rejects = (tmp_path / "skipped" / "rejects.jsonl").read_text("utf-8")
    reject = json.loads(rejects)
    assert reject["reason"] == case.reason
    assert reject["where"] == f"{chats}:2"
    assert error == f"Error: {printable(reject['error'])}\n"
    if "record" in reject:
        assert reject["record"].encode() == case.line
    else:
        assert base64.b64decode(reject["record_base64"]) == case.line
    manifest = json.loads((tmp_path / "skipped" / "manifest.json").read_text("utf-8"))
    counts = manifest["counts"]
    assert counts["conversations"] == counts["packed"] + counts["rejected"] == 2
    assert counts["rejects"] == {case.reason: 1}


def test_errors_say_file_line_field_and_fix(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(chat(user(), {"role": "bard", "content": "x"}, assistant()))
    _, error = pack(chats)
    assert error.startswith(f"Error: {chats}:1: messages[1].role: ")
    assert "expected" in error
    assert "Fix: " in error


def test_a_tool_result_without_a_call_where_the_template_raises(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(chat(user(), {"role": "tool", "content": "5"}, assistant()))
    template = (
        "{% for m in messages %}{% if m.role == 'tool' and loop.previtem.role == 'user' %}"
        "{{ raise_exception('No call before this result') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    status, error = pack(chats, "--chat-template", template)
    assert status == 1
    assert "No call before this result" in error
    assert f"{chats}:1: messages[0:3]: " in error


def test_a_byte_order_mark_at_the_start_of_a_file_is_no_fault(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert pack(chats)[0] == 0


@pytest.mark.faults
def test_a_line_of_100_mb_is_refused_before_it_is_tokenized(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(
        chat(user("word " * 20_000_000), assistant()) + b"\n" + chat(user(), assistant())
    )
    status, error = pack(chats, "--overlong", "skip")
    assert status == 3
    assert "1 overlong" in error


def test_a_gzip_file_that_ends_early(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl.gz"
    lines = b"".join(chat(user(str(n)), assistant()) + b"\n" for n in range(2_000))
    chats.write_bytes(gzip.compress(lines)[:-4_000])
    status, error = pack(chats, "--on-error", "skip")
    assert status == 1
    assert str(chats) in error
    assert "cut off" in error
    assert not (tmp_path / "packed" / "manifest.json").exists()


def test_an_unreadable_file(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(chat(user(), assistant()))
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "chats.jsonl":  # the tests may run as root, whom no mode stops
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    status, error = pack(chats)
    assert status == 1
    assert "Permission denied" in error


def test_a_missing_file(pack: Pack, tmp_path: Path) -> None:
    status, error = pack(tmp_path / "no.jsonl")
    assert status == 2
    assert "no.jsonl: " in error
    assert not (tmp_path / "packed").exists()


def test_an_output_directory_that_exists(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(chat(user(), assistant()))
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "thesis.txt").write_text("mine", "utf-8")
    for extra in ((), ("--overwrite",)):
        status, error = pack(chats, *extra)
        assert status == 2
        assert "packed" in error
        assert (tmp_path / "packed" / "thesis.txt").read_text("utf-8") == "mine"


def test_a_full_disk(tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(b"".join(chat(user(f"{n} " * 99), assistant()) + b"\n" for n in range(300)))
    limited = (
        "import resource, signal, sys; from reasonpack.cli import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "pack", str(chats), "--tokenizer", TOKENIZER,
         "-o", str(tmp_path / "packed")],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "packed" in done.stderr
    assert not (tmp_path / "packed" / "manifest.json").exists()
    assert not list((tmp_path / "packed").rglob("*.parquet"))


def test_what_data_says_never_steers_the_terminal(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(chat({"role": "\x1b[31mred\u202e", "content": "x"}, assistant()))
    _, error = pack(chats)
    assert "\x1b" not in error
    assert "\u202e" not in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--packing"], "--max-length"),
        (["--chat-template", "nope.jinja"], "no such file"),
        (["--chat-template-kwargs", "[1]"], "object"),
        (["--date", "yesterday"], "--date"),
        (["--max-length", "0"], "--max-length"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(chat(user(), assistant()))
    status, error = pack(chats, *arguments)
    assert status == 2
    assert words in error


def test_rejects_are_in_the_order_of_the_input(pack: Pack, tmp_path: Path) -> None:
    """What is too long is known later than what is broken."""
    long = chat(user("2+2? " * 200), assistant())
    (tmp_path / "chats.jsonl").write_bytes(b"\n".join([long, b"{", long, b"{"]))
    pack(tmp_path / "chats.jsonl", "--on-error", "skip", "--max-length", "100")
    rejects = (tmp_path / "packed" / "rejects.jsonl").read_text("utf-8").splitlines()
    found = [json.loads(reject) for reject in rejects]
    assert [reject["where"][-2:] for reject in found] == [":1", ":2", ":3", ":4"]
    assert [reject["reason"] for reject in found] == ["overlong", "json"] * 2


def test_a_long_line_is_refused_though_no_limit_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer would take some gigabytes for it."""
    monkeypatch.setattr("reasonpack.run.length.LONGEST_TEXT", 1_000)
    monkeypatch.setattr("reasonpack.verify.encoding.LONGEST_TEXT", 1_000)
    tokenizer = tmp_path / "tokenizer"
    shutil.copytree(TOKENIZER, tokenizer)
    config = json.loads((tokenizer / "tokenizer_config.json").read_text("utf-8"))
    del config["model_max_length"]
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    chats, out = tmp_path / "chats.jsonl", tmp_path / "packed"
    chats.write_bytes(chat(user("word " * 200), assistant()) + b"\n" + chat(user(), assistant()))
    options = Options(tokenizer=str(tokenizer), on_error="skip")
    manifest = pack_files([str(chats)], out, options)
    assert (manifest.max_position, manifest.counts.rejects) == (None, {"overlong": 1})
    said = (out / "rejects.jsonl").read_text("utf-8")
    assert "characters, expected at most 1,000 (--max-position). Fix: raise --max-position" in said
    assert verify_dataset(out, [str(chats)]).total == 0


def test_a_template_that_is_out_of_bounds_names_the_record(pack: Pack, tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    chats.write_bytes(chat(user("2+2?"), assistant()) + b"\n" + chat(user("long"), assistant()))
    template = (
        "{% for m in messages %}{% if m.content == 'long' %}{{ 'a'.ljust(10 ** 10) }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    status, error = pack(chats, "--chat-template", template, "--on-error", "skip")
    assert status == 1
    assert error.startswith(f"Error: {chats}:2: --chat-template: took 2 GiB more")
