"""Copy of an adapter with its weights in another precision, with what that changes measured.

PEFT loads 16-bit adapters like any other, in fp32. It also loads integers without an error, as if
they were weights, which is why an adapter is not stored in 8 bits.
"""

from __future__ import annotations

from pathlib import Path

from training.export.atomic_output import atomic_output
from training.export.cast_weights import cast_weights, check_dtype
from training.export.held_out_loss import held_out_batch, loss_of, record_figures
from training.export.verify import compare, logits_with, verification_ids
from training.models.added_tokens import vocabulary_size
from training.models.safetensors_io import WeightFiles


def write_cast_adapter(model: Path, base: Path, target: Path, dtype: str) -> str:
    """Write an adapter in another precision, and return what was verified.

    Args:
        model: Folder of the adapter.
        base: Folder of its base.
        target: Folder to write.
        dtype: Precision of the weights, as jobs write it.

    Raises:
        JobError: There is no such precision.
        ModelError: A weight is too large for the precision.
        GuardError: The copy changes the logits by more than rounding explains.
    """
    precision = check_dtype(dtype)
    batch = held_out_batch(model)
    ids = verification_ids(model, vocabulary_size(base))
    with atomic_output(target) as output:
        cast_weights(model, output, precision)
        before, after = (WeightFiles(folder).num_bytes for folder in (model, output))
        without, adapted = logits_with(model, base, ids)
        result = compare(without, adapted, logits_with(output, base, ids)[1], precision)
        losses = []
        if batch is not None:
            losses = [
                loss_of(logits_with(folder, base, batch["input_ids"])[1], batch)
                for folder in (model, output)
            ]
    figures = {
        "type": dtype,
        "bytes": {"before": before, "after": after},
        "logits": {"adapter_changes": result.changed, "error": result.error},
        "held_out_loss": dict(zip(("before", "after"), losses, strict=False)),
    }
    record_figures(target, figures)
    change = f"; held-out loss {losses[0]:.4f} → {losses[1]:.4f}" if losses else ""
    sizes = f"{before:,} → {after:,} bytes"
    return f"every weight is that of the adapter in {dtype}, {sizes}; {result}{change}"
