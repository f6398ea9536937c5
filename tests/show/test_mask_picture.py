"""The picture of a mask is the mask; in small it is so at the tokens that it shows."""

from __future__ import annotations

import json
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import tokenizers
from click.testing import CliRunner
from runs import FIXTURES, SKIPPING
from two_turns import row_of_vector, two_turns

from reasonpack import pack_files
from reasonpack.cli import cli
from reasonpack.masks.dense import visible
from reasonpack.rows.kind import Kind
from reasonpack.rows.sample import IGNORE
from reasonpack.show.mask_picture import (
    BAR,
    COLOURS,
    SIZE,
    UNSEEN,
    cells,
    mask_lines,
    mask_png,
    mask_svg,
)
from reasonpack.show.row import RowData

NAMESPACE = "{http://www.w3.org/2000/svg}"
NUMBER = r"(-?[\d.]+)"
SHAPE = re.compile(f"M{NUMBER} {NUMBER}L{NUMBER} {NUMBER}V{NUMBER}H{NUMBER}Z")


def dense(row: RowData) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give what each token sees, and of which kind each is."""
    until, kinds = np.zeros((2, len(row.input_ids)), np.int32)
    numbers = {kind.label: int(kind) for kind in Kind}
    for segment in row.segments:
        until[row.tokens(segment)] = segment.visible_until
        kinds[row.tokens(segment)] = numbers[segment.kind]
    return visible(until), kinds


@pytest.mark.parametrize("name", ["two_turns_stripped", "calls_weighted"])
@pytest.mark.parametrize("size", [0, 7, 100])
def test_cells_are_those_of_the_dense_mask(name: str, size: int, tmp_path: Path) -> None:
    row = row_of_vector(name, tmp_path)
    size = size or len(row.input_ids)
    grid, trained = cells(row, size, size)
    mask, kinds = dense(row)
    at = [int((number + 0.5) * len(row.input_ids) / size) for number in range(size)]
    assert ((grid != UNSEEN) == mask[np.ix_(at, at)]).all()
    assert (grid[grid != UNSEEN] == np.broadcast_to(kinds[at], grid.shape)[grid != UNSEEN]).all()
    assert (trained == (row.labels[at] != IGNORE)).all()


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    """Decode a PNG of lines without filters, and check its sums."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    at, parts = 8, {}
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        body = png[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", png, at + 8 + length)[0] == zlib.crc32(body)
        parts[body[:4]] = body[4:]
        at += 12 + length
    assert list(parts) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, colours, *_ = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert (depth, colours) == (8, 2)
    lines = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def test_the_picture_has_the_colours_of_the_cells(tmp_path: Path) -> None:
    row = row_of_vector("two_turns_stripped", tmp_path)
    found = pixels(mask_png(row))
    assert found.shape == (SIZE, BAR + SIZE, 3)
    grid, trained = cells(row, SIZE, SIZE)
    for kind in Kind:
        there = found[:, BAR:][grid == kind]
        assert (there == list(bytes.fromhex(COLOURS[kind.label][1:]))).all()
    assert (found[:, BAR:][grid == UNSEEN] == 255).all()
    assert ((found[:, 0] < 255).all(axis=1) == trained).all()


def test_the_command_writes_it(
    write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer, tmp_path: Path
) -> None:
    directory, path = write([[two_turns(tokenizer)]]), tmp_path / "mask.png"
    assert inspect(directory, "--png", path) == (0, "", f"{path}: the mask of row 0\n")
    assert pixels(path.read_bytes()).any()


def test_in_characters(write: Any, inspect: Any, tokenizer: tokenizers.Tokenizer) -> None:
    status, out, _ = inspect(write([[two_turns(tokenizer)]]), "--mask")
    lines = out.splitlines()
    assert (status, len(lines)) == (0, 19)
    assert lines[:4] == ["  ░░", "  ░░░░", "  ░░░░░░", "▌ ░░░░░░██"]
    assert lines[-1] == "▌ trained   ░ h   ▒ r_in   ▓ r_out   █ t"


def test_colours_take_the_place_of_shades(tmp_path: Path) -> None:
    row = row_of_vector("two_turns_stripped", tmp_path)
    plain, coloured = (list(mask_lines(row, colour=each)) for each in (False, True))
    assert [click.unstyle(line).replace("█", "#") for line in coloured[:-1]] == [
        "".join("#" if each in "░▒▓█" else each for each in line) for line in plain[:-1]
    ]
    assert "\x1b[35m█" in "".join(coloured)


@pytest.mark.parametrize("name", ["two_turns_stripped", "calls_weighted"])
def test_the_areas_are_what_is_visible(name: str, tmp_path: Path) -> None:
    row = row_of_vector(name, tmp_path)
    root = ET.fromstring(mask_svg(row))
    length = len(row.input_ids)
    drawn = np.zeros((length, length), bool)
    for path in root.iter(f"{NAMESPACE}path"):
        for shape in SHAPE.findall(path.get("d") or ""):
            left, top, right, _, bottom, _ = (float(number) for number in shape)
            columns = [round((x - BAR) * length / SIZE) for x in (left, right)]
            rows = [round(y * length / SIZE) for y in (top, bottom)]
            drawn[slice(*rows), slice(*columns)] = True
    until = np.zeros(length, np.int32)
    for segment in row.segments:
        until[row.tokens(segment)] = segment.visible_until
    assert (np.tril(drawn) == visible(until)).all()
    assert {path.get("fill") for path in root.iter(f"{NAMESPACE}path")} <= {
        *COLOURS.values(),
        "#1d2127",
    }


def test_an_id_is_text(tmp_path: Path) -> None:
    row = row_of_vector("calls_weighted", tmp_path)
    row.samples[0] = type(row.samples[0])("</title><script>\x1b\u2028", 0, 9)
    root = ET.fromstring(mask_svg(row))
    assert "</title><script>" in (root.findtext(f"{NAMESPACE}title") or "")
    assert not list(root.iter(f"{NAMESPACE}script"))


def test_the_picture_of_the_readme_is_made_by_the_command(tmp_path: Path) -> None:
    lines = (FIXTURES / "chats.jsonl").read_text("utf-8").splitlines()
    chosen = next(line for line in lines if json.loads(line).get("id") == "river-crossing")
    (tmp_path / "chats.jsonl").write_text(chosen + "\n", "utf-8")
    pack_files([str(tmp_path / "chats.jsonl")], tmp_path / "packed", SKIPPING)
    made = CliRunner().invoke(cli, ["inspect", str(tmp_path / "packed"), "--svg", "-"])
    assert made.stdout == (Path(__file__).parent / "mask.svg").read_text("utf-8")
