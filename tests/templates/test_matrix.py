"""Every shape of message under every real template: the view that a person reviewed, or a refusal.

The goldens hold texts of the probes only. `regenerate.py` writes them; what it changes has to be
read against what the model does. The stops are compared with a table of their own, which was
written from the models' files and not from what the package finds.
"""

from __future__ import annotations

import functools
import re

import assets
import pytest
from matrix import DATE, GOLDEN, PLAIN, SHAPES, compiled, golden, golden_path, learned
from published import CALL_STOPS, LISTED_OTHERWISE, STOPS, TEMPLATES, eos

from reasonpack.errors import TemplateError
from reasonpack.templates.behaviour import Behaviour
from reasonpack.templates.learn.learn import learn
from reasonpack.templates.template import ChatTemplate
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer

pytestmark = pytest.mark.network


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_gives_the_reviewed_views(name: str) -> None:
    assert golden(name) == golden_path(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TEMPLATES)
def test_messages_end_where_the_model_stops(name: str) -> None:
    try:
        _, behaviour = learned(name)
    except TemplateError:
        refused = golden_path(name).read_text(encoding="utf-8").startswith("refused: ")
        assert refused, "a template that was read before is refused"
        return
    check_stops(name, behaviour)


def check_stops(name: str, behaviour: Behaviour) -> None:
    assert behaviour.answer_stop.token.strip() == STOPS[name]
    # A template that shows no calls has no end of them.
    assert behaviour.call_stop.token.strip() in {CALL_STOPS.get(name, STOPS[name]), ""}


def test_the_reviewed_stops_are_the_published_ones() -> None:
    """The list of models names a template's stops; where the review departs, it says why."""
    listed = {name: assets.published_stops(name) for name in TEMPLATES}
    departs = {name for name, stops in listed.items() if stops and STOPS[name] not in stops}
    assert departs == set(LISTED_OTHERWISE)
    assert sum(map(bool, listed.values())) >= 50


def test_each_golden_is_tested() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        golden_path(name).name for name in TEMPLATES
    }
    assert len(TEMPLATES) >= 110
    assert len(SHAPES) == 16


def test_most_templates_are_read() -> None:
    read = [path for path in GOLDEN.iterdir() if "\nwrites: " in path.read_text("utf-8")]
    assert len(read) >= 135


# Real tokenizers, the templates that are theirs or their family's, and how many these are.
FITTING = {
    "qwen3": (r"(?i)/[^/]*((?<!distill-)(?<!0528-)qwen|qwq|Baichuan-M2|MiMo)", 20),
    "llama3_1": (r"(?i)/[^/]*llama-?_?3(?!.*(tool_use|firefunction))", 3),
    "gptoss": (r"(?i)gpt-?oss", 3),
    "gemma3": (r"/gemma3?$|gemma3_pythonic|functiongemma", 4),
    "deepseek_v3": (r"DeepSeek-V3\.1|deepseek-r1-0528$|prover|cpp-deepseek-r1", 4),
    "deepseek_v4": (r"DeepSeek-V(3\.2|4)", 3),
}


@functools.cache
def real(known: str) -> Tokenizer:
    return load_tokenizer(assets.tokenizer_dir(known))


def learned_with(name: str, tokenizer: Tokenizer, *more: str) -> Behaviour:
    """Learn a template with a real tokenizer, and further special tokens."""
    template = ChatTemplate.compile(
        assets.template(name), name=name, special_tokens=tokenizer.special_tokens, date=DATE
    )
    added = [*tokenizer.added_tokens, *more]
    return learn(template, added, special=tokenizer.special | {*more}, eos=tokenizer.eos)


@pytest.mark.parametrize("known", FITTING)
def test_real_tokenizers_have_the_same_stops(known: str) -> None:
    tokenizer = real(known)
    pattern, least = FITTING[known]
    names = [name for name in TEMPLATES if re.search(pattern, name)]
    for name in names:
        check_stops(name, learned_with(name, tokenizer))
    assert len(names) >= least


def test_white_space_is_no_stop_beside_62_tokens_of_it() -> None:
    tokenizer = real("gemma3")
    blank = [token for token in tokenizer.added_tokens if not token.strip()]
    assert len(blank) == 62
    for name in ("trl/gemma4", "trl/gemma4_v5", "llama.cpp/google-gemma-4-31B-it"):
        own = [token for token in compiled(name)[1] if not PLAIN.fullmatch(token)]
        for special in ([], blank):
            check_stops(name, learned_with(name, tokenizer, *own, *eos(name), *special))
        behaviour = learned_with(name, tokenizer, *own, *eos(name))
        assert behaviour.closer == "\n<channel|>"
        with pytest.raises(TemplateError, match="follows an answer, expected"):
            learned_with(name, tokenizer)
