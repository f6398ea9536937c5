"""What is noticed in chats is counted, the same for any number of processes."""

from __future__ import annotations

from pathlib import Path

from runs import run, tree

from reasonpack.run.pack import pack_files
from reasonpack.show.summary import summary
from tests.run.test_unit import OPTIONS, pack, write


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


def test_variables_of_the_run_that_the_template_does_not_read_are_named(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl")
    variables = """{"colour": "red", "enable_thinking": true}"""
    done = pack(source, tmp_path / "out", "--chat-template-kwargs", variables)
    assert done.exit_code == 0, done.stderr
    assert "--chat-template-kwargs: the template does not read colour\n" in done.stderr
