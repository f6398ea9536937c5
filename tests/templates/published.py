"""The templates of the matrix, by the token at which the model of each stops.

    STOPS["<|im_end|>"]  →  "trl/qwen3", …       ends of answers, reviewed one by one
    CALL_STOPS["trl/gptoss"]  →  "<|call|>"       where a call ends otherwise
    eos("trl/gptoss")  →  what the model's own files list

Where the stops come from: the list of models that `assets` fetches names them for each of its
templates, the rest is what the model's generation_config.json and its card say. A template that
the package refuses is listed with the token that would be right.
"""

from __future__ import annotations

import re

import assets

_BY_STOP = {
    "<|im_end|>": """
        trl: qwen2_5 qwen2_5_vl qwen3 qwen3_training qwen3_instruct_2507 qwen3_vl qwen3_5_think
        trl: qwen3_5_nothink qwen3_6 qwen3_8 lfm2 lfm2_v2 lfm2_2_5 lfm2_2_5_v2
        trl: nemotron_3_nano nemotron_3_super nemotron_3_ultra nemotron_3_5_lightning
        llama.cpp: HuggingFaceTB-SmolLM3-3B Kimi-K2-Instruct Kimi-K2-Thinking moonshotai-Kimi-K2
        llama.cpp: NVIDIA-Nemotron-3-Nano-30B-A3B-BF16 StepFun3.5-Flash LFM2-8B-A1B LFM2.5-8B-A1B
        llama.cpp: LFM2.5-Instruct Qwen-QwQ-32B Qwen-Qwen3-0.6B Qwen3-Coder Qwen3.5-4B MiMo-VL
        llama.cpp: Bielik-11B-v3.0-Instruct openbmb-MiniCPM5-1B
        llama.cpp: NousResearch-Hermes-3-Llama-3.1-8B-tool_use
        xinference: Baichuan-M2 KAT-V1 Kimi-K2.5 Qwen3-Next-Thinking
        xinference: Yi-chat Yi-1.5-chat-16k cogagent internlm3-instruct minicpm5-2b qwen-chat
        xinference: qwen1.5-chat qwen3.8-max seallms-v3
        vllm: template_chatml tool_chat_template_hermes tool_chat_template_internlm2_tool
        vllm: tool_chat_template_qwen3coder""",
    "<|eot_id|>": """
        trl: llama3 llama3_2
        llama.cpp: meta-llama-Llama-3.1-8B-Instruct meetkai-functionary-medium-v3.1
        llama.cpp: meetkai-functionary-medium-v3.2 fireworks-ai-llama-3-firefunction-v2
        vllm: tool_chat_template_llama3.2_pythonic tool_chat_template_toolace
        vllm: tool_chat_template_xlam_llama""",
    "<|eot|>": """
        trl: muse_glimmer
        vllm: tool_chat_template_llama4_json tool_chat_template_llama4_pythonic""",
    "<|end|>": """
        trl: phi3
        llama.cpp: upstage-Solar-Open-100B
        xinference: phi-3-mini-128k-instruct
        vllm: tool_chat_template_phi4_mini""",
    "<|return|>": """
        trl: gptoss
        llama.cpp: openai-gpt-oss-120b
        xinference: gpt-oss""",
    "<|user|>": """
        trl: glm4moe glm4moe_training
        llama.cpp: GLM-4.6 GLM-4.7-Flash
        xinference: glm-4.5 glm-4.5v glm-5.2 glm-5.3 glm-edge-chat glm4-0414 glm4-chat
        xinference: codegeex4 xverse-chat""",
    "<_user>": "vllm: template_teleflm",
    "<end_of_turn>": """
        trl: gemma gemma3
        vllm: tool_chat_template_functiongemma tool_chat_template_gemma3_pythonic""",
    "<turn|>": """
        trl: gemma4 gemma4_v2 gemma4_v5 diffusion_gemma
        llama.cpp: google-gemma-4-31B-it google-gemma-4-31B-it-interleaved""",
    "<｜end▁of▁sentence｜>": """
        trl: deepseekv3 deepseek_r1_distill
        llama.cpp: deepseek-ai-DeepSeek-R1-Distill-Qwen-32B llama-cpp-deepseek-r1
        llama.cpp: deepseek-ai-DeepSeek-V3.1 deepseek-ai-DeepSeek-V3.2 deepseek-ai-DeepSeek-V4
        llama.cpp: deepseek-ai-DeepSeek-V4-Flash-0731 Spark2.5
        xinference: deepseek-chat deepseek-prover-v2 deepseek-r1-0528 deepseek-r1-0528-qwen3
        xinference: deepseek-v2.5 skywork-or1
        vllm: tool_chat_template_deepseekr1""",
    "<|EOT|>": "xinference: deepseek-coder-instruct ",
    "<|END_OF_TURN_TOKEN|>": """
        trl: cohere cohere2
        llama.cpp: Cohere2MoE CohereForAI-c4ai-command-r7b-12-2024-tool_use
        llama.cpp: CohereForAI-c4ai-command-r-plus-tool_use""",
    "<|end_of_text|>": """
        llama.cpp: ibm-granite-granite-3.3-2B-Instruct ibm-granite-granite-4.0
        llama.cpp: ibm-granite-granite-4.1""",
    "<|end_of_sentence|>": "xinference: Ernie4.5",
    "</s>": """
        llama.cpp: mistralai-Ministral-3-14B-Reasoning-2512 mistralai-Mistral-Nemo-Instruct-2407
        llama.cpp: Mistral-Small-3.2-24B-Instruct-2506 unsloth-mistral-Devstral-Small-2507
        llama.cpp: unsloth-Apriel-1.5
        xinference: code-llama-instruct mistral-instruct-v0.1 mistral-instruct-v0.3 orion-chat
        xinference: minicpm-2b-dpo-bf16 wizardcoder-python-v1.0
        vllm: tool_chat_template_mistral3 tool_chat_template_mistral_parallel""",
    "[e~[": "llama.cpp: MiniMax-M2 MiniMax-M3",
    "<end_of_sentence>": "llama.cpp: MiniMax-M1",
    "<seed:eos>": "llama.cpp: ByteDance-Seed-OSS",
    "<|end_of_msg|>": "llama.cpp: Kimi-K3",
    "<SPECIAL_12>": "llama.cpp: NVIDIA-Nemotron-Nano-v2",
    "<｜hy_eos:opensource｜>": "llama.cpp: tencent-Hy3",
    "<｜hy_place▁holder▁no▁2｜>": "xinference: Hy-MT2-1.8B",
    "<|eos|>": "vllm: tool_chat_template_hunyuan_a13b",
    "<|role_end|>": "llama.cpp: inclusionai-ling-3.0-flash",
    "<sep>": "llama.cpp: Reka-Edge",
    "</assistant>": "llama.cpp: poolside-Laguna-S-2.1  poolside-Laguna-XS.2",
    "<|assistant_end|>": """
        llama.cpp: Apertus-8B-Instruct
        vllm: tool_chat_template_apertus""",
    "<|message_sep|>": "llama.cpp: GigaChat3-10B-A1.8B GigaChat3.1-10B-A1.8B",
    "<_end>": "xinference: telechat",
    # Plain text between the turns: no token ends an answer there.
    "": """
        llama.cpp: Apriel-1.6-15b-Thinker-fixed llama-cpp-rwkv-world
        xinference: baichuan-2-chat
        vllm: template_alpaca template_chatglm template_falcon template_inkbot""",
}


def _names(listed: str) -> list[str]:
    lines = (line.split(": ") for line in listed.strip().splitlines())
    return [f"{source.strip()}/{name}" for source, names in lines for name in names.split()]


STOPS = {name: stop for stop, listed in _BY_STOP.items() for name in _names(listed)}
TEMPLATES = sorted(STOPS)

# How a message with calls ends, where that is not how an answer ends.
CALL_STOPS = {
    **dict.fromkeys(_names(_BY_STOP["<|return|>"]), "<|call|>"),
    **dict.fromkeys(_names(_BY_STOP["<|user|>"]), "<|observation|>"),
    **dict.fromkeys(
        ["trl/gemma4", "trl/gemma4_v5", "trl/diffusion_gemma", "llama.cpp/google-gemma-4-31B-it"],
        "<|tool_response>",
    ),
    "llama.cpp/upstage-Solar-Open-100B": "<|calls|>",
    "llama.cpp/meetkai-functionary-medium-v3.1": "<|eom_id|>",
}

# Where the list of models names other tokens than the reviewed one, and why.
LISTED_OTHERWISE = {
    "xinference/Kimi-K2.5": "it lists the tokenizer's eos_token, [EOS], which no chat contains",
    "xinference/glm-5.2": "its texts leave out two of the tokens that its ids list",
    "xinference/glm-5.3": "its texts leave out two of the tokens that its ids list",
    "xinference/xverse-chat": "it lists the eos of the base model, which no chat contains",
    "xinference/Ernie4.5": "it lists the eos of the base model, which no chat contains",
}

# What eos_token and generation_config.json list, by the model's family.
_EOS = {
    r"gpt-?oss": ("<|return|>", "<|endoftext|>", "<|call|>"),
    r"gemma-?(2|3)?$|gemma3|functiongemma": ("<eos>", "<end_of_turn>"),
    r"gemma-?4|diffusion_gemma": ("<eos>", "<turn|>", "<|tool_response>"),
    r"(?i)llama-?_?3|functionary|toolace": ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
    r"(?i)glm": ("<|endoftext|>", "<|user|>", "<|observation|>"),
    r"(?i)qwen": ("<|im_end|>", "<|endoftext|>"),
    r"(?i)deepseek": ("<｜end▁of▁sentence｜>",),
    r"phi3": ("<|endoftext|>", "<|assistant|>", "<|end|>"),
    r"(?i)cohere": ("<|END_OF_TURN_TOKEN|>",),
    r"Kimi-K3": ("<|end_of_msg|>",),
}


def eos(name: str) -> tuple[str, ...]:
    """Give the tokens that the files of the template's model list, as far as that is known.

    The matrix calls the tokenizer's eos_token `</s>`, so this is one where a template writes it.
    """
    listed = assets.published_stops(name)
    listed = listed or next((eos for kind, eos in _EOS.items() if re.search(kind, name)), ())
    written = ("</s>",) if "eos_token" in assets.template(name) else ()
    return tuple(dict.fromkeys((*listed, *written)))
