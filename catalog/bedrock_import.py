"""Models that Amazon Bedrock imports: Regions, architectures, tokenizers, sizes, price.

Source: Bedrock User Guide, "Use Custom model import to import a customized open-source model into
Amazon Bedrock" and "Invoke your imported model", read on 2026-11-29. Prices: see below.
"""

from __future__ import annotations

REGIONS = ("us-east-1", "us-east-2", "us-west-2", "eu-central-1")
FAMILIES = (
    *("mistral", "mixtral", "t5", "llama", "mllama", "gpt_bigcode", "gpt_oss"),
    *("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe"),
)
"""`model_type` of the architectures."""
ONLY_IN = {"gpt_oss": ("us-east-1",)}
"""Regions of a family that is not imported in all."""
MULTIMODAL = ("mllama", "qwen2_vl", "qwen2_5_vl")
NO_CONVERSE = ("qwen2", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "gpt_oss")
"""Families whose imported models Converse does not take. The guide names Qwen2.5, whose
`model_type` is that of Qwen2."""
TOKENIZERS = tuple(
    f"{name}{suffix}"
    for name in (
        *("T5Tokenizer", "LlamaTokenizer", "CodeLlamaTokenizer", "GPT2Tokenizer"),
        *("GPTNeoXTokenizer", "PreTrainedTokenizer", "Qwen2Tokenizer"),
    )
    for suffix in ("", "Fast")
)
"""Classes of tokenizers, in Transformers."""
TRANSFORMERS = "4.51.3"
"""Version of Transformers that reads the model."""
MAX_TEXT_GB, MAX_MULTIMODAL_GB = 200, 100
"""Sizes in GB below which the weights of a text model and of a multimodal one must be."""
MAX_CONTEXT = 128 * 1024
LLAMA3_ROPE = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
"""Values with which Bedrock replaces a Llama's `rope_scaling`."""
UNIT_USD_PER_MINUTE = (0.0572, 0.0785)
"""Price of one Custom Model Unit in US Regions. Public reports of 2025 and 2026 name both; that of
a model's `customModelUnitsVersion` is on Bedrock's pricing page."""
UNIT_STORAGE_USD = 1.95
"""Monthly storage of a model per Custom Model Unit, from the same reports."""
