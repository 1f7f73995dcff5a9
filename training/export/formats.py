"""The forms in which a run's model can be had.

Each is written beside its place, loaded again and compared, and only then given its name.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from peft import PeftConfig

from training.errors import GuardError, ModelError, RunError
from training.export.gguf_file import write_gguf
from training.export.streaming_merge import streaming_merge
from training.export.verify import compare, ids_for, logits_of, logits_with
from training.models.added_tokens import vocabulary_size
from training.models.base_digest import BASE, check_base_digest
from training.models.merge import is_adapter
from training.models.safetensors_io import WeightFiles, model_folder

_OF_ADAPTERS = ("adapter_config.json", BASE, "README.md")
_TEXTS = ("*.json", "*.jinja", "*.model", "*.txt", "README.md")

Format = Callable[[Path, Path], str]
"""Writes the model of a folder to a place, and returns what was proved of it."""


def merged_folder(model: Path, target: Path) -> str:
    """Write a folder of safetensors that loads with `from_pretrained`, an adapter folded in.

    Args:
        model: What a run saved.
        target: The folder to be.

    Raises:
        ModelError: It cannot be merged.
        GuardError: What was written is not what was trained.
    """
    if not is_adapter(str(model)):
        return copied_folder(model, target)
    base = base_of(model)
    with building(target) as place:
        streaming_merge(model, base, place)
        _copy_texts(model, place, leave=_OF_ADAPTERS)
        files = WeightFiles(base)
        ids = ids_for(model, vocabulary_size(base))
        without, adapted = logits_with(model, base, ids)
        proof = compare(without, adapted, logits_of(place, ids), _dtype(files))
    return str(proof)


def copied_folder(model: Path, target: Path) -> str:
    """Copy a model's folder as it is and compare every byte.

    Raises:
        GuardError: A copy differs.
    """
    with building(target) as place:
        shutil.copytree(model, place)
        for path in sorted(p for p in model.rglob("*") if p.is_file()):
            copy = place / path.relative_to(model)
            if _sum(path) != _sum(copy):
                raise GuardError(f"{path.name} was not copied as it is; the disk may be failing")
        count = len(WeightFiles(place).tensors)
    return f"{count} tensors, every byte as it was"


def adapter_folder(model: Path, target: Path) -> str:
    """Copy an adapter's folder, and see that it loads onto its base.

    Raises:
        ModelError: The run trained no adapter.
        GuardError: A copy differs.
    """
    if not is_adapter(str(model)):
        raise ModelError(f"{model} is a whole model and no adapter; use FORMAT=safetensors")
    said = copied_folder(model, target)
    base = base_of(model)
    without, adapted = logits_with(target, base, ids_for(target, vocabulary_size(base)))
    changed = float((adapted - without).abs().max())
    if changed == 0.0:
        raise GuardError(f"the adapter in {model} changes nothing: it was not trained or not saved")
    return f"{said}; on its base it changes logits by up to {changed:.2g}"


def archive(model: Path, target: Path) -> str:
    """Write `model.tar.gz`: merged weights, configuration and tokenizer at its root.

    Raises:
        ModelError: It cannot be merged.
        GuardError: What was written is not what was trained.
    """
    folder = target.with_name(f".{target.name}-contents")
    try:
        said = merged_folder(model, folder)
        return f"{said}; {_pack(folder, target)}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def archive_apart(model: Path, target: Path) -> str:
    """Write `model.tar.gz` with the base at its root and the adapter in `adapter/`.

    Raises:
        ModelError: The run trained no adapter.
        GuardError: What was written is not what was trained.
    """
    folder = target.with_name(f".{target.name}-contents")
    try:
        base = base_of(model)
        said = adapter_folder(model, folder / "adapter")
        for path in sorted([*base.glob("*.safetensors"), *base.glob("*.json")]):
            shutil.copyfile(path, folder / path.name)
        _copy_texts(model, folder, leave=_OF_ADAPTERS)
        return f"{said}; {_pack(folder, target)}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def gguf(model: Path, target: Path) -> str:
    """Write one GGUF file for llama.cpp, an adapter folded in.

    Raises:
        ModelError: It cannot be merged, or llama.cpp has no such model or tokenizer.
        GuardError: What was written is not what was trained.
    """
    if not is_adapter(str(model)):
        with building(target) as place:
            return write_gguf(model, place)
    folder = target.with_name(f".{target.name}-contents")
    try:
        said = merged_folder(model, folder)
        with building(target) as place:
            return f"{said}; {write_gguf(folder, place)}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pack(folder: Path, target: Path) -> str:
    """Pack a folder, read the archive again, and compare every byte."""
    with building(target) as place:
        sums = {}
        with (
            place.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as packed,
        ):
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                name = str(path.relative_to(folder))
                sums[name] = _sum(path)
                packed.add(path, name)
        with tarfile.open(place, "r:gz") as packed:
            found = {}
            for member in packed:
                content = packed.extractfile(member)
                assert content is not None, member.name
                found[member.name] = _sum_of(content)
        if found != sums:
            raise GuardError("the archive does not read back as what was packed into it")
    return f"{len(sums)} files, every byte as it was"


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """Give a place to build `target` at; move it there on leaving, or leave nothing behind.

    Raises:
        RunError: The place cannot be written.
    """
    place = target.with_name(f".writing-{target.name}")
    _remove(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield place
        _remove(target)
        place.rename(target)
    except OSError as error:
        raise RunError(
            f"{target} cannot be written: {error.strerror or error}. Free space, or name another "
            f"place with TO=…"
        ) from error
    finally:
        _remove(place)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def base_of(model: Path) -> Path:
    """Return the folder of the model that an adapter was trained on.

    Raises:
        ModelError: It cannot be had, or is not the one.
    """
    config = PeftConfig.from_pretrained(str(model))
    base = model_folder(str(config.base_model_name_or_path), config.revision)
    check_base_digest(model, base)
    return base


def _dtype(files: WeightFiles) -> torch.dtype:
    """Return the coarsest dtype of the weights."""
    return min((kind.dtype for kind in files.tensors.values()), key=lambda dtype: dtype.itemsize)


def _copy_texts(model: Path, place: Path, leave: tuple[str, ...]) -> None:
    """Copy tokenizer, template and settings."""
    for path in sorted(path for pattern in _TEXTS for path in model.glob(pattern)):
        if path.name not in leave:
            shutil.copyfile(path, place / path.name)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return _sum_of(file)


def _sum_of(file: IO[bytes]) -> str:
    summed = hashlib.sha256()
    while piece := file.read(1 << 20):
        summed.update(piece)
    return summed.hexdigest()


FORMATS: dict[str, tuple[str, Format]] = {
    "safetensors": ("model", merged_folder),
    "adapter": ("adapter", adapter_folder),
    "archive": ("model.tar.gz", archive),
    "archive-apart": ("model.tar.gz", archive_apart),
    "gguf": ("model.gguf", gguf),
}
"""By the name a person types: what the result is called, and what writes it."""
