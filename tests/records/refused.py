"""Records that cannot be packed, each with the reason, the message and the fix."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from reasonpack.records.draft import ROLES

ASK = {"role": "user", "content": "2+2?"}
ANSWER = {"role": "assistant", "content": "4"}


def chat(*messages: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def answer(**fields: Any) -> dict[str, Any]:
    """A chat whose second message is an assistant message with these fields."""
    return chat(ASK, {"role": "assistant", **fields})


CALL = {"name": "f", "arguments": {}}
EMPTY = 'write "" where the text is empty'
KEEP = "keep one of the two"
MEDIA = "only text can be packed: leave the record out, or pass --on-error skip to collect such"
MEND = "remove the field, or correct the role"
RECORD = 'write {"messages": […]}, or another record of schemas/record.schema.json'
ROLE_FIX = f"write one of {', '.join(ROLES)}"
WITH_A_STOP = "train it with a stop, unless another field says that it was cut off"
TEXT_ONLY = 'write "type": "text" if it is text, else leave it out (--on-error skip)'
TWICE = "remove or rename one of the two"
WHOLE = "write one whole JSON value, e.g. with a JSON library"

SPLIT = (
    "split the message in two here if the model stopped in between; else leave the record out "
    "(--on-error skip)"
)
UNCLOSED = 'close it, write "finish_reason": "length" if it was cut off, or remove the message'
STRAY = "a </think> that can be read in two ways"
DECIDE = "pass --stray-closing-tag text or --stray-closing-tag reasoning to say which"
UNREAD = "a field that is not read and may hold what the model is to learn"

# What is wrong: the record, then the reason, the message and the fix.
REFUSED: dict[str, tuple[object, str, str, str]] = {
    "an answer to be joined with reasoning before it, of no text": (
        chat(
            ASK,
            {"role": "assistant", "reasoning": "Add."},
            {"role": "assistant", "content": {"a": 1}, "tool_calls": [CALL]},
        ),
        "type",
        "messages[2].content: got an object, expected a string or a list",
        "write its text",
    ),
    "a closing tag that is not first on its line": (
        answer(content="It writes </think> and then answers."),
        "closing-tag",
        (
            f"messages[1].content: {STRAY}: as text, the answer is 'It writes </think> and "
            "then an'… without reasoning; as the end of reasoning, the reasoning is 'It writes ' "
            "and the answer ' and then answers.', expected only one way"
        ),
        DECIDE,
    ),
    "a second closing tag": (
        answer(content="<think>a</think>b\n</think>c"),
        "closing-tag",
        (
            f"messages[1].content: {STRAY}: as text, the reasoning is 'a' and the answer "
            "'b\\n</think>c'; as the end of reasoning, the reasoning is 'a</think>b' and the "
            "answer 'c', expected only one way"
        ),
        DECIDE,
    ),
    "a closing tag beside reasoning": (
        answer(content="A\n</think>\nB", reasoning="Hm."),
        "closing-tag",
        (
            "messages[1].content: a </think> in the answer, though a field holds the reasoning: "
            "the reasoning is 'Hm.' and the answer 'A\\n</think>\\nB', expected no tag in the "
            "answer"
        ),
        "pass --stray-closing-tag text to train the tag as text, or take it out",
    ),
    "a closing tag in a field of reasoning": (
        answer(content="4", reasoning="I close it with </think> and answer."),
        "closing-tag",
        (
            "messages[1]: a field of reasoning that holds '</think>', which ends the reasoning "
            "where the model's output is read, expected it after the reasoning only"
        ),
        "pass --stray-closing-tag text, or take the tag out of the reasoning",
    ),
    "tags inside an answer": (
        answer(content="See <think>a</think>."),
        "closing-tag",
        (
            "messages[1].content: <think> and </think> in the middle of the answer: the "
            "answer is 'See <think>a</think>.' without reasoning, expected "
            "reasoning at its beginning only"
        ),
        "pass --stray-closing-tag text to train the tags as text, or take them out",
    ),
    "reasoning with its tags in a field": (
        answer(content="4", reasoning="<think>\neasy\n</think>"),
        "content",
        "messages[1]: reasoning that begins with <think>, expected the text between the tags",
        "leave the tags out of the field",
    ),
    "reasoning with its tags in a part": (
        answer(content=[{"type": "thinking", "thinking": "<think>\neasy\n</think>"}]),
        "content",
        "messages[1]: reasoning that begins with <think>, expected the text between the tags",
        "leave the tags out of the field",
    ),
    "a field of an answer that nobody reads": (
        answer(content="4", reasoning_contnet="easy"),
        "unknown-field",
        (
            f"messages[1].reasoning_contnet: {UNREAD}: 'reasoning_contnet' (1 time, like "
            "reasoning_content), expected none"
        ),
        (
            "pass --field reasoning_contnet=reasoning_content to read it, or --ignore-fields "
            "reasoning_contnet to leave it out"
        ),
    ),
    "a list": (
        [ASK],
        "type",
        "got a list, expected an object",
        RECORD,
    ),
    "no messages": (
        {"text": "hi", "\x1b[2J": 1},
        "missing",
        "no messages among the fields 'text, \\x1b[2J', expected some",
        (
            "write messages, conversations, conversation, or prompt and completion; or name the "
            "fields that hold them, with --field NAME=prompt --field NAME=completion"
        ),
    ),
    "messages under another name": (
        {"trajectory": [ASK, ANSWER], "prompt": [ASK]},
        "missing",
        "no messages among the fields 'trajectory, prompt', expected some",
        "pass --field trajectory=messages",
    ),
    "messages as JSON text under one of two other names": (
        {"chat": json.dumps([ASK, ANSWER]), "chat_again": [ASK, ANSWER]},
        "missing",
        "no messages among the fields 'chat, chat_again', expected some",
        "pass --field chat=messages or --field chat_again=messages",
    ),
    "a question and its answer": (
        {"Question": "2+2?", "Response": "4", "input": "", "answer": "4"},
        "missing",
        "no messages among the fields 'Question, Response, input, answer', expected some",
        "pass --field Question=prompt --field Response=completion",
    ),
    "an answer to a prompt": (
        {"prompt": "2+2?", "output": "4"},
        "missing",
        "no messages among the fields 'prompt, output', expected some",
        "pass --field output=completion",
    ),
    "texts of messages under another name": (
        chat({"role": "user", "text": "2+2?"}, ANSWER),
        "content",
        "messages[0].content: no content, but 'text', expected text",
        "pass --field text=content",
    ),
    "a batch of token ids": (
        {"tokens": [[5, 6, 7]], "masks": [[-100, 6, 7]], "scores": [1.0]},
        "missing",
        "no messages among the fields 'tokens, masks, scores', expected some",
        (
            "write each sample as a record of its own, with its values from all lists: its ids as "
            "prompt_ids and completion_ids, or as tokens with response_length, and as loss_mask 1 "
            "for each of them to train and 0 for the others"
        ),
    ),
    "the name of an image": (
        {"messages": [ASK, ANSWER], "image": "registry/boats:1"},
        "media",
        "image: image of the record, expected text",
        f"{MEDIA}; or pass --ignore-fields record.image if the model saw none",
    ),
    "a sample that is to be removed": (
        {"messages": [ASK, ANSWER], "remove_sample": True},
        "weight",
        "remove_sample: got true, with which it is not trained, expected none",
        "leave it out (--on-error skip), or pass --ignore-fields remove_sample to train it",
    ),
    **{
        f"a record with {name} {value}": (
            {"prompt": "2+2?", "completion": "4", name: value},
            "weight",
            f"{name}: got {str(value).lower()}, with which it is not trained, expected none",
            f"leave it out (--on-error skip), or pass --ignore-fields {option} to train it",
        )
        for name, value, option in [
            ("label", False, "label"),
            ("kto_tag", "false", "kto_tag"),
            ("train", False, "record.train"),
            ("trainable", 0, "record.trainable"),
            ("loss", "false", "record.loss"),
        ]
    },
    **{
        f"a sample of status {status}": (
            {"messages": [ASK, ANSWER], "status": status},
            "weight",
            f"status: got '{status}', so its generation failed, expected a whole sample",
            f"leave it out (--on-error skip), or pass --ignore-fields status to {WITH_A_STOP}",
        )
        for status in ("aborted", "Status.Failed")
    },
    "a sample that a clock ended": (
        {"messages": [ASK, ANSWER], "termination_reason": "timeout"},
        "weight",
        "termination_reason: got 'timeout', so its generation failed, expected a whole sample",
        (
            "leave it out (--on-error skip), or pass --ignore-fields termination_reason to "
            f"{WITH_A_STOP}"
        ),
    ),
    "an answer with an error": (
        {"messages": [ASK, {**ANSWER, "error": True}]},
        "weight",
        "messages[1].error: got 'True', so its generation failed, expected a whole sample",
        f'set "train": false on it, or pass --ignore-fields message.error to {WITH_A_STOP}',
    ),
    "a sample with a flag of an error": (
        {"messages": [ASK, ANSWER], "error": True},
        "weight",
        "error: got 'True', so its generation failed, expected a whole sample",
        f"leave it out (--on-error skip), or pass --ignore-fields error to {WITH_A_STOP}",
    ),
    "a sample with an error": (
        {"prompt": [ASK], "completion": [ANSWER], "error": {"error": "ToolError"}},
        "weight",
        "error: got \"{'error': 'ToolError'}\", so its generation failed, expected a whole sample",
        f"leave it out (--on-error skip), or pass --ignore-fields error to {WITH_A_STOP}",
    ),
    "an advantage": (
        {"prompt": [ASK], "completion": "4", "advantage": -0.5},
        "unknown-field",
        (
            "advantage: a field that is not read and may hold what the model is to learn: "
            "'advantage' (1 time), expected none"
        ),
        (
            "pass --input-format calls to train with 'advantage', or --ignore-fields advantage to "
            "leave it out"
        ),
    ),
    "a request under another name": (
        {"inputs": {"messages": [ASK]}, "outputs": ANSWER},
        "missing",
        "no messages among the fields 'inputs, outputs', expected some",
        "pass --field inputs=request --field outputs=response",
    ),
    "completion without prompt": (
        {"completion": "4"},
        "missing",
        "completion without prompt, expected both",
        "write the prompt, too",
    ),
    "two containers": (
        chat(ASK, ANSWER, conversations=[ASK, ANSWER]),
        "conflict",
        "messages and conversations, expected one of them",
        "keep the one to train on",
    ),
    "messages that are text": (
        {"messages": "2+2?"},
        "type",
        "messages: got a string, expected a list",
        "write a list, not text",
    ),
    "a message that is text": (
        chat(ASK, "4"),  # type: ignore[arg-type]
        "type",
        "messages[1]: got a string, expected an object",
        "write an object, not text",
    ),
    "a prompt that is an object": (
        {"prompt": {}, "completion": "4"},
        "type",
        "prompt: got an object, expected a string or a list",
        "write its text",
    ),
    "a role that is a number": (
        chat({"role": 3, "content": "hi"}),
        "type",
        "messages[0].role: got an integer, expected a string",
        "write it in quotes",
    ),
    "no role": (
        chat({"content": "hi"}),
        "missing",
        "messages[0]: no role, expected one",
        ROLE_FIX,
    ),
    "a misspelt role": (
        chat({"rol": "user", "content": "hi"}, {"role": "assistant", "content": "4"}),
        "missing",
        "messages[0]: no role, but 'rol', expected one",
        "pass --field rol=role",
    ),
    "a thought within the answer": (
        answer(content=f"So: {'4' * 41}", thought="4" * 41),
        "conflict",
        "messages[1].thought: a thought that is in the content too, expected it once",
        "take it out of the content, or remove the field",
    ),
    "an unknown role": (
        chat(ASK, {"role": "Assistant\x1b", "content": "4"}),
        "role",
        "messages[1].role: unknown role 'Assistant\\x1b', expected a known one",
        f"{ROLE_FIX}; or pass --role NAME=ROLE to read it as one of these",
    ),
    "two roles": (
        chat(ASK, {"role": "assistant", "from": "human", "content": "4"}),
        "conflict",
        "messages[1]: role and from differ, expected one of them or the same in each",
        "keep one of role, from",
    ),
    "two contents": (
        answer(content="4", value="5"),
        "conflict",
        "messages[1]: content and value differ, expected one of them or the same in each",
        "keep one of content, value",
    ),
    "two reasonings": (
        answer(content=[{"type": "thinking", "thinking": "a"}], reasoning="b", thought="b"),
        "conflict",
        (
            "messages[1]: reasoning and thought and thinking parts differ, expected one of them "
            "or the same in each"
        ),
        "keep one of reasoning, thought, thinking parts",
    ),
    "fields of a provider that are a number": (
        answer(content="4", provider_specific_fields=5),
        "type",
        "messages[1].provider_specific_fields: got an integer, expected an object",
        "write an object",
    ),
    "content that is an object": (
        answer(content={"text": "4"}),
        "type",
        "messages[1].content: got an object, expected a string or a list",
        "write its text",
    ),
    "content that is a number": (
        chat({"from": "human", "value": 4}),
        "type",
        "messages[0].value: got an integer, expected a string or a list",
        "write it in quotes",
    ),
    "user content null": (
        chat({"role": "user", "content": None}, ANSWER),
        "content",
        "messages[0].content: no content, expected text",
        EMPTY,
    ),
    "tool content missing": (
        chat(ASK, {"role": "tool"}, ANSWER),
        "content",
        "messages[1].content: no content, expected text",
        EMPTY,
    ),
    "an answer with nothing in it": (
        answer(content=None, reasoning_content="", tool_calls=[]),
        "content",
        "messages[1].content: no content, expected text",
        EMPTY,
    ),
    "an image": (
        chat({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ANSWER),
        "media",
        "messages[0].content[0]: a part of type image_url, expected text",
        MEDIA,
    ),
    "encrypted reasoning": (
        answer(content="4", reasoning_details=[{"type": "reasoning.encrypted", "data": "gAAA"}]),
        "hidden-reasoning",
        (
            "messages[1].reasoning_details[0]: encrypted reasoning: the text of the reasoning is "
            "not there, expected it"
        ),
        (
            'write its text; or remove it and set "train": false on the message, since the answer '
            "followed reasoning that is not here"
        ),
    ),
    "a part without type": (
        chat({"role": "user", "content": [{"text": "hi"}]}, ANSWER),
        "content",
        (
            "messages[0].content[0]: a part of no type, expected text, thinking, tool_use or "
            "tool_result"
        ),
        TEXT_ONLY,
    ),
    "a part without text": (
        chat({"role": "user", "content": [{"type": "text"}]}, ANSWER),
        "missing",
        "messages[0].content[0]: no text in a text part, expected some",
        'write the text in its field "text"',
    ),
    "reasoning after text": (
        answer(content=[{"type": "text", "text": "4"}, {"type": "thinking", "thinking": "a"}]),
        "content",
        "messages[1].content[1]: a thinking part after text, expected it before",
        SPLIT,
    ),
    "a think tag that is never closed": (
        answer(content="\n<think>2 and 2 are"),
        "content",
        "messages[1].content: <think> is never closed, expected </think> after the reasoning",
        UNCLOSED,
    ),
    "a think tag that is never closed, in a completion": (
        {"prompt": "2+2?", "completion": "<think>2 and 2 are"},
        "content",
        "completion: <think> is never closed, expected </think> after the reasoning",
        UNCLOSED,
    ),
    "reasoning of a user": (
        chat({"role": "user", "content": "hi", "reasoning": "a"}, ANSWER),
        "role",
        "messages[0]: reasoning on a user message, expected on assistant messages only",
        MEND,
    ),
    "tool calls of a user": (
        chat({"role": "user", "content": "hi", "tool_calls": [CALL]}, ANSWER),
        "role",
        "messages[0]: tool calls on a user message, expected on assistant messages only",
        MEND,
    ),
    "a user to train": (
        chat({"role": "user", "content": "hi", "train": True}, ANSWER),
        "role",
        "messages[0]: a training flag on a user message, expected on assistant messages only",
        MEND,
    ),
    "a call of another type": (
        answer(tool_calls=[{"type": "custom", **CALL}]),
        "tools",
        "messages[1].tool_calls[0]: a call of type 'custom', expected function",
        'write "type": "function", or leave the call out: only functions can be called',
    ),
    "a call without a name": (
        answer(tool_calls=[{"function": {"arguments": {}}}]),
        "missing",
        "messages[1].tool_calls[0].function: a call without a name, expected one",
        "name the tool",
    ),
    "a call without arguments": (
        answer(tool_calls=[{"name": "f"}]),
        "missing",
        "messages[1].tool_calls[0]: a call without arguments, expected them",
        "write {} where there are none",
    ),
    "arguments that are a list": (
        answer(tool_calls=[CALL, {"name": "f", "arguments": []}]),
        "type",
        "messages[1].tool_calls[1].arguments: got a list, expected a string or an object",
        "write an object, without [ ] around it",
    ),
    "a call twice in one": (
        answer(tool_calls=[{"function": CALL, "name": "g"}]),
        "conflict",
        (
            "messages[1].tool_calls[0]: both a function and a name or arguments next to it, "
            "expected one of the two"
        ),
        "remove name and arguments",
    ),
    "tool calls and a function call": (
        answer(tool_calls=[CALL], function_call=CALL),
        "conflict",
        "messages[1]: tool_calls and function_call, expected one of them",
        "remove function_call",
    ),
    "a key twice in arguments": (
        answer(tool_calls=[{"function": {"name": "f", "arguments": '{"x": [{"a": 1, "a": 2}]}'}}]),
        "duplicate-key",
        (
            "messages[1].tool_calls[0].function.arguments.x[0].a: the key 'a' twice in one "
            "object, expected once"
        ),
        TWICE,
    ),
    "a function call that is no JSON": (
        {"conversations": [ASK, {"from": "function_call", "value": "f(1)"}]},
        "json",
        "conversations[1].value: not JSON at column 1: expecting value, near 'f(1)', expected JSON",
        WHOLE,
    ),
    "a function call without calls": (
        {"conversations": [ASK, {"from": "function_call", "value": "[]"}]},
        "tools",
        "conversations[1].value: an empty list, expected a call",
        "remove the message",
    ),
    "a call without a name in a function call": (
        {"conversations": [ASK, {"from": "function_call", "value": json.dumps([CALL, {}])}]},
        "missing",
        "conversations[1].value[1]: a call without a name, expected one",
        "name the tool",
    ),
    "a function call that is a list of text": (
        {"conversations": [ASK, {"from": "function_call", "value": '["f"]'}]},
        "type",
        "conversations[1].value[0]: got a string, expected an object",
        "write an object, not text",
    ),
    "a function call that has tool calls": (
        chat(ASK, {"role": "function_call", "content": "{}", "tool_calls": [CALL]}),
        "conflict",
        (
            "messages[1].content: tool calls in a function_call message, expected them as JSON in"
            " its content"
        ),
        'write the role "assistant"',
    ),
    "a flag that is text": (
        answer(content="4", train="yes"),
        "type",
        "messages[1].train: got a string, expected true, false, 0 or 1",
        "write true, false, 0 or 1 without quotes",
    ),
    "a weight": (
        answer(content="4", weight=0.5),
        "weight",
        "messages[1].weight: got the weight 0.5, expected 0 or 1, as this run weighs no messages",
        (
            "of a call, write the weight next to the answer, and none in the prompt; of a chat, "
            "pass --loss-weights data, or write 1 to train it, 0 not to"
        ),
    ),
    "a number in a flag": (
        answer(content="4", loss_mask=0.5),
        "weight",
        "messages[1].loss_mask: got a number other than 0 and 1, expected one of the two",
        "write 1 to train the message, 0 not to",
    ),
    "flags that contradict": (
        answer(content="4", train=True, weight=0, loss_weight=None),
        "conflict",
        "messages[1]: train and weight differ, expected one of them or the same in each",
        "keep one of train, weight",
    ),
    "a record that weighs nothing": (
        chat(ASK, ANSWER, weight=0),
        "weight",
        "weight: got 0, expected more for a whole record",
        "leave the record out (--on-error skip), or write 1",
    ),
    "an id that is a list": (
        chat(ASK, ANSWER, id=[]),
        "type",
        "id: got a list, expected an integer or a string",
        "write its text",
    ),
    "another system text": (
        chat({"role": "system", "content": "a"}, ASK, ANSWER, system="b"),
        "conflict",
        "system: differs from the first message, which is a system message too, expected the same",
        KEEP,
    ),
    "tools that are an object": (
        chat(ASK, ANSWER, tools="{}"),
        "type",
        "tools: got an object, expected a list of tools",
        "write a list, with [ ] around it",
    ),
    "a tool that is text": (
        chat(ASK, ANSWER, tools=[{}, "f"]),
        "type",
        "tools[1]: got a string, expected an object",
        "write an object, not text",
    ),
    "tools that are no JSON": (
        chat(ASK, ANSWER, tools="[{]"),
        "json",
        (
            "tools: not JSON at column 3: expecting property name enclosed in double quotes, near "
            "']', expected JSON"
        ),
        WHOLE,
    ),
    "a key twice in tools": (
        chat(ASK, ANSWER, tools='[{"type": 1, "type": 2}]'),
        "duplicate-key",
        "tools[0].type: the key 'type' twice in one object, expected once",
        TWICE,
    ),
    "tools and other functions": (
        chat(ASK, ANSWER, tools=[{"name": "f"}], functions=[{"name": "f"}]),
        "conflict",
        "functions: tools and functions differ, expected one of them or the same in both",
        "remove functions",
    ),
    "template variables that are a list": (
        chat(ASK, ANSWER, chat_template_kwargs="[1]"),
        "type",
        "chat_template_kwargs: got a list, expected an object",
        "write an object, without [ ] around it",
    ),
    "thinking on and off": (
        chat(ASK, ANSWER, chat_template_kwargs={"enable_thinking": 1}, enable_thinking=True),
        "conflict",
        "enable_thinking: differs from chat_template_kwargs.enable_thinking, expected the same",
        KEEP,
    ),
    "messages in a list in a list": (
        {"messages": [[ASK, ANSWER]]},
        "type",
        "messages[0]: got a list, expected an object",
        (
            "write each sample as a record of its own, with its values from all lists, such as "
            "these messages"
        ),
    ),
    "messages that are an object": (
        {"messages": {"0": ASK}},
        "type",
        "messages: got an object, expected a list",
        "write a list, with [ ] around it",
    ),
    "a part that is text": (
        chat({"role": "user", "content": ["2+2?"]}, ANSWER),
        "type",
        "messages[0].content[0]: got a string, expected an object",
        "write an object, not text",
    ),
    "reasoning that is an object": (
        answer(content="4", reasoning_content={"text": "easy"}),
        "type",
        "messages[1].reasoning_content: got an object, expected a string",
        "write its text",
    ),
    "reasoning that is a list": (
        answer(content="4", reasoning_content=["easy"]),
        "type",
        "messages[1].reasoning_content: got a list, expected a string",
        "write its text",
    ),
    "reasoning that is a list, in a wrapper": (
        answer(content="4", provider_specific_fields={"reasoning_content": ["easy"]}),
        "unknown-field",
        (
            f"messages[1].provider_specific_fields.reasoning_content: {UNREAD}: "
            "'provider_specific_fields.reasoning_content' (1 time), expected none"
        ),
        "pass --ignore-fields provider_specific_fields.reasoning_content to leave it out",
    ),
    "blocks that are an object": (
        answer(content="4", reasoning_details={"type": "reasoning.text", "text": "easy"}),
        "type",
        "messages[1].reasoning_details: got an object, expected a list",
        "write a list, with [ ] around it",
    ),
    "tool calls that are text": (
        answer(tool_calls=json.dumps([CALL])),
        "type",
        "messages[1].tool_calls: got a string, expected a list",
        "write a list, not text",
    ),
    "a function call that is text": (
        answer(function_call=json.dumps(CALL)),
        "type",
        "messages[1].function_call: got a string, expected an object",
        "write an object, not text",
    ),
    "arguments that are a number": (
        answer(tool_calls=[{"name": "f", "arguments": 3}]),
        "type",
        "messages[1].tool_calls[0].arguments: got an integer, expected a string or an object",
        "write an object",
    ),
    "arguments that are no object": (
        answer(tool_calls=[{"name": "f", "arguments": "3"}]),
        "tools",
        (
            "messages[1].tool_calls[0].arguments: '3' is no JSON object, expected the arguments of "
            "a call"
        ),
        "write an object, {} if there are none",
    ),
    "arguments under two names": (
        answer(tool_calls=[{"name": "f", "args": {"a": 1}, "arguments": {"b": 1}}]),
        "tools",
        "messages[1].tool_calls[0]: both arguments and args, expected the arguments of a call once",
        "write as arguments what the model passed",
    ),
    "a tool in the place of its call": (
        answer(tool_calls=[{"name": "f", "parameters": {"type": "object", "properties": {}}}]),
        "tools",
        (
            "messages[1].tool_calls[0]: parameters that are a schema, expected the arguments of a "
            "call once"
        ),
        "write as arguments what the model passed",
    ),
    "a flag that is a number in quotes": (
        answer(content="4", train="0"),
        "type",
        "messages[1].train: got a string, expected true, false, 0 or 1",
        "write true, false, 0 or 1 without quotes",
    ),
    "a flag that is an object": (
        answer(content="4", train={"answer": True}),
        "type",
        "messages[1].train: got an object, expected true, false, 0 or 1",
        "write true, false, 0 or 1",
    ),
    "a switch that is text": (
        chat(ASK, ANSWER, enable_thinking="true"),
        "type",
        "enable_thinking: got a string, expected true or false",
        "write true or false without quotes",
    ),
    "a number as an id": (
        chat(ASK, ANSWER, id=1.5),
        "type",
        "id: got a number, expected an integer or a string",
        "write it in quotes",
    ),
    "parts of a call": (
        chat(ASK, {"role": "tool_call", "content": [{"type": "text", "text": 3}]}),
        "tools",
        (
            "messages[1].content: parts other than text in a tool_call message, expected its calls "
            "as JSON"
        ),
        'write the role "assistant" and tool_calls',
    ),
    "reasoning without its call": (
        chat(ASK, {"role": "tool_call", "content": None, "reasoning_content": "easy"}),
        "tools",
        (
            "messages[1]: reasoning without a call in a tool_call message, expected its "
            "calls as JSON"
        ),
        'write the role "assistant"',
    ),
    "a part of the system text that is no text": (
        chat(ASK, ANSWER, system=[{"type": "document", "text": "a"}]),
        "content",
        "system[0]: a part of another type than text or input_text, expected text",
        "write its text",
    ),
    "reasoning twice": (
        answer(content="<think>easy</think>4", reasoning="easy"),
        "conflict",
        ("messages[1].content: reasoning in a field and again in the content, expected it once"),
        KEEP,
    ),
    "a tool without a name": (
        chat(ASK, ANSWER, tool_defs=[{"description": "a"}]),
        "tools",
        "tool_defs[0]: an object without a name, expected a tool",
        'write {"type": "function", "function": {"name": …, …}}',
    ),
    "no message": (
        {"conversations": []},
        "empty",
        "conversations: no messages, expected a user and an assistant message",
        "remove the record, or add messages",
    ),
    "no assistant message": (
        chat(ASK, ASK),
        "no-assistant",
        "messages: no assistant message, expected at least one to train on",
        "remove the record, or add one",
    ),
    "an assistant message first": (
        chat(ANSWER, ASK, ANSWER),
        "no-prompt",
        "messages[0]: an assistant message, expected a message before it that the model answers",
        'put a user message before it, or set "train": false on it',
    ),
}


CHARACTER = "write the character itself, or \\ufffd in its place"
NO_NAN = "write null, or leave the field out"

# The same for what only a decoded row can hold.
REFUSED_ROWS: dict[str, tuple[object, str, str, str]] = {
    "null in a struct of arguments": (
        answer(tool_calls=[{"name": "f", "arguments": {"a": 1, "b": {"c": None}}}]),
        "null-arguments",
        (
            "messages[1].tool_calls[0].arguments: a null in arguments that the column holds as a "
            "struct, where null also stands for keys that another row has, expected arguments as "
            "they were written"
        ),
        (
            "store arguments as JSON text, or pass --null-arguments drop to leave such keys out, "
            "or --null-arguments keep if each null was written"
        ),
    ),
    "text that is no text": (
        chat(ASK, {"role": "assistant", "content": "a\ud800"}),
        "encoding",
        "messages[1].content: lone surrogate \\ud800 at character 2, expected a pair",
        CHARACTER,
    ),
    "NaN": (
        answer(tool_calls=[{"name": "f", "arguments": {"a b": float("nan")}}]),
        "json",
        "messages[1].tool_calls[0].arguments['a b']: got nan, expected a finite number",
        NO_NAN,
    ),
    "bytes": (
        answer(content=b"4"),
        "type",
        "messages[1].content: got bytes, expected a string or a list",
        "store it as text",
    ),
    "a key that is a number": (
        chat({1: 2}),  # type: ignore[dict-item]
        "type",
        "messages[0]: got a key of another type, expected a string",
        "write it in quotes",
    ),
}
