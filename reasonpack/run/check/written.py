r"""A document of tokens → the answers that a model wrote, and faults that show without a source.

    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\nGreet.\n</think>\n\nHello<|im_end|>\n
                                                          └──────────── written ─────────────────┘

An answer goes from the end of its header to the end of its stop token. All other text comes from
the template or from other roles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from reasonpack.records.message import Message
from reasonpack.rows.encoded_views import runs
from reasonpack.run.check.prepared import Document
from reasonpack.run.context import Context
from reasonpack.templates.learn.marked_chats import (
    ANSWER,
    CALLED,
    NEXT,
    RESULT,
    Probe,
    call,
    result,
    user,
)
from reasonpack.tokens.token_bytes import bytes_of_tokens

FAULTS = {
    "template-text": "template text, or text that the model did not write, is trained",
    "after-stop": "text after the stop token is trained, which the model does not write",
    "stop-untrained": "the stop token after a trained answer is not trained",
    "stop-missing": "a trained answer ends without a stop token",
    "cut": "a row ends within a trained answer, without a stop token",
    "old-reasoning": "reasoning of earlier turns, which the template drops, precedes trained text",
    "empty-think": "an empty block of reasoning that the template writes is trained",
    "reasoning-lost": "an answer is trained without the reasoning that it has in the source",
    "context": "an answer is trained after a context that the model does not see",
    "joined": "a chat follows another one in its row, and nothing keeps it from seeing that one",
    "text": "text is trained that the model does not write there",
    "labels": "labels of trained tokens differ from input_ids; labels must not be shifted",
}
"""What each code of a fault means."""
NEAR = 4
"""The end of an answer is meant to be trained if one of so many tokens before it is trained."""


class Fault(Struct, frozen=True):
    """A fault: tokens of a document from `start` to `stop`, and the expected text, if known."""

    code: str
    start: int
    stop: int
    expected: str = ""


class Answer(Struct, frozen=True):
    """What the model wrote in a document: tokens from `start` to `stop`.

    Attributes:
        start: first token after the header, and after a reasoning opener in the prompt.
        stop: one past the stop token; without one, one past the last token before other text.
        block: one past the reasoning block that it begins with; `start` without one.
        ends: whether it has a stop token.
        empty: whether it has a reasoning block and that is empty.
        user: whether a user message is between the previous answer and this one.
    """

    start: int
    stop: int
    block: int
    ends: bool
    empty: bool
    user: bool


class Read(Struct, frozen=True):
    """A document, its text as bytes, where each token begins in these, and its answers."""

    document: Document
    text: bytes
    starts: NDArray[np.int64]
    answers: list[Answer]

    def words(self, start: int, stop: int) -> str:
        """Return the text of the tokens from `start` to `stop`."""
        return self.text[self.starts[start] : self.starts[stop]].decode("utf-8", "backslashreplace")


class Reader:
    """Finds answers and faults in documents that were rendered with a chat template."""

    def __init__(self, context: Context) -> None:
        rendering = context.without_tools
        behaviour, self.tokenizer = rendering.behaviour, context.tokenizer
        self.behaviour = behaviour
        self.piece: Callable[[int], bytes] = cache(bytes_of_tokens(context.tokenizer))
        probe = Probe(
            rendering.template,
            rendering.variables,
            behaviour.forms,
            context.tokenizer.added_tokens,
            variables=behaviour.not_thinking,
        )
        stops = {behaviour.answer_stop.token.strip(), behaviour.call_stop.token.strip()} - {""}
        header = behaviour.header or behaviour.ends.get("user", "")
        self.user = _begins(
            probe, [user(), Message("assistant", ANSWER), user(NEXT)], ANSWER, NEXT, stops
        )
        self.tool = _begins(probe, [user(), call(), result()], CALLED, RESULT, stops)
        self.header, self.stop = header.encode(), _any(stops)
        self.begin = self._begin(probe.render([user(), Message("assistant", ANSWER), user(NEXT)]))
        self.others = _any({*stops, header, self.user, self.tool}) or re.compile(b"$a")
        tags = {behaviour.opener.strip(), behaviour.closer.strip()}
        texts = {*context.tokenizer.special, *stops, header, self.user, self.tool, *tags}
        self.special = _any(texts)
        block = re.escape((behaviour.prompt_opener + behaviour.opener).strip().encode())
        closer = re.escape(behaviour.closer.strip().encode())
        self.block = (
            re.compile(rb"\s*(?:%s)?(.*?)%s\s*" % (block, closer), re.DOTALL) if closer else None
        )

    def _begin(self, chat: str) -> int | None:
        """Return the id of the special token that begins a chat and is only there; None without."""
        tokenizer = self.tokenizer
        texts = (text for text in tokenizer.special if chat.startswith(text))
        found = max(texts, key=len, default="")
        return tokenizer.reference.token_to_id(found) if chat.count(found) == 1 else None

    def read(self, document: Document) -> Read:
        """Find the answers in a document.

        Raises:
            TokenizerError: an id that the tokenizer does not have.
        """
        pieces = [self.piece(token) for token in document.ids.tolist()]
        starts = np.concatenate(([0], np.cumsum([len(piece) for piece in pieces], dtype=np.int64)))
        text = b"".join(pieces)
        return Read(document, text, starts, list(self._answers(text, starts)))

    def _answers(self, text: bytes, starts: NDArray[np.int64]) -> Iterator[Answer]:
        header, opener = self.header, self.behaviour.prompt_opener.encode()
        heads = [match.end() for match in re.finditer(re.escape(header), text)] if header else []
        before = 0
        for head in heads:
            if head < before:  # the text that closes reasoning may contain a header
                continue
            begin = head + len(opener) if opener and text.startswith(opener, head) else head
            match = self.block.match(text, head) if self.block else None
            if match and self.others.search(match[1]):
                match = None
            block = match.end() if match else begin
            others = self.others.search(text, block)
            end = others.start() if others else len(text)
            ends = bool(others and self.stop and self.stop.fullmatch(others[0]))
            end += len(others[0]) if others and ends else 0
            first, last, inner = np.searchsorted(starts, (begin, end, block)).tolist()
            is_empty = bool(match and not match[1].strip())
            yield Answer(first, last, inner, ends, is_empty, self._speaks(text[before:head]))
            before = end

    def _speaks(self, between: bytes) -> bool:
        """Return whether a text has a user message; tool results that begin alike do not count."""
        user, tool = self.user.encode(), self.tool.encode()
        return bool(user) and any(
            not (tool and between.startswith(tool, at))
            for at in (match.start() for match in re.finditer(re.escape(user), between))
        )

    def suspects(self, read: Read) -> Iterator[Fault]:
        """Yield the faults that the tokens of a document show without a source."""
        document, trained = read.document, read.document.trained
        wrong = trained & (document.labels != document.ids)
        if wrong.any() or not read.answers:  # wrong labels cause all other faults
            yield from (Fault("labels", start, stop) for start, stop in runs(wrong))
            return
        written = np.zeros(len(trained), bool)
        for answer in read.answers:
            written[answer.start : answer.stop] = True
        for start, stop in runs(trained & ~written):
            follows = start > 0 and written[start - 1]
            blank = follows and not read.words(start, stop).strip()
            yield Fault("after-stop" if blank else "template-text", start, stop)
        old = loop = 0  # blocks with reasoning in earlier turns, and in this one
        for answer in read.answers:
            if answer.user:
                old, loop = old + loop, 0
            own = answer.start + np.flatnonzero(trained[answer.start : answer.stop])
            if own.size:
                dropped = old * (not self.behaviour.kept_after_user)
                if dropped + loop * (not self.behaviour.kept_in_loop):
                    yield Fault("old-reasoning", int(own[0]), int(own[-1]) + 1)
                if answer.empty and trained[answer.start]:
                    yield Fault("empty-think", answer.start, answer.block)
                yield from _stops(trained, answer)
            loop += answer.block > answer.start and not answer.empty


def _stops(trained: NDArray[np.bool_], answer: Answer) -> Iterator[Fault]:
    last = answer.stop - 1
    # A mask made by characters may leave out the last bytes of one, or the space after it.
    if not trained[max(answer.block, last - NEAR) : last + (not answer.ends)].any():
        return
    if not answer.ends:
        yield Fault("cut" if answer.stop == len(trained) else "stop-missing", last, last + 1)
    elif not trained[last]:
        yield Fault("stop-untrained", last, last + 1)


def _begins(probe: Probe, chat: list[Message], mark: str, next_: str, stops: set[str]) -> str:
    """Return the text that begins message `next_`, after message `mark` and its stop token."""
    between = probe.render(chat).rpartition(mark)[2].partition(next_)
    text = between[0] if between[1] else ""
    for stop in stops:
        text = text.rpartition(stop)[2]
    return text.strip()


def _any(texts: set[str]) -> re.Pattern[bytes] | None:
    longest = sorted((text.encode() for text in texts - {""}), key=len, reverse=True)
    return re.compile(b"|".join(map(re.escape, longest))) if longest else None
