"""Every refusal of files and options says what to do, and doing it makes the refusal go away.

To add one: three lines in `INPUTS`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fixing import (
    Arguments,
    Mend,
    Pack,
    Row,
    Seen,
    also,
    check,
    command,
    instead,
    unwalked,
    write,
)
from runs import chats

pytestmark = pytest.mark.usefixtures("seen")
ASK, ANSWER = {"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}
GOOD = chats(2, bad=False)
OBJECTS = [json.loads(line) for line in GOOD.splitlines()]
BAD = b'{"messages": []}\n'


def pretty(*objects: Any) -> bytes:
    return b"\n".join(json.dumps(each, indent=2).encode() for each in objects) + b"\n"


def table(delimiter: str) -> bytes:
    lines = [delimiter.join(["id", "messages"])]
    for each in OBJECTS:
        messages = json.dumps(each["messages"]).replace('"', '""')
        lines.append(delimiter.join([each["id"], f'"{messages}"']))
    return "\r\n".join(lines).encode()


def tar(name: str) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(GOOD)
        archive.addfile(info, io.BytesIO(GOOD))
    return sink.getvalue()


def zipped(name: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(name, GOOD)
    return sink.getvalue()


YAML = b"- messages:\n" + b"".join(
    f"  - role: {each['role']}\n    content: {each['content']!r}\n".encode()
    for each in (ASK, ANSWER)
)


def file(name: str, content: bytes, words: str, mend: Mend, *needs: str) -> Row:
    return Row(
        {name: content}, [name], rf"^{re.escape(name)}: is {words}, expected", mend, 1, needs
    )


def converted(given: Arguments, error: str) -> Arguments:
    """Stand for what is done with a program of the user's."""
    assert "Fix: " in error
    Path("right.jsonl").write_bytes(GOOD)
    return ["right.jsonl"]


INPUTS: dict[str, Row] = {
    # --- files that are no JSON Lines ---
    "one object over several lines": file(
        "chats.jsonl", pretty(OBJECTS[0]), "one JSON object over several lines", command
    ),
    "objects over several lines": file(
        "chats.json", pretty(*OBJECTS), "JSON objects over several lines each", command, "jq"
    ),
    "objects over several lines, compressed": file(
        "a b.json.gz", gzip.compress(pretty(*OBJECTS)), "JSON objects over .* each", command, "jq"
    ),
    "an object that holds the records": file(
        "chats.json", pretty({"n": 1, "data": OBJECTS}), "one JSON object with .* 'data'", command
    ),
    "an object that holds the records, in one line": file(
        "chats.json", json.dumps({"it's": OBJECTS}).encode(), "one JSON object with .*", command
    ),
    "CSV": file("chats.csv", table(","), r"a table \(CSV\)", command),
    "CSV with semicolons": file("chats.csv", table(";"), r"a table \(CSV\)", command),
    "CSV with a mark": file("it's.csv", b"\xef\xbb\xbf" + table(","), r"a table \(CSV\)", command),
    "CSV, compressed": file("c.csv.gz", gzip.compress(table(",")), r"a table \(CSV\)", command),
    "TSV": file("chats.tsv", table("\t"), r"a table with tabs \(TSV\)", command),
    "YAML": file("chats.yaml", YAML, "YAML", command),
    "YAML by its content": file("chats", YAML, "YAML", command),
    "text": file("chats.txt", b"Hello\nthere\n", "text that is no JSON", converted),
    "HTML": file("chats.jsonl", b"\n<!DOCTYPE html>", "HTML or XML", converted),
    "Excel": file("chats.xlsx", zipped("xl/a.xml"), "a zip archive or an Excel file", converted),
    "old Excel": file("chats.xls", b"\xd0\xcf\x11\xe0\xa1", "an Excel file", converted),
    "bzip2": file("chats.jsonl.bz2", bz2.compress(GOOD), "compressed with bzip2", command, "bzip2"),
    "xz": file("chats.jsonl.xz", lzma.compress(GOOD), "compressed with xz", command, "xz"),
    "tar": file("chats.tar", tar("a.jsonl"), "a tar archive", command, "tar"),
    "UTF-16": file("chats.jsonl", GOOD.decode().encode("utf-16"), "UTF-16 text", command, "iconv"),
    "UTF-16, compressed": file(
        "c.jsonl.gz", gzip.compress(GOOD.decode().encode("utf-16")), "UTF-16 text",
        lambda *given: ["c-lines.jsonl"] if command(*given) else [], "iconv",
    ),
    "UTF-16 without a mark": file(
        "c.jsonl", GOOD.decode().encode("utf-16-le"), "UTF-16 text", command, "iconv"
    ),
    "UTF-16 of the other order": file(
        "c.jsonl", GOOD.decode().encode("utf-16-be"), "UTF-16 text", command, "iconv"
    ),
    "UTF-32": file("c.jsonl", GOOD.decode().encode("utf-32"), "UTF-32 text", command, "iconv"),
    "objects over several lines that are not UTF-8": file(
        "c.jsonl", pretty(*OBJECTS).replace(b"Zurich", b"\xe9"), "text that is not UTF-8", converted
    ),
    "gzip twice": file(
        "c.jsonl.gz", gzip.compress(gzip.compress(GOOD)), "compressed twice", command, "gzip"
    ),
    "Parquet in gzip": file(
        "c.parquet.gz", gzip.compress(b"PAR1"), "Parquet that was compressed", converted
    ),
    **{
        f"a line that is no JSON: {name}": Row(
            {"a.jsonl": GOOD.replace(old, new, 1)}, ["a.jsonl"], rf"^a\.jsonl:1: {words}", converted
        )
        for name, old, new, words in (
            ("not UTF-8", b"Zurich", b"\xe9", ".*: not UTF-8: byte 0xe9.*Fix: convert the text"),
            ("a comma behind it", b"\n", b",\n", "not JSON at column .*: extra data, near ','"),
            ("NUL behind it", b"\n", b"\0\n", "not JSON at column .*: extra data"),
            ("another line end", b"\n", "\u2028\n".encode(), "not JSON at column .*: extra data"),
        )
    },
    "Git LFS": file("a.jsonl", b"version https://git-lfs.github.com/v1", ".*LFS.*", converted),
    "binary": file("a.jsonl", b"\x80\x04\x95\0\0\0", "binary data", converted),
    "a list that is cut off": Row(
        {"a.json": b"[" + GOOD.replace(b"\n", b",")}, ["a.json"],
        r"^a\.json\[2\]: the list is never closed.*object \{\"messages\": …\} a line", converted,
    ),
    "a comma at the end of a list": Row(
        {"a.json": b"[" + GOOD.replace(b"\n", b",") + b"]"}, ["a.json"],
        r"^a\.json\[2\]: nothing where an element.*remove the comma",
        write("a.json", b"[" + GOOD[:-1].replace(b"\n", b",") + b"]"),
    ),
    "a comma at the end of an object": Row(
        {"a.jsonl": GOOD.replace(b"]}", b"],}")}, ["a.jsonl"],
        r"^a\.jsonl:1: not JSON at column \d+: nothing follows a comma.*remove the comma",
        write("a.jsonl", GOOD),
    ),
    "a list without elements": Row(
        {"a.json": b"[]"}, ["a.json"], "no record in a.json, expected at least one conversation",
        write("a.json", GOOD, "--overwrite"),
    ),
    "a list of messages": file(
        "a.json", pretty([ASK, ANSWER]), "a list of messages.*", command, "jq"
    ),
    "lists of messages, one a line": file(
        "a.jsonl", 2 * (json.dumps([ASK, ANSWER]).encode() + b"\n"), "a list of m.*", command, "jq"
    ),
    "a list of lists of messages": file(
        "a.json", pretty([[ASK, ANSWER], [ASK, ANSWER]]), "a list of messages.*", command, "jq"
    ),
    "lists, one a line": Row(
        {"a.jsonl": b"[" + GOOD[:-1].replace(b"\n", b"]\n[") + b"]"}, ["a.jsonl"],
        r"^a\.jsonl\[1\]: something follows the list.*as JSON Lines", converted,
    ),
    "gzip that ends early": Row(
        {"a.jsonl.gz": gzip.compress(GOOD)[:-20]}, ["a.jsonl.gz"], "cut off or damaged; copy it",
        write("a.jsonl.gz", gzip.compress(GOOD)),
    ),
    "Parquet that ends early": Row(
        {"a.parquet": b"PAR1xx"}, ["a.parquet"], "expected a whole Parquet file.*copy or write it",
        converted,
    ),
    # --- inputs and options ---
    "a missing file": Row(
        {"chats.jsonl": GOOD}, ["chat.jsonl"], "no such file.*check the spelling",
        instead("chats.jsonl"), 2,
    ),
    "an input without a name": Row(
        {"a.jsonl": GOOD}, [""], "^'': no such file.*check the spelling", instead("a.jsonl"), 2,
    ),
    "an output without a name": Row(
        {"a.jsonl": GOOD}, ["a.jsonl", "--output", ""], "--output: an empty name.*name one",
        instead("a.jsonl", "--output", "other"), 2,
    ),
    "a directory without chats": Row(
        {"in/chats": GOOD}, ["in"], "no chat file in this directory.*name the files",
        instead("in/chats"), 2,
    ),
    "a saved dataset without one of its files": Row(
        {"in/state.json": b'{"_data_files": [{"filename": "b.arrow"}]}', "in/a.jsonl": GOOD},
        ["in"], r"b\.arrow not there.*or name the files", instead("in/a.jsonl"), 2,
    ),
    "standard input twice": Row(
        {}, ["-", "-"], "standard input twice.*name it once", lambda *_: ["-"], 2
    ),
    "standard input and --dry-run": Row(
        {"chats.jsonl": GOOD}, ["-", "--dry-run"], "cannot be read twice.*name a file",
        instead("chats.jsonl", "--dry-run"), 2,
    ),
    "one option of a part": Row(
        {"a.jsonl": GOOD}, ["a.jsonl", "--shard-index", "0"], "--shard-count go together",
        also("--shard-count", "1"), 2,
    ),
    "a template that is not there": Row(
        {"a.jsonl": GOOD}, ["a.jsonl", "--chat-template", "no.jinja"],
        "no such file.*check the spelling", instead("a.jsonl"), 2,
    ),
    "a field under a name that nobody reads": Row(
        {"a.jsonl": GOOD}, ["a.jsonl", "--field", "cot=reason"],
        "expected NAME=KNOWN.*choose one, or", instead("a.jsonl", "--field", "cot=reasoning"), 2,
    ),
    "a check of nothing": Row(
        {"a.jsonl": GOOD}, ["a.jsonl", "--backend-check", "0"],
        "expected more than 0.*0.005 checks", instead("a.jsonl", "--backend-check", "0.005"), 2,
    ),
    "an output that is a file": Row(
        {"a.jsonl": GOOD, "out": b""}, ["a.jsonl"], "out: is a file.*choose another --output",
        also("--output", "other"), 2,
    ),
    "an output that is not empty": Row(
        {"a.jsonl": GOOD, "out/mine": b""}, ["a.jsonl"], "is not empty.*choose another --output",
        also("--output", "other"), 2,
    ),
    "a conversation that is too long": Row(
        {"a.jsonl": GOOD}, ["a.jsonl", "--max-length", "9", "--overlong", "error"],
        "at most 9.*raise --max-length",
        also("--max-length", "9999"),
    ),
    "a view that is too long": Row(
        {"a.jsonl": GOOD}, ["a.jsonl", "--max-position", "9", "--overlong", "error"],
        "at most 9.*raise --max-position",
        also("--max-position", "9999"),
    ),
    "no record": Row(
        {"a.jsonl": b"\n"}, ["a.jsonl"], "no record in a.jsonl.*with --overwrite",
        write("a.jsonl", GOOD, "--overwrite"),
    ),
    "all rejected": Row(
        {"a.jsonl": BAD}, ["a.jsonl", "--on-error", "skip"], "1 record rejected,.*with --overwrite",
        write("a.jsonl", GOOD, "--overwrite"),
    ),
    # --- lines ---
    "a line that is cut off": Row(
        {"a.jsonl": GOOD + GOOD[:50]}, ["a.jsonl"], r"a\.jsonl:3: not JSON at column .*write one",
        write("a.jsonl", GOOD),
    ),
    "not UTF-8": Row(
        {"a.jsonl": GOOD + b'{"prompt": "\xe9", "completion": "4"}\n'}, ["a.jsonl"],
        "not UTF-8.*convert the text to UTF-8",
        write("a.jsonl", GOOD + '{"prompt": "é", "completion": "4"}\n'.encode()),
    ),
    "a mark between lines": Row(
        {"a.jsonl": GOOD + b"\xef\xbb\xbf" + GOOD}, ["a.jsonl"], "a byte order mark.*remove it",
        write("a.jsonl", GOOD + GOOD),
    ),
    "NaN": Row(
        {"a.jsonl": b'{"prompt": "a", "completion": "b", "n": NaN}'}, ["a.jsonl"],
        "NaN is no JSON number.*write null",
        write("a.jsonl", b'{"prompt": "a", "completion": "b", "n": null}'),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_what_the_fix_says_helps(name: str, pack_here: Pack) -> None:
    check(INPUTS[name], pack_here)


def remove(name: str) -> Mend:
    def mend(given: Arguments, error: str) -> Arguments:
        Path(name).unlink()
        return given

    return mend


ANOTHER = also("--output", "other")
RUNS: dict[str, tuple[str, bytes, Row]] = {
    f"{name} ({number})": (*damage, Row({}, arguments, words, mend, status))
    for name, damage, arguments, words, status, mends in [
        (
            "another run", ("", b""), ["a.jsonl", "--max-length", "500"],
            "holds another run.*repeat the command that began it, choose another --output, or pass",
            2, [instead("a.jsonl"), ANOTHER, also("--overwrite")],
        ),
        (
            "a file among the shards", ("out/data/b.parquet", b""), ["a.jsonl"],
            "is no shard of this run.*remove it, then repeat", 1, [remove("out/data/b.parquet")],
        ),
        (
            "a file among what is to be removed", ("out/data/b", b""), ["a.jsonl", "--overwrite"],
            "did not write it.*move it away, or choose another --output",
            2, [remove("out/data/b"), ANOTHER],
        ),
        (
            "a plan that is cut off", ("out/plan.json", b"{"), ["a.jsonl"],
            "expected the plan of a run of this version.*pack again with --overwrite",
            1, [also("--overwrite")],
        ),
    ]
    for number, mend in enumerate(mends)
}  # fmt: skip
"""What is done to a dataset, and how the next run over it is refused."""


@pytest.mark.parametrize("name", RUNS)
def test_what_the_fix_of_a_run_says_helps(name: str, pack_here: Pack) -> None:
    damaged, content, row = RUNS[name]
    Path("a.jsonl").write_bytes(GOOD)
    assert pack_here(["a.jsonl"])[0] == 0
    if damaged:
        Path(damaged).write_bytes(content)
    check(row, pack_here)


def test_a_fix_that_does_not_help_is_found(pack_here: Pack) -> None:
    row = INPUTS["CSV"]
    for mend in (also(), write("chats.csv", table(";"))):
        with pytest.raises(AssertionError, match="and then"):
            check(Row(row.files, row.arguments, row.words, mend), pack_here)


def test_every_refusal_is_walked(whole: Seen) -> None:
    assert not unwalked("test_fixes", whole)
