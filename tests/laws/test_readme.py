"""Every command that the README shows does what it says, and prints what it shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import readme

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text("utf-8")


def test_console_blocks_print_what_they_show(tmp_path: Path) -> None:
    """The sessions are run in order, in a directory that has nothing but the fixtures."""
    shutil.copytree(ROOT / "fixtures", tmp_path / "fixtures")
    sessions = readme.sessions()
    assert sessions
    for command, shown in sessions:
        printed, wanted = readme.masked(readme.run(command, tmp_path)), readme.masked(shown)
        if shown.endswith("…\n"):
            assert printed.startswith(wanted[: -len("…\n")]), command
        else:
            assert printed == wanted, command


def test_the_first_two_blocks_set_everything_up() -> None:
    first, second = readme.blocks("sh")[:2]
    assert first.count("\n") == second.count("\n") == 1, "one line each, to copy and paste"
    assert "reasonpack pack fixtures/" in first
    assert "pytest" in second


def test_every_command_is_in_the_readme() -> None:
    from reasonpack.cli import COMMANDS

    for command in COMMANDS:
        assert f"reasonpack {command}" in TEXT, f"the README does not mention {command}"


def test_every_option_in_the_readme_exists() -> None:
    from reasonpack.cli import COMMANDS

    helps = "".join(readme.run(f"reasonpack {command} --help", ROOT) for command in COMMANDS)
    prose = re.sub(r"^```sh\n.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    prose = prose.replace("--array", "").replace("--dependency", "")  # Slurm's
    known = set(re.findall(r"--[a-z][a-z-]+", helps))
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", prose)):
        assert option in known, f"{option} is no option of any command"


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("page", sorted((ROOT / "tests").rglob("README.md")), ids=str)
def test_links_of_other_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link


def test_the_example_is_the_one_that_is_tested() -> None:
    example = (ROOT / "tests" / "trainers" / "examples" / "hf_trainer.py").read_text("utf-8")
    (shown,) = readme.blocks("python")
    assert shown in example
