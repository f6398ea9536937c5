"""What a unit keeps while it is laid out, and which of its errors stops it."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator

import pytest
from runs import FIXTURES, chats

from reasonpack.datasets.options import Options
from reasonpack.errors import ReasonpackError, StorageError
from reasonpack.records.unit import Record
from reasonpack.run.context import load_context
from reasonpack.run.conversations import Chats


@pytest.mark.parametrize("bad", [b"{}", b'{"messages": [', b"\xff"])
def test_a_rejected_record_does_not_keep_the_samples_of_its_unit(bad: bytes) -> None:
    options = Options(tokenizer=str(FIXTURES / "tokenizer"), on_error="skip")
    lines = [chats(1, bad=False).strip(), bad]
    gc.collect()
    gc.disable()  # what is searched for seldom has to be freed without it
    try:
        records = [Record(f"a:{number}", line) for number, line in enumerate(lines)]
        laid = Chats(options, load_context(options)).lay_out(records)
        assert (len(laid.samples), len(laid.rejects)) == (1, 1)
        ids = weakref.ref(laid.samples[0].input_ids)
        del laid
        assert ids() is None
    finally:
        gc.enable()


def with_answer(text: str) -> bytes:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
    return json.dumps({"messages": messages}).encode()


def test_the_error_of_the_first_record_stops_the_unit() -> None:
    """Several records are read before the first is rendered, perhaps up to one that has no end."""

    def records(*lines: bytes) -> Iterator[Record]:
        yield from (Record(f"a:{number}", line) for number, line in enumerate(lines))
        raise StorageError("a", "it ends too early", "all of it", "copy it again")

    options = Options(tokenizer=str(FIXTURES / "tokenizer"))
    context = load_context(options)
    stops_inside = with_answer(f"Well,{context.without_tools.behaviour.answer_stop.token} and so")
    for lines, first in (
        ([with_answer("Hello"), stops_inside, b"{}"], r"^a:1: messages\[1\]: .* stands in"),
        ([with_answer("Hello"), b"{}", stops_inside], r"^a:1: no messages"),
        ([with_answer("Hello")] * 65, "^a: it ends too early"),
    ):
        with pytest.raises(ReasonpackError, match=first):
            Chats(options, context).lay_out(records(*lines))
