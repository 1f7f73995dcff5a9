"""Names that people bring to a job file from other tools, and what they are called here."""

from __future__ import annotations

import re

from validation.error_messages import Vocabulary

_SYNONYMS = {
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "batch_size": "global_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "global_batch_size",
    "lora_r": "r",
    "rank": "r",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "model_name_or_path": "source",
    "path": "source",
    "lr_scheduler_type": "lr_scheduler",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "optim": "optimizer",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "stride": "overlap",
    "doc_stride": "overlap",
    "chunk_overlap": "overlap",
    "window": "overlap",
    "stage": "zero",
    "zero_stage": "zero",
    "bf16": "precision",
    "fp16": "precision",
    "attn_implementation": "attention",
    "save_steps": "every",
    "save_total_limit": "keep",
    "eval_steps": "every",
    "peft": "adapter",
    "lora": "adapter",
}

_KINDS = {
    ("adapter", "pissa"): (
        "is an initialization of lora",
        "pissa",
        "Use kind lora with init: pissa",
    ),
    ("adapter", "dora"): ("is a form of lora", "dora", "Use kind lora with use_dora: true"),
    ("adapter", "rslora"): ("is a form of lora", "rslora", "Use kind lora with use_rslora: true"),
    **{
        ("method", kind): (
            "masked language modeling trains encoders (BERT, ModernBERT), and every method here "
            "trains decoders",
            kind,
            "Use pretrain with a decoder; encoders: Transformers' example run_mlm.py",
        )
        for kind in ("mlm", "masked_lm")
    },
}

# A job writes a composition in a section `compose`, which is validated as `adapter`
# (training/config/job.py); these keys exist in a composition only.
_COMPOSITION = re.compile(r"^(stages\.\d+\.)?adapter\.(adapters|method|how)\b")

JOB_VOCABULARY = Vocabulary(_SYNONYMS, _KINDS, (_COMPOSITION, r"\1compose.\2"))
