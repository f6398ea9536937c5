"""Every refusal of options and of calls says what to do, and doing it makes the refusal go away.

As in test_fixes.py. To add one: three lines in `OPTIONS` or `CALLS`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fixing import Arguments, Mend, Pack, Row, Seen, also, check, instead, unwalked, write
from runs import chats

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("seen")]
ASK = {"role": "user", "content": "2+2?"}
GOOD = chats(2, bad=False)
CHATS = {"a.jsonl": GOOD}


def lines(*records: Any) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def call(number: int, **fields: Any) -> dict[str, Any]:
    """Make a logged call."""
    asked = [{**ASK, "content": f"{number}+2?"}]
    return {"id": f"c{number}", "messages": asked, "response": str(number + 2), **fields}


def option(*given: str, words: str, mend: Mend) -> Row:
    return Row(CHATS, ["a.jsonl", *given], words, mend, 2)


OPTIONS: dict[str, Row] = {
    "--packing": option(
        "--packing", words="no row length.*pass --max-length", mend=also("--max-length", "1000")
    ),
    "--max-cost": option(
        "--max-cost", "9k", words="expected --packing. Fix: pass --packing best-fit",
        mend=also("--packing", "best-fit", "--max-length", "9k"),
    ),
    "--split": option(
        "--split", "validation", words="Fix: write --split validation=0.02",
        mend=instead("a.jsonl", "--split", "validation=0.02"),
    ),
    "--ignore-fields": option(
        "--ignore-fields", "content", words=r"where nobody reads it, write message\.content or",
        mend=instead("a.jsonl", "--ignore-fields", "record.content"),
    ),
    "a file system that nobody knows": Row(
        CHATS, ["foo://a.jsonl"], "expected a URL of a file system.*check it", instead("a.jsonl")
    ),
}  # fmt: skip

TRACES = lines(*(call(n, trace_id="a", session_id="b") for n in range(2)))
LARGE = lines(*(call(n, trace_id="a") for n in range(2)))
MANY = lines(*(call(n, trace_id="a") for n in range(1_001)))
PAIRS = lines({"session": 1, "prompt": [ASK], "completion": "4"})
IDS = {"prompt_ids": [1, 2], "completion_ids": [3, 4]}
BARE = {"role": "assistant", "content": "4"}


def calls(words: str, mend: Mend, *given: str, data: bytes = LARGE, status: int = 2) -> Row:
    return Row({"a.jsonl": data}, ["a.jsonl", *given], words, mend, status)


CALLS: dict[str, Row] = {
    "chats and calls": Row(
        {"a.jsonl": GOOD, "b.jsonl": LARGE}, ["a.jsonl", "b.jsonl"],
        "Fix: pack each kind by itself; or pass --input-format", instead("b.jsonl"), 2,
    ),
    "fields that may group": calls(
        "trace_id in 2 and session_id in 2.*Fix: pass --group-by trace_id or --group-by session_id",
        also("--group-by", "session_id"), data=TRACES,
    ),
    "a field that names no group": calls(
        "Fix: name the field that says which records belong together",
        instead("a.jsonl", "--group-by", "trace_id"), "--group-by", "messages",
    ),
    "a field that groups chats": Row(
        {"a.jsonl": PAIRS}, ["a.jsonl", "--group-by", "session"],
        "Fix: pass --input-format calls if they are calls", also("--input-format", "calls"), 2,
    ),
    "a group that is too large": calls(
        "Fix: name a field that divides the records further, or raise --max-group-bytes",
        also("--max-group-bytes", "1G"), "--max-group-bytes", "100",
    ),
    "one group for all": calls(
        "Fix: pass --group-by trace_id if that is right, or another field",
        also("--group-by", "trace_id"), data=MANY,
    ),
    "columns of calls": calls(
        "Fix: name only these", instead("a.jsonl", "--call-columns", "none"),
        "--call-columns", "advantage",
    ),
    "weights of calls": calls(
        "Fix: leave the option out", instead("a.jsonl"), "--loss-weights", "none"
    ),
    "an answer under a misspelt name": calls(
        "Fix: pass --field responce=response if it holds the answer",
        also("--field", "responce=response"), status=1,
        data=lines(call(1), {"messages": [ASK], "responce": "4"}),
    ),
    "a message under a misspelt name": calls(
        "Fix: pass --field responce=response to read it", also("--field", "responce=response"),
        data=lines(call(1), {"messages": [ASK], "responce": BARE}), status=1,
    ),
    "an answer under a misspelt name in the first record": calls(
        "Fix: pass --field responce=response if it holds the answer",
        also("--field", "responce=response"), status=1,
        data=lines({"messages": [ASK], "responce": "4"}),
    ),
    "a weight in the answer of a call": calls(
        "Fix: of a call, write the weight next to the answer",
        write("a.jsonl", lines(call(1, response=BARE, weight=0.5))),
        data=lines(call(1, response={**BARE, "weight": 0.5})), status=1,
    ),
    "a value without its column": calls(
        "pass --call-columns with call_reward in it, or leave",
        instead("a.jsonl", "--call-columns", "call_reward"), "--call-columns", "none",
        data=lines(call(1, trace_id="a", reward=1.0)), status=1,
    ),
    "a column without its value": calls(
        "leave --call-columns out, for NaN where there are none", instead("a.jsonl"),
        "--call-columns", "logprobs", status=1,
    ),
    "a prompt that was logged as text": calls(
        "log the prompt's ids too", write("a.jsonl", lines({"id": "a", **IDS})),
        data=lines({"id": "a", "completion_ids": [3, 4]}), status=1,
    ),
    "two calls of one id": calls(
        "give each call an id of its own, or none", write("a.jsonl", LARGE),
        data=lines(*({**call(n, trace_id="a"), "id": "c"} for n in range(2))), status=1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_what_the_fix_of_an_option_says_helps(name: str, pack_here: Pack) -> None:
    check(OPTIONS[name], pack_here)


@pytest.mark.parametrize("name", CALLS)
def test_what_the_fix_of_calls_says_helps(name: str, pack_here: Pack) -> None:
    check(CALLS[name], pack_here)


def test_a_group_by_of_session_files(pack_here: Pack) -> None:
    source = Path(__file__).parents[1] / "records" / "call_logs" / "pi.jsonl"
    given = [str(source), "--group-by", "sessionId", "--on-error", "skip"]
    row = Row({}, given, "Fix: leave the option out", instead(str(source)), 2)
    check(row, pack_here)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe(pack_here: Pack) -> None:
    os.mkfifo("pipe")
    check(
        Row({}, ["pipe"], "Fix: send it to standard input and name -", instead("-"), 2), pack_here
    )


def test_a_link_to_nothing(pack_here: Pack) -> None:
    Path("in").mkdir()
    Path("in/a.jsonl").symlink_to("b.jsonl")

    def mended(given: Arguments, error: str) -> Arguments:
        Path("in/b.jsonl").write_bytes(GOOD)
        return given

    check(Row({}, ["in"], "Fix: mend or remove it", mended, 2), pack_here)


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there")
def test_a_name_that_is_not_utf8(pack_here: Pack) -> None:
    name = os.fsdecode(b"caf\xe9.jsonl")
    Path(name).write_bytes(GOOD)

    def renamed(given: Arguments, error: str) -> Arguments:
        Path(name).rename("cafe.jsonl")
        return ["cafe.jsonl"]

    check(Row({}, [name], "Fix: rename it", renamed, 2), pack_here)


def test_a_backend_that_is_not_installed(pack_here: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    mend = instead("a.jsonl", "--tokenizer-backend", "tokenizers")
    row = option("--tokenizer-backend", "gigatoken", words="or choose tokenizers", mend=mend)
    check(row, pack_here)


def test_every_refusal_is_walked(whole: Seen) -> None:
    assert not unwalked("test_option_fixes", whole)
