"""The picture of a mask is the mask."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from runs import FIXTURES, SKIPPING
from two_turns import row_of_vector

from reasonpack import pack_files
from reasonpack.cli import cli
from reasonpack.masks.dense import visible
from reasonpack.show.mask_svg import BAR, COLOURS, SIZE, mask_svg

NAMESPACE = "{http://www.w3.org/2000/svg}"
NUMBER = r"(-?[\d.]+)"
SHAPE = re.compile(f"M{NUMBER} {NUMBER}L{NUMBER} {NUMBER}V{NUMBER}H{NUMBER}Z")


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
