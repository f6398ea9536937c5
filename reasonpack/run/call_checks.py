"""Checks of a trained call, before its view is cut: its values have columns, its ids are tokens."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from reasonpack.errors import RecordError
from reasonpack.records.calls import Call
from reasonpack.tokens.tokenizer import Tokenizer
from reasonpack.views.chosen import PARTS, read_train_on

VALUES = ("logprobs", "advantages")
"""Values of tokens; if a trained call has none and there is a column, it holds NaN."""
OPTION = "--call-columns"


def check_columns(call: Call, columns: AbstractSet[str], asked: AbstractSet[str]) -> list[str]:
    """Check that a call has columns for its values, and values for the columns in `asked`.

    Returns:
        Other `columns` of values that it lacks.

    Raises:
        RecordError: it lacks one.
    """
    needs = {name: getattr(call, name) is not None for name in VALUES}
    needs |= {"call_reward": call.reward is not None, "call_role": call.role != "none"}
    needs["preference_labels"] = call.role == "rejected"
    lacking: list[str] = []
    for name, is_there in needs.items():
        if is_there and name not in columns:
            what = f"a value for the column {name}, which the run does not have"
            fix = f"pass {OPTION} with {name} in it, or leave the value out: --ignore-fields with "
            fix += "its name, dotted where it is nested (steps.metrics.logprobs)"
            raise RecordError("column", name.removeprefix("call_"), what, "none", fix)
        if name in VALUES and not is_there and name in columns:
            if name in asked:
                expected = f"them, as {OPTION} names the column"
                fix = f"log them for each call, or leave {OPTION} out, for NaN where there are none"
                raise RecordError("column", "", f"a trained call without {name}", expected, fix)
            lacking.append(name)
    return lacking


def check_ids(call: Call, tokenizer: Tokenizer, train_on: str) -> None:
    """Check that a call's ids can be trained.

    Raises:
        RecordError: an id is unknown, the prompt is empty, or --train-on takes parts of answers.
    """
    if read_train_on(train_on).parts != PARTS:
        what = "token ids, which do not say what of an answer is reasoning, response or tool calls"
        expected = f"messages alone for --train-on {train_on}"
        fix = "log a loss_mask of the tokens to train and leave --train-on out, or leave the ids "
        fix += "out with --ignore-fields"
        raise RecordError("column", "completion_ids", what, expected, fix)
    assert call.prompt_ids is not None
    assert call.completion_ids is not None
    for name, ids in (("prompt_ids", call.prompt_ids), ("completion_ids", call.completion_ids)):
        at = int(ids.argmax()) if ids.size else 0
        if ids.size and tokenizer.lookup()(int(ids[at])) is None:
            what = f"id {ids[at]}"
            expected = f"one of the {tokenizer.vocab_size:,} of the tokenizer"
            fix = "pass the tokenizer of the model that was called"
            raise RecordError("vocabulary", f"{name}[{at}]", what, expected, fix)
    if not call.prompt_ids.size:
        what, expected = "no token", "a prompt that the model answers"
        raise RecordError("no-prompt", "prompt_ids", what, expected, "log the prompt's ids too")
