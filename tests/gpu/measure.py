"""Everything that a GPU is needed for, in one call, within a limit; each result is written at once.

    python tests/gpu/measure.py --output report --seconds 480        # one GPU
    python tests/gpu/measure.py --output report --device cpu --tiny  # a rehearsal, anywhere

1. Which kernels there are: torch.nn.attention.varlen, FlashAttention 2 and 3 where importable.
2. Is each aligned bottom right? In the row h t r, of which r follows h, the tokens get the means
   [1.0, 1.5, 2.5].
3. Output and gradients against float64, over the error of a dense mask in the same precision: each
   kernel by branches in bf16, compiled FlexAttention in bf16 and float32.
4. Step time, peak memory and loss of a small model of Qwen3's shape, the same conversations in each
   layout; the first step, which compiles, is left out. Few turns first.

What fails or does not fit is said under `failed` and `left_out`, and the rest goes on.
`report.json` holds everything, `report.svg` the step times. Status 1: a kernel is wrong.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import train_layouts
from check_kernel import WORST, errors, means_seen
from conversations import PROFILES, Profile, Words, row_length, views
from numpy.typing import NDArray
from qwen3 import Attend, Shape
from train_layouts import TINY, Case, Result, VarlenKernel

from reasonpack.masks import flex

MODULES = {"FlashAttention 2": "flash_attn", "FlashAttention 3": "flash_attn_interface"}
LAYOUTS = ("npass-varlen", "onepass-varlen", "onepass-flex")
CASES: dict[str, Profile] = {
    "chat": PROFILES["chat"],
    "agentic-short": replace(PROFILES["agentic"], steps=4, tool_result=200),
    "long-reasoning": PROFILES["long-reasoning"],
    "agentic": PROFILES["agentic"],
}
SMALL = Profile(message=5, reasoning=6, response=7, steps=3, tool_result=4, system=3)


@dataclass
class Report:
    """What is known so far; written after each `put`."""

    output: Path
    found: dict[str, Any]

    def put(self, section: str, name: str, value: Any) -> None:
        self.found.setdefault(section, {})[name] = value
        print(f"{section}: {name}: {value}", flush=True)
        self.write()

    def step(self, result: Result) -> None:
        steps = self.found.setdefault("steps", [])
        steps.append(asdict(result))
        alike = [Result(**each) for each in steps if _case(each) == _case(steps[-1])]
        print(train_layouts.lines(alike)[-1], flush=True)
        self.write()

    def write(self) -> None:
        self.output.with_suffix(".json").write_text(json.dumps(self.found, indent=1))
        if steps := self.found.get("steps"):
            plot = train_layouts.plot([Result(**each) for each in steps])
            self.output.with_suffix(".svg").write_text(plot)

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """Do something; None and a line under `failed` if it cannot be done."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 (of a kernel, a compiler, a driver)
            self.put("failed", name, f"{type(error).__name__}: {str(error)[:300]}")
            return None
        finally:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _case(step: dict[str, Any]) -> tuple[str, int]:
    return step["profile"], step["turns"]


def kernels(report: Report) -> dict[str, VarlenKernel]:
    """Find the varlen kernels that can be imported."""
    found: dict[str, VarlenKernel] = {"torch varlen": train_layouts.varlen_kernel}
    for name, module in MODULES.items():
        try:
            call = importlib.import_module(module).flash_attn_varlen_func
        except Exception as error:  # noqa: BLE001 (a build for another torch raises anything)
            report.put("kernels", name, f"not importable, so not run: {error}")
            continue
        report.put("kernels", name, "found")
        found[name] = flash(call)
    return found


def flash(call: Any) -> VarlenKernel:
    """Give FlashAttention's function the signature of `varlen_kernel`."""

    def kernel(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, sizes: Any) -> torch.Tensor:
        out = call(*(x[0].transpose(0, 1) for x in (q, k, v)), *sizes, causal=True)
        seen: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return seen.transpose(0, 1)[None]

    return kernel


def by_flex(until: NDArray[np.int32], device: torch.device) -> Attend:
    """Attend with compiled FlexAttention; T is padded to blocks."""
    total = until.shape[1]
    padded = np.arange(1, -(-total // 128) * 128 + 1, dtype=np.int32)[None]
    padded[0, :total] = until
    mask = flex.block_mask(torch.from_numpy(padded).to(device))
    compiled = train_layouts._compiled_flex()

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        more = (0, 0, 0, padded.shape[1] - total)
        q, k, v = (torch.nn.functional.pad(x, more) for x in (q, k, v))
        out: torch.Tensor = compiled(q, k, v, block_mask=mask, enable_gqa=True)
        return out[:, :, :total]

    return attend


def check(report: Report, given: argparse.Namespace) -> None:
    """Alignment first, then errors."""
    device = torch.device(given.device)
    cuda = device.type == "cuda"
    half = torch.bfloat16 if cuda else torch.float32
    found = kernels(report)
    for name, kernel in found.items():
        seen = report.attempt(name, lambda kernel=kernel: means_seen(device, half, kernel))
        if seen is not None:
            report.put("seen", name, seen)
    profiles = {"small": SMALL} if given.tiny else {k: CASES[k] for k in ("chat", "long-reasoning")}
    checks: list[tuple[str, torch.dtype, Any]] = [
        (name, half, lambda until, on, kernel=kernel: train_layouts.by_branches(until, on, kernel))
        for name, kernel in found.items()
    ]
    if cuda:  # FlexAttention has no backward on a CPU
        checks += [("flex", half, by_flex), ("flex float32", torch.float32, by_flex)]
    for name, dtype, prepare in checks:
        for label, profile in profiles.items():
            measured = report.attempt(
                f"errors of {name}, {label}",
                lambda p=profile, d=dtype, m=prepare: errors(p, 4, device, d, prepare=m),
            )
            if measured is not None:
                report.put("errors", f"{name}, {label}", measured)


def case(name: str, turns: int, given: argparse.Namespace) -> Case:
    """Make a group of conversations that is trained again in each step."""
    profile = SMALL if given.tiny else CASES[name]
    shape = TINY if given.tiny else Shape()
    words = Words(seed=turns, vocabulary=shape.vocabulary)
    group = max(1, given.row_tokens // profile.tokens(turns))
    found = [views(profile, turns, words) for _ in range(group)]
    return Case(
        profile=name,
        turns=turns,
        groups=[found] * given.steps,
        row_tokens=row_length(found, given.row_tokens),
        pad=False,
        shape=shape,
        device=torch.device(given.device),
    )


def train(report: Report, given: argparse.Namespace, end: float) -> None:
    """Time each layout in each case, as long as there is time."""
    for turns in given.turns:
        for name in given.profiles:
            tokens = (SMALL if given.tiny else CASES[name]).tokens(turns)
            label = f"{name}, {turns} turns"
            if tokens > given.longest:
                report.put("left_out", label, f"rows of {tokens:,} tokens, {given.longest:,} fit")
                continue
            if time.monotonic() > end:
                report.put("left_out", label, "no time left")
                continue
            made = case(name, turns, given)
            for layout in LAYOUTS:
                if time.monotonic() > end:
                    report.put("left_out", f"{label}, {layout}", "no time left")
                elif result := report.attempt(
                    f"{label}, {layout}", lambda m=made, at=layout: train_layouts.run(m, at)
                ):
                    report.step(result)


def is_right(found: dict[str, Any]) -> bool:
    """Tell whether torch's kernel was checked, and no kernel by branches is wrong."""
    seen, errors = found.get("seen", {}), found.get("errors", {})
    known = [each for name, each in errors.items() if name.split(",")[0] in seen]
    worst = max((error for each in known for error in each.values()), default=np.inf)
    aligned = all(each == [1.0, 1.5, 2.5] for each in seen.values())
    return "torch varlen" in seen and aligned and worst < WORST


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    begin = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, required=True, help="OUTPUT.json and OUTPUT.svg")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--seconds", type=float, default=480, help="begin nothing after these")
    parser.add_argument("--profiles", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--turns", nargs="+", type=int, default=[4, 8, 16, 32])
    parser.add_argument("--steps", type=int, default=4, help="the first is not timed")
    parser.add_argument("--row-tokens", type=int, default=16_384, help="of a group, about")
    parser.add_argument("--longest", type=int, default=100_000, help="row that the memory holds")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, short conversations")
    given = parser.parse_args(arguments)
    if given.tiny:
        given.row_tokens = 256
    name = torch.cuda.get_device_name() if given.device == "cuda" else "cpu"
    report = Report(given.output, {"device": name, "torch": torch.__version__})
    check(report, given)
    report.found["right"] = is_right(report.found)
    report.write()
    train(report, given, begin + given.seconds)
    return report.found


if __name__ == "__main__":
    sys.exit(not main()["right"])
