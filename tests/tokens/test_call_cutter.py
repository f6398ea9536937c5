"""Prompts of several agents, each cut after what it shares with the agent's prompt before."""

from __future__ import annotations

import re

from reasonpack.rows.kind import Kind
from reasonpack.tokens.call_cutter import CallCutter
from reasonpack.tokens.view_tokens import Pieces
from reasonpack.views.spans import Span
from reasonpack.views.view import View


def view(prompt: str, completion: str) -> View:
    end = len(prompt) + len(completion)
    return View(
        1, prompt, completion, (Span(len(prompt), Kind.CONTEXT, 0), Span(end, Kind.R_OUT, 1))
    )


def test_calls_of_agents_in_turn_share_with_their_own() -> None:
    def cut(text: str) -> list[str]:
        return re.findall(r"[^|]*\|", text)

    pieces = Pieces(cut, reach=1)
    cutter = CallCutter(pieces)
    views = [
        view("one|a|b|", "c|"),
        view("another|x|y|", "z|"),
        view("one|a|b|c|d|", "e|"),
        view("another|x|y|z|w|", "v|"),
    ]
    cuts = [cutter.add(each, ()) for each in views]
    for each, made in zip(views, cuts, strict=True):
        whole = pieces.number_all([*cut(each.prompt), *cut(each.completion)])
        assert tuple(made.pieces.tolist()) == whole
    assert [each.before for each in cuts] == [None, None, cuts[0], cuts[1]]
    assert [each.shared > 0 for each in cuts] == [False, False, True, True]
    assert pieces.characters == len("one|a|b|c|another|x|y|z|b|c|d|e|y|z|w|v|")
