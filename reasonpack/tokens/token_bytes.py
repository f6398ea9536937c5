r"""A token id → the bytes that it stands for, on its own.

    byte-level BPE    `Ġthe`  →  b" the"      `âĤ`  →  b"\xe2\x82", a part of a character
    sentencepiece     `▁the`  →  b" the"      `<0xE2>`  →  b"\xe2"
    others            as the vocabulary writes it

A decoder joins tokens and replaces incomplete characters; here nothing is replaced, so that the
bytes of a byte-level tokenizer's ids, joined, are those of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from reasonpack.tokens.tokenizer import Tokenizer


def bytes_of_tokens(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """Return a function from a token id to its bytes.

    It raises TokenizerError for an id that is not in the vocabulary.
    """
    steps = list(_steps(tokenizer.decoder)) if tokenizer.decoder else []
    kinds = {step["type"] for step in steps}
    added = frozenset(tokenizer.added_tokens)
    spaces = [space for step in steps if (space := _replacement(step))]
    lookup, is_byte_level = tokenizer.lookup(), "ByteLevel" in kinds

    def of(token: int) -> bytes:
        if (text := lookup(token)) is None:
            text = tokenizer.token_text(token)  # raises TokenizerError
        if is_byte_level:
            try:
                return text.encode() if text in added else bytes(map(_BYTE_OF.__getitem__, text))
            except KeyError:  # a character that stands for no byte
                return text.encode()
        if "ByteFallback" in kinds and (match := re.fullmatch("<0x([0-9A-F]{2})>", text)):
            return bytes.fromhex(match[1])
        for written, meant in spaces:
            text = text.replace(written, meant)
        return text.encode()

    return of


def _steps(decoder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a decoder, and the decoders within it if it is a sequence."""
    yield decoder
    for each in decoder.get("decoders", ()):
        yield from _steps(each)


def _replacement(step: dict[str, Any]) -> tuple[str, str] | None:
    """Return the text that a decoder's step replaces, and its replacement; None without one."""
    if step["type"] == "Metaspace":
        return step["replacement"], " "
    written = step.get("pattern", {}).get("String") if step["type"] == "Replace" else None
    return (written, step["content"]) if written else None


def _bytes_by_character() -> dict[str, int]:
    """Return a table from the character that byte-level BPE writes for a byte to the byte.

    Bytes that are printable in Latin-1 are written as themselves, the others from U+0100 on.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    table = {chr(byte): byte for byte in plain}
    return table | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTE_OF = _bytes_by_character()
