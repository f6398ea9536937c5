"""Records of calls that cannot be read, each with the reason, and the message and fix in part."""

from __future__ import annotations

from typing import Any

from refused import ANSWER, ASK

IDS = {"prompt_token_ids": [5, 6], "completion_token_ids": [7, 8, 2]}
CHAT = {"messages": [ASK], "response": ANSWER}


def ids(**fields: Any) -> dict[str, Any]:
    return {**IDS, **fields}


def request(**fields: Any) -> dict[str, Any]:
    return {
        "request": {"messages": [ASK], **fields},
        "response": {"choices": [{"message": ANSWER}]},
    }


REFUSED: dict[str, tuple[Any, str, str, str]] = {
    "a stream as text": (
        {"messages": [ASK], "response": 'event: message_start\ndata: {"type": "message_start"}'},
        "content",
        "response: a piece of a streamed answer, expected the whole message",
        "join the pieces to one message: its texts, and the arguments of each call, in order",
    ),
    "a stream as a list": (
        {"messages": [ASK], "response": [{"object": "chat.completion.chunk", "choices": []}]},
        "content",
        "response: a piece of a streamed answer, expected the whole message",
        "join the pieces to one message",
    ),
    "a conversation that the response names": (
        {
            "request": {"input": "And?"},
            "response": {"output": [{**ANSWER}], "previous_response_id": "resp_0"},
        },
        "content",
        "response.previous_response_id: the conversation that it names is not in the log",
        "log the whole input of each request, or the ids of prompt and completion",
    ),
    "a prompt that the service keeps": (
        {"request": {"prompt": {"id": "p", "version": "1"}, "input": "a"}, "response": "4"},
        "content",
        "request.prompt: the conversation that it names is not in the log",
        "log the whole input of each request, or the ids of prompt and completion",
    ),
    "an answer that goes on with the last message": (
        {
            "messages": [ASK, {"role": "assistant", "content": "It is"}],
            "choices": [{"message": {"content": " 4"}, "native_finish_reason": "stop"}],
        },
        "content",
        "messages[1]: an answer that continues the assistant message at the end of the prompt",
        "log the ids of prompt and completion, or leave the call out",
    ),
    "a prompt that the service edited": (
        {
            "messages": [ASK],
            "response": {
                "type": "message", "role": "assistant", "content": "4",
                "context_management": {"applied_edits": [{"type": "clear_tool_uses_20250919"}]},
            },
        },
        "content",
        "response.context_management: edits of the prompt by the service, expected a prompt as",
        "leave the call out (--on-error skip)",
    ),
    "two names of the same that differ": (
        ids(prompt_ids=[5, 7]),
        "conflict",
        "prompt_ids: differs from prompt_token_ids, which means the same, expected the same value",
        "keep one of the two",
    ),
    "two names that differ in type alone": (
        ids(prompt_token_ids=[1, 0], prompt_ids=[True, False]),
        "conflict",
        "prompt_ids: differs from prompt_token_ids",
        "keep one of the two",
    ),
    "a flag as a token id": (
        ids(completion_token_ids=[7, True]),
        "type",
        "completion_token_ids[1]: got true or false, expected a token id, an integer",
        "write a token id",
    ),
    "a fraction as a token id": (
        ids(completion_token_ids=[7, 8.0]),
        "type",
        "completion_token_ids[1]: got a number, expected a token id",
        "write a token id",
    ),
    "text as a token id": (
        ids(prompt_token_ids=["5"]),
        "type",
        "prompt_token_ids[0]: got a string, expected a token id",
        "write a token id",
    ),
    "an id below 0": (
        ids(prompt_token_ids=[5, -100]),
        "type",
        "prompt_token_ids[1]: got -100, expected a token id from 0 to 2147483647",
        "without padding",
    ),
    "an id out of 32 bits": (
        ids(completion_token_ids=[2**31]),
        "type",
        "completion_token_ids[0]: got 2147483648, expected a token id",
        "without padding",
    ),
    "an id out of 64 bits": (
        ids(completion_token_ids=[2**63]),
        "type",
        "completion_token_ids[0]: got 9223372036854775808, expected a token id",
        "without padding",
    ),
    "ids that are text": (
        ids(completion_token_ids="7 8 2"),
        "type",
        "completion_token_ids: got a string, expected a list of token ids",
        "write a list",
    ),
    "a prompt without a completion": (
        {"prompt_token_ids": [5], "messages": [ASK], "response": ANSWER},
        "missing",
        "prompt_token_ids: ids without those of the completion, expected both",
        "log the completion's ids too",
    ),
    "a completion without a prompt": (
        {"completion_ids": [5], "messages": [ASK], "response": ANSWER},
        "missing",
        "completion_ids: ids without those of the prompt, expected both",
        "log the prompt's ids too",
    ),
    "log probabilities of another number of tokens": (
        ids(rollout_log_probs=[-1, -2]),
        "conflict",
        "rollout_log_probs: a list of 2, expected a value for each of the 3 completion tokens",
        "no more and no fewer, or leave it out",
    ),
    "log probabilities of the prompt too": (
        ids(logprobs=[-1] * 5),
        "conflict",
        "logprobs: a list of 5, expected a value for each of the 3 completion tokens",
        "no more and no fewer, or leave it out",
    ),
    "a null among log probabilities": (
        ids(logprobs=[None, -1, -2]),
        "type",
        "logprobs[0]: got null, expected a number",
        "write a number",
    ),
    "log probabilities of other tokens than the mask": (
        ids(logprobs=[-1, -2], loss_mask=[1, 0, 1]),
        "conflict",
        "logprobs: a list of 2, expected a value for each of the 3 completion tokens",
        "no more and no fewer, or leave it out",
    ),
    "a null where a token is trained": (
        ids(logprobs=[None, None, -2], loss_mask=[0, 1, 1]),
        "type",
        "logprobs[1]: got null, expected a number",
        "write a number",
    ),
    "probabilities": (
        ids(logprobs=[-0.1, 0.9, -0.1]),
        "type",
        "logprobs[1]: got 0.9, expected the logarithm of a probability, 0.01 at most",
        "log natural logarithms",
    ),
    "a number that 32 bits cannot hold": (
        ids(advantages=[1, 2, 1e39]),
        "type",
        "advantages[2]: got 1e+39, expected a finite number that 32 bits can hold",
        "leave the call out",
    ),
    "an advantage that is text": (
        ids(advantage="1"),
        "type",
        "advantage: got a string, expected a number",
        "write a number, not text",
    ),
    "a flag as an advantage": (
        ids(advantage=True),
        "type",
        "advantage: got true or false, expected a number",
        "write a number",
    ),
    "advantages of another number of tokens": (
        ids(advantages=[1.0]),
        "conflict",
        "advantages: a list of 1, expected a value for each of the 3 completion tokens",
        "no more and no fewer, or leave it out",
    ),
    "a mask of another number of tokens": (
        ids(loss_mask=[1, 1, 1, 1]),
        "conflict",
        (
            "loss_mask: a list of 4, expected a flag for each of the 3 completion tokens, or for "
            "each of the 5 tokens of prompt and completion"
        ),
        "the completion's tokens",
    ),
    "a mask that trains the prompt": (
        ids(response_mask=[1, 0, 1, 1, 1]),
        "conflict",
        "response_mask[0]: a token of the prompt that is to be trained",
        "write 0 here",
    ),
    "a mask of tools in one more list": (
        ids(completion_mask=[1, 1, 1], tool_mask=[1, 0, 1]),
        "unknown-field",
        "tool_mask: a field that is not read",
        (
            "if 'tool_mask' says which tokens are trained, write that as loss_mask, beside the "
            "tokens' ids, 1 for each to train and 0 for the others; else pass --ignore-fields "
            "tool_mask to leave it out"
        ),
    ),
    "two masks that differ": (
        ids(completion_mask=[1, 1, 1], env_mask=[1, 0, 1]),
        "conflict",
        "env_mask: differs from completion_mask",
        "keep the one that is 0 for every token that is not to be trained",
    ),
    "a mask of what is not to be trained": (
        ids(obs_mask=[0, 1, 0]),
        "unknown-field",
        "'obs_mask' (1 time), expected none",
        "write that as loss_mask, beside the tokens' ids, 1 for each",
    ),
    "a mask as text": (
        ids(action_mask="[1, 0, 1]"),
        "unknown-field",
        "'action_mask' (1 time), expected none",
        "write that as loss_mask",
    ),
    "a mask below another field": (
        ids(metadata={"tool_mask": [1, 0, 1]}),
        "unknown-field",
        "'metadata.tool_mask' (1 time), expected none",
        "write that as loss_mask",
    ),
    "ranges of what is trained": (
        ids(action_ranges=[[2, 3], [4, 5]]),
        "unknown-field",
        "'action_ranges' (1 time), expected none",
        "write that as loss_mask",
    ),
    "labels": (
        ids(labels=[-100, -100, 7, -100, 2]),
        "unknown-field",
        "'labels' (1 time), expected none",
        "write that as loss_mask",
    ),
    "masks beside another list": (
        ids(loss_masks=[1, 0, 1], rewards=[0, 0, 1]),
        "unknown-field",
        "'loss_masks' (1 time, like loss_mask), 'rewards' (1 time), expected none",
        (
            "pass --field loss_masks=loss_mask to read 'loss_masks', and --ignore-fields "
            "rewards to leave the others out"
        ),
    ),
    "ids of prompt and completion as those of a completion": (
        {"token_ids": [5, 6, 7, 8], "assistant_mask": [0, 0, 1, 1]},
        "missing",
        "token_ids: ids without those of the prompt, expected both",
        "write ids of both in one list as tokens, with response_length",
    ),
    "a sample that is to be removed": (
        ids(remove_sample=True),
        "weight",
        "remove_sample: got true, with which it is not trained, expected none",
        "leave it out (--on-error skip), or pass --ignore-fields remove_sample to train it",
    ),
    "a step that is masked": (
        {"steps": [ids(sample_loss_mask=0.0)]},
        "weight",
        "steps[0].sample_loss_mask: got 0.0, with which it is not trained",
        "--ignore-fields steps.sample_loss_mask to train it",
    ),
    "a sample whose advantage is to be 0": (
        ids(overrides={"set_advantage_to_zero": True}),
        "weight",
        "overrides.set_advantage_to_zero: got true, with which it is not trained",
        "--ignore-fields overrides to train it",
    ),
    "a sample that was aborted": (
        {"tokens": [5, 6, 7], "response_length": 1, "status": "aborted"},
        "weight",
        "status: got 'aborted', so its generation failed, expected a whole sample",
        "pass --ignore-fields status to train it",
    ),
    "an answer beside an error": (
        ids(error={"message": "m"}),
        "weight",
        "error: got \"{'message': 'm'}\", so its generation failed, expected a whole sample",
        "pass --ignore-fields error to train it",
    ),
    "a response that failed": (
        {"messages": [ASK], "response": {"status": "failed", "error": "m", "output": [ANSWER]}},
        "weight",
        "response.status: got 'failed', so its generation failed, expected a whole sample",
        "pass --ignore-fields response.status,response.error to train it",
    ),
    "images that the ids stand for": (
        ids(multimodal_inputs={"images": ["a.png"]}),
        "media",
        "multimodal_inputs: multimodal_inputs of the record, expected text",
        "pass --ignore-fields multimodal_inputs if the model saw none",
    ),
    "images beside the ids of a prompt": (
        {"prompt": {"token_ids": [5], "image_urls": ["a.png"]}, "response": {"token_ids": [7]}},
        "media",
        "prompt.image_urls: image_urls of the record, expected text",
        "pass --ignore-fields prompt.image_urls if the model saw none",
    ),
    "images of a call": (
        {**CHAT, "images": ["a.png"]},
        "media",
        "images: images of the record, expected text",
        "pass --ignore-fields record.images if the model saw none",
    ),
    "an image in messages beside ids": (
        ids(
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            response=ANSWER,
        ),
        "media",
        "messages[0].content[0]",
        "leave the record out",
    ),
    "a flag for each token": (
        ids(trainable=[1, 0, 1]),
        "type",
        "trainable: got a list, expected true, false, 0 or 1",
        "write a mask of the completion's tokens as loss_mask, beside their ids",
    ),
    "a weight for each token": (
        ids(weight=[1, 0, 1]),
        "type",
        "weight: got a list, expected a number",
        "write a mask of the completion's tokens as loss_mask, beside their ids",
    ),
    "a batch of samples": (
        {"prompt_ids": [[5, 6]], "completion_ids": [[7, 8, 2]], "env_mask": [[1, 0, 1]]},
        "type",
        "prompt_ids[0]: got a list, expected a token id, an integer",
        "write each sample as a record of its own, with its values from all lists",
    ),
    "padding": (
        ids(attention_mask=[0, 1, 1, 1, 1]),
        "content",
        "attention_mask: a 0, which marks padding, expected ids without padding",
        "log the ids that the model saw and wrote, without padding",
    ),
    "an image in a prompt without an answer beside ids": (
        ids(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        "media",
        "messages[0].content[0]: a part of type image_url",
        "leave the record out",
    ),
    "a mask of the tokens that are predicted": (
        ids(loss_mask=[0, 1, 0, 1, 0]),
        "conflict",
        "loss_mask[1]: a token of the prompt that is to be trained",
        "if each flag is for the token after it, move all flags one place to the right; else write",
    ),
    "a mask of the tokens that are predicted, without the first": (
        {"tokens": [5, 6, 7, 8, 2], "response_length": 3, "loss_mask": [0, 1, 1, 1]},
        "conflict",
        "loss_mask: a list of 4, expected a flag for each of the 3 completion tokens",
        "if each flag is for the token after it, put a 0 before them; else log it for the",
    ),
    "a mask of weights": (
        ids(loss_mask=[0, 0.5, 1]),
        "weight",
        "loss_mask[1]: got 0.5, expected 0 or 1",
        "weight is of a whole call",
    ),
    "a mask without ids": (
        {**CHAT, "loss_mask": [0, 1]},
        "missing",
        "loss_mask: a value for each token without ids, expected ids",
        "log the ids",
    ),
    "advantages without ids": (
        {**CHAT, "advantages": [0, 1]},
        "missing",
        "advantages: a value for each token without ids, expected ids",
        "log the ids",
    ),
    "a weight below 0": (
        ids(weight=-1),
        "weight",
        "weight: got -1, expected 0, or 0.000001 to 1,000,000",
        "write a negative advantage",
    ),
    **{
        f"a weight of {weight}": (
            ids(weight=weight),
            "weight",
            f"weight: got {weight}, expected 0, or 0.000001 to 1,000,000",
            "or 0 to leave it out",
        )
        for weight in (1e300, 1e-300)
    },
    "a reward that 32 bits cannot hold": (
        ids(reward=1e39),
        "type",
        "reward: got 1e+39, expected a finite number that 32 bits can hold",
        "write null, or leave the call out",
    ),
    "a reward of several parts": (
        ids(reward={"format": 1, "answer": 0}),
        "type",
        "reward: got an object, expected a number",
        "pass --field NAME=reward with one of its numbers, of 'reward.format, reward.answer'",
    ),
    "a list of numbers that nobody reads": (
        ids(step_weights=[0.5, 1]),
        "unknown-field",
        "step_weights: a field that is not read and may hold what the model is to learn",
        "else pass --ignore-fields step_weights to leave it out",
    ),
    "a label that says that the answer is a bad one": (
        {**CHAT, "label": False},
        "weight",
        "label: got false, with which it is not trained, expected none",
        "leave it out (--on-error skip), or pass --ignore-fields label to train it",
    ),
    "misspelt ids": (
        {**CHAT, "promt_token_ids": [1, 2]},
        "unknown-field",
        "'promt_token_ids' (1 time, like prompt_token_ids)",
        "pass --field promt_token_ids=prompt_token_ids to read it",
    ),
    "a list of numbers in a response": (
        {"messages": [ASK], "response": {"choices": [{"message": ANSWER, "mask": [1]}]}},
        "unknown-field",
        "response.choices[0].mask: a field that is not read",
        "--ignore-fields response.choices.mask",
    ),
    "a field of the answer and one of the record": (
        {**CHAT, "response": {**ANSWER, "cot": "Easy."}, "masks": [[1]]},
        "unknown-field",
        (
            "fields that are not read and may hold what the model is to learn: "
            "'masks' (1 time), 'cot' (1 time, like reasoning_content), expected none"
        ),
        "--field cot=reasoning_content to read 'cot', and --ignore-fields masks to",
    ),
    "a sequence without its length": (
        {"tokens": [1, 2, 3]},
        "missing",
        "tokens: ids of prompt and completion without response_length, expected it",
        "as response_length",
    ),
    "a length beyond its sequence": (
        {"tokens": [1, 2, 3], "response_length": 4},
        "conflict",
        "response_length: got 4, expected at most the 3 tokens",
        "the length of the completion",
    ),
    "a sequence beside ids": (
        ids(tokens=[1, 2, 3], response_length=1),
        "conflict",
        "tokens: ids in addition to those of prompt_token_ids, expected them once",
        "keep one of the two",
    ),
    "an answer in the prompt twice": (
        {"messages": [ASK, ANSWER, ANSWER], "response": ANSWER},
        "conflict",
        "messages: a prompt that ends in the answer twice, expected it once at most",
        "log what the model was sent",
    ),
    "an answer to itself": (
        {"messages": [ANSWER], "response": ANSWER},
        "no-prompt",
        "messages: an answer without messages before it, expected some",
        "log what the model was sent",
    ),
    "an answer that goes on with the prompt": (
        {"messages": [ASK, {**ANSWER, "content": "Four", "prefix": True}], "response": " it is"},
        "content",
        "messages[1]: an answer that continues the assistant message at the end of the prompt",
        "log the ids",
    ),
    "two answers": (
        {**CHAT, "completion": "5"},
        "conflict",
        "response and completion, expected one of them",
        "keep the one to train on",
    ),
    "two prompts": (
        {**CHAT, "prompt": "3+3?"},
        "conflict",
        "prompt: differs from messages, expected one prompt",
        "keep the one that was sent",
    ),
    "messages in place of an answer": (
        {"messages": [ASK], "response": [ANSWER, ASK, ANSWER]},
        "content",
        "response: an answer of 3 messages, expected one of the assistant",
        "write each answer as a call of its own",
    ),
    "an answer of the user": (
        {"messages": [ASK], "response": ASK},
        "no-assistant",
        "response: no assistant message",
        "remove the record",
    ),
    "no answer": (
        {"messages": [ASK]},
        "missing",
        "a prompt without an answer, expected both",
        "write messages and response",
    ),
    "no prompt": (
        {"response": ANSWER},
        "missing",
        "an answer without the messages that it answers, expected both",
        "write messages and response",
    ),
    "nothing": (
        {"text": "4"},
        "missing",
        "neither messages with an answer nor token ids, expected one of them",
        "schemas/call.schema.json",
    ),
    "a list": ([1], "type", "got a list, expected an object", "schemas/call.schema.json"),
    "a piece of a stream": (
        {"messages": [ASK], "response": {"choices": [{"delta": {"content": "4"}}]}},
        "content",
        "response.choices[0].delta: a piece of a streamed answer, expected the whole message",
        "join the pieces",
    ),
    "a response of another kind": (
        {"messages": [ASK], "response": {"data": [1]}},
        "missing",
        "response: an object without choices, output, role or token ids, expected the answer",
        "the response of a service",
    ),
    "text for a completion endpoint": (
        {"request": {"prompt": "<|user|>2+2?"}, "response": {"choices": [{"text": "4"}]}},
        "content",
        "request.prompt: a text prompt of a completion endpoint",
        "return_token_ids",
    ),
    "a chat template of its own": (
        request(chat_template="{{ messages }}"),
        "content",
        "request.chat_template: a chat template of the request's own",
        "--chat-template",
    ),
    "a message that is continued": (
        request(continue_final_message=True),
        "content",
        "request.continue_final_message: an answer that continues the last message",
        "log the ids",
    ),
    "a history that is elsewhere": (
        {
            "request": {"input": "And 3+3?", "previous_response_id": "resp_1"},
            "response": {"output": [{"type": "message", **ANSWER}]},
        },
        "content",
        "request.previous_response_id: the conversation that it names is not in the log",
        "log the whole input",
    ),
    "an error in a message of a request": (
        request(messages=[ASK, {"role": "critic", "content": "No."}]),
        "role",
        "request.messages[1].role: unknown role 'critic'",
        "write one of",
    ),
    "an error in an answer of a response": (
        {"messages": [ASK], "response": {"choices": [{"message": {**ANSWER, "content": 4}}]}},
        "type",
        "response.choices[0].message.content: got an integer",
        "write it in quotes",
    ),
    "one reward for two answers": (
        {"messages": [ASK], "chosen": "4", "rejected": "5", "reward": 1},
        "conflict",
        "reward: a value of one answer in a call with several, expected it in each answer",
        "write candidates",
    ),
    "a chosen answer to another prompt": (
        {"messages": [ASK], "chosen": [{**ASK, "content": "3+3?"}, ANSWER], "rejected": "5"},
        "conflict",
        "chosen: messages before the answer that differ from the prompt",
        "write the messages that both answers have in common",
    ),
    "two chosen answers": (
        {
            "messages": [ASK],
            "chosen": {"choices": [{"message": ANSWER}, {"message": ANSWER}]},
            "rejected": "5",
        },
        "conflict",
        "chosen: 2 answers, expected one",
        "keep the one that was judged",
    ),
    "a pair of other prompts": (
        {"chosen": [ASK, ANSWER], "rejected": [{**ASK, "content": "3+3?"}, ANSWER]},
        "conflict",
        "chosen: messages before the answer that differ from the prompt",
        "write the messages that both answers have in common",
    ),
    "flags that differ": (
        {**CHAT, "train": True, "loss": 0},
        "conflict",
        "train: train and loss differ, expected the same in each",
        "keep one of them",
    ),
    "a flag that is text": (
        {**CHAT, "train": "no"},
        "type",
        "train: got a string, expected true, false, 0 or 1",
        "without quotes",
    ),
    "a reasoning that is hidden": (
        {"messages": [ASK], "response": {**ANSWER, "reasoning_details": [
            {"type": "reasoning.encrypted", "data": "x"}]}},
        "hidden-reasoning",
        "response.reasoning_details[0]: encrypted reasoning",
        "write its text",
    ),
}  # fmt: skip
