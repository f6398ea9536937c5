"""Messages in a prompt: only what is sure to be of one is held against a dataset."""

from __future__ import annotations

import numpy as np
from packed_twice import TOKENIZER

from reasonpack.tokens.tokenizer import load_tokenizer
from reasonpack.verify.against import _kinds
from reasonpack.verify.chat import Message
from reasonpack.verify.encoding import TokenView, encode_text
from reasonpack.verify.history import find_messages
from reasonpack.verify.join import TRAINED, Kinds
from reasonpack.verify.rebuilt import expected_of
from reasonpack.verify.row import Row

ASK, ANSWER = "What are two and two together?", "They are four, however they are counted."
CHAT = [Message("user", ASK), Message("assistant", ANSWER, source=1)]
PROMPT = f"<u>{ASK}<a>{ANSWER}<u>And?<a>"


def test_texts_that_stand_once_and_in_order_are_found() -> None:
    found = find_messages(PROMPT, CHAT)
    assert [(message, kind, PROMPT[start:stop]) for message, kind, start, stop in found] == [
        (0, 0, ASK),
        (1, 2, ANSWER),
    ]
    assert find_messages(PROMPT + ASK, CHAT) == found[1:]
    again = Message("user", ASK + "\n", source=2)
    assert find_messages(PROMPT, [*CHAT, again]) == found[1:]  # the template may drop either
    twice = Message("user", "<u>And so?<u>And so?")
    assert find_messages(f"<u>And so?{twice.content}", [twice]) == ()  # also in the header
    assert find_messages(PROMPT.replace(ASK, "Go."), CHAT) == ()
    assert find_messages(f"<a>{ANSWER}<u>{ASK}", CHAT) == ((0, 0, *place(f"<a>{ANSWER}<u>")),)
    assert find_messages("<u>Go on.<a>", [Message("user", "Go on.")]) == ()


def place(before: str) -> tuple[int, int]:
    return len(before), len(before) + len(ASK)


def test_tokens_within_a_text_are_counted_once_unless_a_view_writes_them() -> None:
    encoding = encode_text(PROMPT, load_tokenizer(TOKENIZER))
    stretches = encoding.within(find_messages(PROMPT, CHAT))
    (_, _, start, stop), _ = stretches
    text = PROMPT[encoding.begins[start] : encoding.ends[stop - 1]]
    assert text in ASK
    assert len(text) > len(ASK) - 12
    ids = np.array([*encoding.ids, 5], np.int32)
    view = TokenView(2, ids, np.ones(1, bool), history=stretches)
    counted = contexts(view, view)
    assert counted == {
        ("", message, kind): stop - start for message, kind, start, stop in stretches
    }
    assert contexts(view, TokenView(0, ids[:stop], np.ones(stop - 1, bool))) == {
        ("", 1, 2): counted["", 1, 2]
    }


def test_numbers_of_messages_that_cannot_be_take_no_memory() -> None:
    ints = {
        "input_ids": [5, 6],
        "position_ids": [0, 1],
        "labels": [-100, 6],
        "sample_start": [0],
        "segment_start": [0, 1],
        "segment_visible_until": [2, 2],
        "segment_kind": [0, 3],
        "segment_message": [10**6, 1],
    }
    row = Row(length=2, sample_id=["a"], **{name: np.array(ints[name]) for name in ints})
    assert _kinds(row) == [{("", 10**6, 0): 1, ("", 1, 3): 1, ("", 1, TRAINED): 1}]


def contexts(*views: TokenView) -> Kinds:
    kinds = expected_of(views, "", "", weighs=False, divided=False).kinds
    return Kinds({place: kinds[place] for place in kinds if place[2] in (0, 2) and kinds[place]})
