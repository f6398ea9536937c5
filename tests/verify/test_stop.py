"""The stop token, as `verify` finds it in the model's own files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packed_twice import TOKENIZER
from text_views import ASK, END, USER, rules, said, views
from tokenizers import AddedToken, Tokenizer

from reasonpack.templates.stop import Stop
from reasonpack.tokens.tokenizer import load_tokenizer
from reasonpack.verify.chat import NotChecked, Refused
from reasonpack.verify.stop import Stops, read_stops


def test_the_stop_is_the_first_listed_token_behind_the_answer() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>\n<|user|>{END}<|bot|>{{% endif %}}"
    listed = Stops(listed=("<|user|>", "<|end|>"), special=())
    made = views(rules(source, listed), ASK, said("Four."))
    assert [view.completion for view in made.views] == ["Four.<|end|>"]
    assert made.stops == {"files": 1}


def test_the_stop_that_only_the_next_message_shows() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}{END}<|bot|>{{% endif %}}"
    listed = Stops(listed=("<|user|>", "<|observation|>"), special=())
    made = views(rules(source, listed), ASK, said("Four."))
    assert (made.views[0].completion, made.stops) == ("Four.<|user|>", {"files, next role": 1})


def test_the_stop_that_no_file_lists() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>\n{END}<|bot|>{{% endif %}}"
    made = views(rules(source, Stops((), ("<|end|>", "<|bot|>"))), ASK, said("Four."))
    assert (made.views[0].completion, made.stops) == ("Four.<|end|>", {"rendering": 1})
    nothing = Stops((), ())
    made = views(
        rules(source, nothing, claimed=(Stop("<|end|>", "x"), Stop("", "x"))), ASK, said("Four.")
    )
    assert (made.views[0].completion, made.stops) == ("Four.<|end|>", {"manifest": 1})
    with pytest.raises(NotChecked, match="no stop token"):
        views(rules(source, nothing), ASK, said("Four."))


def test_several_tokens_behind_an_answer_are_no_stop_by_themselves() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|text|><|end|>{END}<|bot|>{{% endif %}}"
    rule = rules(
        source, Stops((), ("<|text|>", "<|end|>")), claimed=(Stop("<|end|>", "x"), Stop("", "x"))
    )
    assert (rule.ending, views(rule, ASK, said("Four.")).stops) == ("", {"manifest": 1})


def test_a_stop_inside_an_answer_is_refused() -> None:
    source = f"{USER}<|bot|>{{{{ m.content }}}}<|end|>{END}<|bot|>{{% endif %}}"
    with pytest.raises(Refused, match="stop token"):
        views(rules(source, Stops(("<|end|>",), ())), ASK, said("It ends <|end|> so."))


def test_stops_are_read_from_every_file_and_are_no_white_space(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    tokenizer.add_tokens([AddedToken("\n", special=False), AddedToken("<|a|>", special=True)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    ids = [tokenizer.token_to_id("\n"), tokenizer.token_to_id("<|a|>"), 10**6]
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    (tmp_path / "config.json").write_text("[")
    stops = read_stops(load_tokenizer(tmp_path))
    assert stops.listed == ("<|im_end|>", "<|a|>")
    assert "\n" not in stops.special
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert read_stops(load_tokenizer(tmp_path)).listed == ("<|a|>",)
