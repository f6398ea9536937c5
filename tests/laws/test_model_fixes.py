"""Every refusal of a tokenizer or a chat template says what to do, and doing it makes it go away.

To add one: its damage, words of the error, and its fix, done.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from fixing import (
    Arguments,
    Mend,
    Pack,
    Row,
    Seen,
    also,
    check,
    instead,
    noted,
    unseen,
    unwalked,
    write,
)
from runs import FIXTURES

from reasonpack.templates import limits

MODEL = {path.name: path.read_bytes() for path in (FIXTURES / "tokenizer").iterdir()}
IN_FOLDER = {f"model/{name}": data for name, data in MODEL.items()}
WITHOUT = {name: data for name, data in IN_FOLDER.items() if "template" not in name}
TOKENIZER = json.loads(MODEL["tokenizer.json"])
CONFIG = json.loads(MODEL["tokenizer_config.json"])
PACK = ["a.jsonl", "--tokenizer", "model"]
ASK, ANSWER = {"role": "user", "content": "A?"}, {"role": "assistant", "content": "B"}
CHAT = {"messages": [ASK, ANSWER]}
CHATS = {"a.jsonl": json.dumps(CHAT).encode()}
BEGIN, MESSAGE = "{% for m in messages %}", "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
THOUGHT = "{% if m.reasoning %}<think>{{ m.reasoning }}</think>{% endif %}"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
OPENING = PROMPT.replace("assistant\n", "assistant\n<judge>\n")
PLAIN = BEGIN + MESSAGE + "{% endfor %}" + PROMPT


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def model(words: str, *, status: int = 1, mend: Mend | None = None, **files: bytes | None) -> Row:
    """Give the row of a model's directory with some files replaced, or left out."""
    named = {name.replace("__", "."): data for name, data in files.items()}
    kept = {name: data for name, data in {**MODEL, **named}.items() if data is not None}
    again = [(f"model/{name}", MODEL.get(name)) for name in named]

    def restore(given: Arguments, error: str) -> Arguments:
        for name, data in again:
            Path(name).unlink(missing_ok=True)
            if data is not None:
                Path(name).write_bytes(data)
        return given

    in_folder = {f"model/{name}": data for name, data in kept.items()}
    return Row({**CHATS, **in_folder}, PACK, words, mend or restore, status)


def template(source: str | bytes, words: str, mend: Mend | None = None, *more: str) -> Row:
    """Give the row of a template; the usual fix is that of the model."""
    data = source.encode() if isinstance(source, str) else source
    files = {**CHATS, **IN_FOLDER, "t.jinja": data}
    return Row(files, [*PACK, "--chat-template", "t.jinja", *more], words, mend or instead(*PACK))


def behaviour(value: Any, words: str, right: Any) -> Row:
    files = {**CHATS, **IN_FOLDER}
    files["b.json"] = as_json(value)
    mend = write("b.json", as_json(right))
    return Row(files, [*PACK, "--template-behaviour", "b.json"], words, mend)


def normalizer(**fields: Any) -> bytes:
    return as_json({**TOKENIZER, "normalizer": fields})


def tokenizer(**fields: Any) -> bytes:
    return as_json({**TOKENIZER, "model": {**TOKENIZER["model"], **fields}})


def config(**fields: Any) -> bytes:
    return as_json({**CONFIG, **fields})


ANEW = "Fix: fetch or write the file anew"
PUBLISHED = "Fix: use the template and the tokenizer that the model was published with"
ROWS: Mapping[str, Row] = {
    # --- a tokenizer ---
    "no such directory": Row(
        {**CHATS, **IN_FOLDER},
        ["a.jsonl", "--tokenizer", "./modle"], "does not exist.*Fix: check the path",
        instead(*PACK),
    ),
    "a path too long": Row(
        {**CHATS, **IN_FOLDER},
        ["a.jsonl", "--tokenizer", "./" + "a" * 5000], "cannot be read.*Fix: check the path",
        instead(*PACK),
    ),
    "a revision of a directory": Row(
        {**CHATS, **IN_FOLDER},
        [*PACK, "--revision", "v2"], "no revision 'v2'.*Fix: leave the revision out",
        instead(*PACK), 2,
    ),
    "no tokenizer.json": model("holds no tokenizer.json.*Fix: write one", tokenizer__json=None),
    "a Git LFS pointer": model("Fix: run git lfs pull", tokenizer__json=b"version https://git-lfs"),
    "no JSON": model(f"is not JSON.*{ANEW}", tokenizer__json=b"{"),
    "another JSON": model("is no tokenizer.json.*Fix: check the path", tokenizer__json=b"[]"),
    "another model": model(
        "`tokenizers` refuses.*Fix: see that the tokenizer is whole",
        tokenizer__json=b'{"model": {"type": "X"}}',
    ),
    "dropout": model(
        "ids are random, expected null. Fix: set it to null",
        tokenizer__json=tokenizer(dropout=0.1),
        mend=write("model/tokenizer.json", tokenizer(dropout=None)),
    ),
    "a normalizer that writes much": model(
        "makes a text .* times as long.*Fix: use the file that",
        tokenizer__json=normalizer(type="Prepend", prepend="x" * 1_000_000),
    ),
    "a charsmap that is cut off": model(
        "charsmap ends before.*Fix: use the file that",
        tokenizer__json=normalizer(type="Precompiled", precompiled_charsmap="/////w=="),
    ),
    "a configuration that is no JSON": model(ANEW, tokenizer_config__json=b"{"),
    "a configuration that is a list": model(ANEW, tokenizer_config__json=b"[]"),
    "a token that is a number": model(
        "eos_token: is a int.*Fix: write the token's text",
        tokenizer_config__json=config(eos_token=7),
    ),
    "half a character as a token": model(
        "expected Unicode text. Fix: remove the lone surrogate",
        tokenizer_config__json=config(eos_token="\ud800"),
    ),
    "an eos that is text": model(
        "eos_token_id.*Fix: write the id",
        generation_config__json=b'{"eos_token_id": "<|im_end|>"}',
        mend=write("model/generation_config.json", b'{"eos_token_id": 1}'),
    ),
    "a model's configuration that is a list": model(
        "config.json: is a list, expected a JSON object.*Fix: fetch", config__json=b"[]"
    ),
    "layers that carry state along a row": model(
        "config.json: .*expected attention layers only.*Fix: pass --layout npass",
        status=2, config__json=b'{"model_type": "mamba"}', mend=also("--layout", "npass"),
    ),
    # --- a template ---
    "no template": model(
        "no chat template, expected one. Fix: pass --chat-template",
        status=2, chat_template__jinja=None, mend=also("--chat-template", PLAIN),
    ),
    "no template for calls": Row(
        {**WITHOUT, "a.jsonl": as_json({"messages": [ASK], "response": "B"})}, PACK,
        "no chat template for them.*Fix: pass --chat-template", also("--chat-template", PLAIN),
    ),
    "a template without a name": model(
        "an entry without name and template.*Fix: pass --chat-template",
        chat_template__jinja=None, tokenizer_config__json=config(chat_template=[{"name": "a"}]),
        mend=also("--chat-template", PLAIN),
    ),
    "no template in its file": model(
        "no text under chat_template.*Fix: pass --chat-template",
        chat_template__json=b"[]", mend=also("--chat-template", PLAIN),
    ),
    "a template that is not UTF-8": template(b"\xff", "UTF-8 file. Fix: check the file"),
    "a file that is much too large": template(b"x" * (17 << 20), "Fix: pass a chat template"),
    "a template that is too large": template("x" * ((4 << 20) + 1), "Fix: pass a chat template"),
    "bad syntax": template(
        "a\n{% if %}", "line 2: Expected an expression.*Fix: correct the template",
        write("t.jinja", PLAIN.encode()),
    ),
    "parentheses": template("{{ " + "(" * 5000 + ")" * 5000 + " }}", "Fix: use the template that"),
    "a template that is greedy": template("{{ 'x' * 99999999 }}", "Fix: do not use this template"),
    "a template that reads the clock": template(
        "{{ strftime_now('%Y') }}" + PLAIN, "Fix: pass --date", also("--date", "2026-01-02")
    ),
    "a template that draws": template("{{ [1, 2] | random }}", "Fix: use the template that"),
    "an address": template(PLAIN + "{{ raise_exception }}", f"an address.*{PUBLISHED}"),
    "a template that refuses": template(
        "{{ raise_exception('no') }}", r"expected a chat template \(.*no\).*--chat-template",
        write("t.jinja", PLAIN.encode()),
    ),
    "a message left out": template(
        BEGIN + "{% if m.role != 'user' %}" + MESSAGE + "{% endif %}{% endfor %}" + PROMPT,
        f"leaves out message 1.*{PUBLISHED}",
    ),
    "messages in another order": template(
        PLAIN.replace("in messages", "in messages | reverse"), f"in another order.*{PUBLISHED}"
    ),
    "a history that changes": template("{{ messages | length }}" + PLAIN, f"text. {PUBLISHED}"),
    "a prompt that nobody asked for": template(
        PLAIN.replace(PROMPT, "<|im_start|>assistant\n"), f"none is asked for.*{PUBLISHED}"
    ),
    "a prompt of another role": template(
        PLAIN.replace(PROMPT, PROMPT.replace("assistant", "bot")), f"the generation.*{PUBLISHED}"
    ),
    "no stop": template(
        BEGIN + "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}"
        "assistant: {% endif %}",
        "Fix: check that template and tokenizer belong to the same model",
    ),
    "an eos that is no token": model(
        r"'<\|lost\|>' follows an answer.*Fix: check that template and tokenizer belong",
        tokenizer_config__json=config(eos_token="<|lost|>"),
        chat_template__jinja=PLAIN.replace("<|im_end|>", "<|lost|>").encode(),
    ),
    "two stops": template(
        PLAIN.replace("<|im_end|>", "{{ '<|eot|><|body|>' if m.role == 'assistant' }}"),
        r"'<\|eot\|>' and '<\|body\|>' follow an answer.*name the stop token with --template-beh",
        lambda given, error: [
            *given, *write("b.json", b'{"answer_stop": {"token": "<|eot|>"}}',
                           "--template-behaviour", "b.json")([], error)],
    ),
    # --- what the user states of it ---
    "a stop that is no token": behaviour(
        {"answer_stop": {"token": "<|end|>"}}, "no added token.*Fix: write the token as",
        {"answer_stop": {"token": "<|im_end|>"}},
    ),
    "an opener that the prompt writes": Row(
        {
            **IN_FOLDER,
            "a.jsonl": as_json({"messages": [ASK, {**ANSWER, "reasoning_content": "C"}]}),
            "t.jinja": PLAIN.replace(PROMPT, OPENING).encode(),
            "b.json": as_json({"opener": "<judge>\n", "closer": "</judge>\n"}),
        },
        [*PACK, "--chat-template", "t.jinja", "--template-behaviour", "b.json"],
        "the generation prompt writes already.*Fix: remove it from the opener",
        write("b.json", as_json({"opener": "", "closer": "</judge>\n"})),
    ),
    "forms that the template does not read": Row(
        {
            **CHATS, **IN_FOLDER,
            "t.jinja": PLAIN.replace("{{ m.content }}", THOUGHT + "{{ m.content }}").encode(),
            "b.json": as_json({"forms": {"reasoning_fields": ["thinking"]}}),
        },
        [*PACK, "--chat-template", "t.jinja", "--template-behaviour", "b.json"],
        "shows no reasoning in them.*Fix: leave forms out", write("b.json", b"{}"),
    ),
    "a misspelt field": behaviour(
        {"answer_stopp": {}}, "answer_stopp: unknown.*Fix: check the spelling", {"answer_stop": {}}
    ),
    "a field of another type": behaviour(
        {"opener": 3}, "expected str. Fix: write it as", {"opener": "<think>\n"}
    ),
}  # fmt: skip

ENDLESS = "{% for a in range(9999) %}{% for b in range(9999) %}" + 2 * "{% endfor %}"
GREEDY = (
    "{% set ns = namespace(text='0123456789' * 100000) %}"
    "{% for _ in range(40) %}{% set ns.text = ns.text ~ ns.text %}{% endfor %}"
)
BOUNDS = {
    "time": ("SECONDS", 0.3, ENDLESS),
    "time together": ("SECONDS_TOGETHER", 0.3, ENDLESS),
    "memory": ("HEADROOM", 256 << 20, GREEDY),
}
"""Bounds of the sandbox, made small, and a template that is beyond them."""

FOLDERS = ("templates", "tokens", "rows")
NOT_HERE = {
    "token_text": "ids that no dataset holds",
    "_download": "needs a hub",
    "_read": "a file that cannot be read, is a pipe, or too large for the tests",
    "check_repeatable": "no template is known that differs the second time",
}
"""Functions whose refusals other tests see."""
walked: set[str] = set()


@pytest.fixture(scope="module", autouse=True)
def seen() -> Iterator[Seen]:
    with noted() as found:
        yield found


@pytest.mark.parametrize("name", ROWS)
def test_what_the_fix_says_helps(name: str, pack_here: Pack) -> None:
    check(ROWS[name], pack_here)
    walked.add(name)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_template_beyond_its_bounds(
    bound: str, pack_here: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, value, source = BOUNDS[bound]
    usual = getattr(limits, name)
    monkeypatch.setattr(limits, name, value)

    def another(given: Arguments, error: str) -> Arguments:
        monkeypatch.setattr(limits, name, usual)
        return PACK

    row = template(source, "Fix: do not use this template, or mend the loop in it", another)
    check(row, pack_here)
    walked.add(bound)


def test_every_refusal_is_walked(seen: Seen) -> None:
    if walked != {*ROWS, *BOUNDS}:
        pytest.skip("not all of the tests above ran")
    kinds = {"TemplateError", "TokenizerError"}
    assert not [each for folder in FOLDERS for each in unseen(folder, kinds, seen, but=NOT_HERE)]
    assert not unwalked("test_model_fixes", seen)
