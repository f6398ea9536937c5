"""What the dataset card says."""

from __future__ import annotations

import re

from packed_twice import Packed


def test_every_word_of_the_card_that_says_something_is_checked(packed: Packed) -> None:
    card = packed.directory / "README.md"
    before = card.read_text()
    said = r"(?<=config_name: )\w+|(?<=split: )\w+|(?<=path: ).+|(?<=reasonpack )[\d.]+|[\d,]{2,}"
    told = before.partition("\nTo look at the rows")[0]
    words = [*re.finditer(rf"{said}|`[^`]+`|\d+(?= conv| rows)|\((?=[a-z]).*?\)", told)]
    words = [each for each in words if "segment_" not in each[0] and ".json" not in each[0]]
    assert len(words) == 13, [each[0] for each in words]
    for word in words:
        text = word[0].translate(str.maketrans("0123456789aeio", "1234567890eioa"))
        card.write_text(before[: word.start()] + text + before[word.end() :])
        assert packed.verify().total, word[0]
