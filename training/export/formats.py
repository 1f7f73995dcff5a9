"""Export formats of a run's model.

Each export is written to a temporary path, loaded again and compared, and only then renamed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import yaml

from catalog.bedrock_import import TRANSFORMERS
from training.errors import GuardError, ModelError
from training.export.adapter_precision import write_cast_adapter
from training.export.adapter_svd import Reduction, write_reduced
from training.export.atomic_output import atomic_output
from training.export.base_model import base_of
from training.export.gguf_file import write_dequantized, write_gguf
from training.export.gguf_types import check_outtype
from training.export.held_out_loss import (
    describe,
    held_out_batch,
    loss_of,
    quantization_loss,
    record_figures,
    recorded_figures,
)
from training.export.merged_folder import (
    ADAPTER_FILES,
    copied_folder,
    copy_texts,
    merged_folder,
    without_adapter,
)
from training.export.model_archive import pack
from training.export.transformers_4 import FORMAT as TRANSFORMERS_4
from training.export.transformers_4 import write_transformers_4
from training.export.verify import logits_of, logits_with, run_model, verification_ids
from training.models.added_tokens import vocabulary_size
from training.models.merge import is_adapter
from training.models.safetensors_io import WeightFiles


class ExportFormat(NamedTuple):
    """Format of an export.

    Attributes:
        output: Name of the file or folder that is written.
        write: Function that writes the model in a folder to a path, and returns what was verified.
        options: Names of the keyword arguments that it takes.
    """

    output: str
    write: Callable[..., str]
    options: tuple[str, ...] = ()


def transformers_4(
    model: Path, target: Path, *, base_model: str | None = None, dtype: str | None = None
) -> str:
    """Write a folder of safetensors that Transformers 4 loads, with the adapter merged.

    Args:
        model: Folder of the run's model.
        target: Folder to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.
        dtype: Precision of the weights, as jobs write it; as they are if None.

    Raises:
        JobError: There is no such precision.
        ModelError: The adapter cannot be merged, or the model has no form in Transformers 4.
        GuardError: The export differs from the trained model.
    """
    contents = target.with_name(f".{target.name}-contents")
    folder = contents / target.name
    try:
        verified = merged_folder(model, folder, base_model=base_model, dtype=dtype)
        ids = verification_ids(model, vocabulary_size(folder))
        before = logits_of(folder, ids)
        write_transformers_4(folder)
        if not torch.equal(before, logits_of(folder, ids)):
            raise GuardError("the settings for Transformers 4 are those of another model")
        with atomic_output(target) as output:
            folder.rename(output)
        if figures := recorded_figures(folder):
            record_figures(target, figures)
    finally:
        shutil.rmtree(contents, ignore_errors=True)
    return f"{verified}; settings for Transformers {TRANSFORMERS}, with the same logits"


def adapter_folder(
    model: Path, target: Path, *, base_model: str | None = None, dtype: str | None = None
) -> str:
    """Copy an adapter's folder, and verify that it loads with its base.

    Args:
        model: Folder of the run's model.
        target: Folder to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.
        dtype: Precision of the weights, as jobs write it; as they are if None.

    Raises:
        ModelError: The run trained no adapter.
        GuardError: A copy differs, or the adapter changes nothing.
    """
    if not is_adapter(str(model)):
        raise ModelError(f"{model} is a whole model and no adapter; use FORMAT=safetensors")
    base = base_of(model, base_model)
    if dtype is not None:
        return write_cast_adapter(model, base, target, dtype)
    copied = copied_folder(model, target)
    without, adapted = logits_with(target, base, verification_ids(target, vocabulary_size(base)))
    changed = float((adapted - without).abs().max())
    if changed == 0.0:
        raise GuardError(f"the adapter in {model} changes nothing: it was not trained or not saved")
    return f"{copied}; on its base it changes logits by up to {changed:.2g}"


def adapter_svd(
    model: Path,
    target: Path,
    *,
    base_model: str | None = None,
    rank: int | None = None,
    energy: float | None = None,
) -> str:
    """Write a LoRA adapter with smaller ranks, and measure what it loses.

    Args:
        model: Folder of the run's model.
        target: Folder to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.
        rank: Largest rank of a layer.
        energy: Share of the squared singular values that each layer keeps; instead of `rank`.

    Raises:
        JobError: Neither or both of `rank` and `energy` are given.
        ModelError: The run trained no LoRA adapter of linear layers.
        GuardError: The export differs from the best approximation.
    """
    reduction = Reduction(rank, energy)
    if not is_adapter(str(model)):
        raise ModelError(f"{model} is a whole model and no adapter; use FORMAT=safetensors")
    base = base_of(model, base_model)
    batch = held_out_batch(model)
    ids = verification_ids(model, vocabulary_size(base))
    with atomic_output(target) as output:
        layers = write_reduced(model, output, reduction)
        sizes = [WeightFiles(folder).num_bytes for folder in (model, output)]
        without, adapted = logits_with(model, base, ids)
        reduced = logits_with(output, base, ids)[1]
        losses = []
        if batch is not None:
            losses = [
                loss_of(logits_with(folder, base, batch["input_ids"])[1], batch)
                for folder in (model, output)
            ]
    errors = {path: part.relative_error for path, part in layers.items()}
    ranks = {path: len(part.down) for path, part in layers.items()}
    error = float((reduced - adapted).abs().max())
    change = float((adapted - without).abs().max())
    figures = {
        "bytes": {"before": sizes[0], "after": sizes[1]},
        "logits": {"adapter_changes": change, "error": error},
        "held_out_loss": dict(zip(("before", "after"), losses, strict=False)),
        "layers": {path: {"rank": ranks[path], "relative_error": errors[path]} for path in layers},
    }
    record_figures(target, figures)
    changes = f"; held-out loss {losses[0]:.4f} → {losses[1]:.4f}" if losses else ""
    return (
        f"{len(layers)} layers of rank {min(ranks.values())} to {max(ranks.values())}, "
        f"{sizes[0]:,} → {sizes[1]:,} bytes; relative error of the updates: "
        f"mean {sum(errors.values()) / len(errors):.2g}, largest {max(errors.values()):.2g}; "
        f"logits differ by at most {error:.2g}, and the adapter changes them by {change:.2g}"
        f"{changes}"
    )


def archive(model: Path, target: Path, *, base_model: str | None = None) -> str:
    """Write `model.tar.gz`: merged weights, configuration and tokenizer at its root.

    Args:
        model: Folder of the run's model.
        target: File to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.

    Raises:
        ModelError: The adapter cannot be merged.
        GuardError: The export differs from the trained model.
    """
    folder = target.with_name(f".{target.name}-contents")
    try:
        verified = merged_folder(model, folder, base_model=base_model)
        return f"{verified}; {pack(folder, target)}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def archive_apart(model: Path, target: Path, *, base_model: str | None = None) -> str:
    """Write `model.tar.gz` with the base at its root and the adapter in `adapter/`.

    Args:
        model: Folder of the run's model.
        target: File to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.

    Raises:
        ModelError: The run trained no adapter.
        GuardError: The export differs from the trained model.
    """
    folder = target.with_name(f".{target.name}-contents")
    try:
        base = base_of(model, base_model)
        verified = adapter_folder(model, folder / "adapter", base_model=base_model)
        for path in sorted([*base.glob("*.safetensors"), *base.glob("*.json")]):
            shutil.copyfile(path, folder / path.name)
        copy_texts(model, folder, exclude=ADAPTER_FILES)
        return f"{verified}; {pack(folder, target)}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def gguf(
    model: Path, target: Path, *, base_model: str | None = None, outtype: str | None = None
) -> str:
    """Write one GGUF file for llama.cpp, with the adapter merged.

    Args:
        model: Folder of the run's model.
        target: File to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.
        outtype: Quantized type of the matrices; None if they keep their dtype.

    Raises:
        JobError: There is no such type.
        ModelError: The adapter cannot be merged, or llama.cpp does not support the model or
            tokenizer.
        GuardError: The export differs from the trained model.
    """
    outtype = outtype and check_outtype(outtype)
    with without_adapter(model, target, base_model) as (folder, verified):
        return f"{verified}{_gguf_of(folder, model, target, outtype)}"


def bitsandbytes_folder(model: Path, target: Path, *, base_model: str | None = None) -> str:
    """Write a folder of weights that bitsandbytes quantized to 8 bits, with the adapter merged.

    Args:
        model: Folder of the run's model.
        target: Folder to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.

    Raises:
        ModelError: The adapter cannot be merged.
        GuardError: The export differs by more than rounding.
    """
    # Imported here: it loads bitsandbytes, which no other format needs.
    from training.export.bitsandbytes_folder import write_bitsandbytes

    with (
        without_adapter(model, target, base_model) as (folder, verified),
        atomic_output(target) as output,
    ):
        quantized = write_bitsandbytes(folder, output)
        copy_texts(folder, output, exclude=("config.json", "model.safetensors.index.json"))
        ids = verification_ids(model, vocabulary_size(folder))
        sizes = {k: WeightFiles(f).num_bytes for k, f in (("before", folder), ("after", output))}
        figures = quantization_loss(
            model,
            ids,
            lambda rows: logits_of(folder, rows),
            lambda rows: run_model(quantized, rows),
        )
    record_figures(target, {"type": "LLM.int8()", "bytes": sizes, **figures})
    return f"{verified}every weight within its rounding; {describe(sizes, figures)}"


def _gguf_of(folder: Path, model: Path, target: Path, outtype: str | None) -> str:
    """Write a complete model as a GGUF file, and measure what its quantization loses.

    Args:
        folder: Folder of the model, without an adapter.
        model: Folder of the run's model, for its name and its held-out rows.
        target: File to write.
        outtype: Quantized type of the matrices; None if they keep their dtype.
    """
    with atomic_output(target) as output:
        written = write_gguf(folder, output, _model_name(model), outtype)
        if outtype is None:
            return written
        dequantized = target.with_name(f".{target.name}-dequantized")
        try:
            write_dequantized(output, folder, dequantized, outtype)
            ids = verification_ids(model, vocabulary_size(folder))
            figures = quantization_loss(
                model,
                ids,
                lambda rows: logits_of(folder, rows),
                lambda rows: logits_of(dequantized, rows),
            )
        finally:
            shutil.rmtree(dequantized, ignore_errors=True)
        sizes = {"before": WeightFiles(folder).num_bytes, "after": output.stat().st_size}
    record_figures(target, {"type": outtype, "bytes": sizes, **figures})
    return f"{written}; {describe(sizes, figures)}"


def _model_name(model: Path) -> str:
    """Return the name of a model: that of its job if it is in a run folder, else of its folder."""
    folder = model.resolve()
    try:
        job = yaml.safe_load((folder.parent / "job.yaml").read_text(encoding="utf-8"))
        return str(job["name"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return folder.name


FORMATS: dict[str, ExportFormat] = {
    "safetensors": ExportFormat("model", merged_folder, ("dtype",)),
    "adapter": ExportFormat("adapter", adapter_folder, ("dtype",)),
    "adapter-svd": ExportFormat("adapter-svd", adapter_svd, ("rank", "energy")),
    "archive": ExportFormat("model.tar.gz", archive),
    "archive-apart": ExportFormat("model.tar.gz", archive_apart),
    "bitsandbytes-8bit": ExportFormat("bitsandbytes-8bit", bitsandbytes_folder),
    "gguf": ExportFormat("model.gguf", gguf, ("outtype",)),
    TRANSFORMERS_4: ExportFormat(TRANSFORMERS_4, transformers_4, ("dtype",)),
}
"""Formats by their name on the command line."""
