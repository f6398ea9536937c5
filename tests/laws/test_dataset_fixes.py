"""Every refusal to check, to pack again, or to read what is damaged says what to do.

Doing it makes the refusal go away. As in test_command_fixes.py.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixing import Command, Seen, unwalked
from runs import FIXTURES

from reasonpack.rows import schema as schema_module
from reasonpack.storage.read import SMALL
from tests.laws.commands import (
    PACK,
    REPACK,
    CommandRow,
    Damage,
    again,
    check_command,
    copied,
    first,
    model,
    more,
    moved,
    written,
)
from tests.laws.damaged import (
    ASK,
    TOKENIZER,
    fewer,
    limited,
    logged,
    packed,
    requiring,
    said,
    shard,
    tokens,
    twice_one_id,
    with_short_labels,
    without_labels,
)

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("seen")]
CHECK = ["check", "p.parquet", "a.jsonl", *TOKENIZER]
TWICE = ["repack", "out", "two", "-o", "new"]
SHORT = ["--max-length", "150", "--overlong"]
PREPARED = tokens([1, 2, 3])
IDS = {"id": "i", "prompt_ids": [1, 2], "completion_ids": [3, 3999]}
BOTH_FORMS = said("c.jsonl", {**logged(0), **IDS})
CALLS = said("c.jsonl", logged(0), logged(1))
WHOLE: Damage = lambda: shutil.copytree("out", "whole")  # noqa: E731
NO_PLAN: Damage = lambda: os.unlink("out/plan.json")  # noqa: E731, PTH108
GREEDY = "{% if '2+2' in messages[0].content %}{{ 'x' * 99999999 }}{% endif %}"
PLAIN = (FIXTURES / "tokenizer" / "chat_template.jinja").read_text("utf-8")
CHATS = said("b.jsonl", {"messages": [ASK, {"role": "assistant", "content": "4"}]})
ANSWER = {"role": "assistant", "content": "4", "usage": {"weight": 0}}
UNREAD = said("b.jsonl", {"messages": [ASK, ANSWER]})
SAME_ID = [
    {"id": "x", "messages": [ASK, {"role": "assistant", "content": str(number)}]}
    for number in range(6)
]
CHECKS: dict[str, CommandRow] = {
    "check rows of our own": (
        [PACK], ["check", "out", *TOKENIZER], 2, "call `reasonpack verify DIR`",
        again("verify", "out"),
    ),
    "check a shard of our own": (
        [PACK], ["check", "out/data", *TOKENIZER], 2, "call `reasonpack verify DIR` on their data",
        again("verify", "out"),
    ),
    "check labels of the answer alone": (
        [tokens([3])], CHECK, 1, "labels: not as long as input_ids.*write it for the prompt too",
        lambda _: (tokens([-100, -100, 3])(), CHECK)[1],
    ),
    "check labels of text": (
        [said("p.jsonl", {"input_ids": [1, 2, 3], "labels": ["a", 2, 3]})],
        ["check", "p.jsonl", *TOKENIZER], 1, "labels: no list of whole numbers.*Fix: write a list",
        lambda _: (said("p.jsonl", {"input_ids": [1, 2, 3], "labels": [-100, -100, 3]})(),
                   ["check", "p.jsonl", *TOKENIZER])[1],
    ),
    "check ids that no token has": (
        [said("p.jsonl", {"input_ids": [1, 2, 1 << 31], "labels": [-100, -100, 3]})],
        ["check", "p.jsonl", *TOKENIZER], 1, "2,147,483,648, expected ids of.*write the ids that",
        lambda _: (said("p.jsonl", {"input_ids": [1, 2, 3], "labels": [-100, -100, 3]})(),
                   ["check", "p.jsonl", *TOKENIZER])[1],
    ),
    "check tokens against standard input": (
        [PREPARED], ["check", "p.parquet", "-", *TOKENIZER], 2, "name a file instead", again(*CHECK)
    ),
    "check tokens against a share": (
        [PREPARED], ["check", "p.parquet", "a.jsonl:2", *TOKENIZER], 2, "name the file alone",
        again(*CHECK),
    ),
    "check a share of tokens": (
        [PREPARED], ["check", "p.parquet:2", "a.jsonl", *TOKENIZER], 2, "name the file alone",
        again(*CHECK),
    ),
    "check tokens against calls": (
        [PREPARED, CALLS], ["check", "p.parquet", "c.jsonl", *TOKENIZER], 2,
        "name the chats the rows were made of", again(*CHECK),
    ),
}  # fmt: skip
VERIFIES: dict[str, CommandRow] = {
    "verify against standard input": (
        [PACK], ["verify", "out", "--against", "-"], 2, "write it to a file, and name that",
        again("verify", "out", "--against", "a.jsonl"),
    ),
    "verify against another share": (
        [PACK], ["verify", "out", "--against", "a.jsonl:2"], 2, "name a.jsonl without a share",
        again("verify", "out", "--against", "a.jsonl"),
    ),
    "verify against another share as fields": (
        [PACK], ["verify", "out", "--against", '{"path": "a.jsonl", "repeat": 2}'],
        2, "name a.jsonl without a share",
        again("verify", "out", "--against", '{"path": "a.jsonl"}'),
    ),
    "verify without the template": (
        [lambda: Path("t.jinja").write_text(PLAIN, "utf-8"), more("--chat-template", "t.jinja"),
         moved("t.jinja", "u.jinja")],
        ["verify", "out", "--against", "a.jsonl"], 2, "put the template there that the dataset",
        lambda _: (moved("u.jinja", "t.jinja")(), ["verify", "out", "--against", "a.jsonl"])[1],
    ),
    "verify with a damaged template": (
        [lambda: Path("t.jinja").write_text(PLAIN, "utf-8"), more("--chat-template", "t.jinja"),
         moved("t.jinja", "u.jinja"), lambda: Path("t.jinja").write_text("{% if %}")],
        ["verify", "out", "--against", "a.jsonl"], 1, "put the template there that the dataset",
        lambda _: (moved("u.jinja", "t.jinja")(), ["verify", "out", "--against", "a.jsonl"])[1],
    ),
    "verify calls without their plan": (
        [CALLS, packed("c.jsonl"), WHOLE, NO_PLAN], ["verify", "out", "--against", "c.jsonl"], 2,
        "copy it again from where it was packed", again("verify", "whole", "--against", "c.jsonl"),
    ),
    "verify duplicates without their index": (
        [UNREAD, packed("b.jsonl", "--dedup", "exact"), WHOLE,
         lambda: os.unlink("out/copies.index")],  # noqa: PTH108
        ["verify", "out", "--against", "b.jsonl", "--allow-unchecked"], 1,
        "copy it again from where it was packed",
        again("verify", "whole", "--against", "b.jsonl", "--allow-unchecked"),
    ),
}  # fmt: skip
REPACKS: dict[str, CommandRow] = {
    "a share of calls": (
        [CALLS, packed("c.jsonl")], ["repack", "out:1.5", "-o", "new"], 2,
        "pack the inputs with that share", again(*packed("c.jsonl:1.5", out="new")),
    ),
    "a number of conversations of two inputs": (
        [CHATS, packed("a.jsonl", "b.jsonl")], ["repack", "out#3", "-o", "new"], 2,
        "pack the inputs with that share", again(*packed("a.jsonl#2", "b.jsonl#1", out="new")),
    ),
    "a share without the inputs": (
        [PACK, moved("a.jsonl", "b.jsonl")], ["repack", "out:0.5", "-o", "new"], 2,
        "put it there as it was",
        lambda _: (moved("b.jsonl", "a.jsonl")(), ["repack", "out:0.5", "-o", "new"])[1],
    ),
    "other splits": (
        [more("--split", "test=0.5", "--shuffle")], [*REPACK, "--split", "test=0.3"], 2,
        "pack the inputs again with --split", again(*more("--split", "test=0.3", out="new")),
    ),
    "other splits without the inputs": (
        [PACK, moved("a.jsonl", "b.jsonl")], [*REPACK, "--split", "test=0.3"], 2,
        "put it there as it was",
        lambda _: (moved("b.jsonl", "a.jsonl")(), [*REPACK, "--split", "test=0.3"])[1],
    ),
    "other splits of conversations of one id": (
        [said("b.jsonl", *SAME_ID), packed("b.jsonl")], [*REPACK, "--split", "test=0.5"], 1,
        "pack the inputs again with the new options",
        again(*packed("b.jsonl", "--split", "test=0.5", out="new")),
    ),
    "models of other lengths": (
        [limited("long", 900), limited("short", 800), packed("a.jsonl", "--tokenizer", "long"),
         packed("a.jsonl", "--tokenizer", "short", out="two")],
        TWICE, 2, "pass --max-position", again(*TWICE, "--max-position", "800"),
    ),
    "what was chosen by its own inputs": (
        [more("--dedup", "exact"), more("--dedup", "exact", out="two")], TWICE, 2,
        "pack the inputs of all together, or pack it again by itself",
        again(*packed("a.jsonl", "a.jsonl", "--dedup", "exact", out="new")),
    ),
    "a sample twice": (
        [more("--sample", "2")], ["repack", "out:2", "-o", "new"], 2,
        "pack its inputs with the shares that they are to have",
        again(*packed("a.jsonl:2", "--sample", "4", out="new")),
    ),
    "other weights": (
        [more("--loss-weights", "message")], [*REPACK, "--loss-weights", "turn"], 2,
        "pack the inputs again with --loss-weights turn",
        again(*more("--loss-weights", "turn", out="new")),
    ),
    "weights of turns without the inputs": (
        [PACK, moved("a.jsonl", "b.jsonl")], [*REPACK, "--loss-weights", "turn"], 2,
        "put it there as it was",
        lambda _: (moved("b.jsonl", "a.jsonl")(), [*REPACK, "--loss-weights", "turn"])[1],
    ),
    "what was rejected beside what was divided": (
        [more(*SHORT, "skip"), more(*SHORT, "split", out="two")], TWICE, 2,
        "pack the inputs of one again with the --overlong of the other",
        first(more(*SHORT, "split", "--overwrite"), TWICE, then=["stats", "new"]),
    ),
    "what cannot be divided": (
        [more(*SHORT, "skip")], [*REPACK, "--max-length", "60"], 2,
        "pack the inputs again with the new limits",
        first(more("--max-length", "60", out="new"), then=["stats", "new"]),
    ),
    "two conversations of one id": (
        [twice_one_id, more("--max-length", "200")], [*REPACK, "--max-length", "900"], 1,
        "pack the inputs again with the new options",
        again(*more("--max-length", "900", out="new")),
    ),
    "another's receipts": (
        [PACK, WHOLE, more("--max-length", "900", out="two"),
         lambda: shutil.copy("two/receipts/00000.json", "out/receipts/00000.json")],
        REPACK, 1, "copy it again from where it was packed", again("repack", "whole", "-o", "new"),
    ),
    "a shard that was altered": (
        [PACK, WHOLE, written("out/data/*", lambda data: data[:-1] + b"?")], REPACK, 1,
        "copy it again from where it was packed", again("repack", "whole", "-o", "new"),
    ),
    "calls without their plan": (
        [CALLS, packed("c.jsonl"), WHOLE, NO_PLAN], REPACK, 1,
        "copy it again from where it was packed", again("repack", "whole", "-o", "new"),
    ),
    "no receipts": (
        [PACK, WHOLE, lambda: shutil.rmtree("out/receipts")], REPACK, 1,
        "copy the dataset again from where it was packed", again("repack", "whole", "-o", "new"),
    ),
}  # fmt: skip
READS: dict[str, CommandRow] = {
    **{
        f"{name} rows that make no sense": (
            [PACK, shard(with_short_labels)], [name, "out"], 1, "pack again with --overwrite",
            first(more("--overwrite"), then=[name, "out"]),
        )
        for name in ("inspect", "stats", "report")
    },
    "a column that is missing": (
        [PACK, shard(without_labels)], ["stats", "out"], 1, "pack again with --overwrite",
        first(more("--overwrite"), then=["stats", "out"]),
    ),
    "a manifest that is much too large": (
        [PACK, lambda: os.truncate("out/manifest.json", SMALL + 1)],
        ["stats", "out"], 1, "check that it is what its name says",
        first(more("--overwrite"), then=["stats", "out"]),
    ),
    "a tokenizer that is not at its URL": (
        [copied()], [*PACK[:-1], "file:///nowhere/model"], 1, "check the URL", lambda _: model()
    ),
}  # fmt: skip
PACKS: dict[str, CommandRow] = {
    "too many copies": (
        [], packed("a.jsonl:1000"), 2, "less than 1,000 times.*ask for fewer",
        again(*packed("a.jsonl:2")),
    ),
    "a folder for temporary files that is not there": (
        [], more("--temp-dir", "none"), 1, "make it, or name another one",
        again(*more("--temp-dir", ".")),
    ),
    "no copies": (
        [], packed("a.jsonl#0"), 2, r"write a\.jsonl:2\.0", again(*packed("a.jsonl:2.0"))
    ),
    "a part that is shuffled": (
        [], more("--shuffle", "--shard-count", "1", "--shard-index", "0"), 2,
        "leave it out, merge the parts, and then: reasonpack repack DIR --shuffle --output NEW",
        first(more("--shard-count", "1", "--shard-index", "0"), ["merge", "out"],
              then=["repack", "out", "--shuffle", "--output", "NEW"]),
    ),
    **{
        f"{name} for which a template is greedy": (
            [CHATS, said("c.jsonl", {**logged(2), "response": "4"})],
            packed(name, "--chat-template", GREEDY + PLAIN),
            1, "do not use this template", again(*packed(name)),
        )
        for name in ("b.jsonl", "c.jsonl")
    },
    "a part that is none": (
        [], more("--shard-index", "2", "--shard-count", "2"), 2, "expected 0 to 1.*count from 0",
        again(*more("--shard-index", "1", "--shard-count", "2")),
    ),
    "a part of ids": (
        [BOTH_FORMS], packed("c.jsonl", "--train-on", "response"), 1,
        "leave the ids out with --ignore-fields",
        again(*packed("c.jsonl", "--train-on", "response",
                      "--ignore-fields", "prompt_ids,completion_ids")),
    ),
    "a mask of ids": (
        [BOTH_FORMS], packed("c.jsonl", "--train-on", "response"), 1,
        "log a loss_mask of the tokens to train and leave --train-on out",
        lambda _: (said("c.jsonl", {**logged(0), **IDS, "loss_mask": [1, 0]})(),
                   packed("c.jsonl"))[1],
    ),
    "ids of nothing": (
        [said("c.jsonl", {**IDS, "prompt_ids": []})], packed("c.jsonl"), 1, "log the prompt's ids",
        lambda _: (said("c.jsonl", IDS)(), packed("c.jsonl"))[1],
    ),
    "ids of another tokenizer": (
        [said("c.jsonl", IDS), fewer], packed("c.jsonl", "--tokenizer", "fewer"), 1,
        "pass the tokenizer of the model that was called", again(*packed("c.jsonl")),
    ),
    "turns of ids": (
        [said("c.jsonl", IDS)], packed("c.jsonl", "--loss-weights", "turn"), 1,
        "pass --loss-weights message or conversation",
        again(*packed("c.jsonl", "--loss-weights", "message")),
    ),
    "a role of no kind": (
        [], more("--role", "Bot"), 2, "write --role Bot=assistant",
        again(*more("--role", "Bot=assistant")),
    ),
    "a column that nobody reads": (
        [], more("--columns", '{"chosen": "x"}'), 2, "leave it out", again(*PACK)
    ),
    "a whole entry of dataset_info.json": (
        [], more("--columns", '{"columns": {"messages": "messages"}}'), 2,
        "pass what it holds as --columns",
        again(*more("--columns", '{"messages": "messages"}')),
    ),
    "an output below a file": (
        [], more(out="a.json/out"), 2, "a.json: is a file.*choose another --output", again(*PACK)
    ),
}  # fmt: skip
ROWS = {
    **CHECKS,
    **VERIFIES,
    **{f"repack {name}": row for name, row in REPACKS.items()},
    **READS,
    **PACKS,
}


@pytest.mark.parametrize("name", ROWS)
def test_what_the_fix_says_helps(name: str, command: Command) -> None:
    check_command(ROWS[name], command)


def test_a_limit_within_which_a_copy_has_no_view(command: Command) -> None:
    assert command(packed("a.jsonl:2"))[0] == 0
    status, error = command([*REPACK, "--max-length", "100"])
    found = re.search(r"pass (--max-length) (\d+), or pack the inputs again", error)
    assert (status, found is not None) == (2, True), error
    assert found
    assert command([*REPACK, *found.groups()])[0] == 0


def test_a_file_that_grows(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def growing(place: Any, name: str) -> str:
        with Path(place).open("ab") as file:
            file.write(b"\n")
        return "plain"

    with monkeypatch.context() as patch:
        patch.setattr("reasonpack.records.plan.content_kind", growing)
        status, error = command(PACK)
    assert (status, "pack again when it is complete" in error) == (1, True), error
    assert command(PACK)[0] == 0


def test_a_line_beyond_all_limits(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Path("a.jsonl").read_bytes()
    monkeypatch.setattr("reasonpack.records.unit.LONGEST_RECORD", len(lines) - 1)
    Path("a.jsonl").write_bytes(lines.replace(b"\n", b" "))
    status, error = command(PACK)
    assert (status, "write each conversation as a line of its own" in error) == (1, True), error
    Path("a.jsonl").write_bytes(lines)
    assert command(PACK)[0] == 0


def test_a_dataset_of_another_version(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other version is this one, with another number."""
    with monkeypatch.context() as another:
        another.setattr(schema_module, "FORMAT_VERSION", "9.0")
        assert command(PACK)[0] == 0
    status, error = command(["stats", "out"])
    assert (status, "use another version of reasonpack" in error) == (1, True), error


def test_a_shard_that_requires_what_is_not_known(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer version knows it."""
    assert command(PACK)[0] == 0
    shard(requiring)()
    status, error = command(["stats", "out"])
    assert (status, "use a newer version of reasonpack" in error) == (1, True), error
    monkeypatch.setattr(schema_module, "APPLIED", (*schema_module.APPLIED, "future"))
    assert command(["stats", "out"])[0] == 0


def test_every_refusal_is_walked(whole: Seen) -> None:
    assert not unwalked("test_dataset_fixes", whole)
