"""Folder of a whole model that `from_pretrained` loads: copied, or with its adapter merged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from training.errors import GuardError
from training.export.atomic_output import atomic_output
from training.export.base_model import base_of
from training.export.cast_weights import cast_weights, check_dtype
from training.export.held_out_loss import describe, quantization_loss, record_figures
from training.export.model_archive import sha256_of_file
from training.export.streaming_merge import streaming_merge
from training.export.verify import compare, logits_of, logits_with, verification_ids
from training.models.added_tokens import vocabulary_size
from training.models.base_digest import BASE
from training.models.merge import is_adapter
from training.models.safetensors_io import WeightFiles

ADAPTER_FILES = ("adapter_config.json", BASE, "README.md")
_TEXT_PATTERNS = ("*.json", "*.jinja", "*.model", "*.txt", "README.md")


def merged_folder(
    model: Path, target: Path, *, base_model: str | None = None, dtype: str | None = None
) -> str:
    """Write a folder of safetensors that loads with `from_pretrained`, with the adapter merged.

    Args:
        model: Folder of the run's model.
        target: Folder to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.
        dtype: Precision of the weights, as jobs write it; as they are if None.

    Raises:
        JobError: There is no such precision.
        ModelError: The adapter cannot be merged, or a weight is too large for the precision.
        GuardError: The export differs from the trained model.
    """
    if dtype is not None:
        return _cast_folder(model, target, base_model, dtype)
    if not is_adapter(str(model)):
        return copied_folder(model, target)
    base = base_of(model, base_model)
    with atomic_output(target) as output:
        streaming_merge(model, base, output)
        copy_texts(model, output, exclude=ADAPTER_FILES)
        files = WeightFiles(base)
        ids = verification_ids(model, vocabulary_size(base))
        without, adapted = logits_with(model, base, ids)
        result = compare(without, adapted, logits_of(output, ids), _coarsest_dtype(files))
    return str(result)


def _cast_folder(model: Path, target: Path, base_model: str | None, dtype: str) -> str:
    """Write a folder of weights in another precision, and measure what that changes.

    Args:
        model: Folder of the run's model.
        target: Folder to write.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.
        dtype: Precision of the weights.
    """
    precision = check_dtype(dtype)
    with (
        without_adapter(model, target, base_model) as (folder, verified),
        atomic_output(target) as output,
    ):
        cast_weights(folder, output, precision)
        sizes = {k: WeightFiles(f).num_bytes for k, f in (("before", folder), ("after", output))}
        figures = quantization_loss(
            model,
            verification_ids(model, vocabulary_size(folder)),
            lambda rows: logits_of(folder, rows),
            lambda rows: logits_of(output, rows),
        )
    record_figures(target, {"type": dtype, "bytes": sizes, **figures})
    return f"{verified}every weight is that of the model in {dtype}; {describe(sizes, figures)}"


def copied_folder(model: Path, target: Path) -> str:
    """Copy a model's folder and compare every byte.

    Raises:
        GuardError: A copy differs.
    """
    with atomic_output(target) as output:
        shutil.copytree(model, output)
        for path in sorted(p for p in model.rglob("*") if p.is_file()):
            copy = output / path.relative_to(model)
            if sha256_of_file(path) != sha256_of_file(copy):
                raise GuardError(f"{path.name} was not copied as it is; the disk may be failing")
        count = len(WeightFiles(output).tensors)
    return f"{count} tensors, every byte as it was"


@contextmanager
def without_adapter(
    model: Path, target: Path, base_model: str | None
) -> Iterator[tuple[Path, str]]:
    """Yield the folder of a complete model, merged if needed, and what was verified.

    Args:
        model: Folder of the run's model.
        target: Output of the export; a merged model is in a hidden folder next to it.
        base_model: Folder or Hub id of the adapter's base; None for the one that it records.
    """
    if not is_adapter(str(model)):
        yield model, ""
        return
    folder = target.with_name(f".{target.name}-contents")
    try:
        yield folder, f"{merged_folder(model, folder, base_model=base_model)}; "
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _coarsest_dtype(files: WeightFiles) -> torch.dtype:
    """Return the dtype of the weights with the fewest bytes: its rounding bounds the error."""
    return min((kind.dtype for kind in files.tensors.values()), key=lambda dtype: dtype.itemsize)


def copy_texts(model: Path, output: Path, exclude: tuple[str, ...]) -> None:
    """Copy tokenizer, chat template and generation settings.

    Args:
        model: Folder of the model.
        output: Folder to write.
        exclude: Names of files to leave out.
    """
    for path in sorted(path for pattern in _TEXT_PATTERNS for path in model.glob(pattern)):
        if path.name not in exclude:
            shutil.copyfile(path, output / path.name)
