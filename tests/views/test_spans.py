"""Each stretch of a view has its kind and its message."""

from __future__ import annotations

from stories import answer, call, rendering, result, spans_of, user, views

from reasonpack.records.conversation import Message


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
