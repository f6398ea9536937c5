"""The scripts compare the same training: every layout trains the same pairs, on a CPU too."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import tiny  # noqa: F401

from tests.changed import replace

# isort: split
import count_blocks
import numpy as np
import oracle
import pyarrow as pa
import pytest
from conversations import PROFILES, LayoutName, Profile, Sample, Words, join, rows, samples, views

from reasonpack.show.cost import Segments, Work, count

SMALL = Profile(message=5, reasoning=6, response=7, steps=3, tool_result=4, system=3)


def columns(sample: Sample) -> dict[str, Any]:
    """A row with one segment a token."""
    return {
        "input_ids": sample.input_ids.tolist(),
        "position_ids": sample.position_ids.tolist(),
        "labels": sample.labels.tolist(),
        "segment_start": list(range(len(sample))),
        "segment_visible_until": sample.visible_until.tolist(),
        "sample_start": np.flatnonzero(sample.position_ids == 0).tolist(),
    }


@pytest.mark.parametrize("layout", get_args(LayoutName))
@pytest.mark.parametrize("turns", [1, 2, 5])
def test_every_layout_trains_what_the_views_say(layout: LayoutName, turns: int) -> None:
    for seed in range(5):
        found = views(SMALL, turns, Words(seed, 64))
        expected = oracle.expected_pairs((0, v.prompt, v.completion) for v in found)
        assert oracle.check_row(columns(join(samples(found, layout)))) == expected


def test_a_row_whose_positions_are_off_is_caught() -> None:
    row = columns(samples(views(SMALL, 3, Words(0, 64)), "onepass")[0])
    row["position_ids"] = [p + (p > 9) for p in row["position_ids"]]
    with pytest.raises(AssertionError):
        oracle.check_row(row)


def test_blocks_and_pairs_are_those_of_the_dense_mask() -> None:
    found = [views(SMALL, 9, Words(seed, 64)) for seed in range(4)]
    for layout in get_args(LayoutName):
        packed = rows(found, layout, 2048)
        counted = count_blocks.cost(packed, "masked")
        blocks = pairs = 0
        for row in packed:
            seen = oracle.visible(columns(row))
            pairs += int(seen.sum())
            size = count_blocks.BLOCK
            blocks += sum(
                bool(seen[q : q + size, k : k + size].any())
                for q in range(0, len(row), size)
                for k in range(0, len(row), size)
            )
        assert (counted.blocks, counted.pairs) == (blocks, pairs)


def test_the_stats_command_counts_what_the_script_counts() -> None:
    found = [views(SMALL, 9, Words(seed, 64)) for seed in range(4)]
    packed, leaves = rows(found, "onepass", 2048), rows(found, "npass", 2048)
    table = [{"length": len(row), **columns(row)} for row in packed]
    names = ("length", "position_ids", "segment_start", "segment_visible_until")
    (batch,) = pa.table({name: [row[name] for row in table] for name in names}).to_batches()
    counted, expected = count(Segments(batch)), count_blocks.cost(packed, "masked")
    plain = count_blocks.cost(leaves, "varlen")
    branches = count_blocks.cost(packed, "branches")
    assert counted.branches == Work(branches.tokens, branches.pairs, branches.blocks)
    assert counted.block_sparse == Work(expected.tokens, expected.pairs, expected.blocks)
    assert counted.npass == Work(plain.tokens, plain.pairs, plain.blocks)


def test_the_table_has_a_line_for_each_case(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--profiles", "chat", "--turns", "2", "8", "--tokens", "5000"]
    few, many = count_blocks.main([*arguments, "--row-tokens", "4096"])
    assert many.token_ratio > few.token_ratio > 1
    assert many.speed_up > many.masked_speed_up > 1
    assert capsys.readouterr().out.count("chat") == 2
    assert set(PROFILES) > {"chat", "agentic", "long-reasoning"}


TABLE = (Path(__file__).parents[1] / "gpu" / "README.md").read_text("utf-8")


@pytest.mark.parametrize("case", ["chat 2", "chat 4", "long-reasoning 2"])
def test_the_page_shows_what_the_script_counts(case: str) -> None:
    profile, turns = case.split()
    (line,) = count_blocks.main(["--profiles", profile, "--turns", turns])
    assert count_blocks.markdown(line) in TABLE
    assert line.masked_block_ratio < 1 < line.masked_speed_up < line.speed_up


@pytest.mark.parametrize("width", [512, 1024])
def test_a_kernel_as_slow_as_the_page_names_costs_what_npass_does(width: int) -> None:
    found = [views(PROFILES["long-reasoning"], 2, Words(seed, 64)) for seed in range(2)]
    onepass = count_blocks.cost(rows(found, "onepass", 16_384), "masked")
    npass = count_blocks.cost(rows(found, "npass", 16_384), "varlen")
    slower = count_blocks._slower(onepass, npass, width)
    as_slow = replace(onepass, blocks=onepass.blocks * slower)
    assert as_slow.flops(width) == pytest.approx(npass.flops(width))


CASES = [(profile, turns) for profile in PROFILES for turns in (2, 4, 8, 16, 32)]
CASES.remove(("agentic", 32))  # takes minutes


@pytest.mark.slow
@pytest.mark.parametrize(("profile", "turns"), CASES)
def test_the_whole_page_is_what_the_script_writes(profile: str, turns: int) -> None:
    (line,) = count_blocks.main(["--profiles", profile, "--turns", str(turns)])
    assert f"{count_blocks.markdown(line)}\n" in TABLE
    plot = (Path(__file__).parents[1] / "gpu" / "layouts.svg").read_text("utf-8")
    points = re.findall(r'points="(\S+?)"', count_blocks.plot([line]))
    assert len(points) == 2
    assert all(re.search(rf'points="[^"]*\b{point}\b', plot) for point in points)


def trained(capsys: pytest.CaptureFixture[str], output: Path, arguments: str) -> list[Any]:
    """What the script returns; its table, report and plot have a line, record and bar for each."""
    pytest.importorskip("torch")
    import train_layouts

    results = train_layouts.main([*f"--device cpu --tiny {arguments} --output {output}".split()])
    table = capsys.readouterr().out.splitlines()
    report = json.loads(output.with_suffix(".json").read_text("utf-8"))
    plot = output.with_suffix(".svg").read_text("utf-8")
    assert len(table) == len(report) == plot.count("<rect") == len(results)
    assert plot.startswith("<svg")
    for line, record, result in zip(table, report, results, strict=True):
        assert result.layout in line
        assert f"loss {result.loss:.4f}" in line
        assert " allowed " in line
        assert record["blocks"] == result.blocks > 0
    for turns in {each.turns for each in results}:
        losses = {each.layout: each.loss for each in results if each.turns == turns}
        assert set(losses) == set(train_layouts.LAYOUTS)
        assert max(losses.values()) == pytest.approx(min(losses.values()), rel=1e-4)
    return results


@pytest.mark.torch
def test_the_training_script_runs_and_its_layouts_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROFILES, "small", SMALL)
    arguments = "--steps 2 --group 1 --profiles small --turns 3"
    results = trained(capsys, tmp_path / "report", arguments)
    assert {each.profile for each in results} == {"small"}


@pytest.mark.torch
@pytest.mark.parametrize("wrong", ["onepass-flex", "onepass-varlen"])
def test_a_layout_that_trains_something_else_is_seen(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    import train_layouts

    def next_turn_reads_reasoning(row: Sample) -> Sample:
        until = np.full_like(row.visible_until, len(row))
        return replace(row, visible_until=until)

    honest = train_layouts.attention
    monkeypatch.setattr(
        train_layouts,
        "attention",
        lambda layout, row, *rest: honest(
            layout, next_turn_reads_reasoning(row) if layout == wrong else row, *rest
        ),
    )
    monkeypatch.setitem(PROFILES, "small", SMALL)
    with pytest.raises(AssertionError):
        trained(capsys, tmp_path / "report", "--steps 2 --group 1 --profiles small --turns 3")


@pytest.mark.slow
@pytest.mark.torch
def test_training_agrees_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--steps 2 --group 1 --profiles chat --turns 2 3"
    assert len(trained(capsys, tmp_path / "report", arguments)) == 8


MEASURED = "--device cpu --tiny --steps 2 --profiles chat --turns"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Any]:
    """Run the script without FlashAttention; return what it wrote."""
    pytest.importorskip("torch")
    import measure

    for name in measure.MODULES.values():
        monkeypatch.setitem(sys.modules, name, None)

    def run(arguments: str) -> Any:
        output = tmp_path / "report"
        found = measure.main([*arguments.split(), "--output", str(output)])
        assert json.loads(output.with_suffix(".json").read_text("utf-8")) == found
        return found

    return run


@pytest.mark.torch
def test_one_command_measures_everything_in_order(
    measure: Callable[[str], Any], tmp_path: Path
) -> None:
    found = measure(f"{MEASURED} 2 4 900 --longest 2000")
    sections = ["device", "torch", "kernels", "seen", "errors", "right", "steps", "left_out"]
    assert list(found) == sections
    assert all("not importable" in each for each in found["kernels"].values())
    assert found["seen"] == {"torch varlen": [1.0, 1.5, 2.5]}
    assert found["right"]
    layouts = ["npass-varlen", "onepass-varlen", "onepass-flex"]
    assert [(each["turns"], each["layout"]) for each in found["steps"]] == [
        (turns, layout) for turns in (2, 4) for layout in layouts
    ]
    for turns in (2, 4):
        losses = [each["loss"] for each in found["steps"] if each["turns"] == turns]
        assert max(losses) == pytest.approx(min(losses), rel=1e-4)
    assert list(found["left_out"]) == ["chat, 900 turns"]
    assert (tmp_path / "report.svg").read_text("utf-8").count("<rect") == 6


NEEDED = ("pyarrow", "msgspec", "click", "tokenizers", "tqdm", "transformers")


@pytest.mark.torch
def test_the_scripts_need_torch_and_numpy_alone(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    scripts = Path(count_blocks.__file__).parent
    code = (
        f"import sys; sys.path.insert(0, {str(scripts)!r})\n"
        f"sys.modules.update(dict.fromkeys({NEEDED}))\n"
        "import measure"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, timeout=120)


@pytest.mark.torch
def test_what_fails_is_named_and_the_rest_measured(
    measure: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import train_layouts

    honest = train_layouts.attention

    def failing(layout: str, *rest: Any) -> Any:
        if layout == "onepass-varlen":
            raise RuntimeError("no kernel for this card")
        return honest(layout, *rest)

    monkeypatch.setattr(train_layouts, "attention", failing)
    found = measure(f"{MEASURED} 2")
    assert found["failed"] == {
        "chat, 2 turns, onepass-varlen": "RuntimeError: no kernel for this card"
    }
    assert [each["layout"] for each in found["steps"]] == ["npass-varlen", "onepass-flex"]


@pytest.mark.torch
def test_a_wrong_kernel_is_named_and_no_time_begins_nothing(
    measure: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import train_layouts

    honest = train_layouts.varlen_attention

    def top_left(q: Any, k: Any, v: Any, bounds: Any, _: Any) -> Any:
        return honest(q, k, v, bounds, bounds)

    monkeypatch.setattr(train_layouts, "varlen_attention", top_left)
    found = measure(f"{MEASURED} 2 --seconds 0")
    assert not found["right"]
    assert "steps" not in found
    assert found["left_out"] == {"chat, 2 turns": "no time left"}


@pytest.mark.torch
def test_the_kernel_is_checked_before_it_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    import check_kernel
    import train_layouts

    monkeypatch.setitem(PROFILES, "small", SMALL)
    arguments = ["--device", "cpu", "--profiles", "small"]
    report = check_kernel.main(arguments)
    assert report["right"]
    assert report["seen"] == [1.0, 1.5, 2.5]
    honest = train_layouts.gathered
    shifted = lambda states, index: honest(states.roll(1, dims=2), index)  # noqa: E731
    monkeypatch.setattr(train_layouts, "gathered", shifted)
    assert not check_kernel.main(arguments)["right"]
