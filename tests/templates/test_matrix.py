"""Every shape of message under every real template: the view that a person reviewed, or a refusal.

The goldens hold texts of the probes only. `regenerate.py` writes them; what it changes has to be
read against what the model does. The stops are compared with a table of their own, which was
written from the models' files and not from what the package finds.
"""

from __future__ import annotations

import assets
import pytest
from matrix import GOLDEN, SHAPES, golden, golden_path, learned
from published import CALL_STOPS, LISTED_OTHERWISE, STOPS, TEMPLATES

from reasonpack.errors import TemplateError

pytestmark = pytest.mark.network


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_gives_the_reviewed_views(name: str) -> None:
    assert golden(name) == golden_path(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TEMPLATES)
def test_messages_end_where_the_model_stops(name: str) -> None:
    try:
        _, behaviour = learned(name)
    except TemplateError:
        refused = golden_path(name).read_text(encoding="utf-8").startswith("refused: ")
        assert refused, "a template that was read before is refused"
        return
    assert behaviour.answer_stop.token.strip() == STOPS[name]
    # A template that shows no calls has no end of them.
    assert behaviour.call_stop.token.strip() in {CALL_STOPS.get(name, STOPS[name]), ""}


def test_the_reviewed_stops_are_the_published_ones() -> None:
    """The list of models names a template's stops; where the review departs, it says why."""
    listed = {name: assets.published_stops(name) for name in TEMPLATES}
    departs = {name for name, stops in listed.items() if stops and STOPS[name] not in stops}
    assert departs == set(LISTED_OTHERWISE)
    assert sum(map(bool, listed.values())) >= 50


def test_each_golden_is_tested() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        golden_path(name).name for name in TEMPLATES
    }
    assert len(TEMPLATES) >= 110
    assert len(SHAPES) == 16


def test_most_templates_are_read() -> None:
    read = [path for path in GOLDEN.iterdir() if not path.read_text("utf-8").startswith("refused")]
    assert len(read) >= 110
