"""On a terminal: a bar that fits and leaves nothing behind; Ctrl-C, anywhere and twice."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
from crashing import ENVIRONMENT
from runs import FIXTURES, ROOT, UNIT_BYTES, chats, tree

pytestmark = pytest.mark.faults
slow = pytest.mark.slow

PTY = """
import os, pty, sys
os._exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""
SIZED = 'stty cols "$1" rows 24; shift; exec "$@"'
EVERY_STEP = {"TQDM_MININTERVAL": "0", "TERM": "xterm-256color"}
PAUSING = """
import signal
from reasonpack.cli import main
from reasonpack.cli import progress

class Progress(progress.Progress):
    def advance(self, receipt):
        super().advance(receipt)
        self._bar.refresh()
        signal.pause()

progress.Progress = Progress
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
    main()
"""


def pack_command(source: Path, out: Path, workers: int = 1) -> list[str]:
    options = ["--tokenizer", FIXTURES / "tokenizer", "--on-error", "skip", "-o", out]
    sizes = ["--unit-size", UNIT_BYTES, "--num-proc", workers, "--no-samples"]
    return [str(part) for part in ["pack", source, *options, *sizes]]


def start(command: list[str], columns: int = 100, **environment: str) -> subprocess.Popen[bytes]:
    """Run a command on a terminal; what is written to it is typed there."""
    sized = ["sh", "-c", SIZED, "sh", str(columns), sys.executable, *command]
    return subprocess.Popen(
        [sys.executable, "-c", PTY, *sized],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**ENVIRONMENT, **EVERY_STEP, **environment},
        cwd=ROOT,
    )


def shown(command: list[str], columns: int = 100, **environment: str) -> tuple[str, int]:
    with start(command, columns, **environment) as running:
        assert running.stdout
        output = running.stdout.read().decode()
    return output, running.returncode


def screen(output: str) -> list[str]:
    """Play what a terminal got: a carriage return, and letters over letters."""
    assert all(character.isprintable() or character in "\r\n" for character in output)
    lines = []
    for line in output.split("\n"):
        cells: list[str] = []
        for text in line.split("\r"):
            cells[: len(text)] = text
        lines.append("".join(cells).rstrip())
    return lines


def unfolded(lines: list[str]) -> str:
    """Return what lines say however they are folded to the width of a terminal."""
    return "".join("".join(lines).split())


def painted(output: str) -> list[str]:
    return re.findall(r"\r(pack:[^\r\n]*)", "\r" + output)


@pytest.fixture(scope="module")
def plain(source: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the command says where standard error is no terminal."""
    command = pack_command(source, tmp_path_factory.mktemp("plain") / "out")
    done = subprocess.run(
        [sys.executable, "-m", "reasonpack", *command],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **EVERY_STEP},
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "pack:" not in done.stderr
    assert "\r" not in done.stderr
    return screen(done.stderr)


@pytest.mark.parametrize("environment", [{}, pytest.param({"NO_COLOR": "1"}, marks=slow)])
def test_a_bar_that_leaves_nothing_behind(
    environment: dict[str, str], source: Path, tmp_path: Path, plain: list[str]
) -> None:
    command = ["-m", "reasonpack", *pack_command(source, tmp_path / "out")]
    output, status = shown(command, **environment)
    assert status == 3
    assert unfolded(screen(output)) == unfolded(plain)
    assert any("rejected" in line for line in plain)
    first, *_, last = painted(output)
    total = rf"{source.stat().st_size / 1000:.1f}k"
    assert re.fullmatch(rf"pack:   0%\| +\| 0.00/{total} \[00:00<\?, \?B/s\] *", first)
    times = r"\[\d\d:\d\d<[\d:]+, [\d.]+[kM]?B/s, [\d.]+[kM]? tokens/s\]"
    assert re.fullmatch(rf"pack: +\d+%\|█+[▏▎▍▌▋▊▉]? *\| [\d.]+k?/{total} {times} *", last)
    assert len(painted(output)) > 3


@pytest.mark.parametrize("columns", [25, *[pytest.param(n, marks=slow) for n in (9, 60)]])
def test_a_bar_on_a_narrow_terminal(
    columns: int, source: Path, tmp_path: Path, plain: list[str]
) -> None:
    output, status = shown(
        ["-m", "reasonpack", *pack_command(source, tmp_path / "out", 2)], columns
    )
    assert (status, unfolded(screen(output))) == (3, unfolded(plain))
    assert max(map(len, painted(output))) < columns


@slow
def test_no_bar_on_a_dumb_terminal(source: Path, tmp_path: Path, plain: list[str]) -> None:
    command = ["-m", "reasonpack", *pack_command(source, tmp_path / "out")]
    output, status = shown(command, TERM="dumb")
    assert (status, unfolded(screen(output))) == (3, unfolded(plain))
    assert painted(output) == []


STARTING = """
import sys
from reasonpack.cli import main
from reasonpack.run import pool

method = pool.start_method

def start_method():
    sys.stdout.write(f"<{method()}>")
    return method()

pool.start_method = start_method
if __name__ == "__main__":
    main()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="they are spawned elsewhere")
def test_processes_are_forked_beside_a_bar(source: Path, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(STARTING)
    command = [str(tmp_path / "script.py"), *pack_command(source, tmp_path / "out", 2)]
    output, status = shown(command, OPENBLAS_NUM_THREADS="1")
    assert status == 3
    assert "tokens/s" in output
    assert set(re.findall("<[a-z]+>", output)) == {"<fork>"}


def until(stream: IO[bytes], text: bytes) -> bytes:
    found = b""
    while text not in found:
        block = os.read(stream.fileno(), 1 << 12)
        assert block, found
        found += block
    return found


@pytest.mark.parametrize("workers", [pytest.param(1, marks=slow), 2])
def test_ctrl_c_typed_on_a_terminal(
    workers: int, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    (tmp_path / "script.py").write_text(PAUSING)
    command = pack_command(source, tmp_path / "out", workers)
    with start([str(tmp_path / "script.py"), *command]) as running:
        assert running.stdin
        assert running.stdout
        output = until(running.stdout, b"tokens/s")
        running.stdin.write(b"\x03\x03\x03")
        running.stdin.flush()
        output += running.stdout.read()
    assert running.returncode == 130
    *_, line, last = screen(output.decode().replace("^C", ""))
    assert last == ""
    assert line.startswith("Interrupted: 1 of ")
    assert "Traceback" not in output.decode()
    output, status = shown(["-m", "reasonpack", *command])  # type: ignore[assignment]
    assert status == 3
    assert tree(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("workers", "engine", "sign", "seconds"),
    [
        (1, "local", b"pack:   0%", 1.0),
        (2, "local", b"pack:   0%", 1.0),
        (2, "ray", b"tokens/s", 1.0),
        pytest.param(1, "ray", b"tokens/s", 1.0, marks=slow),
        pytest.param(2, "ray", b"Started a local Ray", 10.0, marks=slow),
    ],
)
def test_ctrl_c_is_answered_within_seconds(
    workers: int, engine: str, sign: bytes, seconds: float, tmp_path: Path
) -> None:
    """In the middle of a unit; a Ray that is about to start has to start first."""
    if engine == "ray":
        pytest.importorskip("ray")
    (tmp_path / "chats.jsonl").write_bytes(chats(2_000, bad=False) * 20)
    command = pack_command(tmp_path / "chats.jsonl", tmp_path / "out", workers)
    sizes = [
        "--unit-size",
        "8M" if engine == "local" else "1M",
        "--engine",
        engine,
        "--num-proc",
        str(workers),
    ]
    with start(["-m", "reasonpack", *command, *sizes]) as running:
        assert running.stdin
        assert running.stdout
        until(running.stdout, sign)
        time.sleep(seconds == 1)
        began = time.monotonic()
        running.stdin.write(b"\x03")
        running.stdin.flush()
        until(running.stdout, b"The same command goes on")
        answered = time.monotonic() - began
        rest = running.stdout.read()
    # Where its raylet is gone first, Ray's own threads end the process, with 1.
    assert running.returncode in ({130} if engine == "local" else {130, 1}), rest
    assert b"Traceback" not in rest
    assert b"Error" not in rest
    assert answered < seconds
    assert time.monotonic() - began < (1 if engine == "local" else 15)


INTERRUPTING = """
import atexit, importlib, os, signal, sys
from reasonpack.cli import main
from reasonpack.run import pack, pool

def interrupted_at(place, again=False):
    module, name = place.rsplit(".", 1)
    owner = importlib.import_module(module)
    whole = getattr(owner, name)
    def interrupting(*arguments, **more):
        if again == bool(interrupted):
            interrupted.append(place)
            os.killpg(0, signal.SIGINT)  # as a terminal does: to the workers too
        return whole(*arguments, **more)
    setattr(owner, name, interrupting)

interrupted = []
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where tests run
    interrupted_at(sys.argv.pop(1))
    interrupted_at("reasonpack.run.pack.sweep", again=True)
    interrupted_at("reasonpack.run.pool._kill", again=True)
    atexit.register(os.killpg, 0, signal.SIGINT)
    main()
"""
PHASES = [
    ("reasonpack.run.pack.cut", "Interrupted before packing began."),
    ("reasonpack.run.pool.wait", "Interrupted: 0 of "),
    ("reasonpack.run.unit.write_shard", "Interrupted: 0 of "),
    ("reasonpack.run.finish.finish", "Interrupted: 8 of 8 "),
]
MORE_PHASES = [
    ("reasonpack.run.context.load_context", "Interrupted before packing began."),
    ("reasonpack.run.output_directory.write_plan", "Interrupted before packing began."),
    ("reasonpack.run.receipts.check_units", "Interrupted before packing began."),
    ("reasonpack.run.pool._start", "Interrupted: 0 of "),
    ("reasonpack.run.conversations.each_view", "Interrupted: 0 of "),
    ("reasonpack.run.unit.as_json", "Interrupted: 0 of "),
]


@pytest.mark.parametrize(
    ("phase", "said"),
    [*PHASES, *[pytest.param(*phase, marks=slow) for phase in MORE_PHASES]],
)
def test_ctrl_c_at_any_time_and_again_while_it_is_tidied_up(
    phase: str, said: str, source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    (tmp_path / "script.py").write_text(INTERRUPTING)
    command = pack_command(source, tmp_path / "out", 2 if ".pool." in phase else 1)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", phase, *command],
        stderr=subprocess.PIPE,  # it ends when every process has
        text=True,
        start_new_session=True,
        timeout=100,
        check=False,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(said)
    assert "The same command" in line
    assert done.returncode == 130
    out = tmp_path / "out"
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]
    assert not (out / "manifest.json").exists()
    again = subprocess.run(
        [sys.executable, "-m", "reasonpack", *command],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
        cwd=ROOT,
    )
    assert again.returncode == 3
    assert tree(out) == undisturbed
