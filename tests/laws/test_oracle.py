"""The oracle against what a person worked out by hand."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from fixture_chats import CHAT, chats, source, texts, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    COPY_FAULTS,
    FAMILIES,
    FAULTS,
    UNTRAINED,
    PrefixError,
    View,
    check_row,
    check_samples,
    digest,
    expected_pairs,
    has_reasoning,
    paper_visibility,
    plain_chat,
    planted,
    switches,
    trained_messages,
    view_texts,
    views,
    visible,
)
from strategies import EDGES, THINK_LIKE, Reasoning, conversations

pytestmark = pytest.mark.long


def chat_views(name: str, chat: dict[str, Any], **more: Any) -> list[View]:
    family = FAMILIES[name]
    return views(
        chat["messages"],
        source(name),
        tokenizer(),
        tools=chat.get("tools"),
        stop=family.stop,
        reasoning_field=family.reasoning_field,
        **more,
    )


# --- views ---------------------------------------------------------------------------------------


def test_views_of_two_turns_by_hand() -> None:
    def ids(text: str) -> list[int]:
        return tokenizer().encode(text, add_special_tokens=False).ids

    chat = {"messages": [*CHAT[1:4], {"role": "assistant", "content": "A2"}]}
    assert chat_views("stripped", chat) == [
        (
            1,
            ids("<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n"),
            ids("<think>\nR1\n</think>\n\nA1<|im_end|>"),
        ),
        (
            3,
            ids(
                "<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
                "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
            ),
            ids("A2<|im_end|>"),
        ),
    ]


def test_prompt_and_completion_are_encoded_apart() -> None:
    chat = [{"role": "user", "content": "U"}, {"role": "assistant", "content": "\n\nA"}]
    [view] = chat_views("kept", {"messages": chat})
    text = "".join(texts("kept", chat, 1))
    whole = tokenizer().encode(text, add_special_tokens=False).ids
    assert view.prompt_ids + view.completion_ids != whole
    assert tokenizer().decode(view.completion_ids, skip_special_tokens=False) == "\n\nA<|im_end|>"


def test_untrained_messages_have_no_view() -> None:
    flagged = [*CHAT[:2], {**CHAT[2], "train": False}, *CHAT[3:]]
    assert [view.message for view in chat_views("stripped", {"messages": CHAT})] == [2, 4, 6]
    assert [view.message for view in chat_views("stripped", {"messages": flagged})] == [4, 6]
    last = chat_views("stripped", {"messages": CHAT}, train_on="last-turn")
    assert last == chat_views("stripped", {"messages": CHAT})[1:]
    assert trained_messages([{**m, "train": False} for m in CHAT]) == []


def test_flag_and_none_are_not_shown_to_the_template() -> None:
    shown = "{{ '!' if add_generation_prompt else '!' ~ (messages[1] | tojson) ~ '.' }}"
    answer = {"role": "assistant", "content": None, "train": True, "reasoning_content": "ü"}
    answer |= {"tool_calls": [1]}
    chat: list[dict[str, Any]] = [{"role": "user", "content": "U"}, answer]
    assert view_texts(chat, shown, 1, stop=".", reasoning_field="thought") == (
        "!",
        '{"role": "assistant", "tool_calls": [1], "thought": "ü"}.',
    )


def test_no_completion_holds_its_stop_inside() -> None:
    chat = [CHAT[1], {"role": "assistant", "content": "say <|im_end|> twice"}]
    with pytest.raises(PrefixError, match="inside, where no generation goes on"):
        texts("kept", chat, 1)


def test_switches_are_variables_not_fields() -> None:
    found = {name: switches(source(name)) for name in FAMILIES}
    assert {name: names for name, names in found.items() if names} == {
        "stripped": ("enable_thinking",),
        "empty_history": ("enable_thinking",),
        "headers": ("thinking",),
    }


def test_kwargs_of_the_caller_win_over_the_switch() -> None:
    prompt, completion = texts(
        "stripped",
        [CHAT[1], {"role": "assistant", "content": "A"}],
        1,
        kwargs={"enable_thinking": True},
    )
    assert prompt.endswith("assistant\n")
    assert completion == "<think>\n\n</think>\n\nA<|im_end|>"


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=10)
@given(data=st.data())
def test_tame_conversations_continue_their_prompts(name: str, data: st.DataObject) -> None:
    facts = FAMILIES[name]
    mode: Reasoning | None = None if facts.takes_bare_answers else "always"
    mode = mode if facts.shows_reasoning else "never"
    chat = data.draw(conversations(reasoning=mode))
    found = chat_views(name, chat)
    assert [view.message for view in found] == trained_messages(chat["messages"])
    assert all(view.completion_ids for view in found)


# --- pairs and rows ------------------------------------------------------------------------------

#: h₁ = 1 2, t₁ = 3 4, r_out₁ = 5 6, r_in₁ = 5, h₂ = 7, t₂ = 8, r_out₂ = 9
VIEWS = [View(1, [1, 2], [3, 4, 5, 6]), View(3, [1, 2, 5, 7], [8, 9])]
#               h₁    t₁    r_out₁ r_in₁ h₂ t₂ r_out₂
ROW = {
    "input_ids": [1, 2, 3, 4, 5, 6, 5, 7, 8, 9],
    "position_ids": [0, 1, 2, 3, 4, 5, 2, 3, 4, 5],
    "labels": [-100, -100, 3, 4, 5, 6, -100, -100, 8, 9],
    "segment_start": [0, 2, 4, 6, 7, 8, 9],
    "segment_visible_until": [10, 6, 6, 10, 10, 10, 10],
    "sample_start": [0],
}
PAIRS = [
    ([1, 2], 3),
    ([1, 2, 3], 4),
    ([1, 2, 3, 4], 5),
    ([1, 2, 3, 4, 5], 6),
    ([1, 2, 5, 7], 8),
    ([1, 2, 5, 7, 8], 9),
]


def counted(pairs: list[tuple[list[int], int]]) -> Counter[tuple[bytes, int]]:
    return Counter((digest(prefix), token) for prefix, token in pairs)


def packed(*rows: dict[str, list[int]]) -> dict[str, list[int]]:
    """Put rows one after the other, moving what counts from the start of the row."""
    whole: dict[str, list[int]] = {name: [] for name in ROW}
    for row in rows:
        offset = len(whole["input_ids"])
        for name, values in row.items():
            moved = name in ("segment_start", "segment_visible_until", "sample_start")
            whole[name] += [value + offset for value in values] if moved else values
    return whole


def changed(**columns: list[int]) -> dict[str, list[int]]:
    return {**ROW, **columns}


def test_two_turns_by_hand() -> None:
    assert expected_pairs(VIEWS) == counted(PAIRS)
    assert check_row(ROW) == counted(PAIRS)


def test_a_pair_of_two_views_counts_once() -> None:
    longer = [View(1, [1], [2, 3]), View(2, [1, 2], [3, 4])]
    assert expected_pairs(longer) == counted([([1], 2), ([1, 2], 3), ([1, 2, 3], 4)])


def test_visibility_by_hand() -> None:
    dots = [
        "x.........",
        "xx........",
        "xxx.......",
        "xxxx......",
        "xxxxx.....",
        "xxxxxx....",
        "xx....x...",
        "xx....xx..",
        "xx....xxx.",
        "xx....xxxx",
    ]
    assert visible(ROW).tolist() == [[mark == "x" for mark in line] for line in dots]


def test_packed_samples_are_counted_apart() -> None:
    row = packed(ROW, ROW)
    assert check_samples(row) == [counted(PAIRS), counted(PAIRS)]
    assert check_row(row) == counted(PAIRS * 2)


def test_a_trained_token_after_the_wrong_parent_is_caught() -> None:
    # The paper's order h t r_in r_out: 5 of r_out would be predicted by r_in, without reasoning.
    row = changed(
        input_ids=[1, 2, 3, 5, 5],
        position_ids=[0, 1, 2, 2, 3],
        labels=[-100, -100, 3, -100, 5],
        segment_start=[0, 2, 3, 4],
        segment_visible_until=[5, 3, 4, 5],
    )
    with pytest.raises(AssertionError, match=r"token 4 sees the positions \[0, 1, 3\]"):
        check_row(row)


#: token 3 sees 0 and 2 but not 1: no tree has such a branch
TWISTED = {
    "input_ids": [1, 2, 3, 4],
    "position_ids": [0, 1, 2, 1],
    "labels": [-100] * 4,
    "segment_start": [0, 1, 2, 3],
    "segment_visible_until": [4, 3, 4, 4],
    "sample_start": [0],
}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (changed(segment_visible_until=[10, 6, 6, 10, 10, 10]), "7 segment_start, 6 visible_until"),
        (changed(segment_start=[1, 2, 4, 6, 7, 8, 9]), "segment_start begins at 1"),
        (changed(sample_start=[0, 5]), "inside a segment"),
        (changed(labels=[-100]), "labels has 1 of 10"),
        (changed(segment_visible_until=[10, 6, 5, 10, 10, 10, 10]), "segment 2 ends at 6"),
        (changed(labels=[1, *ROW["labels"][1:]]), "token 0 is trained and has nothing before it"),
        (changed(labels=[*ROW["labels"][:6], 5, -100, 8, 9]), "token 6 is trained at position 2"),
        (changed(sample_start=[0, 6]), "token 6 of the sample 6:10 sees 0"),
        (changed(segment_visible_until=[10, 7, 6, 10, 10, 10, 10]), "token 6 sees the positions"),
        (changed(segment_visible_until=[9, 6, 6, 10, 10, 10, 10]), "token 9 sees the positions"),
        (changed(position_ids=list(range(10))), r"token 6 sees the positions \[0, 1, 6\]"),
        (changed(position_ids=[*range(5), 4, 2, 3, 4, 5]), "token 5 sees the positions"),
        (TWISTED, "token 3 is at position 1 and sees 3 tokens"),
        (changed(labels=[-100, *ROW["labels"][:-1]]), "token 3 is 4, its label 3"),
    ],
)
def test_a_broken_row_is_named(row: dict[str, list[int]], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_row(row)


def test_what_only_the_pairs_can_tell() -> None:
    """A row may be sound and still not be that of the views."""
    for row in (
        changed(labels=[-100, -100, 3, 4, 5, -100, -100, -100, 8, 9]),
        changed(input_ids=[1, 0, *ROW["input_ids"][2:]]),
    ):
        assert check_row(row) != counted(PAIRS)


def caught(row: dict[str, list[int]], expected: Counter[tuple[bytes, int]]) -> bool:
    try:
        return check_row(row) != expected
    except AssertionError:
        return True


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_caught_by_hand(fault: str) -> None:
    for row, pairs in ((ROW, PAIRS), (packed(ROW, ROW), PAIRS * 2)):
        before = json.dumps(row)
        broken = planted(row, fault)
        assert broken is not None
        assert caught(broken, counted(pairs))
        assert json.dumps(row) == before


def forest(found: list[View]) -> dict[str, list[int]]:
    """Lay views out as DESIGN §3 says, one segment a token: the slowest way that is right."""
    root: dict[Any, Any] = {}
    for _, prompt, completion in found:
        node = root
        for depth, token in enumerate(prompt + completion):
            node = node.setdefault(token, {})
            node["trained"] = node.get("trained", False) or depth >= len(prompt)
    row: dict[str, list[int]] = {name: [] for name in ROW}
    row["sample_start"] = [0]
    stack: list[tuple[int, int, Any]] = [(-1, -1, root)]
    while stack:  # by hand: Python's own stack is not deep enough for a view
        token, depth, below = stack.pop()
        if below is None:  # every token below `token` is written
            row["segment_visible_until"][token] = len(row["input_ids"])
            continue
        children = [(key, child) for key, child in below.items() if key != "trained"]
        trained = [(key, child) for key, child in children if child["trained"]]
        children = trained[:1] + [each for each in children if each not in trained]
        if depth >= 0:
            # Behind all that is below it, a copy of the token for each further trained child.
            stack += [
                (token, depth, {"trained": False, key: child}) for key, child in trained[:0:-1]
            ]
            stack.append((len(row["input_ids"]), depth, None))
            row["segment_start"].append(len(row["input_ids"]))
            row["segment_visible_until"].append(0)
            row["input_ids"].append(token)
            row["position_ids"].append(depth)
            row["labels"].append(token if below["trained"] else UNTRAINED)
        stack += [(key, depth + 1, child) for key, child in reversed(children)]
    return row


SIBLINGS = [
    View(1, [1, 2], [3, 4]),
    View(1, [1, 2], [3, 5]),
    View(1, [1, 2], [6]),
    View(3, [1, 2, 6, 7], [8]),
    View(3, [1, 2, 4], [9]),
]
COPIED: dict[str, list[int]] = {
    "input_ids": [1, 2, 3, 4, 3, 5, 4, 9, 2, 6, 7, 8],
    "position_ids": [0, 1, 2, 3, 2, 3, 2, 3, 1, 2, 3, 4],
    "labels": [-100, -100, 3, 4, -100, 5, -100, 9, -100, 6, -100, 8],
    "segment_start": list(range(12)),
    "segment_visible_until": [12, 8, 4, 4, 6, 6, 8, 8, 12, 12, 12, 12],
    "sample_start": [0],
}


def test_siblings_by_hand() -> None:
    """2 is followed by 3, 4 and 6, of which 3 and 6 are trained; 3 by 4 and 5, both trained."""
    assert forest(SIBLINGS) == COPIED
    assert check_row(COPIED) == expected_pairs(SIBLINGS)


@pytest.mark.parametrize("fault", [*FAULTS, *COPY_FAULTS])
def test_planted_faults_are_caught_beside_siblings(fault: str) -> None:
    broken = planted(COPIED, fault)
    assert broken is not None
    assert caught(broken, expected_pairs(SIBLINGS))


def test_forest_by_hand() -> None:
    row = forest(VIEWS)
    assert {name: row[name] for name in ("input_ids", "position_ids", "labels")} == {
        name: ROW[name] for name in ("input_ids", "position_ids", "labels")
    }
    assert np.array_equal(visible(row), visible(ROW))


@pytest.mark.parametrize("name", ["stripped", "thinking_prompt", "empty_history", "headers"])
@settings(max_examples=8)
@given(data=st.data())
def test_the_oracle_takes_right_rows_and_no_others(name: str, data: st.DataObject) -> None:
    facts = FAMILIES[name]
    mode: Reasoning | None = None if facts.takes_bare_answers else "always"
    mode = mode if facts.shows_reasoning else "never"
    found = chat_views(name, data.draw(conversations(reasoning=mode, max_messages=8)))
    if not found:
        return
    row, expected = forest(found), expected_pairs(found)
    assert check_row(row) == expected
    for fault in FAULTS:
        broken = planted(row, fault)
        assert broken is None or caught(broken, expected), fault


def test_faults_find_their_places() -> None:
    """On a real chat each fault can be planted, or the tests above would test nothing."""
    [record] = [record for record in chats() if record["id"] == "umbrella"]
    messages, tools = plain_chat(record)
    found = chat_views("stripped", {"messages": messages, "tools": tools})
    row, expected = forest(found), expected_pairs(found)
    assert check_row(row) == expected
    for fault in FAULTS:
        broken = planted(row, fault)
        assert broken is not None
        assert caught(broken, expected)


# --- the paper -----------------------------------------------------------------------------------


def test_paper_by_hand() -> None:
    paper = paper_visibility(h=[2, 1], t=[2, 1], r_out=[2, 1], r_in=[1, 1])
    # The row's order, and what the last turn would still need: r_in₂.
    h1, t1, out1, in1 = ("h", 1), ("t", 1), ("r_out", 1), ("r_in", 1)
    h2, t2, out2, in2 = ("h", 2), ("t", 2), ("r_out", 2), ("r_in", 2)
    keys = [(h1, 0), (h1, 1), (t1, 0), (t1, 1), (out1, 0), (out1, 1), (in1, 0), (h2, 0)]
    keys += [(t2, 0), (out2, 0)]
    sees = visible(ROW)
    for query, key in enumerate(keys):
        assert paper.visible[key] == {keys[k] for k in np.flatnonzero(sees[query])}
        assert paper.position[key] == ROW["position_ids"][query]
        assert (key in paper.trained) == (ROW["labels"][query] != UNTRAINED)
    assert paper.visible[in2, 0] == {(h1, 0), (h1, 1), (in1, 0), (h2, 0), (in2, 0)}
    assert paper.position[in2, 0] == 4
    assert set(paper.visible) == {*keys, (in2, 0)}


# --- the strategies ------------------------------------------------------------------------------


@settings(max_examples=30)
@given(chat=conversations())
def test_tame_conversations_are_tame(chat: dict[str, Any]) -> None:
    messages = chat["messages"]
    assert 1 <= len(messages) <= 30
    assert messages[0]["role"] in ("system", "user")
    for before, after in itertools.pairwise(messages):
        assert (before["role"], after["role"]) != ("assistant", "assistant")
        assert after["role"] != "tool" or before["role"] in ("assistant", "tool")
    for message in messages:
        written = message.get("content", "") + message.get("reasoning_content", "")
        assert not any(text in written for text in THINK_LIKE)
        assert None not in message.values()
        if "reasoning_content" in message and message["reasoning_content"].strip() == "":
            assert message["reasoning_content"] == ""


@pytest.mark.parametrize(
    ("mode", "wanted"), [("always", {True}), ("never", {False}), ("mixed", {True, False})]
)
def test_reasoning_everywhere_or_nowhere(mode: Any, wanted: set[bool]) -> None:
    met: set[bool] = set()

    @settings(max_examples=20, database=None, derandomize=True)
    @given(chat=conversations(reasoning=mode))
    def collect(chat: dict[str, Any]) -> None:
        met.update(has_reasoning(m) for m in chat["messages"] if m["role"] == "assistant")

    collect()
    assert met == wanted


def test_wild_conversations_are_wild() -> None:
    met: Counter[str] = Counter()

    # Enough of them, whatever else is loaded: what hypothesis draws depends on that.
    @settings(max_examples=400, database=None, derandomize=True)
    @given(chat=conversations(wild=True))
    def collect(chat: dict[str, Any]) -> None:
        messages = chat["messages"]
        met["one message"] += len(messages) == 1
        met["thirty messages"] += len(messages) == 30
        met["tools"] += "tools" in chat
        met["system"] += messages[0]["role"] == "system"
        for message in messages:
            content, reasoning = message.get("content"), message.get("reasoning_content")
            if message["role"] == "assistant":
                met["no content"] += content is None
                met["inline thinking"] += "</think>" in (content or "")
                met["no reasoning"] += reasoning is None
                met["blank reasoning"] += reasoning is not None and not reasoning.strip()
                met["think-like reasoning"] += "<think>" in (reasoning or "")
                met["parallel calls"] += len(message.get("tool_calls", [])) > 1
                met["untrained"] += message.get("train") is False
            met["stop in content"] += "<|im_end|>" in (content or "")
            met["empty content"] += content == ""
            for edge in set(EDGES) - {""}:
                met[f"begins with {edge!r}"] += (content or "").startswith(edge)
                met[f"ends with {edge!r}"] += (content or "").endswith(edge)

    collect()
    assert [what for what, count in met.items() if not count] == []
