"""Files made to do harm: refused by name, within bounded time and memory, and with no harm done.

Every command runs in a process that may take 4 GiB, and is killed after a minute.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crashing import ENVIRONMENT, HERE
from runs import FIXTURES

from reasonpack.datasets.receipt import Receipt, as_json, sealed

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux"),
]

SECONDS = 60
TOKENIZER = FIXTURES / "tokenizer"
SECRET = "root:x:0:0 the secret of another file"


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    """Give the command line, within bounds; see bounded.py."""
    environment = {**ENVIRONMENT, "RUST_BACKTRACE": "0"}
    with subprocess.Popen(
        [sys.executable, HERE / "bounded.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin
        assert process.stdout

        def run(*arguments: str | Path) -> Ended:
            assert process.stdin
            assert process.stdout
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            print(json.dumps([str(argument) for argument in arguments]), file=process.stdin)
            process.stdin.flush()
            answer = process.stdout.readline()
            timer.cancel()
            assert answer, f"{arguments}: it hung or crashed"
            ended = Ended(**json.loads(answer))
            assert ended.status >= 0, ended.err
            for text in (ended.out, ended.err):
                assert all(line.isprintable() for line in text.split("\n"))
            return ended

        yield run
        process.stdin.close()


def refused(ended: Ended, *words: str, status: int = 1) -> None:
    """Check that a command ended in one line that says what is wrong."""
    assert ended.status == status, ended.err
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1
    assert all(word in ended.err for word in (*words, ", expected ", "Fix: ")), ended.err
    assert SECRET not in ended.out + ended.err


def record(id_: str = "one", **fields: Any) -> bytes:
    messages = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    return json.dumps({"id": id_, "messages": messages, **fields}).encode() + b"\n"


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(record("one") + record("two"))
    return path


@pytest.fixture
def pack(command: Command, tmp_path: Path, chats: Path) -> Command:
    def run(*more: str | Path, tokenizer: Path = TOKENIZER) -> Ended:
        return command("pack", chats, "--tokenizer", tokenizer, "-o", tmp_path / "out", *more)

    return run


# --- templates -----------------------------------------------------------------------------------

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GROWING = "{% set n = namespace(x=START) %}{% for i in range(99) %}{% set n.x = GROW %}{% endfor %}"
WITHIN = ", expected a rendering within 1 s and 0.5 GiB"
TEMPLATES = {
    "a repeated letter": ("{{ 'a' * 10 ** 10 }}", "too large"),
    "a repeated list": ("{{ [0] * 10 ** 10 }}", "too large"),
    "a text as wide as said": ("{{ 'a'.ljust(10 ** 10) }}", WITHIN),
    "a width in a format": ("{{ '%10000000000d' | format(1) }}", WITHIN),
    "an indented list": ("{{ [1] | tojson(indent=10 ** 10) }}", WITHIN),
    "text that doubles": (GROWING.replace("START", "'a'").replace("GROW", "n.x ~ n.x"), WITHIN),
    "numbers that double": (GROWING.replace("START", "3").replace("GROW", "n.x * n.x"), "'*'"),
    "a power": ("{{ 9 ** 99999 }}", "'**'"),
    "a range": ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
    "a range in a range": ("{% for i in range(99999) %}" * 2 + "{% endfor %}" * 2, WITHIN),
    "lists added up": ("{{ ([[0] * 10000] * 100000) | sum(start=[]) | length }}", WITHIN),
    "a slow filter": (
        "{{ ('a b ' * 100000) | wordwrap(1) | length }}",
        "Fix: do not use this template",
    ),
    "a macro of itself": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "a macro twice in itself": (
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
        WITHIN,
    ),
    "another file": ("{% include 'FILE' %}", "no loader"),
    "another file, if it is there": ("{% include 'FILE' ignore missing %}", "no loader"),
    "another file's macros": ("{% import 'FILE' as x %}{{ x }}", "no loader"),
    "another file's parts": ("{% extends 'FILE' %}", "no loader"),
    "classes": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    "modules": ("{{ joiner.__init__.__globals__.os.environ }}", "unsafe"),
    "brackets": ("{{ " + "(" * 99_999 + ")" * 99_999 + " }}", "RecursionError while compiling"),
    "blocks": ("{% if 1 %}" * 2_000 + "{% endif %}" * 2_000, "RecursionError while compiling"),
    "loops in loops": ("{% for i in [1] %}" * 30 + "{% endfor %}" * 30, "while compiling"),
    "a long sum": ("{{ " + "+".join("1" * 5_000) + " }}", "RecursionError while compiling"),
    "control codes": ("{{ raise_exception('\x1b[2J\u202e\x00') }}", r"\x1b[2J\u202e\x00"),
    "control codes that do not compile": ("{% \x1b[2J %}", r"\x1b"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_template(name: str, pack: Command, tmp_path: Path) -> None:
    source, words = TEMPLATES[name]
    secret, template = tmp_path / "secret", tmp_path / "t.jinja"
    secret.write_text(SECRET, "utf-8")
    template.write_text(source.replace("FILE", str(secret)) + PLAIN, "utf-8")
    refused(pack("--chat-template", template), "t.jinja: ", words)


def test_the_template_that_they_are_made_of_packs(pack: Command) -> None:
    ended = pack("--chat-template", PLAIN)
    assert ended.status == 0, ended.err


@pytest.mark.parametrize("choice", ["x" * 5_000, "\x1b[2J", "../../nowhere", "/dev/zero", "\udce9"])
def test_a_choice_that_is_no_template(choice: str, pack: Command) -> None:
    refused(pack("--chat-template", choice), status=2)


# --- tokenizers ----------------------------------------------------------------------------------

Change = Callable[[Path], object]


def changed(name: str, **fields: Any) -> Change:
    """Set fields of a JSON file."""

    def change(directory: Path) -> None:
        path = directory / name
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **fields}), "utf-8")

    return change


def replaced(name: str, old: str, new: str) -> Change:
    """Change the text of a file once."""

    def change(directory: Path) -> None:
        text = (directory / name).read_text("utf-8")
        assert old in text
        (directory / name).write_text(text.replace(old, new, 1), "utf-8")

    return change


def written(name: str, content: str) -> Change:
    return lambda directory: (directory / name).write_text(content, "utf-8")


def linked(name: str, target: str) -> Change:
    def change(directory: Path) -> None:
        path = directory / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)

    return change


def piped(name: str) -> Change:
    def change(directory: Path) -> None:
        path = directory / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)

    return change


def sparse(name: str) -> Change:
    def change(directory: Path) -> None:
        with (directory / name).open("wb") as file:
            file.truncate(1 << 36)

    return change


FILE, CONFIG, OTHER = "tokenizer.json", "tokenizer_config.json", "additional_chat_templates/x.jinja"
VOCAB = '"vocab":{'
LETTERS = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 99}
CHARSMAP = base64.b64encode(b"\xff\xff\xff\xff").decode()
SEQUENCE = '{"type": "Sequence", "pretokenizers": ['

TOKENIZERS: dict[str, tuple[Change, str, str]] = {
    "of 64 GiB": (sparse(FILE), FILE, "bytes, expected at most"),
    "nested": (
        replaced(FILE, '"pre_tokenizer":', f'"x": {SEQUENCE * 500}{"]}" * 500}, "pre_tokenizer":'),
        FILE,
        # Who gives up, the reader of JSON or `tokenizers`, depends on the version of Python.
        "tokenizer.json",
    ),
    "NaN": (replaced(FILE, VOCAB, VOCAB + '"zz": NaN, '), FILE, "is not JSON"),
    "a negative id": (replaced(FILE, VOCAB, VOCAB + '"zz": -1, '), FILE, "refuses the file"),
    "half an id": (replaced(FILE, VOCAB, VOCAB + '"zz": 0.5, '), FILE, "refuses the file"),
    "no model": (changed(FILE, model=None), FILE, "is no tokenizer.json"),
    "a model that is a list": (changed(FILE, model=[]), FILE, "is no tokenizer.json"),
    "control codes": (changed(FILE, version="\x1b[2J\u202e"), FILE, "refuses the file"),
    "a text made long": (
        changed(FILE, normalizer={"type": "Sequence", "normalizers": [LETTERS] * 6}),
        FILE,
        "normalizer: makes a text 9,801 times as long",
    ),
    "a beginning made long": (
        changed(FILE, normalizer={"type": "Prepend", "prepend": "e" * 10**7}),
        FILE,
        "normalizer: makes a text 10,000,000 times as long",
    ),
    "a map that ends early": (
        changed(FILE, normalizer={"type": "Precompiled", "precompiled_charsmap": CHARSMAP}),
        FILE,
        "precompiled_charsmap ends before",
    ),
    "half a character": (changed(CONFIG, bos_token="\ud800"), CONFIG, "lone surrogate"),
    "half a character in a name": (
        changed(CONFIG, extra_special_tokens={"\ud800": "x"}),
        CONFIG,
        "lone surrogate",
    ),
    "a deep configuration": (written(CONFIG, "[" * 99_999), CONFIG, "is not JSON"),
    "a deep config.json": (written("config.json", "[" * 99_999), "config.json", "recursion"),
    "a pipe for a configuration": (piped(CONFIG), CONFIG, "is no regular file"),
    "a pipe for config.json": (piped("config.json"), "config.json", "is no regular file"),
    "a pipe for a template": (piped("chat_template.jinja"), "chat_template.jinja", "is a pipe"),
    "a pipe for another template": (piped(OTHER), OTHER, "is a pipe"),
    "a device": (linked(FILE, "/dev/zero"), FILE, "is no regular file"),
    "a device for a template": (linked(OTHER, "/dev/zero"), OTHER, "a device"),
    "a link to itself": (linked(CONFIG, CONFIG), CONFIG, "is no regular file"),
    "a link to nothing": (linked(CONFIG, "nothing"), CONFIG, "is no regular file"),
    "a link to no template": (
        linked("chat_template.jinja", "nothing"),
        "chat_template.jinja",
        "No such file",
    ),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizer(name: str, pack: Command, tmp_path: Path) -> None:
    change, file, words = TOKENIZERS[name]
    shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    change(tmp_path / "tokenizer")
    refused(pack(tokenizer=tmp_path / "tokenizer"), f"{tmp_path}/tokenizer/{file}: ", words)


@pytest.mark.parametrize("entry", ['"zz": 5, ', '"zz": 4294967295, ', '"a": 5, "a": 6, '])
def test_ids_that_are_odd_are_those_that_the_library_gives(
    entry: str, pack: Command, command: Command, chats: Path, tmp_path: Path
) -> None:
    shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    replaced(FILE, VOCAB, VOCAB + entry)(tmp_path / "tokenizer")
    assert pack(tokenizer=tmp_path / "tokenizer").status == 0
    assert command("verify", tmp_path / "out", "--against", chats).status == 0


def test_names_of_templates_are_no_paths(pack: Command, tmp_path: Path) -> None:
    (tmp_path / "secret.jinja").write_text(SECRET, "utf-8")
    shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    templates = [{"name": "../secret", "template": PLAIN}, {"name": "\x1b[2J", "template": PLAIN}]
    (tmp_path / "tokenizer" / "chat_template.jinja").unlink(missing_ok=True)
    changed(CONFIG, chat_template=templates)(tmp_path / "tokenizer")
    refused(pack("--chat-template", "x", tokenizer=tmp_path / "tokenizer"), "../secret", status=2)
    assert pack("--chat-template", "../secret", tokenizer=tmp_path / "tokenizer").status == 0


# --- inputs --------------------------------------------------------------------------------------

INPUTS: dict[str, tuple[Change, int]] = {
    "a pipe": (piped("in/x.jsonl"), 2),
    "a device": (linked("in/x.jsonl", "/dev/zero"), 2),
    "a link to nothing": (linked("in/x.jsonl", "nothing"), 2),
    "a link to itself": (linked("in/x.jsonl", "x.jsonl"), 1),
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("where", ["in/x.jsonl", "in"])
def test_input(name: str, where: str, command: Command, tmp_path: Path) -> None:
    """Given by name, or found in a directory."""
    change, status = INPUTS[name]
    change(tmp_path)
    (tmp_path / "in/good.jsonl").write_bytes(record())
    tail = ["--tokenizer", TOKENIZER, "-o", tmp_path / "out"]
    refused(command("pack", tmp_path / where, *tail), "x.jsonl: ", status=status)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5_000])
def test_a_name_that_is_too_long(name: str, command: Command, tmp_path: Path) -> None:
    for arguments in (
        ["pack", name, "--tokenizer", TOKENIZER, "-o", tmp_path / "out"],
        *(["verify", name], ["stats", name], ["inspect", name], ["merge", name]),
    ):
        ended = command(*arguments)
        assert ended.status in {1, 2}
        assert "File name too long" in ended.err


def test_a_name_that_is_not_utf8(command: Command, tmp_path: Path) -> None:
    """Of an input, a tokenizer and a template: all of them stand in the manifest."""
    (tmp_path / "in").mkdir()
    chats = Path(os.fsdecode(bytes(tmp_path / "in") + b"/caf\xe9.jsonl"))
    chats.write_bytes(record())
    beside = tmp_path / chats.name
    tokenizer, template = beside.with_suffix(""), beside.with_suffix(".jinja")
    shutil.copytree(TOKENIZER, tokenizer)
    template.write_text(PLAIN, "utf-8")
    good = tmp_path / "good.jsonl"
    good.write_bytes(record())
    for arguments, name in (
        ([tmp_path / "in", "--tokenizer", TOKENIZER], "caf\\udce9.jsonl"),
        ([good, "--tokenizer", tokenizer], "caf\\udce9"),
        ([good, "--tokenizer", TOKENIZER, "--chat-template", template], "caf\\udce9.jinja"),
    ):
        ended = command("pack", *arguments, "-o", tmp_path / "out")
        refused(ended, f"{name}: its name is not UTF-8", status=2)


def test_a_line_without_end(command: Command, tmp_path: Path) -> None:
    with (tmp_path / "x.jsonl").open("wb") as file:
        file.write(b'{"a": "' + b"a" * (258 << 20))
    tail = ["--tokenizer", TOKENIZER, "-o", tmp_path / "out", "--on-error", "skip"]
    ended = command("pack", tmp_path / "x.jsonl", *tail)
    assert ended.status == 1
    assert "x.jsonl:1: a line of more than 256 MiB, expected one conversation a line" in ended.err


# --- datasets ------------------------------------------------------------------------------------

SHARD = "data/train-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def sound(command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give datasets of three records, one of them rejected, in both formats."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "chats.jsonl").write_bytes(record("one") + record("two") + b"{}\n")
    pack = ["pack", folder / "chats.jsonl", "--tokenizer", TOKENIZER, "--on-error", "skip"]
    for format_ in ("parquet", "arrow"):
        ended = command(*pack, "-o", folder / format_, "--format", format_)
        assert ended.status == 3, ended.err
    return folder


@pytest.fixture
def dataset(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound / "parquet", tmp_path / "dataset")
    return tmp_path / "dataset"


READERS = ("verify", "stats", "inspect")
OBSTACLES: dict[str, Callable[[str], Change]] = {
    "a pipe": piped,
    "a device": lambda name: linked(name, "/dev/zero"),
    "a link to itself": lambda name: linked(name, Path(name).name),
    "a link to nothing": lambda name: linked(name, "nothing"),
}


@pytest.mark.parametrize("name", OBSTACLES)
@pytest.mark.parametrize("file", [SHARD, "manifest.json", "rejects.jsonl", "receipts/00000.json"])
def test_something_else_in_the_place_of_a_file(
    name: str, file: str, dataset: Path, command: Command
) -> None:
    OBSTACLES[name](file)(dataset)
    for reader in READERS if file in {SHARD, "manifest.json"} else ["verify"]:
        ended = command(reader, dataset)
        assert ended.status == 1, (reader, ended)
        assert file in ended.out + ended.err


@pytest.mark.parametrize("name", OBSTACLES)
def test_something_else_in_the_place_of_an_arrow_shard(
    name: str, sound: Path, command: Command, tmp_path: Path
) -> None:
    shutil.copytree(sound / "arrow", tmp_path / "dataset")
    file = SHARD.replace("parquet", "arrow")
    OBSTACLES[name](file)(tmp_path / "dataset")
    for reader in READERS:
        ended = command(reader, tmp_path / "dataset")
        assert ended.status == 1, (reader, ended)
        assert file in ended.out + ended.err


@pytest.mark.parametrize("name", OBSTACLES)
@pytest.mark.parametrize("file", [SHARD, "plan.json", "receipts/00000.json"])
def test_the_parts_of_a_run_with_something_else_among_them_are_not_merged(
    name: str, file: str, dataset: Path, command: Command
) -> None:
    OBSTACLES[name](file)(dataset)
    ended = command("merge", dataset)
    refused(ended, "plan.json" if file == "plan.json" else "0")


def test_links_to_the_files_themselves_are_followed(
    sound: Path, command: Command, tmp_path: Path
) -> None:
    """A hub's cache consists of such links."""
    for path in sorted((sound / "parquet").rglob("*.*")):
        if path.is_file():
            link = tmp_path / "linked" / path.relative_to(sound / "parquet")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    for reader in READERS:
        ended = command(reader, tmp_path / "linked")
        assert ended.status == 0, ended.err


ESCAPES = [
    "../secret",
    "/etc/passwd",
    "data/../../secret",
    "data",
    "",
    "\x00",
    "\x1b[2J",
    "x" * 9_999,
]


@pytest.mark.parametrize("path", ESCAPES)
def test_a_manifest_that_names_another_file(path: str, dataset: Path, command: Command) -> None:
    (dataset.parent / "secret").write_text(SECRET, "utf-8")
    manifest = json.loads((dataset / "manifest.json").read_text("utf-8"))
    manifest["shards"][0]["path"] = path
    (dataset / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    refused(command("stats", dataset), "manifest.json: ", "shards[0].path")
    refused(command("inspect", dataset), "manifest.json: ", "shards[0].path")
    ended = command("verify", dataset)
    assert ended.status == 1
    assert ended.out.startswith("RP003 manifest.json: ")


@pytest.mark.parametrize("path", [*ESCAPES, "receipts/00001.rejects.jsonl"])
def test_a_receipt_that_names_another_file(path: str, dataset: Path, command: Command) -> None:
    """Even if it knows what is in there: it would be copied to rejects.jsonl."""
    for place in (dataset.parent / "secret", dataset / "receipts/00001.rejects.jsonl"):
        place.write_text(SECRET, "utf-8")
    place = dataset / "receipts/00000.json"
    receipt = json.loads(place.read_text("utf-8"))
    sha256 = hashlib.sha256(SECRET.encode()).hexdigest()
    receipt["rejects"].update(path=path, bytes=len(SECRET), sha256=sha256)
    unsealed = {**receipt, "sha256": ""}
    receipt["sha256"] = hashlib.sha256(msgspec.json.encode(unsealed)).hexdigest()
    place.write_text(as_json(receipt), "utf-8")
    (dataset / "rejects.jsonl").unlink()
    refused(command("merge", dataset), "units 0 (its receipt is ")
    assert not (dataset / "rejects.jsonl").exists()
    if path in ESCAPES:
        assert "RP011 receipts/00000.json: " in command("verify", dataset).out


def test_a_receipt_sealed_again_is_what_the_check_above_lets_through(dataset: Path) -> None:
    """So that it is the path which is refused there, and not the seal."""
    content = (dataset / "receipts/00000.json").read_bytes()
    receipt = msgspec.json.decode(content, type=Receipt)
    unsealed = {**msgspec.json.decode(content), "sha256": ""}
    assert sealed(receipt) == receipt
    assert hashlib.sha256(msgspec.json.encode(unsealed)).hexdigest() == receipt.sha256


def test_a_lock_that_is_a_link_empties_no_file(dataset: Path, command: Command) -> None:
    secret = dataset.parent / "secret"
    secret.write_text(SECRET, "utf-8")
    (dataset / ".lock").symlink_to(secret)
    refused(command("merge", dataset), ".lock: ")
    assert secret.read_text("utf-8") == SECRET


@pytest.mark.parametrize("name", ["data", "receipts"])
def test_overwriting_does_not_follow_links(
    name: str, dataset: Path, command: Command, chats: Path, tmp_path: Path
) -> None:
    shutil.move(dataset / name, tmp_path / "elsewhere")
    names = sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    (dataset / name).symlink_to(tmp_path / "elsewhere")
    tail = ["--tokenizer", TOKENIZER, "-o", dataset, "--overwrite"]
    refused(command("pack", chats, *tail), f"{name}: ", status=2)
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == names


@pytest.mark.parametrize("content", [b"", b"[" * 99_999, b"\xff", b'{"format_version": 1e999}'])
@pytest.mark.parametrize("file", ["manifest.json", "plan.json", "receipts/00000.json"])
def test_a_file_that_is_no_such_file(
    content: bytes, file: str, dataset: Path, command: Command
) -> None:
    (dataset / file).write_bytes(content)
    if file == "manifest.json":
        refused(command("stats", dataset), "manifest.json: ")
        refused(command("inspect", dataset), "manifest.json: ")
    else:
        refused(
            command("merge", dataset), file if file == "plan.json" else "its receipt is damaged"
        )
    if file != "plan.json":
        assert command("verify", dataset).out.startswith(("RP001", "RP011"))


def test_a_manifest_of_64_gib(dataset: Path, command: Command) -> None:
    sparse("manifest.json")(dataset)
    for reader in READERS:
        refused(command(reader, dataset), "manifest.json: 68,719,476,736 bytes")


# --- ids -----------------------------------------------------------------------------------------

IDS = [
    "../../etc/x",
    "\x1b[2J",
    "\u202ereversed",
    "two\nlines",
    "\x00",
    "x" * 1_000_000,
    "\ud83d\ude00",
]


@pytest.mark.parametrize("id_", IDS, ids=range(len(IDS)))
def test_ids_are_only_ever_data(id_: str, command: Command, tmp_path: Path) -> None:
    """They come back whole in JSON, and escaped and short on a terminal; see also `command`."""
    lines = record(id_) + record(id_, messages=[]) + record(id_, tools="x")
    (tmp_path / "chats.jsonl").write_bytes(lines)
    out, pack = tmp_path / "out", ["pack", tmp_path / "chats.jsonl", "--tokenizer", TOKENIZER]
    stopped = command(*pack, "-o", tmp_path / "stopped")
    assert stopped.status == 1
    assert command(*pack, "-o", out, "--on-error", "skip").status == 3
    shown = [stopped, command("inspect", out), command("inspect", out, "--id", id_)]
    shown += [command("inspect", out, "--id", "another"), command("inspect", out, "--view", "1")]
    shown += [command("verify", out), command("stats", out)]
    shown.append(command("verify", out, "--against", tmp_path / "chats.jsonl"))
    assert [ended.status for ended in shown] == [1, 0, 0, 2, 0, 0, 0, 0]
    whole = id_.encode("utf-16", "surrogatepass").decode("utf-16")
    assert json.loads(command("inspect", out, "--json").out)["samples"][0]["id"] == whole
    (tmp_path / "chats.jsonl").write_bytes(record("another"))
    shown.append(command("verify", out, "--against", tmp_path / "chats.jsonl"))
    assert shown[-1].status == 1
    assert all(len(ended.out + ended.err) < 10_000 for ended in shown)
    names = {path.name for path in tmp_path.rglob("*")}
    assert names <= {
        *("chats.jsonl", "out", "stopped", "data", "receipts", "README.md", "manifest.json"),
        *("plan.json", "rejects.jsonl", "samples.html", "train-00000-of-00001.parquet"),
        *("00000.json", "00000.rejects.jsonl"),
    }


# --- altered shards ------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["parquet", "arrow"])
def test_a_shard_that_was_altered_anywhere_crashes_no_reader(
    format_: str, sound: Path, command: Command, tmp_path: Path
) -> None:
    shutil.copytree(sound / format_, tmp_path / "dataset")
    (shard,) = (tmp_path / "dataset/data").iterdir()
    whole, draw = shard.read_bytes(), random.Random(0)
    ended = set()
    for _ in range(30):
        altered = bytearray(whole)
        at = draw.randrange(len(whole) - 4)
        altered[at : at + 4] = draw.choice([b"\xff\xff\xff\x7f", b"\0\0\0\x80", draw.randbytes(4)])
        shard.write_bytes(altered)
        for reader in READERS:
            ended.add((reader, command(reader, tmp_path / "dataset").status))
    assert ended >= {("verify", 1), ("stats", 1), ("inspect", 1)}
    assert ("verify", 0) not in ended


def test_a_column_of_another_type_is_refused(dataset: Path, command: Command) -> None:
    """As one altered byte of a footer can make it."""
    (path,) = (dataset / "data").iterdir()
    table = pq.read_table(path)
    at = table.schema.get_field_index("sample_id")
    binary = table.column(at).cast(pa.list_(pa.binary()))
    pq.write_table(table.set_column(at, "sample_id", binary), path)
    for reader in ("stats", "inspect"):
        refused(command(reader, dataset), f"{SHARD}: sample_id is list")
