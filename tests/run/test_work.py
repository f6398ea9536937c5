"""What a unit keeps while it is laid out."""

from __future__ import annotations

import gc
import weakref

import pytest
from runs import FIXTURES, chats

from reasonpack.datasets.options import Options
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
