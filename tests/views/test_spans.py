"""Each stretch of a view has its kind and its message."""

from __future__ import annotations

import numpy as np
from small_templates import chatml
from stories import answer, call, rendering, result, spans_of, user, views

from reasonpack.records.conversation import Message
from reasonpack.records.tool_calls import ToolCall
from reasonpack.tokens.view_tokens import Cutter, Pieces


def test_spans_of_an_ordinary_conversation() -> None:
    story = (Message("system", "S"), user("A"), call("T", "R"), result("F"), answer("B", "Q"))
    *_, view = views(rendering("tool_loop"), *story)
    assert spans_of(view) == [
        ("<|im_start|>system\nS<|im_end|>\n", "h", 0),
        ("<|im_start|>user\nA<|im_end|>\n", "h", 1),
        ("<|im_start|>assistant\n", "h", 2),
        ("<think>R</think>\n", "t", 2),
        ('T<tool_call>look_up {"query": "it"}</tool_call><|im_end|>\n', "r_in", 2),
        ("<|im_start|>tool\n<tool_response>F</tool_response><|im_end|>\n", "h", 3),
        ("<|im_start|>assistant\n", "h", 4),
        ("<think>Q</think>\n", "t", 4),
        ("B<|im_end|>", "r_out", 4),
    ]


def test_opener_in_the_prompt_counts_to_the_reasoning() -> None:
    (view,) = views(rendering("thinking_prompt"), user("A"), answer("B", "R"))
    assert spans_of(view)[-3:] == [
        ("<|im_start|>assistant\n", "h", 1),
        ("<think>\nR\n</think>\n\n", "t", 1),
        ("B<|im_end|>", "r_out", 1),
    ]
    assert view.prompt.endswith("<think>\n")


def test_spans_tile_a_view_whose_calls_are_not_all_shown() -> None:
    """Of two calls the template shows one; the name of the other is found in a later message."""
    first = "{% for c in (m.tool_calls or [])[:1] %}{{ '<|call|>' ~ c.function | tojson }}"
    chosen = rendering(chatml("{{ m.content }}" + first + "{% endfor %}"))
    find, run = (ToolCall(name, {"query": "it"}, None, "c0") for name in ("find", "run"))
    of = [
        Message("assistant", "", None, each, train=False) for each in [(find, run), (find,), (run,)]
    ]
    story = (user("A"), of[0], result("F"), result("G"), of[1], result("H"), of[2], result("I"))
    story = (*story, answer("Four, so."))
    (view,) = views(chosen, *story)
    stops = [span.stop for span in view.spans]
    assert stops == sorted(stops)
    assert spans_of(view)[-1] == ("Four, so.<|im_end|>", "r_out", 8)
    pieces = Pieces(lambda text: [text])
    cut = Cutter(pieces).add(view)
    pieces.encode(lambda texts: [np.frombuffer(text.encode(), np.uint8) for text in texts])
    encoded = pieces.look_up([[cut]])
    assert encoded.first_trained == [len(view.prompt)]
    assert encoded.trained.tolist() == [False] * len(view.prompt) + [True] * len(view.completion)
