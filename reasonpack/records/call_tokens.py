"""The token ids, masks, logprobs and advantages that a log has of a call → arrays.

    prompt_token_ids      [5, 6]          prompt_ids      int32 [5, 6]
    completion_token_ids  [7, 8, 2]       completion_ids  int32 [7, 8, 2]
    loss_mask             [0, 0, 1, 0, 1] loss_mask       bool  [1, 0, 1]   without the prompt
    advantage             0.5             advantages      float32 [0.5, 0.5, 0.5]
    logprobs              {"content": [{"logprob": -0.1}, …]}

Nothing is repaired: a list of the wrong length, a value that is not a finite number, and an id
out of range are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonpack.errors import RecordError
from reasonpack.records.no_messages import SAMPLES
from reasonpack.records.repeated_items import Ids
from reasonpack.records.value_types import wrong_type
from reasonpack.wording import count

LARGEST_ID = 2**31 - 1
"""The largest token id that a dataset can hold."""
Arrays = dict[str, NDArray[Any]]
"""Arrays for `calls.Call`, by the names of its attributes."""


def read_tokens(found: Mapping[str, Any]) -> Arrays:
    """Convert the values of a call's tokens, by the keys of `TOKEN_NAMES`, to arrays.

    A `loss_mask` is for the completion, or for prompt and completion; then the prompt's part must
    be 0. A single number as `advantages` or `loss_mask` is for the whole completion; without ids
    it becomes an array of one element. `logprobs` without ids are left out.

    Raises:
        RecordError: a value that cannot be read exactly; its path begins with its key.

    >>> read_tokens({"prompt_ids": [5], "completion_ids": [7, 2], "advantages": 1})["advantages"]
    array([1., 1.], dtype=float32)
    """
    if ("prompt_ids" in found) != ("completion_ids" in found):
        here, there = "prompt_ids", "completion_ids"
        if there in found:
            here, there = there, here
        lacking = there.partition("_")[0]
        fix = f"log the {lacking}'s ids too, or leave this field out"
        if here == "completion_ids":
            fix += "; write ids of both in one list as tokens, with response_length"
        raise RecordError("missing", here, f"ids without those of the {lacking}", "both", fix)
    if "prompt_ids" not in found:
        return _without_ids(found)
    read: Arrays = {name: read_ids(found[name], name) for name in ("prompt_ids", "completion_ids")}
    prompt, size = (ids.size for ids in read.values())
    if "loss_mask" in found:
        read["loss_mask"] = _mask(found["loss_mask"], prompt, size)
    if "logprobs" in found:
        read["logprobs"] = _logprobs(found["logprobs"], size, read.get("loss_mask"))
    if "advantages" in found:
        read["advantages"] = _numbers(found["advantages"], "advantages", size)
    return read


def _without_ids(found: Mapping[str, Any]) -> Arrays:
    for name in ("loss_mask", "advantages"):
        if isinstance(found.get(name), list):
            what = "a value for each token without ids"
            fix = "log the ids of the prompt and the completion, or leave the field out"
            raise RecordError("missing", name, what, "ids of the tokens", fix)
    read: Arrays = {}
    if "advantages" in found:
        read["advantages"] = _numbers(found["advantages"], "advantages", 1)
    if "loss_mask" in found:
        read["loss_mask"] = _mask(found["loss_mask"], 0, 1)
    return read


def read_ids(value: object, path: str) -> NDArray[np.int32]:
    """Convert a list of token ids to i32[N]; an array is returned as it is.

    Raises:
        RecordError: reason `type`.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, Ids):
        return value.array
    if not isinstance(value, list):
        raise wrong_type(path, type(value).__name__, "a list of token ids")
    if set(map(type, value)) - {int}:
        at = next(i for i, each in enumerate(value) if type(each) is not int)
        fix = SAMPLES if isinstance(value[at], list) else ""
        kind = type(value[at]).__name__
        raise wrong_type(f"{path}[{at}]", kind, "a token id, an integer", fix=fix)
    try:
        read = np.array(value, np.int64)
    except OverflowError:
        read = None
    if read is None or (read.size and not 0 <= read.min() <= read.max() <= LARGEST_ID):
        at = next(i for i, each in enumerate(value) if not 0 <= each <= LARGEST_ID)
        what = f"got {str(value[at])[:30]}"
        fix = "log the ids that the model saw and wrote, without padding or placeholders"
        raise RecordError("type", f"{path}[{at}]", what, f"a token id from 0 to {LARGEST_ID}", fix)
    return read.astype(np.int32)


def _numbers(value: object, path: str, size: int) -> NDArray[np.float32]:
    """Convert a list of `size` numbers, or one number for all of them, to f32[size]."""
    if not isinstance(value, list):
        return np.full(size, read_number(value, path), np.float32)
    _check_size(len(value), size, path)
    if set(map(type, value)) <= {int, float}:
        with suppress(OverflowError), np.errstate(over="ignore"):
            read = np.array(value, np.float64).astype(np.float32)
            if np.isfinite(read).all():
                return read
    return np.array([read_number(each, f"{path}[{i}]") for i, each in enumerate(value)])  # raises


def read_number(value: Any, path: str, *, missing: str = "0") -> float:
    """Return a number that 32 bits can hold; an error suggests to write `missing` instead.

    Raises:
        RecordError: reason `type`.
    """
    if type(value) not in (int, float):
        raise wrong_type(path, type(value).__name__, "a number")
    if not abs(value) <= float(np.finfo(np.float32).max):
        what, expected = f"got {str(value)[:30]}", "a finite number that 32 bits can hold"
        raise RecordError("type", path, what, expected, f"write {missing}, or leave the call out")
    return float(value)


def _check_size(length: int, size: int, path: str) -> None:
    if length != size:
        what = f"a list of {length:,}"
        expected = f"a value for each of the {size:,} completion tokens"
        fix = "log it for the tokens of the completion, no more and no fewer, or leave it out"
        raise RecordError("conflict", path, what, expected, fix)


def _mask(value: object, prompt: int, size: int) -> NDArray[np.bool_]:
    if not isinstance(value, list):
        return _flags([value] * size, whole=True)
    flags = _flags(value, whole=False)
    if len(value) == size:
        return flags
    if len(value) != prompt + size:
        expected = f"a flag for each of the {size:,} completion tokens, or for each of the "
        expected += f"{count(prompt + size, 'token')} of prompt and completion"
        fix = "log it for the completion's tokens"
        if len(value) == prompt + size - 1:
            fix = f"if each flag is for the token after it, put a 0 before them; else {fix}"
        raise RecordError("conflict", "loss_mask", f"a list of {len(value):,}", expected, fix)
    if flags[:prompt].any():
        at = int(flags[:prompt].argmax())
        what = "a token of the prompt that is to be trained"
        fix = "write 0 here; what the model wrote before is the completion of another call"
        if at == prompt - 1:
            fix = "if each flag is for the token after it, move all flags one place to the right; "
            fix += "else write 0 here"
        expected = "those of the completion only"
        raise RecordError("conflict", f"loss_mask[{at}]", what, expected, fix)
    return flags[prompt:]


def _flags(values: list[Any], *, whole: bool) -> NDArray[np.bool_]:
    for i, value in enumerate(values if set(map(type, values)) - {bool} else ()):
        at = "loss_mask" if whole else f"loss_mask[{i}]"
        if not isinstance(value, bool | int | float):
            raise wrong_type(at, type(value).__name__, "0 or 1")
        if value not in (0, 1):
            fix = "write 1 for a token to train and 0 for the others; weight is of a whole call"
            raise RecordError("weight", at, f"got {str(value)[:30]}", "0 or 1", fix)
    return np.array(values, np.bool_)


def _logprobs(value: object, size: int, mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Convert log probabilities to f32[size]; a null is 0 if `mask` does not train its token."""
    path, listed = _logprob_list(value)
    _check_size(len(listed), size, path)
    if mask is not None:
        pairs = zip(listed, mask.tolist(), strict=True)
        listed = [0.0 if each is None and not trained else each for each, trained in pairs]
    read = _numbers(listed, path, size)
    if (read > MOST_LOGPROB).any():
        at = int((read > MOST_LOGPROB).argmax())
        what = f"got {listed[at]}"
        expected = f"the logarithm of a probability, {MOST_LOGPROB} at most"
        fix = "log natural logarithms, or leave the field out"
        raise RecordError("type", f"{path}[{at}]", what, expected, fix)
    return read


MOST_LOGPROB = 0.01
"""Largest log probability that FORMAT.md allows: rounding may put the logarithm of 1 above 0."""


def _logprob_list(value: object) -> tuple[str, list[Any]]:
    """Return the path and the list of log probabilities, which may be in a service's object."""
    path = "logprobs"
    if isinstance(value, dict):
        name = "content" if value.get("content") is not None else "token_logprobs"
        path, value = f"{path}.{name}", value.get(name)
    if not isinstance(value, list):
        raise wrong_type(path, type(value).__name__, "a list of numbers")
    if value and all(isinstance(each, dict) for each in value):
        return path, [each.get("logprob") for each in value]
    return path, value
