"""The files of a tokenizer, from a path or a hub: whole and of the right shape, or refused."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from kinds import CHAT, byte_bpe, nfc, saved

from reasonpack.errors import TokenizerError, UsageError
from reasonpack.tokens import files
from reasonpack.tokens import tokenizer as module
from reasonpack.tokens.tokenizer import Tokenizer, load_tokenizer

# --- Loading ---------------------------------------------------------------------------


def test_load_from_file_or_directory(tmp_path: Path) -> None:
    path = saved(tmp_path, nfc())
    for source in (tmp_path, path, str(tmp_path), str(path)):
        tokenizer = load_tokenizer(source)
        assert tokenizer.directory == tmp_path
        assert tokenizer.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert tokenizer.source == str(source)
        assert tokenizer.config == {}
        assert tokenizer.special_tokens == {}
        assert set(tokenizer.added_tokens) == set(CHAT)


def test_dropout_of_nought_is_no_dropout(tmp_path: Path) -> None:
    assert load_tokenizer(saved(tmp_path, byte_bpe(dropout=0.0)))


def panicking() -> bytes:
    """A merge shorter than the prefix that it would lose: an index out of range in Rust."""
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}
    model["continuing_subword_prefix"] = "#####"
    return json.dumps({"version": "1.0", "added_tokens": [], "model": model}).encode()


def nested(levels: int) -> bytes:
    file = json.loads(nfc().to_str()) | {"normalizer": "HERE"}
    normalizer = '{"type":"Sequence","normalizers":[' * levels + "]}" * levels
    return json.dumps(file).replace('"HERE"', normalizer).encode()


BAD_FILES = {
    "empty": (b"", "is not JSON .*, expected a tokenizer.json. Fix: "),
    "cut short": (b'{"model": {', "is not JSON "),
    "not UTF-8": (b'{"model": {"\xff": 1}}', "is not JSON "),
    "an array": (b"[]", "is no tokenizer.json .*Fix: check the path"),
    "no model": (b'{"version": "1.0"}', "is no tokenizer.json .*missing required field `model`"),
    "another model": (
        b'{"model": {"type": "X"}}',
        "`tokenizers` refuses the file .*, expected one that it can load",
    ),
    "no content": (b'{"model": {}, "added_tokens": [{"id": 1}]}', r"added_tokens\[0\]|\.\.\.\]"),
    "deep array": (b"[" * 200_000, "is no tokenizer.json|is not JSON "),
    "deep object": (b'{"model": ' + b'{"a": ' * 200_000, "is not JSON "),
    "deep normalizer": (nested(200), "`tokenizers` refuses .*recursion limit"),
    "deeper normalizer": (nested(50_000), "is not JSON .*recursion"),
    "panic": (panicking(), "`tokenizers` refuses .*PanicException"),
    "LFS pointer": (b"version https://git-lfs.example/spec/v1\noid sha256:0\n", "git lfs pull"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(tmp_path: Path, name: str) -> None:
    data, message = BAD_FILES[name]
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=message) as raised:
        load_tokenizer(path).load()
    assert str(raised.value).startswith(f"{path}: ")
    assert ", expected " in str(raised.value)
    assert ". Fix: " in str(raised.value)
    assert "\n" not in str(raised.value)


def test_interrupt_stays_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    fake = types.SimpleNamespace(from_buffer=interrupted)
    monkeypatch.setattr(module.tokenizers, "Tokenizer", fake)
    with pytest.raises(KeyboardInterrupt):
        load_tokenizer(_write(tmp_path / "tokenizer.json", b'{"model": {}}')).load()


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_dropout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"model.dropout is 0.1, .* Fix: set it to null"):
        load_tokenizer(saved(tmp_path, byte_bpe(dropout=0.1))).load()


def test_file_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, byte_bpe())
    monkeypatch.setattr(files, "_MAX_TOKENIZER_BYTES", 100)
    with pytest.raises(TokenizerError, match=r"has \d+ bytes, expected at most 100\. Fix: "):
        load_tokenizer(path)


def test_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "tokenizer.json")
    with pytest.raises(TokenizerError, match=r"is no regular file, expected one. Fix: "):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(TokenizerError, match=r"cannot be read \(Permission denied\), expected"):
        load_tokenizer(saved(tmp_path, byte_bpe()))


@pytest.mark.parametrize("source", [Path("no/such"), "./no/such", "/no/such", "no.json", "a/b/c"])
def test_path_that_does_not_exist(source: str | Path) -> None:
    with pytest.raises(TokenizerError, match=r"does not exist, expected a tokenizer.json, a dir"):
        load_tokenizer(source)


def test_name_too_long_for_a_path() -> None:
    with pytest.raises(TokenizerError, match=r"cannot be read|does not exist"):
        load_tokenizer("./" + "a" * 5000)


def test_directory_without_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"holds no tokenizer.json, .*save_pretrained"):
        load_tokenizer(tmp_path)


def test_revision_of_a_path(tmp_path: Path) -> None:
    saved(tmp_path, byte_bpe())
    with pytest.raises(UsageError, match="is on disk and has no revision 'main'"):
        load_tokenizer(tmp_path, revision="main")


# --- The hub ---------------------------------------------------------------------------


def hub_client(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str] | None) -> None:
    client = download and types.SimpleNamespace(snapshot_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)


def test_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((repo, revision, allow_patterns))
        saved(tmp_path, nfc())
        return str(tmp_path)

    hub_client(monkeypatch, download)
    tokenizer = load_tokenizer("org/model-1.5", revision="v2")
    assert tokenizer.directory == tmp_path
    assert tokenizer.source == "org/model-1.5"
    ((repo, revision, patterns),) = asked
    assert (repo, revision) == ("org/model-1.5", "v2")
    assert "tokenizer.json" in patterns
    assert not any("safetensors" in pattern or pattern == "*" for pattern in patterns)


def test_hub_without_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    hub_client(monkeypatch, None)
    with pytest.raises(TokenizerError, match=r"org/model: is not on disk and .*reasonpack\[hub\]"):
        load_tokenizer("org/model")


@pytest.mark.parametrize(
    "error", [ConnectionError("offline\nmore"), ValueError(""), OSError(5, "x")]
)
def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    hub_client(monkeypatch, download)
    with pytest.raises(TokenizerError, match=r"could not fetch it .*Fix: check the con") as raised:
        load_tokenizer("org/model")
    assert "\n" not in str(raised.value)


def test_hub_repository_without_a_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub_client(monkeypatch, lambda *_, **__: str(tmp_path))
    with pytest.raises(TokenizerError, match=r"org/model: holds no tokenizer.json"):
        load_tokenizer("org/model")


# --- The configuration -----------------------------------------------------------------


def configured(
    tmp_path: Path, config: dict[str, object] | None, token_map: dict[str, object] | None = None
) -> Tokenizer:
    saved(tmp_path, byte_bpe())
    for name, value in (("tokenizer_config", config), ("special_tokens_map", token_map)):
        if value is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return load_tokenizer(tmp_path)


def test_special_tokens(tmp_path: Path) -> None:
    config = {
        "bos_token": None,
        "eos_token": "<e>",
        "pad_token": {"__type": "AddedToken", "content": "<p>", "lstrip": False},
        "add_bos_token": True,
        "extra_special_tokens": {"image_token": "<i>"},
        "additional_special_tokens": ["<x>", {"content": "<y>"}, None],
    }
    tokenizer = configured(tmp_path, config)
    assert tokenizer.config == config
    assert tokenizer.special_tokens == {
        "eos_token": "<e>",
        "pad_token": "<p>",
        "image_token": "<i>",
        "additional_special_tokens": ["<x>", "<y>"],
    }


@pytest.mark.parametrize(
    ("config", "token_map", "expected"),
    [
        ({"eos_token": "c"}, {"eos_token": "m"}, {"eos_token": "m"}),
        ({"eos_token": "c", "added_tokens_decoder": {}}, {"eos_token": "m"}, {"eos_token": "c"}),
        ({"eos_token": None, "added_tokens_decoder": {}}, {"eos_token": "m"}, {}),
        ({"bos_token": "c"}, {"eos_token": {"content": "m"}}, {"bos_token": "c", "eos_token": "m"}),
        ({"eos_token": "c"}, {"eos_token": None}, {}),
        (None, {"eos_token": "m"}, {"eos_token": "m"}),
        ({"extra_special_tokens": ["x"]}, None, {"additional_special_tokens": ["x"]}),
    ],
)
def test_config_and_map_disagree(
    tmp_path: Path, config: dict[str, object], token_map: dict[str, object], expected: object
) -> None:
    assert configured(tmp_path, config, token_map).special_tokens == expected


@pytest.mark.parametrize("value", [7, True, {"content": 7}, ["<x>", 7]])
def test_special_token_of_the_wrong_type(tmp_path: Path, value: object) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer_config.json: eos_token.*, expected a str"):
        configured(tmp_path, {"eos_token": value})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (131072, 131072),
        (10**12 - 1, 10**12 - 1),
        (10**12, None),
        (1000000000000000019884624838656, None),
        (1e30, None),
        (4096.0, None),
        ("4096", None),
        (True, None),
        (0, None),
        (-1, None),
        (None, None),
    ],
)
def test_model_max_length(tmp_path: Path, value: object, expected: int | None) -> None:
    assert configured(tmp_path, {"model_max_length": value}).model_max_length == expected


@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff", b"[" * 200_000, b"\xef\xbb\xbf{}"])
def test_bad_config(tmp_path: Path, data: bytes) -> None:
    saved(tmp_path, byte_bpe())
    (tmp_path / "tokenizer_config.json").write_bytes(data)
    with pytest.raises(TokenizerError, match=r"tokenizer_config.json: is .*, expected a JSON obj"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("ids", [-1, 1 << 32, 10**30, [3, "4"], 2.0, True])
def test_ids_of_an_eos_that_no_token_can_have(tmp_path: Path, ids: object) -> None:
    saved(tmp_path, nfc())
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    with pytest.raises(TokenizerError, match=r"eos_token_id: .*expected a token's id"):
        load_tokenizer(tmp_path)
