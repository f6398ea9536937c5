"""How often records are packed, beside such as this check does not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from damages import add, recount, resource
from packed_twice import TOKENIZER, Json, Packed

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation
from reasonpack.records.reading import Reading
from reasonpack.records.unit import Record
from reasonpack.run import plan_copies
from reasonpack.run.conversations import parse
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.copies import BESIDE, TAKEN

FIELD = "the field 'usage.weight' of an assistant message"
LAYOUTS = ("onepass", "npass")


def chat(id_: str, text: str, *, is_read: bool = True) -> bytes:
    answer: Json = {"role": "assistant", "content": text}
    answer |= {} if is_read else {"usage": {"weight": 0}}
    said = [{"role": "user", "content": "Two and two?"}, answer]
    return json.dumps({"id": id_, "messages": said}).encode()


ANSWERED: list[Json] = [{"role": "user", "content": "So?"}, {"role": "assistant", "content": "4."}]
CALL: Json = {"function": {"name": "f", "arguments": {}}}
DEDUP = ("none", "exact")
UNREAD = [chat(f"u{n}", f"{n}.", is_read=False) for n in range(8)]
READ = [chat(f"r{n}", f"{n}.") for n in range(4, 12)]


def packed(folder: Path, lines: list[bytes], share: str, **asked: Any) -> Packed:
    (folder / "a.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    options = Options(tokenizer=str(TOKENIZER), **asked)
    pack_files([f"{folder / 'a.jsonl'}{share}"], folder / "packed", options)
    return Packed(folder / "packed", [folder / "a.jsonl"])


@pytest.mark.long
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("share", "asked"),
    [
        ("", {"dedup": "exact"}),
        (":0.5", {}),
        (":1.5", {"dedup": "exact"}),
        ("#7", {}),
        (":2", {"sample": 9, "dedup": "exact"}),
    ],
)
def test_nothing_beside_chats_that_are_not_read_is_a_violation(
    share: str, asked: Json, layout: str, tmp_path: Path
) -> None:
    """Of the latter one says what another does, and four of the former what one of them does."""
    made = packed(tmp_path, [*UNREAD, *READ, UNREAD[0]], share, layout=layout, **asked)
    findings = made.compare()
    assert findings.listed == []
    assert findings.taken[-1] == TAKEN
    left = {reason: number for reason, (number, _) in findings.unchecked.items()}
    assert left.pop(FIELD) == 9
    assert left == ({BESIDE: 4} if "dedup" in asked else {})
    assert findings.checked.get("duplicates", 0) == (5 if "dedup" in asked else 0)


@pytest.mark.parametrize(
    ("share", "asked", "times"),
    [
        ("", {}, ":2"),
        ("", {"dedup": "exact"}, ""),
        ("", {"dedup": "exact"}, ":3"),
        (":2.5", {}, ""),
        ("#7", {"sample": 5}, ""),
    ],
)
def test_a_dataset_that_was_packed_again_knows_how_often(
    share: str, asked: Json, times: str, tmp_path: Path
) -> None:
    made = packed(tmp_path, [*UNREAD, *READ, UNREAD[0]], share, **asked)
    repack([f"{made.directory}{times}"], tmp_path / "again", {"packing": "none"})
    again = Packed(tmp_path / "again", made.inputs)
    assert again.compare().listed == []
    duplicates = [each.compare().checked.get("duplicates", 0) for each in (made, again)]
    assert duplicates == [5 if asked.get("dedup") else 0] * 2


def test_so_do_several_that_became_one(tmp_path: Path) -> None:
    made = []
    for name, share in (("one", ":0.5"), ("two", ""), ("three", ":2")):
        (tmp_path / name).mkdir()
        lines = [line.replace(b'"id": "', b'"id": "' + name.encode()) for line in UNREAD + READ]
        made.append(packed(tmp_path / name, lines, share))
    directories = [str(each.directory) for each in made]
    repack([*directories[:2], f"{directories[1]}:2", directories[2]], tmp_path / "again", {})
    inputs = [made[at].inputs[0] for at in (0, 1, 1, 2)]
    assert Packed(tmp_path / "again", inputs).compare().listed == []


ASKED = {"role": "user", "content": "Two and two?"}
REFUSED = [
    [{**ASKED, "content": [{"type": "text", "text": "So?", "thinking": {}}]}, *ANSWERED[1:]],
    [ASKED, {"type": "message", "role": "assistant", "content": None}],
    [{**ASKED, "content": None}, *ANSWERED[1:]],
    [*ANSWERED[1:], *ANSWERED],
    [*ANSWERED, ASKED, {**ANSWERED[1], "tool_calls": [{**CALL, "type": "custom"}]}],
    [*ANSWERED, ASKED, {**ANSWERED[1], "tool_calls": [{**CALL, "id": 5}]}],
]
"""Messages that pack does not read, while verify reads some."""


@pytest.mark.parametrize(
    ("share", "asked"),
    [
        *((share, {"dedup": dedup}) for share in (":0.5", "#9", ":1.5") for dedup in DEDUP),
        *((":2", {"sample": number, "dedup": "exact"}) for number in (3, 6, 9)),
        *(("", {"sample": number}) for number in (3, 6, 9)),
    ],
)
def test_what_pack_does_not_read_is_drawn_as_such(share: str, asked: Json, tmp_path: Path) -> None:
    lines = [json.dumps({"id": n, "messages": each}).encode() for n, each in enumerate(REFUSED)]
    made = packed(tmp_path, [*lines, *READ, *lines], share, on_error="skip", **asked)
    findings = made.compare()
    assert findings.listed == []
    assert TAKEN not in findings.taken
    assert findings.checked["records"] == 20


def test_groups_with_calls_that_pack_does_not_read_are_no_duplicates(tmp_path: Path) -> None:
    calls = [
        {"group": group, "messages": messages[:-1], "response": messages[-1]}
        for group in "ab"
        for messages in (ANSWERED, *REFUSED)
    ]
    lines = [json.dumps(call).encode() for call in calls]
    made = packed(tmp_path, lines, "", dedup="exact", on_error="skip", input_format="calls")
    assert made.compare().listed == []


def test_what_is_read_when_packed_was_drawn_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index says that one record cannot be read, and rejects.jsonl does not have it."""

    def parse_but_one(record: Record, reading: Reading) -> Conversation:
        if b'"r6"' in record.line:
            raise RecordError("record", "", "not read", "it read", "none")
        return parse(record, reading)

    monkeypatch.setattr(plan_copies, "parse", parse_but_one)
    assert "RP305" in packed(tmp_path, READ, "#3").compare().counts


def test_a_record_without_an_answer_is_no_copy_of_one(tmp_path: Path) -> None:
    """It cannot be read as a conversation, and is rejected as often as it is there."""
    alone = b'{"messages": [{"role": "user", "content": "So?"}]}'
    made = packed(tmp_path, [alone, READ[0], alone], "", dedup="exact", on_error="skip")
    assert made.compare().listed == []


def test_a_share_of_a_file_in_which_nothing_can_be_packed(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(b'{"messages": [{"role": "user", "content": "So?"}]}\n')
    (tmp_path / "a.jsonl").write_bytes(READ[0])
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    options = Options(tokenizer=str(TOKENIZER), on_error="skip")
    pack_files([str(files[0]), f"{files[1]}#3"], tmp_path / "packed", options)
    assert Packed(tmp_path / "packed", files).compare().listed == []


def test_what_was_lost_before_them_is_found(tmp_path: Path) -> None:
    made = packed(tmp_path, [READ[0], READ[0], UNREAD[4]], "", dedup="exact")
    resource(0, lambda lines: lines.__setitem__(1, READ[1]))(made)
    assert made.compare().counts == {"RP304": 1}


def test_what_was_lost_beside_them_is_found(tmp_path: Path) -> None:
    made = packed(tmp_path, [UNREAD[4], *READ[:2], UNREAD[4]], "", dedup="exact")
    resource(0, lambda lines: lines.append(READ[3]))(made)
    assert made.compare().counts == {"RP304": 1}
    resource(0, lambda lines: lines.pop())(made)
    recount(lambda counts: add(counts, "duplicates", 1))(made)
    assert made.compare().counts == {"RP311": 1}
    index = made.directory / "copies.index"
    index.write_bytes(index.read_bytes().replace(b"\xff\xff", b"\x01\x00"))
    assert made.compare().counts == {"RP304": 2}
