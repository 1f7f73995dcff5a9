"""Packed rows: documents do not see each other, and a packed step is the unpacked step."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.case import Case, CaseFailedError, Measured, NotInstalledError, check_close
from benchmarks.gpu.runs import release_memory, train
from benchmarks.gpu.scale import Scale

LOSS, NORM = 1e-5, 1e-5
_ONE_STEP = {
    "max_steps": 1,
    "global_batch_size": 16,
    "micro_batch_size": 2,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "warmup": 0,
}


def cases(scale: Scale) -> Iterator[Case]:
    """Yield the isolation of documents for each attention, and the comparison of a step."""
    for attention, precision in (
        *(("eager", "fp32"), ("sdpa", "fp32"), ("sdpa", "bf16")),
        ("flash_attention_2", "bf16"),
    ):
        name = f"documents are isolated: {attention}, {precision}"
        yield Case(name, partial(_isolation, scale, attention, precision))
    yield Case("packed step is the unpacked step", partial(_same_step, scale), is_slow=True)


def _isolation(scale: Scale, attention: str, precision: str, folder: Path) -> Measured:
    """Change the first document of packed rows and compare the logits of the others."""
    import torch

    from training.config import Job
    from training.config.load import parse_job
    from training.data.collators.sequences import SequenceCollator
    from training.models.load import load_model
    from training.models.tokenizer import load_tokenizer

    require_attention(scale, attention)
    lora = {"kind": "lora"}  # its frozen base has the job's precision, as flash attention needs
    job = parse_job(
        scale.job(
            model={"source": str(scale.model()), "attention": attention},
            data={"packing": True, "train": str(scale.rows / "documents.jsonl")},
            precision=precision,
            **({} if precision == "fp32" else {"adapter": lora}),
        ),
        "isolation",
    )
    assert isinstance(job, Job)
    device = torch.device(scale.device)
    tokenizer = load_tokenizer(job.model)
    model = load_model(job, tokenizer, device).to(device).eval()
    sizes = [[scale.length // 4, scale.length // 2], [scale.length // 2, scale.length // 4]]
    collate = SequenceCollator(tokenizer.pad_token_id, packed=True, max_length=scale.length)
    logits = [_logits(model, collate, sizes, first, device) for first in (5, 9)]
    later = [logit[:, scale.length // 2 :] for logit in logits]
    measured = {
        "largest_change_of_other_documents": float((later[0] - later[1]).abs().max()),
        "change_of_the_first_document": float((logits[0] - logits[1]).abs().max()),
        "tolerance": 0.0,
        "source": "a token that attends to nothing changed computes the same numbers",
    }
    del model, logits, later
    release_memory()
    if not measured["change_of_the_first_document"] > 0:
        raise CaseFailedError("the tokens that were changed changed nothing", measured)
    if measured["largest_change_of_other_documents"] != 0.0:
        raise CaseFailedError("a document attends to another one", measured)
    return measured


def _logits(model: Any, collate: Any, sizes: list[list[int]], first: int, device: Any) -> Any:
    """Return logits of two packed rows whose first documents consist of the token `first`."""
    import torch

    rows = []
    for row in sizes:
        tokens = [first] * row[0] + [7] * row[1]
        rows.append({"input_ids": tokens, "labels": tokens, "seq_lengths": row, "ids": []})
    batch = {k: v.to(device) for k, v in collate(rows).items() if k != "labels"}
    with torch.no_grad():
        return model(**batch, use_cache=False).logits.float()


def _same_step(scale: Scale, folder: Path) -> Measured:
    """Take one step of SGD on the same documents, packed and one to a row."""
    document = scale.job(rows="documents", train=_ONE_STEP)
    # Every document fits into a row, so that nothing is cut.
    document["data"] = {**document["data"], "limit": 16, "max_length": 256}
    apart = train(_packed(document, on=False), folder / "apart")
    packed_job = _packed(document, on=True)
    rows = len(_prepared(packed_job, folder).train)
    packed_job["train"] = {**_ONE_STEP, "global_batch_size": rows, "micro_batch_size": 1}
    packed = train(packed_job, folder / "packed")
    measured = {
        **packed.summary(),
        "grad_norm": packed.grad_norms[0],
        "unpacked_loss": apart.losses[0],
        "unpacked_grad_norm": apart.grad_norms[0],
        "tolerance": LOSS,
        "source": "fp32 sums of a step in another order; as tests/parity/test_packing.py",
    }
    check_close(measured, "the losses", packed.losses[:1], apart.losses[:1], LOSS)
    check_close(measured, "the gradient norms", packed.grad_norms[:1], apart.grad_norms[:1], NORM)
    ids = [sorted(run.row_ids[1]) for run in (packed, apart)]
    if ids[0] != ids[1]:
        raise CaseFailedError(f"the steps have other rows: {ids[0]} and {ids[1]}", measured)
    return measured


def _packed(document: dict[str, Any], *, on: bool) -> dict[str, Any]:
    return {**document, "data": {**document["data"], "packing": on}}


def _prepared(document: dict[str, Any], folder: Path) -> Any:
    from training.config import Job
    from training.config.load import parse_job
    from training.data.prepare import prepare
    from training.models.tokenizer import load_tokenizer

    job = parse_job(document, "packed")
    assert isinstance(job, Job)
    tokenizer = load_tokenizer(job.model)
    return prepare(job, tokenizer, cache_dir=folder / "cache", run_dir=folder / "data")


def require_attention(scale: Scale, attention: str) -> None:
    """Check that a kernel of attention is available.

    Raises:
        NotInstalledError: It is not.
    """
    from importlib.util import find_spec

    if attention != "flash_attention_2":
        return
    if not scale.on_gpu:
        raise NotInstalledError("flash_attention_2 needs a GPU")
    if find_spec("flash_attn") is None:
        raise NotInstalledError("flash-attn is not installed")
