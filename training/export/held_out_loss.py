"""Loss on a run's held-out rows, to compare an export that rounds weights with its original."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoTokenizer

from training.config import Job, load_job
from training.console import say
from training.data.collators.sequences import SequenceCollator
from training.data.prepare import prepare
from training.data.storage.table import RowTable
from training.data.tokenization.token_rows import IGNORE
from training.errors import TemperError

_FIGURES = "export.json"
_MAX_TOKENS = 2048
"""Tokens of one batch with padding: its logits take 4 bytes per token and vocabulary entry."""

Batch = dict[str, torch.Tensor]


def held_out_batch(model: Path) -> Batch | None:
    """Return the first held-out rows of the run that trained a model; None if it has none.

    Args:
        model: Folder of the model, in the folder of its run.
    """
    try:
        batch = _batch(model)
    except (TemperError, OSError) as error:
        say(f"the held-out loss is not measured: {error}")
        return None
    if batch is None:
        say("the held-out loss is not measured: the run has no held-out rows of text")
    return batch


def _batch(model: Path) -> Batch | None:
    path = model.resolve().parent / "job.yaml"
    job = load_job(path) if path.is_file() else None
    if not isinstance(job, Job) or not job.data.validation.wanted or job.method.head == "score":
        return None
    tokenizer = AutoTokenizer.from_pretrained(model)
    with TemporaryDirectory() as scratch:
        places: dict[str, Any] = {"cache_dir": Path(scratch), "run_dir": Path(scratch)}
        table = prepare(job, tokenizer, **places).validation
        if not isinstance(table, RowTable):
            return None
        rows = [row for row in _first_rows(table) if "labels" in row]
    return SequenceCollator(tokenizer.pad_token_id or 0)(rows) if rows else None


def _first_rows(table: RowTable) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    longest = 0
    for index in range(len(table)):
        row = table[index]
        longest = max(longest, len(row["input_ids"]) if "input_ids" in row else _MAX_TOKENS)
        if rows and (len(rows) + 1) * longest > _MAX_TOKENS:
            break
        rows.append(row)
    return rows


def loss_of(logits: torch.Tensor, batch: Batch) -> float:
    """Return the loss in nats per supervised token.

    Args:
        logits: Logits of the batch, `[rows, tokens, vocabulary]`.
        batch: What `held_out_batch` returned.
    """
    return float(
        torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORE
        )
    )


def quantization_loss(
    model: Path,
    ids: torch.Tensor,
    original: Callable[[torch.Tensor], torch.Tensor],
    quantized: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, Any]:
    """Return what a model loses by quantization: KL divergence and held-out loss.

    Args:
        model: Folder of the run's model, for its held-out rows.
        ids: Token ids of fixed prompts, `[prompts, tokens]`.
        original: Returns the logits of the original model for token ids.
        quantized: Returns the logits of the quantized model for token ids.
    """
    p, q = (logits(ids).log_softmax(-1) for logits in (original, quantized))
    losses = {}
    if (batch := held_out_batch(model)) is not None:
        for when, logits in (("before", original), ("after", quantized)):
            losses[when] = loss_of(logits(batch["input_ids"]), batch)
    return {"kl": float((p.exp() * (p - q)).sum(-1).mean()), "held_out_loss": losses}


def describe(sizes: dict[str, int], figures: dict[str, Any]) -> str:
    """Return the figures of a quantization as a phrase.

    Args:
        sizes: Bytes before and after.
        figures: What `quantization_loss` returned.
    """
    losses = figures["held_out_loss"]
    change = f"; held-out loss {losses['before']:.4f} → {losses['after']:.4f}" if losses else ""
    return (
        f"{sizes['before']:,} → {sizes['after']:,} bytes; mean KL {figures['kl']:.2g} nats on "
        f"fixed prompts{change}"
    )


def record_figures(target: Path, figures: dict[str, Any]) -> None:
    """Record measured figures of an export in `export.json` in the folder that holds it.

    Args:
        target: The exported file or folder.
        figures: What was measured.
    """
    document = {**_all_figures(target), target.name: figures}
    (target.parent / _FIGURES).write_text(json.dumps(document, indent=1) + "\n")


def recorded_figures(target: Path) -> dict[str, Any]:
    """Return the recorded figures of an export; empty without."""
    figures: dict[str, Any] = _all_figures(target).get(target.name, {})
    return figures


def _all_figures(target: Path) -> dict[str, Any]:
    """Return the figures of all exports in the folder that holds one, by their names."""
    path = target.parent / _FIGURES
    document: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return document
