"""Shares and splits of a dataset are those of its inputs, which are read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from again import chdir
from repacked import (
    CHATS,
    PLAIN,
    Json,
    compare,
    left_out,
    samples,
    shards,
    write,
)
from runs import FIXTURES, agents, run

from reasonpack.datasets.manifest import read_manifest
from reasonpack.errors import FormatError, UsageError
from reasonpack.run import records_again
from reasonpack.run.pack import pack_files
from reasonpack.run.repack import repack
from reasonpack.verify.check import verify_dataset
from tests.changed import replace

pytestmark = pytest.mark.usefixtures("with_chats")


def many() -> list[Json]:
    """Records of which some are equal, refused, noted, without reasoning or not to be trained."""
    said = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
    reasoned, flagged = {**said[1], "reasoning_content": "+"}, {**said[1], "weight": 0}
    found = [*CHATS, *({**chat, "id": f"{chat['id']} again"} for chat in CHATS[:2])]
    for at in range(4):
        asked: Json = {"role": "user", "content": f"{at}+2?"}
        kinds: dict[str, list[Json]] = {
            "bad": [{"role": "no"}],
            "bare": [asked, *said[1:], said[0], reasoned],
            "none": [asked, flagged],
        }
        found += ({"id": f"{kind} {at}", "messages": each} for kind, each in kinds.items())
        found.append({**CHATS[at], "id": f"odd {at}", "what": {"is": at}})
    return found


@pytest.mark.parametrize("share", [":2.25", ":0.5", "#5", "#37"])
@pytest.mark.long
def test_a_share_of_a_dataset_is_that_share_of_its_inputs(share: str, tmp_path: Path) -> None:
    """With all that is counted, in the first of messages that were left out before."""
    opens = str(FIXTURES / "templates/thinking_prompt.jinja")
    plain = replace(PLAIN, on_error="skip", ignore_fields=("what",))
    divided = replace(plain, max_length=1_000, split=("test=0.3",), chat_template=opens)
    joined = replace(plain, layout="npass", packing=True, max_length=7_000, dedup="exact")
    with chdir(tmp_path):
        write(many())
        for old, given_ in (
            (divided, {"loss_weights": "message"}),
            (joined, {}),
            (plain, {"max_length": 900}),
        ):
            here, fresh_options = run(unit_bytes=30_000), replace(old, **given_)
            pack_files(["a.jsonl"], Path("old"), old, overwrite=True, run=here)
            new = repack([Path(f"old{share}")], Path("new"), given_, overwrite=True)
            one = f"a.jsonl{share}"
            fresh = pack_files([one], Path("fresh"), fresh_options, overwrite=True, run=here)
            assert samples(Path("new"), new) == samples(Path("fresh"), fresh)
            assert left_out(Path("new")) == left_out(Path("fresh"))
            assert replace(new.counts, rows=0) == replace(fresh.counts, rows=0)
            assert new.blend == fresh.blend
            assert old.packed or shards(Path("new")) == shards(Path("fresh"))
            findings = verify_dataset(Path("new"), ["a.jsonl"])
            assert (findings.total, findings.warnings) == (0, []), findings.listed
            counted = read_manifest(Path("old")).counts
            assert counted.rejects.keys() >= {"role", "nothing-to-train"}
            assert old is joined or counted.notes
            assert old is not divided or (counted.missing_reasoning and counted.left_out)


def noted() -> list[Json]:
    """Records with an answer that is kept as context, and with one that a template hides."""
    call = {"function": {"name": "look_up", "arguments": "{}"}, "id": "c", "type": "function"}
    found = []
    for at in range(6):
        asked: Json = {"role": "user", "content": f"{at}+2?"}
        hidden = {"role": "assistant", "content": "", "tool_calls": [call], "train": False}
        told = {"role": "tool", "content": f"{at + 2}", "tool_call_id": "c"}
        kept = {"role": "assistant", "content": f"{at}<|im_end|>"}
        bare, answer = ({"role": "assistant", "content": f"{at}{more}"} for more in ("", "."))
        found += [[asked, hidden, told, answer], [asked, kept, asked, answer], [asked, kept]]
        found += [[asked, kept, asked, bare, asked, hidden, told, answer]]
    return [{"id": str(at), "messages": each} for at, each in enumerate(found)]


@pytest.mark.parametrize("share", [":2.5", "#9"])
@pytest.mark.parametrize("max_length", [None, 40])
def test_what_rendered_views_tell_is_counted_for_a_share(
    share: str, max_length: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, the counts of a share would be wrong, which is refused."""
    message = "{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}"
    prompt = "{{ '<|im_start|>assistant\\n' if add_generation_prompt }}"
    options = replace(
        PLAIN,
        chat_template="{% for m in messages %}" + message + "{% endfor %}" + prompt,
        on_error="skip",
        on_message_error="context",
        max_length=max_length,
    )
    with chdir(tmp_path):
        write(noted())
        old = pack_files(["a.jsonl"], Path("old"), options)
        new = repack([Path(f"old{share}")], Path("new"), {})
        fresh = pack_files([f"a.jsonl{share}"], Path("fresh"), options)
        assert old.counts.notes.keys() >= {"hidden-answer", "kept stop-token"}
        assert bool(old.counts.left_out) == (max_length is not None)
        assert samples(Path("new"), new) == samples(Path("fresh"), fresh)
        assert replace(new.counts, rows=0) == replace(fresh.counts, rows=0)
        assert not verify_dataset(Path("new"), ["a.jsonl"]).total
        monkeypatch.setattr(records_again, "OF_VIEWS", ())
        with pytest.raises(FormatError, match="of notes, or of untrained answers, that its"):
            repack([Path(f"old{share}")], Path("other"), {})


@pytest.mark.parametrize(
    ("options", "directories", "said"),
    [
        ({"dedup": "exact"}, ["old", "old"], "^old: packed with --dedup exact, which chose among"),
        ({"sample": 4}, ["old", "old"], "^old: packed with --sample 4, which chose among"),
        ({"sample": 4}, ["old:2"], "^old: a share of a dataset with shares of inputs, or a sample"),
    ],
)
def test_what_rows_do_not_tell_is_not_chosen_by(
    options: Json, directories: list[str], said: str, tmp_path: Path
) -> None:
    with chdir(tmp_path):
        write(CHATS[:6])
        pack_files(["a.jsonl"], Path("old"), replace(PLAIN, **options), run=run())
        with pytest.raises(UsageError, match=said):
            repack(directories, Path("new"), {})


@pytest.mark.long
def test_other_splits_need_the_inputs(tmp_path: Path) -> None:
    with chdir(tmp_path):
        write(CHATS[:6])
        pack_files(["a.jsonl"], Path("old"), replace(PLAIN, split=("test=0.3",)), run=run())
        given_ = {"split": ("test=0.2",)}
        repack([Path("old")], Path("shuffled"), {"shuffle": True})
        with pytest.raises(UsageError, match="expected a dataset that is not shuffled"):
            repack([Path("shuffled")], Path("new"), given_)
        write(CHATS[:7])
        with pytest.raises(UsageError, match=r"^--split: a\.jsonl is missing, or was altered "):
            repack([Path("old")], Path("new"), given_)
        repack([Path("old")], Path("new"), {"split": ("test=0.3",)})
        twins = [{**chat, "id": "twin"} for chat in CHATS[:6]]
        write(twins)
        pack_files(["a.jsonl"], Path("twins"), PLAIN, run=run())
        with pytest.raises(FormatError, match="several conversations have the id 'twin'"):
            repack([Path("twins")], Path("new twins"), {"split": ("test=0.5",)})


@pytest.mark.long
def test_other_splits_are_those_of_packing_afresh(tmp_path: Path) -> None:
    """With copies, of packed rows, of calls, and with weights and splits before."""
    with chdir(tmp_path):
        write([*CHATS[:5], *({**chat, "weight": 0.5} for chat in CHATS[5:])])
        for old, name in (
            (replace(PLAIN, max_length=4_000, packing=True, split=("b=0.3",)), "a.jsonl:1.5"),
            (replace(PLAIN, layout="npass", dedup="exact", split=("b=0.7",)), "a.jsonl"),
        ):
            compare(old, {"split": ("a=0.4", "c=0.1")}, inputs=[name])
        write(agents(12, bad=False), "calls.jsonl")
        compare(PLAIN, {"split": ("a=0.4",)}, inputs=["calls.jsonl:2"])
