"""Our views beside what transformers itself renders, in tokens.

    record ─┬→ parse_line → build_views → encode                 → prompt, completion ─┐
            └→ the template's dialect → apply_chat_template, twice → prompt, all of it  ─┴→ equal

The prompt has to be what the library gives for the messages before, with the generation prompt.
Where what it gives with the answer continues that prompt and shows the reasoning, the completion
has to be the beginning of the rest. Messages are written for the library by this file alone, and
the switches are those of the reviewed goldens.
"""

from __future__ import annotations

import ast
import datetime
import functools
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import assets
import jinja2
import oracle
import pytest
import tokenizers
from awkward import AWKWARD
from matrix import DATE, PLAIN, compiled, golden_path
from published import TEMPLATES, eos

from reasonpack.datasets.options import Options
from reasonpack.errors import RecordError
from reasonpack.records.conversation import Conversation, parse_line
from reasonpack.run.context import Context, load_context
from reasonpack.tokens.view_tokens import Cutter, Pieces
from reasonpack.views.view import View, build_views
from tests.changed import replace

pytestmark = [pytest.mark.network, pytest.mark.torch]

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
CHATS = FIXTURES / "chats.jsonl"
SHARED = ROOT.parent / "shared" / "data"

# --- how each template wants its messages -------------------------------------------------------

# Another field than reasoning_content for the reasoning.
FIELDS = {
    **dict.fromkeys(("trl/gptoss", "llama.cpp/openai-gpt-oss-120b"), "thinking"),
    **dict.fromkeys(("xinference/gpt-oss", "trl/lfm2_2_5"), "thinking"),
    **dict.fromkeys(("llama.cpp/LFM2.5-8B-A1B", "llama.cpp/Cohere2MoE"), "thinking"),
    "llama.cpp/upstage-Solar-Open-100B": "reasoning",
}
# Reasoning as part of the content, which the template passes through or takes apart.
WHOLE, OPENED = "<think>\n{}\n</think>\n\n", "{}\n</think>\n\n"
INLINE = {
    "llama.cpp/HuggingFaceTB-SmolLM3-3B": WHOLE,
    "llama.cpp/LFM2.5-Instruct": WHOLE,
    "llama.cpp/ibm-granite-granite-3.3-2B-Instruct": WHOLE,
    "vllm/tool_chat_template_hunyuan_a13b": WHOLE,
    "llama.cpp/Qwen-QwQ-32B": WHOLE,
    "llama.cpp/NVIDIA-Nemotron-Nano-v2": OPENED,
}
PARTS = {"llama.cpp/mistralai-Ministral-3-14B-Reasoning-2512"}
# Reasoning that no rendering shows: not handed over, as a server does not.
DROPPED = {
    *("trl/deepseekv3", "trl/deepseek_r1_distill", "llama.cpp/llama-cpp-deepseek-r1"),
    *("llama.cpp/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "llama.cpp/deepseek-ai-DeepSeek-V3.1"),
}
ARGUMENTS_AS_TEXT = {
    *("trl/deepseekv3", "llama.cpp/meetkai-functionary-medium-v3.2"),
    *("xinference/deepseek-prover-v2", "xinference/deepseek-r1-0528-qwen3"),
}
# A message that only calls has null for its content there, not an empty text. The library takes
# such keys out, and then these templates fail.
NULL_CONTENT = {
    *DROPPED,
    *("xinference/deepseek-prover-v2", "xinference/deepseek-r1-0528-qwen3"),
    *("xinference/deepseek-v2.5", "xinference/skywork-or1", "vllm/tool_chat_template_deepseekr1"),
    "xinference/deepseek-r1-0528",
}
# These change a list or an object, which the library's sandbox forbids.
CHANGING = {
    *("llama.cpp/Kimi-K2-Instruct", "llama.cpp/Kimi-K2-Thinking"),
    "vllm/tool_chat_template_hunyuan_a13b",
}
# Its last call, if reasoned, is shown as two messages; in the history it is one.
SPLITTING = {"llama.cpp/NVIDIA-Nemotron-Nano-v2"}


def dialect(message: Json, name: str) -> Json:
    """Write a message as the template reads it."""
    written = {key: value for key, value in message.items() if key != "train"}
    reasoning, content = written.pop("reasoning_content", None), written.get("content") or ""
    written["content"] = content
    if reasoning is not None and name in INLINE:
        written["content"] = INLINE[name].format(reasoning) + content
    elif reasoning is not None and name in PARTS:
        text = [{"type": "text", "text": content}] if content else []
        written["content"] = [{"type": "thinking", "thinking": reasoning}, *text]
    elif reasoning is not None and name not in DROPPED:
        written[FIELDS.get(name, "reasoning_content")] = reasoning
    if written.get("tool_calls") and not content and name in NULL_CONTENT:
        written["content"] = None
    if "tool_calls" in written and name in ARGUMENTS_AS_TEXT:
        written["tool_calls"] = [_with_text(call) for call in written["tool_calls"]]
    return written


def _with_text(call: Json) -> Json:
    arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": arguments}}


# --- the two sides -------------------------------------------------------------------------------


class Sides(NamedTuple):
    """A template with a tokenizer, for the package and for the library."""

    name: str
    context: Context
    library: Any


@pytest.fixture(scope="module", autouse=True)
def _on_the_day() -> Iterator[None]:
    """Let the library's templates see the day that ours see."""
    utils = pytest.importorskip("transformers.utils.chat_template_utils")

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Clock:
            return cls(DATE.year, DATE.month, DATE.day, tzinfo=tz)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "datetime", Clock)
        yield


def sides(name: str, folder: Path) -> Sides:
    """Load a template with the tokenizer in a folder."""
    import transformers

    path = folder / "tokenizer.json"
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    tokens = {key: _token(config.get(key)) for key in ("bos_token", "eos_token")}
    template = assets.template(name)
    library = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path),
        chat_template=template,
        **{key: token for key, token in tokens.items() if token},
    )
    options = Options(tokenizer=str(folder), chat_template=template, date=DATE.isoformat())
    return Sides(name, load_context(options), library)


def _token(said: Any) -> str | None:
    token: str | None = said["content"] if isinstance(said, dict) else said
    return token


def made_tokenizer(name: str, folder: Path) -> None:
    """Write the fixtures' tokenizer with the tokens of a template added."""
    tokenizer = tokenizers.Tokenizer.from_file(str(FIXTURES / "tokenizer" / "tokenizer.json"))
    tokenizer.add_tokens(
        [
            tokenizers.AddedToken(token, normalized=False, special=not PLAIN.fullmatch(token))
            for token in compiled(name)[1]
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    ids = [tokenizer.token_to_id(token) for token in eos(name)]
    listed = json.dumps({"eos_token_id": ids})
    (folder / "generation_config.json").write_text(listed, encoding="utf-8")


def ours(context: Context, view: View) -> tuple[list[int], list[int]]:
    """Give the prompt and the completion of a view in tokens."""
    pieces = Pieces(context.tokenizer.cut)
    cut = Cutter(pieces).add(view)
    pieces.encode(context.tokenizer.encode_batch)
    encoded = pieces.look_up([[cut]])
    tokens, prompt = encoded.tokens.tolist(), int(encoded.trained.argmax())
    return tokens[:prompt], tokens[prompt:]


def switches(name: str) -> dict[bool, Json]:
    """Read off the reviewed golden what is set for a message with reasoning, and without."""
    first = golden_path(name).read_text(encoding="utf-8").partition("\n")[0]
    found = re.fullmatch(r"with reasoning (\{.*\}), without (\{.*\})", first)
    assert found
    return {True: ast.literal_eval(found[1]), False: ast.literal_eval(found[2])}


# --- the comparison ------------------------------------------------------------------------------


def compare(both: Sides, records: Sequence[Json]) -> Counter[str]:
    """Compare every trained message of the records, and count what could be compared."""
    counts: Counter[str] = Counter()
    for record in records:
        try:
            conversation = parse_line(json.dumps(record).encode(), "record")
        except RecordError:
            counts["refused"] += 1
            continue
        chat, tools = oracle.plain_chat(record)
        assert len(chat) == len(conversation.messages)
        for index, message in enumerate(conversation.messages):
            if message.role == "assistant" and message.train:
                counts += compare_message(both, conversation, [*chat[: index + 1]], tools)
    return counts


def compare_message(
    both: Sides, conversation: Conversation, chat: Sequence[Json], tools: list[Json] | None
) -> Counter[str]:
    """Compare the view of the last message of a chat."""
    *before, last = conversation.messages[: len(chat)]
    alone = (*(replace(message, train=False) for message in before), last)
    one = replace(conversation, messages=alone)
    try:
        (view,) = build_views(one, both.context.rendering(one))
    except RecordError:
        return Counter(refused=1)
    prompt, completion = ours(both.context, view)
    written = [dialect(message, both.name) for message in chat]
    settings = {
        "tools": tools,
        "tokenize": True,
        "return_dict": False,
        **switches(both.name)[bool(last.reasoning)],
    }
    render = both.library.apply_chat_template
    try:
        theirs = render(written[:-1], add_generation_prompt=True, **settings)
        whole = render(written, **settings)
    except jinja2.TemplateError:
        assert both.name in CHANGING | NULL_CONTENT
        return Counter(unrendered=1)
    assert prompt == theirs
    rest = whole[len(prompt) :]
    shown = last.reasoning is None or last.reasoning.strip() in both.library.decode(rest)
    split = both.name in SPLITTING and last.tool_calls
    cut_off = not last.content and not last.tool_calls  # the library shows it as if it had ended
    if whole[: len(prompt)] != prompt or not shown or split or cut_off:
        return Counter(prompts=1)
    # Where the template does not write the stop, the rest ends without it.
    assert completion in (rest[: len(completion)], [*rest, completion[-1]])
    return Counter(prompts=1, completions=1)


def records(*paths: Path, every: int) -> list[Json]:
    """Read every so-manieth record of some files."""
    lines = [line for path in paths for line in path.read_text("utf-8").split("\n") if line]
    return [json.loads(line) for line in lines[::every]]


def without_reasoning(record: Json) -> Json:
    """Take the reasoning out of a record, for a template that has no place for it."""
    chat, tools = oracle.plain_chat(record)
    bare = [{key: each[key] for key in each if key != "reasoning_content"} for each in chat]
    return {"messages": bare, **({"tools": tools} if tools else {})}


def _golden(name: str) -> str:
    return golden_path(name).read_text(encoding="utf-8")


READ = [name for name in TEMPLATES if "\nwrites: " in _golden(name)]
REASONING = [name for name in READ if "no place for reasoning" not in _golden(name)]
BOUNDED = sorted({*REASONING, *READ[::5]})
EVERY = 3


def compare_all(name: str, chosen: Sequence[Json]) -> Counter[str]:
    """Compare a template on some records, with the fixtures' tokenizer."""
    if name not in REASONING:
        chosen = [without_reasoning(record) for record in chosen]
    if name in INLINE:  # reasoning that the record has in its content is another test's
        chosen = [record for record in chosen if "<think>" not in json.dumps(record)]
    with tempfile.TemporaryDirectory() as folder:
        made_tokenizer(name, Path(folder))
        return compare(sides(name, Path(folder)), chosen)


@functools.cache
def compared(name: str) -> Counter[str]:
    """Compare a template on awkward chats and a part of the fixtures."""
    return compare_all(name, [*AWKWARD.values(), *records(CHATS, every=EVERY)])


@pytest.mark.parametrize("name", BOUNDED)
def test_views_are_what_the_library_renders(name: str) -> None:
    assert compared(name)["prompts"] >= 15


def test_enough_could_be_compared() -> None:
    found = {name: compared(name) for name in BOUNDED}
    total = sum(found.values(), Counter())
    assert len(found) >= 80
    assert total["prompts"] >= 3000, total
    # What the library renders with an answer may rewrite the history, or drop the reasoning.
    assert total["completions"] >= 2650, total
    assert {name for name, counts in found.items() if not counts["completions"]} <= DROPPED


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_more_views_of_every_template(name: str) -> None:
    # Reasoning that a record has in its content is trained as it is: another test's.
    chosen = [each for each in records(CHATS, every=1) if "<think>" not in json.dumps(each)]
    if SHARED.is_dir():
        chosen += records(*sorted(SHARED.glob("*.jsonl")), every=6)
    assert compare_all(name, chosen)["prompts"] >= 30


@pytest.mark.parametrize(
    ("tokenizer", "name"),
    [
        ("qwen3", "xinference/Qwen3-Next-Thinking"),
        ("llama3_1", "llama.cpp/meta-llama-Llama-3.1-8B-Instruct"),
        ("gptoss", "llama.cpp/openai-gpt-oss-120b"),
        ("gemma3", "trl/gemma3"),
        ("deepseek_v3", "llama.cpp/deepseek-ai-DeepSeek-V3.1"),
    ],
)
def test_real_tokenizers(tokenizer: str, name: str) -> None:
    chosen = records(CHATS, every=EVERY)
    if name not in REASONING:
        chosen = [without_reasoning(record) for record in chosen]
    counts = compare(sides(name, assets.tokenizer_dir(tokenizer)), chosen)
    assert counts["prompts"] >= 10
    assert counts["completions"] >= 3
