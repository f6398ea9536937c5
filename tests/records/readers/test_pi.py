"""Sessions of pi → calls."""

from __future__ import annotations

from test_sessions import ASKED, CALLED, RESULT, SAID, UNKNOWN, WEST, lines, read, turns


def test_pi() -> None:
    calls, refused = read(lines("pi"))
    assert not refused
    first = [ASKED, CALLED]
    assert turns(calls) == [
        first,
        [*first, RESULT, ("assistant", "Tw")],
        [*first, RESULT, SAID],
        [*first, RESULT, ("user", "Say it in a word."), ("assistant", "Twelve.")],
        [
            ("user", "There are 12 boats."),
            ("user", "Say it in a word."),
            ("assistant", "Twelve."),
            WEST,
            UNKNOWN,
        ],
    ]
    assert [call.id for call in calls] == ["e2", "e4", "e5", "e7", "e10"]
    assert calls[0].where == "x:4"
    lacking = {"missing system": 1, "missing tools": 1}
    assert calls[0].notes == lacking
    assert calls[1].notes == {**lacking, "unfinished": 1}
    assert calls[-1].notes == {**lacking, "missing summary-wording": 1}


def test_pi_without_ids_is_a_line_of_entries() -> None:
    old = [{k: v for k, v in each.items() if k not in ("id", "parentId")} for each in lines("pi")]
    calls, _ = read([{**old[0], "id": "s"}, *old[1:5]])
    assert turns(calls) == [[ASKED, CALLED]]


def test_an_entry_whose_parent_stands_behind_it_is_refused() -> None:
    found = lines("pi")
    found[3]["parentId"] = "e4"
    calls, refused = read(found)
    assert not calls
    assert {error.what for error in refused} == {
        "the parent of x:4 does not stand before it, expected it"
    }
