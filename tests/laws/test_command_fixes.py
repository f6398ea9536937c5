"""Every refusal of a command on a dataset says what to do, and doing it makes the refusal go away.

To add one: its arguments, words of the error, and its fix, done.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from fixing import Arguments, Command, Seen, unwalked

from reasonpack.errors import FormatError, UsageError
from reasonpack.run.lock import locked
from tests.laws.commands import (
    PACK,
    REPACK,
    CommandRow,
    again,
    check_command,
    copied,
    first,
    model,
    more,
    moved,
    written,
)

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("seen")]
PART = ["--shard-count", "2", "--shard-index"]
AGAIN = more("--overwrite")
BOTH = ["repack", "out", "two", "-o", "new"]
PACKED, HALF = [PACK], [[*PACK, *PART, "1"]]
UNFINISHED: list[Arguments] = []
ROWS: dict[str, CommandRow] = {
    "explain what is no code": (
        [], ["explain", "RP999"], 2, "call explain without a code", again("explain"),
    ),
    "template on what is no day": (
        [], ["template", *PACK[4:], "--date", "today"], 2, "Invalid value for --date",
        again("template", *PACK[4:], "--date", "2026-01-31"),
    ),
    "inspect rows by what is no condition": (
        PACKED, ["inspect", "out", "--where", "length"], 2, "write, for instance, --where 'len",
        again("inspect", "out", "--where", "length>10"),
    ),
    "inspect rows of which there are none": (
        PACKED, ["inspect", "out", "--where", "length>8000"], 2, "see what there is with stats",
        again("stats", "out"),
    ),
    "inspect an id of another row": (
        PACKED, ["inspect", "out", "--row", "0", "--id", "chat 1"], 2, "or leave out --row",
        again("inspect", "out", "--id", "chat 1"),
    ),
    "stats of a model that is none": (
        PACKED, ["stats", "out", "--model-config", "a.json"], 2, "or pass --hidden-size",
        again("stats", "out", "--hidden-size", "8", "--layers", "2"),
    ),
    "inspect without the tokenizer": (
        [copied(), model(), moved("model", "other")], ["inspect", "out", "--view", "1"], 1,
        "or say where it is: --tokenizer",
        again("inspect", "out", "--view", "1", "--tokenizer", "other"),
    ),
    "inspect with another tokenizer": (
        [*PACKED, copied(), written("model/tokenizer.json", lambda data: data + b" ")],
        ["inspect", "out", "--tokenizer", "model"], 1, "Fix: pass that one",
        again("inspect", "out", "--tokenizer", PACK[-1]),
    ),
    "verify without the tokenizer": (
        [copied(), model(), moved("model", "other")], ["verify", "out", "--against", "a.jsonl"], 1,
        "if it has moved, pass --tokenizer",
        again("verify", "out", "--against", "a.jsonl", "--tokenizer", "other"),
    ),
    "a manifest that is none": (
        [*PACKED, written("out/manifest.json", lambda data: data[:99])], ["stats", "out"], 1,
        "pack again with --overwrite", first(AGAIN, then=["stats", "out"]),
    ),
    **{
        f"{name} a shard that is cut off": (
            [*PACKED, written("out/data/*", lambda data: data[:99])], [name, "out"], 1,
            "pack again with --overwrite", first(AGAIN, then=[name, "out"]),
        )
        for name in ("inspect", "stats")
    },
    "repack to itself": (
        PACKED, ["repack", "out", "-o", "out"], 2, "choose another --output", again(*REPACK),
    ),
    "repack what is not alike": (
        [PACK, more("--layout", "npass", out="two")], BOTH, 2, "or pack each again by itself",
        again(*REPACK),
    ),
    "repack what differs in a limit": (
        [more("--max-length", "900"), more("--max-length", "800", out="two")], BOTH, 2,
        "pass --max-length", again(*BOTH, "--max-length", "800"),
    ),
    "repack beyond a limit that left something out": (
        [more("--max-length", "150", "--overlong", "skip")], [*REPACK, "--max-length", "600"], 2,
        "pack the inputs again with the longer limit",
        again(*more("--max-length", "600", out="new")),
    ),
    "inspect a row that is not there": (
        PACKED, ["inspect", "out", "--row", "99"], 2, "no row 99, expected .*name one of those",
        again("inspect", "out", "--row", "3"),
    ),
    "inspect an id that is not there": (
        PACKED, ["inspect", "out", "--id", "x"], 2,
        "no sample has the id 'x'.*name a row with --row",
        again("inspect", "out", "--row", "0"),
    ),
    "inspect the view of a message that has none": (
        PACKED, ["inspect", "out", "--row", "0", "--view", "0"], 2, "not trained there.*from 0",
        again("inspect", "out", "--row", "0", "--view", "1"),
    ),
    "stats of a model said twice": (
        PACKED, ["stats", "out", "--model-config", "a.jsonl", "--layers", "2"], 2, "these out",
        first(then=["stats", "out", "--hidden-size", "8", "--layers", "2"]),
    ),
    "verify against a missing file": (
        PACKED, ["verify", "out", "--against", "b.jsonl"], 2, "no such file.*check the spelling",
        again("verify", "out", "--against", "a.jsonl"),
    ),
    "merge parts of which one is missing": (
        HALF, ["merge", "out"], 1, "Fix: ",
        first([*PACK, *PART, "0"], then=["merge", "out"]),
    ),
    "merge what is no run": (
        UNFINISHED, ["merge", "out"], 1, "no plan.json.*pack first",
        first(*HALF, [*PACK, *PART, "0"], then=["merge", "out"]),
    ),
    **{
        f"{name} what is not finished": (
            UNFINISHED, [name, "out"], 1, "expected .*dataset.*run pack to its end",
            first(PACK, then=[name, "out"]),
        )
        for name in ("inspect", "stats")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_what_the_fix_says_helps(name: str, command: Command) -> None:
    check_command(ROWS[name], command)


def test_a_directory_that_another_run_holds(command: Command) -> None:
    Path("out").mkdir()
    with locked(Path("out")):
        status, error = command(PACK)
        assert status == 2, error
        assert re.search(r"held by process .*wait for it or stop it", error), error
    assert command(PACK)[0] == 0


@pytest.mark.torch
def test_a_dataset_for_torch(command: Command) -> None:
    pytest.importorskip("torch")
    from reasonpack.torch.dataset import RowDataset

    with pytest.raises(FormatError, match=r"expected a finished dataset.*run pack to its end"):
        RowDataset("out")
    assert command(PACK)[0] == 0
    with pytest.raises(UsageError, match=r"a local directory.*copy it here first"):
        RowDataset(Path("out").resolve().as_uri())
    assert len(RowDataset("out")) == 4


@pytest.mark.parametrize("arguments", [["inspect", "out", "--row", "3"], ["stats", "out"]])
def test_a_shard_with_fewer_rows_than_it_should_have(
    arguments: Arguments, command: Command
) -> None:
    """As whoever copies another file over it leaves it."""
    assert command(PACK)[0] == 0
    assert command(more("--max-length", "150", "--overlong", "skip", out="two"))[0] == 3
    (there,), (other,) = (list(Path(each, "data").iterdir()) for each in ("out", "two"))
    shutil.copy(other, there)
    status, error = command(arguments)
    assert (status, "Traceback" in error) == (1, False)
    assert re.search("Fix: (repeat the pack command|pack again with --overwrite)", error), error
    assert command(AGAIN)[0] == 0
    assert command(arguments)[0] == 0


def test_a_view_that_several_samples_have(command: Command) -> None:
    Path("a.jsonl").write_bytes(2 * Path("a.jsonl").read_bytes())
    assert command(PACK)[0] == 0
    status, error = command(["inspect", "out", "--view", "1", "--id", "chat 1"])
    assert status == 2, error
    assert "choose with --id and --row" in error
    assert command(["inspect", "out", "--view", "1", "--id", "chat 1", "--row", "1"])[0] == 0


def test_a_model_whose_numbers_are_none(command: Command) -> None:
    assert command(PACK)[0] == 0
    Path("config.json").write_text('{"hidden_size": "8", "num_hidden_layers": 2}')
    status, error = command(["stats", "out", "--model-config", "config.json"])
    assert (status, "name the config.json of a model" in error) == (2, True)
    Path("config.json").write_text('{"hidden_size": 8, "num_hidden_layers": 2}')
    assert command(["stats", "out", "--model-config", "config.json"])[0] == 0


def test_every_refusal_is_walked(whole: Seen) -> None:
    assert not unwalked("test_command_fixes", whole)
