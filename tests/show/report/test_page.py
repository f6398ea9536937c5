"""The page in a browser: it shows what the rows are, by pointer and by keyboard, at any size.

Needs a Chromium (`apt-get install chromium`); skipped where there is none. With
`REASONPACK_WRITE_PICTURES=1` the pictures beside this file are taken anew; look at them.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
from chromium import Page
from click.testing import CliRunner
from runs import FIXTURES, OPTIONS, SKIPPING, WORDS
from two_turns import _manifest, row_of_vector

from reasonpack.cli import cli
from reasonpack.datasets.manifest import read_manifest
from reasonpack.datasets.options import Options
from reasonpack.masks.dense import visible
from reasonpack.run.pack import pack_files
from reasonpack.show.report.report import page
from reasonpack.show.row import RowData, read_rows
from reasonpack.tokens.tokenizer import load_tokenizer
from tests.changed import replace

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium.FOUND is None, reason="no Chromium here"),
]
MOST_NODES = 3_000
PROBE = (Path(__file__).parent / "probe.js").read_text("utf-8")
EVIL = (
    "</script x "
    "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 2'>\u2028\u2029"
    "<!-- ${window.hit = 3} \u202e\u200b\u05d0\x01\x1b[31m\tTab\r\n\n  👩‍👩‍👧 e\u0301 日本語 \ufeff"
    "<svg onload=hit()>"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium.chromium() as tab:
        yield tab


def written(folder: Path, source: Path, options: Options) -> tuple[Path, Path]:
    """Pack a file and write the report of it; return dataset and page."""
    pack_files([str(source)], folder / "packed", options)
    result = CliRunner().invoke(
        cli, ["report", str(folder / "packed"), "-o", str(folder / "page.html")]
    )
    assert result.exit_code == 0, result.output
    return folder / "packed", folder / "page.html"


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return written(tmp_path_factory.mktemp("chats"), FIXTURES / "chats.jsonl", OPTIONS_OF_CHATS)


OPTIONS_OF_CHATS = Options(
    tokenizer=OPTIONS.tokenizer, packing=True, max_length=4_100, max_position=4_100
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("hostile")
    said = {"role": "assistant", "content": EVIL, "reasoning_content": f"why {EVIL}"}
    good = {"id": EVIL, "messages": [{"role": "user", "content": EVIL}, said]}
    bad = {"id": EVIL, "messages": [{"role": EVIL, "content": EVIL}]}
    (folder / "chats.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (good, bad)))
    return written(folder, folder / "chats.jsonl", SKIPPING)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder, draw = tmp_path_factory.mktemp("long"), random.Random(1)
    messages = []
    for _ in range(80):
        user, reasoning, answer = (" ".join(draw.choices(WORDS, k=k)) for k in (200, 400, 250))
        said = {"role": "assistant", "content": answer, "reasoning_content": reasoning}
        messages += [{"role": "user", "content": user}, said]
    (folder / "chats.jsonl").write_text(json.dumps({"id": "long", "messages": messages}) + "\n")
    options = Options(tokenizer=OPTIONS.tokenizer, max_position=200_000)
    return written(folder, folder / "chats.jsonl", options)


@pytest.fixture
def quiet(browser: Page) -> Iterator[Page]:
    """Give the browser, and see that the page that was opened said and asked for nothing."""
    browser.dark(False)
    yield browser
    assert browser.said() == []
    assert [address.split("#")[0][-10:] for address in browser.requested()] in ([], ["/page.html"])


def row_of(dataset: Path, number: int) -> RowData:
    return read_rows(dataset, read_manifest(dataset), [number])[0]


def mask_of(row: RowData) -> Any:
    until = np.zeros(len(row.input_ids), np.int32)
    for segment in row.segments:
        until[row.tokens(segment)] = segment.visible_until
    return visible(until)


def facts(tab: Page) -> dict[str, str]:
    """Read what the page says of the token that is looked at."""
    return tab.run("facts()")


def test_what_is_highlighted_is_the_mask(quiet: Page, chats: tuple[Path, Path]) -> None:
    dataset, path = chats
    quiet.open(PROBE, path)
    draw = random.Random(0)
    for number in (0, 2):
        row = row_of(dataset, number)
        assert len(row.samples) > 1
        seen = mask_of(row)
        quiet.run(f"showRow({number})")
        ends = [each.visible_until for each in row.segments if each.visible_until < len(seen)]
        for q in [ends[0], *draw.sample(range(len(row.input_ids)), 2)]:
            quiet.run(f"choose({q})")
            assert quiet.run("lit()") == np.flatnonzero(seen[q]).tolist()
        for q in [*ends, *draw.sample(range(len(row.input_ids)), 100)]:
            intervals = quiet.run(f"state.row.seen({q})")
            tokens = [token for start, end in intervals for token in range(start, end)]
            assert tokens == np.flatnonzero(seen[q]).tolist()


def test_the_keyboard_alone_is_enough(quiet: Page, chats: tuple[Path, Path]) -> None:
    dataset, path = chats
    row = row_of(dataset, 0)
    quiet.open(PROBE, path)
    for _ in range(60):
        quiet.press("Tab")
        if quiet.run("document.activeElement.id") == "text":
            break
    assert quiet.run("document.activeElement.id") == "text"
    for _ in range(3):
        quiet.press("ArrowRight")
    found = facts(quiet)
    assert (found["token"], found["id"]) == ("2", str(row.input_ids[2]))
    assert found["position"] == str(row.position_ids[2])
    assert found["label"] == "−100"
    focused = "document.querySelector('#cursor')"
    assert quiet.run("text.element.getAttribute('aria-activedescendant')") == "cursor"
    assert quiet.run(f"{focused}.token") == 2
    quiet.press("ArrowDown")
    quiet.press("ArrowUp")
    assert facts(quiet)["token"] == "2"
    trained = next(each for each in row.segments if each.trained)
    while int(facts(quiet)["token"].replace(",", "")) < trained.start:
        quiet.press("]")
    found = facts(quiet)
    assert found["token"] == f"{trained.start:,}"
    assert found["label"] == found["id"] == str(row.input_ids[trained.start])
    assert (found["trained"], found["message"]) == ("yes", str(trained.message))
    assert found["sees"] == f"{int(mask_of(row)[trained.start].sum()):,} tokens"
    quiet.press("v")
    assert quiet.run("document.querySelector('#view').value") == "0"
    quiet.press("v")
    quiet.press("End")
    assert facts(quiet)["token"] == f"{len(row.input_ids) - 1:,}"
    assert quiet.run(f"{focused}.token") == len(row.input_ids) - 1
    quiet.press("Escape")
    assert "point at one" in facts(quiet)["token"]
    quiet.press("Tab")
    assert quiet.run("document.activeElement.id") == "tree"
    quiet.press("ArrowDown")
    quiet.press("ArrowDown")
    assert facts(quiet)["segment"] == "1"
    assert quiet.run("document.querySelector('#branch').segment") == 1


def test_the_pointer_looks_and_chooses(quiet: Page, chats: tuple[Path, Path]) -> None:
    dataset, path = chats
    row = row_of(dataset, 0)
    quiet.open(PROBE, path)
    quiet.point("#text .line:nth-child(4) .tok:nth-child(2)")
    looked = quiet.run("document.querySelector('#text .line:nth-child(4) .tok:nth-child(2)').token")
    assert facts(quiet)["token"] == str(looked)
    assert quiet.run("document.querySelector('.tok.self').token") == looked
    quiet.point("h1")
    assert "point at one" in facts(quiet)["token"]
    quiet.point("#tree .branch:nth-child(4)", click=True)
    segment = row.segments[3]
    assert facts(quiet)["token"] == f"{segment.start:,}"
    on = quiet.run("all('.branch.on').map((each) => each.segment)")
    shown = quiet.run("document.querySelectorAll('.branch').length")
    path_of = [
        number
        for number, each in enumerate(row.segments[:shown])
        if each.start <= segment.start < each.visible_until
    ]
    assert on == path_of
    quiet.point("#mask canvas:nth-of-type(2)", click=True)
    middle = int(facts(quiet)["token"].replace(",", ""))
    assert abs(middle - len(row.input_ids) / 2) < len(row.input_ids) / 40
    assert " see" in quiet.run("document.querySelector('#mask figcaption').textContent")


def test_a_view_is_what_the_model_saw(quiet: Page, chats: tuple[Path, Path]) -> None:
    """The tokens of each view, joined, are the text that `inspect --view` writes."""
    dataset, path = chats
    row = row_of(dataset, 0)
    quiet.open(PROBE, path)
    decode = load_tokenizer(OPTIONS.tokenizer).decode
    seen = mask_of(row)
    views = quiet.run("state.row.data.views")
    assert len(views) > 5
    for number, view in enumerate(views):
        quiet.run(f"showView({number})")
        tokens = np.flatnonzero(seen[view["last"]])
        assert quiet.run("[...text.order]") == tokens.tolist()
        shown = quiet.run("[...text.order].map((t) => tokens.text(state.row.ids[t])).join('')")
        joined = shown.encode("utf-8", "surrogateescape").decode()
        assert joined == decode(row.input_ids[tokens])
        assert "the model wrote" in quiet.run("text.window.textContent")
        first = int(facts(quiet)["token"].replace(",", ""))
        assert first == tokens[view["prompt"]]
        assert row.labels[first] != -100


def test_signals_colour_the_same_text(quiet: Page, chats: tuple[Path, Path]) -> None:
    _, path = chats
    quiet.open(PROBE, path)
    names = quiet.run("all('#signals input').map((each) => each.value)")
    assert names == ["trained", "kind", "message", "position"]
    text = "all('#text .line').map((each) => each.textContent).join('|')"
    before = quiet.run(text)
    painted = set()
    for name in names:
        quiet.run(f"document.querySelector('#signals input[value={name}]').click()")
        assert quiet.run(text) == before
        assert quiet.run("underlined()")
        painted.add(quiet.run("grounds()"))
        assert quiet.run("document.querySelector('#legend').textContent")
    assert len(painted) == len(names)


@pytest.mark.parametrize("dark", [False, True])
def test_everything_can_be_read(quiet: Page, chats: tuple[Path, Path], dark: bool) -> None:
    _, path = chats
    quiet.dark(dark)
    quiet.open(PROBE, path)
    assert quiet.run("document.documentElement.dataset.theme") == ("dark" if dark else "light")
    for signal in ("trained", "kind", "message", "position"):
        quiet.run(f"document.querySelector('#signals input[value={signal}]').click()")
        for token in (-1, 300):
            quiet.run(f"choose({token})")
            assert quiet.run("pale()") == []
    quiet.run("document.querySelector('#theme').click()")
    assert quiet.run("document.documentElement.dataset.theme") == ("light" if dark else "dark")
    assert quiet.run("pale()") == []


@pytest.mark.parametrize("width", [320, 390, 800, 2_400])
def test_every_width(quiet: Page, hostile: tuple[Path, Path], width: int) -> None:
    _, path = hostile
    quiet.open(PROBE, path, width=width)
    quiet.run("choose(40)")
    quiet.settle()
    assert quiet.run("document.documentElement.scrollWidth <= innerWidth")
    assert quiet.run("document.querySelector('#text .tok').getBoundingClientRect().height") > 10


def test_hostile_text_is_text(quiet: Page, hostile: tuple[Path, Path]) -> None:
    dataset, path = hostile
    quiet.open(PROBE, path)
    quiet.settle()
    assert quiet.run("window.hit") is None
    assert quiet.run("document.querySelectorAll('img, svg').length") == 0
    assert quiet.run("all('.tok *, option *, #token dd *').length") == 0, "a token is one text"
    ids = quiet.run("[...state.row.ids].map((entry) => tokens.ids[entry])")
    assert ids == row_of(dataset, 0).input_ids.tolist()
    drawn = quiet.run("drawn()")
    assert "</script><script>window.hit·=·1</script>" in drawn
    assert "<think>" in drawn
    for sign in ("·", "↵", "→", "\\r", "\\x01", "\\x1b", "‹"):
        assert sign in drawn
    assert not [c for c in drawn if not c.isprintable() or c == " "]
    assert "unknown role" in quiet.run("document.querySelector('.rejects').textContent")


def test_a_long_row_is_drawn_in_part(quiet: Page, long: tuple[Path, Path]) -> None:
    """Times are printed, counts are asserted; the mask is a picture of its size on the screen."""
    dataset, path = long
    row = row_of(dataset, 0)
    assert len(row.input_ids) > 128_000
    quiet.open(PROBE, path, height=1_400)
    quiet.settle()
    print(f"\nopened in {quiet.run('performance.now()'):.0f} ms")
    quiet.run("for (const each of document.querySelectorAll('details')) each.open = true")
    most = 0
    for share in (0, 0.01, 0.25, 0.5, 0.77, 1):
        took = quiet.run(f"scrolled({share})")
        nodes = quiet.run("nodes()")
        print(f"at {share:.0%}: {nodes} nodes, drawn in {took:.0f} ms")
        most = max(most, nodes)
    assert most <= MOST_NODES
    for token in (0, 70_123, len(row.input_ids) - 1):
        quiet.run(f"choose({token})")
        seen = sum(end - start for start, end in quiet.run(f"state.row.seen({token})"))
        assert facts(quiet)["sees"] == f"{seen:,} token{'s' * (seen > 1)}"
        assert quiet.run("document.querySelector('.tok.self').token") == token
        assert quiet.run("nodes()") <= MOST_NODES
    quiet.run("showView(state.row.data.views.length - 1)")
    assert quiet.run("nodes()") <= MOST_NODES
    sides = quiet.run("all('canvas').map((each) => Math.max(each.width, each.height))")
    assert max(sides) < 2_000


def test_an_address_leads_to_a_token(quiet: Page, chats: tuple[Path, Path]) -> None:
    _, path = chats
    quiet.open(PROBE, path, at="#row=1&view=-1&signal=position&token=500")
    assert quiet.run("[state.number, state.signal, state.cursor]") == [1, "position", 500]
    assert facts(quiet)["token"] == "500"
    assert quiet.run("location.hash") == "#row=1&view=-1&signal=position&token=500"
    quiet.open(PROBE, path, at="#row=99999&view=x&signal=<b>&token=-7")
    assert quiet.run("state.row !== null && state.signal === 'kind'")


def test_figures_stand_in_the_page(quiet: Page, chats: tuple[Path, Path]) -> None:
    dataset, path = chats
    quiet.open(PROBE, path)
    told = json.loads(CliRunner().invoke(cli, ["stats", str(dataset), "--json"]).stdout)
    text = quiet.run("document.querySelector('#summary').textContent")
    counts = told["manifest"]["counts"]
    for figure in (counts["tokens"], counts["npass_tokens"], counts["trained_tokens"]):
        assert f"{figure:,}" in text
    for name in ("branches", "block_sparse", "dense", "npass"):
        assert f"{told['costs'][name]['blocks']:,}" in text
    for each in told["distributions"].values():
        assert each["description"] in text
        assert each["words"] in text
        titles = dict(quiet.run("charts()"))[each["description"]]
        if titles:
            numbers = [int(title.rpartition(": ")[2].replace(",", "")) for title in titles]
            assert numbers == [bin_["count"] for bin_ in each["histogram"]]


def test_calls_and_their_numbers_are_signals(quiet: Page, tmp_path: Path) -> None:
    row = row_of_vector("calls_weighted", tmp_path)
    logprobs = np.linspace(-3, 0, len(row.labels), dtype=np.float32)
    target = np.full(len(row.labels), -100, np.int32)
    target[11:], row.labels[11:] = row.labels[11:], -100
    columns = {**row.columns, "logprobs": logprobs, "preference_labels": target}
    more = replace(row, columns=columns, calls=[replace(row.calls[0], reward=0.5), *row.calls[1:]])
    (tmp_path / "page.html").write_text(page("calls", _manifest([]), [more]), "utf-8")
    quiet.open(PROBE, tmp_path / "page.html")
    names = quiet.run("all('#signals input').map((each) => each.value)")
    assert names == ["trained", "kind", "message", "position", "call", "weight", "logprob"]
    painted = set()
    for name in names:
        quiet.run(f"document.querySelector('#signals input[value={name}]').click()")
        painted.add(quiet.run("grounds()"))
        assert quiet.run("pale()") == []
    assert len(painted) == len(names)
    quiet.run("choose(3)")
    found = facts(quiet)
    assert (found["text"], found["id"], found["weight"]) == ("unknown", "32", "0.75")
    assert found["call"] == "a1, reward 0.5"
    assert float(found["logprob"]) == pytest.approx(float(logprobs[3]))
    assert quiet.run("all('.tok.rejected').map((tok) => tok.token)") == [11, 12, 13]
    options = quiet.run("all('#view option').map((each) => each.label)")
    assert options[1:] == [
        *(f"as the model saw call {name}, sample 0" for name in ("a1", "a2")),
        "as the model saw call b1, sample 1",
    ]
    quiet.run("showView(1)")
    assert quiet.run("[...text.order]") == [0, 1, 2, 6, 7, 8]


SHOTS = {"light": (1_100, False), "dark": (1_100, True), "narrow": (390, False)}
"""Of each picture the width of the page, and whether it is dark; one more is of the long row."""


def test_the_pictures_are_small(
    quiet: Page, chats: tuple[Path, Path], long: tuple[Path, Path]
) -> None:
    for name, (width, dark) in {**SHOTS, "long": (1_100, False)}.items():
        quiet.dark(dark)
        quiet.open(PROBE, (long if name == "long" else chats)[1], width=width, height=700)
        quiet.run(f"showRow(0); choose({70_123 if name == 'long' else 330})")
        quiet.run("document.querySelector('#text').scrollIntoView({block: 'center'})")
        quiet.settle()
        path, taken = Path(__file__).parent / "pictures" / f"{name}.webp", quiet.picture()
        if os.environ.get("REASONPACK_WRITE_PICTURES"):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(taken)
        assert len(taken) < 64_000
        assert path.stat().st_size < 64_000
