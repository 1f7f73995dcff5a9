"""Loading of a distillation teacher: frozen, in eval mode, with the student's vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from training.config import Job
from training.config.distill import Distill
from training.errors import ModelError
from training.models.flash_attention import pass_document_boundaries
from training.models.load import DTYPES
from training.models.locate import explain_missing
from training.models.merge import is_adapter, merged
from training.models.quantize import keep_training_layout


def load_teacher(
    job: Job, method: Distill, tokenizer: PreTrainedTokenizerBase, device: torch.device
) -> PreTrainedModel:
    """Return the teacher on `device`, or sharded under ZeRO 3.

    Args:
        job: The run.
        method: Method section that names the teacher.
        tokenizer: Tokenizer of the student.
        device: Device of the student.

    Raises:
        ModelError: The teacher cannot be read, or its vocabulary or context does not fit.
    """
    source = method.teacher
    check_same_tokens(source, method.teacher_revision, tokenizer)
    if is_adapter(source):
        teacher = merged(source, dtype=DTYPES[job.precision], attention=job.model.attention)
    else:
        teacher = _from_source(job, method)
    _check_fits(teacher, job, source)
    teacher.config.use_cache = False
    if job.data.packing and job.model.attention == "flash_attention_2":
        pass_document_boundaries(teacher)
    teacher.requires_grad_(False)
    sharded = any(hasattr(parameter, "ds_id") for parameter in teacher.parameters())
    if not sharded and not method.teacher_4bit:
        teacher.to(device)
    return teacher.eval()


def _from_source(job: Job, method: Distill) -> PreTrainedModel:
    extra: dict[str, Any] = {}
    if method.teacher_4bit:
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=DTYPES[job.precision],
        )
    try:
        teacher = AutoModelForCausalLM.from_pretrained(
            method.teacher,
            revision=method.teacher_revision,
            dtype=DTYPES[job.precision],
            attn_implementation=job.model.attention,
            trust_remote_code=job.model.trust_remote_code,
            **extra,
        )
    except Exception as error:
        raise ModelError(explain_missing("teacher", method.teacher, error)) from error
    keep_training_layout(teacher)
    return teacher


def check_same_tokens(
    source: str, revision: str | None, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Compare the vocabularies of teacher and student.

    Args:
        source: Folder or Hub id of the teacher.
        revision: Revision of the teacher on the Hub.
        tokenizer: Tokenizer of the student.

    Raises:
        ModelError: The vocabularies differ.
    """
    try:
        other = AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as error:
        raise ModelError(explain_missing("teacher's tokenizer", source, error)) from error
    student, teacher = tokenizer.get_vocab(), other.get_vocab()
    if student == teacher:
        return
    ours, theirs = ({number: text for text, number in v.items()} for v in (student, teacher))
    first = min(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
    raise ModelError(
        f"method.teacher {Path(source).name} has another vocabulary than the student: "
        f"{len(teacher):,} tokens and {len(student):,}; id {first} is {theirs.get(first)!r} there "
        f"and {ours.get(first)!r} here. Soft targets compare token by token: use a teacher of the "
        f"student's family, or let it generate answers (method.kind: distill_text)"
    )


def _check_fits(teacher: PreTrainedModel, job: Job, source: str) -> None:
    context = getattr(teacher.config.get_text_config(), "max_position_embeddings", None)
    if context is not None and job.data.max_length > context:
        raise ModelError(
            f"data.max_length is {job.data.max_length}; the teacher {Path(source).name} reads "
            f"{context} tokens. Lower data.max_length to that"
        )
